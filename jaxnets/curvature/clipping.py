"""Sums of clipped per-example gradients, without an array that holds one gradient per example.

The norms come from the rows of the Jacobian of all losses, and the sum Σ_b c_b g_b is one product of the coefficients c with
the same rows.  Gradients of single examples are stored only by weights that are used at so many places, as in convolutions
and along long texts, that the values at these places take half as much memory or more.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import tree_unflatten

from ..algebra.contraction import contract
from ..algebra.factors import Group, Tensor, at_least_float32, labels_of, tensor
from ..algebra.jacobian import Jacobian
from ..algebra.terms import Term
from .rows import Rows, in_cheapest_form, loss_rows, quantity, squares

ROUNDINGS = 8  # of the largest possible norm, that the square of a norm may be wrong by


@quantity
def clip_per_example(loss: Callable, max_norm: float) -> Callable:
    """A function of `(params, *args)` that returns Σ_b min(1, max_norm/‖g_b‖) g_b, a tree, and the norms ‖g_b‖, `[B]`.

    This is the sum of differentially private training (Abadi et al. 2016) before noise is added, for a loss that returns one
    number per example.  No example changes it by more than `max_norm` if the loss of an example depends on that example
    alone; `clipped_grad` makes sure of it.  Raises ValueError unless max_norm > 0.

    >>> loss = lambda w, x: jn.linear(x, w)[:, 0]
    >>> jn.clip_per_example(loss, max_norm=1.0)(jnp.ones((1, 2)), jnp.array([[3.0, 4.0], [0.0, 1.0]]))
    (Array([[0.6, 1.8]], dtype=float32), Array([5., 1.], dtype=float32))
    """
    if not max_norm > 0:
        raise ValueError(f"clip_per_example: max_norm must be positive, got {max_norm}")

    def run(params, *args):
        rows = loss_rows("clip_per_example", loss, params, *args)
        total, (norms,) = clipped_sum(rows, Limits((max_norm,), (0,) * len(rows.blocks[0])))
        return total, norms

    return run


class Limits(NamedTuple):
    """The clip norm of every group of leaves, the group of every leaf, and whether groups are divided by their norms."""

    norms: Sequence[Any]
    groups: Sequence[int]
    unit: bool = False

    def of_groups(self, by_leaf: Sequence[jax.Array]) -> list[jax.Array]:
        """The sums over the leaves of every group."""
        nothing = jnp.zeros_like(by_leaf[0])
        own = [[a for a, g in zip(by_leaf, self.groups, strict=True) if g == group] for group in range(len(self.norms))]
        return [sum(arrays, nothing) for arrays in own]

    def coefficients(self, norms: Sequence[jax.Array]) -> list[jax.Array]:
        """By what the gradients of the examples are multiplied in every group: 0 where a limit is 0, or both are ∞."""
        found = []
        for limit, norm in zip(self.norms, norms, strict=True):
            limit = jnp.maximum(jnp.asarray(limit, norm.dtype), 0)
            scale = jnp.minimum(1, limit / norm)
            if self.unit:
                scale = jnp.where(limit > 0, scale / limit, 1 / norm)
            found.append(jnp.nan_to_num(scale, nan=0.0, posinf=0.0))
        return found


def clipped_sum(rows: Rows, limits: Limits, left_out: Callable | None = None) -> tuple[Any, list[jax.Array]]:
    """Σ_b c_b g_b and the norms of all examples in every group of leaves.

    `left_out(finite)` tells which examples contribute nothing, whatever their gradients are; it sees which norms are finite.
    """
    rows = rows.map_blocks(lambda j: in_cheapest_form(_norms_and_sum, j)[0])
    (row,) = rows.blocks
    forms = [in_cheapest_form(squares, j)[0] for j in row]
    by_leaf = [jnp.maximum(squares(j), 0) for j in forms]
    found = limits.of_groups(by_leaf)
    norms = [jnp.sqrt(total) for total in found]
    errors = limits.of_groups(list(map(_rounding_error, forms)))
    coefficients = limits.coefficients([jnp.sqrt(a + b) for a, b in zip(found, errors, strict=True)])

    def total(row, coefficients):
        pairs = zip(row, limits.groups, strict=True)
        return tree_unflatten(rows.tree, [coefficients[group] @ j for j, group in pairs])

    if left_out is None:
        return total(row, coefficients), norms
    finite = jnp.isfinite(sum(norms))
    out = left_out(finite)
    coefficients = [jnp.where(out, 0, c) for c in coefficients]

    def without_them(row, coefficients):
        return total([_with_zeros(j, out) for j in row], coefficients)

    return jax.lax.cond(jnp.any(out & ~finite), without_them, total, list(row), coefficients), norms


def _rounding_error(j: Jacobian) -> jax.Array:
    """How far rounding may have moved the squares of the norms of rows, which are sums of products of either sign.

    A weight that is used at places t has ‖Σ_t g_t x_tᵀ‖² = Σ_tt' (g_t·g_t')(x_t·x_t').  Where the places cancel, this sum
    may be found too small by some roundings of (Σ_t ‖g_t‖ ‖x_t‖)², and the gradient would be clipped too little.
    """
    sizes = [_sum_of_sizes(term, j.out_shape) for term in j.terms]
    if len(sizes) == 1 and j.terms[0].is_one_full_array:  # whose squares are added
        sizes = []
    dtype = jnp.promote_types(j.dtype, jnp.float32)
    total = sum(sizes, jnp.zeros(j.out_shape, dtype))
    return ROUNDINGS * float(jnp.finfo(dtype).eps) * jnp.square(total)


def _sum_of_sizes(term: Term, shape: tuple[int, ...]) -> jax.Array:
    """Σ_t ‖g_t‖ ‖x_t‖ for every example; factors that are no arrays choose or move entries, and change no size."""
    examples, kept = list(labels_of(term.out)), set(labels_of(term.out))
    external = set(term.external_labels)

    def size(factor: Tensor) -> Tensor:
        array, labels = factor.array_and_labels()
        own = [label for label in labels if label in kept or label not in external]
        squared = jnp.sum(
            jnp.square(at_least_float32(array)), tuple(i for i, label in enumerate(labels) if label not in own)
        )
        return tensor(jnp.sqrt(squared), own)

    sizes = [size(factor) for factor in term.factors if isinstance(factor, Tensor)]
    return contract(sizes, examples, abs(term.scale)).broadcast_to(examples).reshape(shape)


def _norms_and_sum(j: Jacobian):
    return squares(j), jnp.ones(j.out_shape, j.dtype) @ j


def _with_zeros(j: Jacobian, examples: jax.Array) -> Jacobian:
    """The rows with zeros instead of the arrays of some examples, because 0 · NaN is not 0."""

    def zeros(factor, label: Group):
        if isinstance(factor, Tensor) and len(label) == 1 and label[0] in factor.labels:
            array, labels = factor.array_and_labels()
            array = jnp.where(tensor(examples, label).aligned_to(labels), 0, array)
            return replace(factor, value=array, axes=tuple((label,) for label in labels))
        return jax.tree.map(_finite, factor)

    def term_with_zeros(term: Term) -> Term:
        return replace(term, factors=tuple(zeros(factor, term.out[0]) for factor in term.factors))

    return replace(j, terms=tuple(map(term_with_zeros, j.terms)))


def _finite(array):
    """Zeros instead of numbers that are not finite: what is left is multiplied by 0."""
    return jnp.where(jnp.isfinite(array), array, 0) if jnp.issubdtype(jnp.result_type(array), jnp.inexact) else array
