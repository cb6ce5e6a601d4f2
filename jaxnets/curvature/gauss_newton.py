"""Gauss-Newton and Fisher matrices of a model and a loss, their diagonals, and their products with vectors."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax

from ..algebra.jacobian import Jacobian
from ..autodiff.transforms import by_floating_leaves, hessian_of_loss, without_partial
from ..checks import as_tangent, check_number, checked, show_value
from ..errors import RuleError
from ..layers.marker import with_rules
from .gauss_newton_matrix import GaussNewton
from .likelihoods import fisher_information
from .rows import loss_rows, outputs_and_rows, quantity
from .sampling import check_samples, sampled_columns


@quantity
def ggn(f: Callable, loss, *, scale: float = 1.0, samples: int | None = None, key=None) -> Callable:
    """A function of `(params, x, *targets)` that returns `scale · Jᵀ H J` in factored form, as a `GaussNewton`.

    J is the Jacobian of the outputs `f(params, x)` by the parameters, and H is the Hessian of the sum of the losses
    `loss(outputs, *targets)` by the outputs; with `scale=1 / B` it is that of their average.  Losses of the catalogue, also
    inside a `functools.partial`, have a Hessian and a root of it; other losses are differentiated.  If f returns a tree of
    arrays, `loss` is such a tree of losses, and there is one target: such a tree with an array, or a tuple of several, for
    each loss.  Raises TypeError if these trees do not fit, ValueError unless scale > 0.

    `samples` random combinations of the rows of an example, drawn with `key`, take the place of one row for each of its
    outputs, as is needed for thousands of classes: G is then an estimate of low rank, whose mean over keys is exact.  Draw
    a new key for every step.  Raises TypeError without a key, or if no root of the loss's Hessian is known.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> G = jn.ggn(f, jn.squared_error)(jnp.ones((1, 2)), jnp.array([[1.0, 3.0]]), jnp.zeros((1, 1)))
    >>> G.matrix().round(3)
    Array([[ 2.       ,  6.0000005],
           [ 6.0000005, 18.       ]], dtype=float32)
    >>> (G @ jnp.ones((1, 2))).round(3)
    Array([[ 8.      , 24.000002]], dtype=float32)
    """

    check_samples("ggn", samples, key)

    def run(params, x, *targets):
        return gauss_newton("ggn", "ggn", f, loss, scale, params, x, targets, samples=samples, key=key)

    return run


@quantity
def ggn_diagonal(f: Callable, loss, *, scale: float = 1.0, samples: int | None = None, key=None) -> Callable:
    """A function of `(params, x, *targets)` that returns the Gauss-Newton matrix's diagonal, a tree like the parameters.

    Arguments and errors are those of `ggn`.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> jn.ggn_diagonal(f, jn.squared_error)(jnp.ones((1, 2)), jnp.array([[1.0, 3.0]]), jnp.zeros((1, 1))).round(3)
    Array([[ 2., 18.]], dtype=float32)
    """

    check_samples("ggn_diagonal", samples, key)

    def run(params, x, *targets):
        found = gauss_newton("ggn_diagonal", "ggn", f, loss, scale, params, x, targets, samples=samples, key=key)
        return found.diagonal()

    return run


@checked
def ggn_vector_product(f: Callable, loss, *, scale: float = 1.0) -> Callable:
    """A function of `(params, v, x, *targets)` that returns the Gauss-Newton matrix times v, a tree like the parameters.

    It takes one product with J, one with H and one with Jᵀ, so a few passes through f.  Other arguments are those of `ggn`.

    >>> product, x = jn.ggn_vector_product(lambda w, x: jn.linear(x, w), jn.squared_error), jnp.array([[1.0, 3.0]])
    >>> product(jnp.ones((1, 2)), jnp.ones((1, 2)), x, jnp.zeros((1, 1)))
    Array([[ 8., 24.]], dtype=float32)
    """

    def run(params, v, x, *targets):
        near = linearized("ggn_vector_product", "ggn", f, loss, scale, params, x, targets)
        return near.pull(near.curve(near.push(v)))

    return run


class Linearized(NamedTuple):
    """A model near its parameters: J maps a tree like them to a list of outputs, H such lists, Jᵀ back: G = Jᵀ H J."""

    push: Callable
    curve: Callable
    pull: Callable


def linearized(name: str, kind: str, f, loss, scale: float, params, x, targets) -> Linearized:
    """The factors of the matrix of this kind, "ggn" or "fisher", as products; f is evaluated once."""
    _check_scale(name, scale)
    of_floats, params = by_floating_leaves(name, lambda p: f(p, x), params)
    outputs, push = jax.linearize(with_rules(of_floats), params)
    values, tree = jax.tree.flatten(outputs)
    hessian = functools.partial(hessian_of_loss, name) if kind == "ggn" else fisher_information
    pairs = _losses_with_targets(name, loss, tree, targets)
    hessians = [hessian(own, y, *target) for y, (own, target) in zip(values, pairs, strict=True)]

    def curve(tangents):
        return [(h @ t * scale).astype(y.dtype) for h, t, y in zip(hessians, tangents, values, strict=True)]

    return Linearized(
        lambda v: jax.tree.leaves(push(as_tangent(name, "v", v, params))),
        curve,
        lambda cotangents: jax.linear_transpose(push, params)(jax.tree.unflatten(tree, cotangents))[0],
    )


@quantity
def fisher(f: Callable, loss, *, kind: str = "true", scale: float = 1.0, samples: int | None = None, key=None) -> Callable:
    """A function of `(params, x, *targets)` that returns a Fisher matrix in factored form, as a `GaussNewton`.

    "true" is `scale · Σ_b E[∇ℓ ∇ℓᵀ]`, the expectation over targets from the model's own distribution, whose negative
    log-likelihood the loss is.  It is exact, no targets are drawn, and only the shapes of `targets` matter.  "empirical" is
    `scale · Σ_b ∇ℓ_b ∇ℓ_bᵀ` for the given targets.  Raises TypeError for "true" if the loss is not in `LIKELIHOODS`.
    `samples` and `key` are those of `ggn`; ValueError for "empirical", which has one row for every example anyway.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> F = jn.fisher(f, jn.cross_entropy)(jnp.zeros((2, 1)), jnp.ones((1, 1)), jnp.array([0]))
    >>> F.matrix().round(3)
    Array([[ 0.25, -0.25],
           [-0.25,  0.25]], dtype=float32)
    """
    if kind not in ("true", "empirical"):
        raise ValueError(f"fisher: kind must be 'true' or 'empirical', got {kind!r}")
    check_samples("fisher", samples, key)

    def run(params, x, *targets):
        curvature = "fisher" if kind == "true" else kind
        return gauss_newton("fisher", curvature, f, loss, scale, params, x, targets, samples=samples, key=key)

    return run


CURVATURES = ("ggn", "fisher", "empirical")


def _check_scale(name: str, scale):
    number = scale.item() if isinstance(scale, jax.Array) and scale.ndim == 0 else scale
    if not check_number(name, "scale", number) > 0:
        raise ValueError(f"{name}: scale must be positive, got {scale}")


def gauss_newton(
    name, kind: str, f, loss, scale, params, x, targets, sum_where_smaller: bool = True, samples=None, key=None
) -> GaussNewton:
    """The matrix of this kind: "ggn", "fisher" or "empirical"; `sum_where_smaller` is that of `outputs_and_rows`."""
    _check_scale(name, scale)
    if kind == "empirical":
        if samples is not None:
            raise ValueError(f"{name}: samples are for curvatures with a row for every output, 'empirical' has one a loss")
        if not callable(loss):
            raise TypeError(f"{name}: loss must be callable, got {show_value(loss)}")
        rows = loss_rows(name, lambda params: loss(f(params, x), *targets), params, sum_where_smaller=sum_where_smaller)
        rows = rows.map_blocks(lambda j: j * math.sqrt(scale))
        return GaussNewton(rows)
    hessian = functools.partial(hessian_of_loss, name) if kind == "ggn" else fisher_information
    others: dict[int, Jacobian] = {}  # Hessians without a known root

    def output_maps(values, tree):
        found: list[Jacobian | None] = []
        for i, (y, (own, target)) in enumerate(zip(values, _losses_with_targets(name, loss, tree, targets), strict=True)):
            try:
                root = hessian(own, y, *target, root=True)
                if samples is not None:
                    root = sampled_columns(name, root, samples, jax.random.fold_in(key, i))
                found.append(_as_array_if_narrow(root).T * math.sqrt(scale))
            except RuleError:
                if samples is not None:
                    raise TypeError(
                        f"{name}: no root of the Hessian of '{_name_of(own)}' is known; samples need one"
                    ) from None
                others[i] = hessian(own, y, *target) * scale
                found.append(None)
        return found

    rows = outputs_and_rows(name, f, params, x, output_maps=output_maps, sum_where_smaller=sum_where_smaller)[2]
    if not others:
        return GaussNewton(rows)
    blocks = [tuple(others[i] @ j for j in row) if i in others else row for i, row in enumerate(rows.blocks)]
    return GaussNewton(rows, dataclasses.replace(rows, blocks=tuple(blocks)))


def _losses_with_targets(name, loss, tree, targets) -> list[tuple[Callable, tuple]]:
    """For every output its loss, and the loss's further arguments."""
    if tree == jax.tree.structure(0):
        if not callable(loss):
            raise TypeError(f"{name}: loss must be callable, got {show_value(loss)}")
        return [(loss, targets)]
    losses, losses_tree = jax.tree.flatten(loss)
    if losses_tree != tree or len(targets) not in (0, 1) or not all(map(callable, losses)):
        raise TypeError(f"{name}: f returns {tree}; loss must be such a tree of functions, and targets one, too")
    own = tree.flatten_up_to(targets[0]) if targets else [()] * len(losses)
    return [(one, target if isinstance(target, tuple) else (target,)) for one, target in zip(losses, own, strict=True)]


def _name_of(loss) -> str:
    """The name of a loss, without what `functools.partial` adds."""
    own, _ = without_partial(loss)
    return getattr(own, "__name__", str(own))


FEW_OUTPUTS = 32  # up to so many outputs it is faster to multiply by a root as an array than by its operator


def _as_array_if_narrow(root: Jacobian) -> Jacobian:
    """The root as a stored array if there are few outputs."""
    if root.in_shape and root.in_shape[-1] > FEW_OUTPUTS:
        return root
    terms = [dataclasses.replace(term, factors=(term.as_tensor(),), scale=1.0) for term in root.terms]
    return dataclasses.replace(root, terms=tuple(terms))
