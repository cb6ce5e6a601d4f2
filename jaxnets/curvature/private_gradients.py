"""Private training: sums of clipped gradients of single examples, called as JAX-Privacy's `clipped_grad`.

The mechanism of the clipping is in `clipping`; here are the arguments, the loss of one example and microbatches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_unflatten

from ..autodiff.transforms import by_floating_leaves, chosen_arguments
from ..checks import as_array, check_floating_dtype, check_integer, check_positive, check_scalar
from ..errors import DTypeError, ShapeError
from .clipping import Limits, clipped_sum
from .rows import Rows, losses_and_rows, quantity


class PerExample(NamedTuple):
    """What `clipped_grad` returns of every example, with a first axis `[B]`; None for what was not asked for."""

    values: Any
    grad_norms: Any
    aux: Any


@dataclass(eq=False)
class ClippedGrad:
    """What `clipped_grad` returns: a function whose gradient no example changes by more than `l2_norm_bound`.

    If `has_aux` is true, the function returns a pair, and the bound is one on its first part alone.
    """

    function: Callable
    l2_norm_bound: Any
    has_aux: bool

    def __call__(self, *args, is_padding_example=None, **kwargs):
        """The clipped gradient.  Examples for which `is_padding_example`, an array of truth values `[B]`, is true are left
        out, so batches of different sizes can be filled up to one shape."""
        return self.function(args, kwargs, is_padding_example)

    def sensitivity(self, neighboring_relation: Any = "replace_special"):
        """How far the gradient moves, in the norm over all its leaves, from one data set to a neighboring one.

        The relation is one of `dp_accounting.NeighboringRelation` or its name in small letters: one example is there or
        not ("add_or_remove_one", "replace_special"), or is another one ("replace_one", twice as far).  Raises ValueError for
        any other.
        """
        times = {"add_or_remove_one": 1, "replace_special": 1, "replace_one": 2}
        relation = str(getattr(neighboring_relation, "name", neighboring_relation)).lower()
        if relation not in times:
            raise ValueError(f"sensitivity: neighboring_relation must be one of {tuple(times)}, got {relation!r}")
        return times[relation] * self.l2_norm_bound


@quantity
def clipped_grad(
    loss: Callable,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    *,
    l2_clip_norm: Any,
    rescale_to_unit_norm: bool = False,
    normalize_by: float = 1.0,
    batch_argnums: int | tuple[int, ...] = 1,
    keep_batch_dim: bool = True,
    return_values: bool = False,
    return_grad_norms: bool = False,
    microbatch_size: int | None = None,
    nan_safe: bool = True,
    dtype: Any = None,
) -> ClippedGrad:
    """The sum over examples of gradients that are clipped one by one, as JAX-Privacy's `clipped_grad`: `Σ_b c_b g_b`.

    `loss` is a loss of one example: it is called for a batch of one, or without `keep_batch_dim` for an example that has no
    batch axis, and returns one number.  `batch_argnums` are the arguments that hold the examples along their first axes, and
    `argnums` those to differentiate by.  As every example is seen alone, no other one can change what it contributes.

    `l2_clip_norm` is a number C and `c_b = min(1, C/‖g_b‖)`, or a tree of numbers that is a prefix of the gradient: then the
    part of the gradient below each of them is clipped by itself.  With `rescale_to_unit_norm` every part is also divided by
    its C, and with C = 0 it has norm 1 ("automatic" clipping).  The sum is divided by `normalize_by`.

    The result, a `ClippedGrad`, is called like the loss.  It returns the gradient, or `(gradient, per_example)` if
    `return_values`, `return_grad_norms` or `has_aux` ask for `values` `[B]`, for `grad_norms`, in the tree of `l2_clip_norm`
    with leaves `[B]`, or for the `aux` of a loss that returns `(value, aux)`.  These are not private.  `microbatch_size`
    examples are taken at a time, by default all.  With `nan_safe`, examples whose norm is NaN or ∞ are left out.  Sums are
    in float32 at least; `dtype` is that of the gradient, by default the parameters'.

    Raises ValueError for a negative clip norm, for `normalize_by` that is not positive and for batches that microbatches do
    not fill, and ShapeError for examples that differ in number and for clip norms that are no prefix.

    >>> loss = lambda w, x: jnp.sum(jn.linear(x, w))  # of a batch [1, 2]
    >>> gradient = jn.clipped_grad(loss, l2_clip_norm=1.0, return_grad_norms=True)
    >>> g, per_example = gradient(jnp.ones((1, 2)), jnp.array([[3.0, 4.0], [0.0, 1.0]]))
    >>> g, per_example.grad_norms, gradient.sensitivity()
    (Array([[0.6, 1.8]], dtype=float32), Array([5., 1.], dtype=float32), 1.0)
    """
    clipping = _Clipping("clipped_grad", l2_clip_norm, rescale_to_unit_norm, normalize_by, microbatch_size, nan_safe, dtype)
    examples = _Examples("clipped_grad", loss, argnums, batch_argnums, keep_batch_dim, has_aux)

    def select(gradient, found):
        if not (has_aux or return_values or return_grad_norms):
            return gradient
        kept = found.values if return_values else None, found.grad_norms if return_grad_norms else None
        return gradient, PerExample(*kept, found.aux if has_aux else None)

    return _clipped_function(examples, clipping, has_aux or return_values or return_grad_norms, select)


@quantity
def value_and_clipped_grad(
    loss: Callable,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    *,
    l2_clip_norm: Any,
    rescale_to_unit_norm: bool = False,
    normalize_by: float = 1.0,
    batch_argnums: int | tuple[int, ...] = 1,
    keep_batch_dim: bool = True,
    microbatch_size: int | None = None,
    nan_safe: bool = True,
    dtype: Any = None,
) -> ClippedGrad:
    """`clipped_grad` whose result is `(values, gradient)`, with has_aux `((values, aux), gradient)`; the values are `[B]`.

    The bound of the `ClippedGrad` is one on the gradient.  The values are those of single examples and not private.

    >>> loss = lambda w, x: jnp.sum(jn.linear(x, w))
    >>> jn.value_and_clipped_grad(loss, l2_clip_norm=1.0)(jnp.ones((1, 2)), jnp.array([[3.0, 4.0], [0.0, 1.0]]))
    (Array([7., 1.], dtype=float32), Array([[0.6, 1.8]], dtype=float32))
    """
    name = "value_and_clipped_grad"
    clipping = _Clipping(name, l2_clip_norm, rescale_to_unit_norm, normalize_by, microbatch_size, nan_safe, dtype)
    examples = _Examples(name, loss, argnums, batch_argnums, keep_batch_dim, has_aux)
    return _clipped_function(
        examples, clipping, True, lambda g, found: ((found.values, found.aux) if has_aux else found.values, g)
    )


class _Clipping:
    """How gradients are clipped and summed: what `clipped_grad` was asked for, checked."""

    def __init__(self, name, limits, unit: bool, divisor, microbatch_size: int | None, nan_safe: bool, dtype):
        self.name, self.limits, self.unit, self.nan_safe = name, limits, unit, nan_safe
        self.divisor = check_positive(name, "normalize_by", divisor)
        self.size = None if microbatch_size is None else check_integer(name, "microbatch_size", microbatch_size, 1)
        self.dtype = dtype
        if dtype is not None:
            check_floating_dtype(name, "dtype", dtype)
        for limit in jax.tree.leaves(limits):
            check_scalar(name, "l2_clip_norm", as_array(f"{name}: l2_clip_norm", limit))
            if not isinstance(limit, jax.core.Tracer) and not np.asarray(limit) >= 0:
                raise ValueError(f"{name}: l2_clip_norm must not be negative or NaN, got {limit}")

    @property
    def bound(self):
        """The largest norm of what one example contributes."""
        limits = jax.tree.leaves(self.limits)
        norms = [1.0] * len(limits) if self.unit else limits
        return (norms[0] if len(norms) == 1 else sum(norm**2 for norm in norms) ** 0.5) / self.divisor

    def limits_of(self, rows: Rows) -> Limits:
        """The clip norms with the group of every leaf; ShapeError if they are no prefix of the gradient's tree."""
        leaves, tree = jax.tree.flatten(self.limits)
        gradient = rows.map_leaves(lambda j: 0)
        try:
            groups = jax.tree.leaves(jax.tree.broadcast(tree_unflatten(tree, range(len(leaves))), gradient))
        except ValueError:
            text = f"{self.name}: l2_clip_norm must be a number or a prefix of {jax.tree.structure(gradient)}, got {tree}"
            raise ShapeError(text) from None
        return Limits(leaves, groups, self.unit)

    def in_tree_of_limits(self, norms):
        return tree_unflatten(jax.tree.structure(self.limits), norms)


@dataclass(eq=False)
class _Examples:
    """A loss of single examples, and which arguments hold them."""

    name: str
    loss: Callable
    argnums: int | tuple[int, ...]
    batch_argnums: int | tuple[int, ...]
    keep_batch_dim: bool
    has_aux: bool

    def split(self, args) -> tuple[Any, dict[int, Any]]:
        """The arguments to differentiate by, as one tree, and those with a batch axis, by their places."""
        single, chosen = chosen_arguments(self.name, self.argnums, len(args))
        _, batched = chosen_arguments(self.name, self.batch_argnums, len(args), "batch_argnums")
        if both := set(chosen) & set(batched):
            raise ValueError(f"{self.name}: argument {min(both)} cannot be both in argnums and in batch_argnums")
        params = args[chosen[0]] if single else tuple(args[i] for i in chosen)
        arrays = {i: jax.tree.map(lambda a: as_array(f"{self.name}: a batch argument", a), args[i]) for i in batched}
        shapes = [leaf.shape for leaf in jax.tree.leaves(arrays)]
        if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
            text = f"{self.name}: arrays of batch_argnums {self.batch_argnums} must have one number of examples"
            raise ShapeError(f"{text} along their first axes, got shapes {shapes}")
        return params, arrays

    def losses(self, args, kwargs) -> Callable:
        """A function of the arguments to differentiate by and of the batch that returns `[B]` losses, or `(losses, aux)`."""
        single, chosen = chosen_arguments(self.name, self.argnums, len(args))

        def losses(params, batch):
            given = dict(enumerate(args)) | dict(zip(chosen, (params,) if single else params, strict=True))

            def one(example):
                if self.keep_batch_dim:
                    example = jax.tree.map(lambda a: a[None], example)
                whole = given | example
                return self.loss(*(whole[i] for i in range(len(args))), **kwargs)

            return jax.vmap(one)(batch)

        return losses


def _clipped_function(examples: _Examples, clipping: _Clipping, has_aux: bool, select: Callable) -> ClippedGrad:
    """The function that `select`s from a gradient and a `PerExample` of what `clipped_grad` is called with."""

    def run(args, kwargs, padding):
        params, batch = examples.split(args)
        count = len(jax.tree.leaves(batch)[0])
        padding = None if padding is None else _checked_padding(examples.name, padding, count)
        whole, floating = by_floating_leaves(examples.name, lambda params: params, params)
        losses = examples.losses(args, kwargs)

        def clipped(batch, padding):
            values, aux, rows = losses_and_rows(
                examples.name, lambda p, batch: losses(whole(p), batch), floating, batch, has_aux=examples.has_aux
            )
            left_out = _left_out(clipping.nan_safe, padding)
            total, norms = clipped_sum(rows, clipping.limits_of(rows), left_out)
            wide = jax.tree.map(lambda g: g.astype(jnp.promote_types(g.dtype, jnp.float32)), total)
            if examples.keep_batch_dim:
                aux = jax.tree.map(lambda a: a[:, 0] if a.ndim > 1 and a.shape[1] == 1 else a, aux)
            return wide, PerExample(values, clipping.in_tree_of_limits(norms), aux)

        total, found = _in_microbatches(examples.name, clipped, batch, padding, count, clipping.size)
        gradient = jax.tree.map(lambda g, p: (g / clipping.divisor).astype(clipping.dtype or p.dtype), total, floating)
        return select(gradient, found)

    return ClippedGrad(run, clipping.bound, has_aux)


def _left_out(nan_safe: bool, padding: jax.Array | None) -> Callable | None:
    if nan_safe:
        return (lambda finite: ~finite) if padding is None else (lambda finite: padding | ~finite)
    return None if padding is None else lambda finite: padding


def _checked_padding(name: str, padding, count: int) -> jax.Array:
    padding = as_array(f"{name}: is_padding_example", padding)
    if padding.dtype != bool:
        raise DTypeError(f"{name}: is_padding_example must hold truth values, got an array of {padding.dtype}")
    if padding.shape != (count,):
        raise ShapeError(f"{name}: is_padding_example must have shape ({count},), got {padding.shape}")
    return padding


def _in_microbatches(name: str, clipped: Callable, batch, padding, count: int, size: int | None):
    """`clipped` of the whole batch, or of so many examples at a time; sums are added and the rest is put side by side."""
    if size is None or size == count:
        return clipped(batch, padding)
    if count % size:
        raise ValueError(f"{name}: microbatch_size {size} does not divide the {count} examples")
    parts = jax.tree.map(lambda a: a.reshape(count // size, size, *a.shape[1:]), (batch, padding))
    total, _ = jax.eval_shape(lambda part: clipped(*part), jax.tree.map(lambda a: a[0], parts))

    def step(total, part):
        more, found = clipped(*part)
        return jax.tree.map(jnp.add, total, more), found

    start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), total)
    total, found = jax.lax.scan(step, start, parts)
    return total, jax.tree.map(lambda a: a.reshape(count, *a.shape[2:]), found)
