"""Kronecker factors of a Gauss-Newton or Fisher matrix, two for every array of parameters (Martens & Grosse 2015).

For weights w[o,i] the rows are products `A[n; o,i] = V[n,o]·x[n,i]`; n is an example and a place where the weights are used.
The block of G that belongs to w, `Σ_n (V Vᵀ) ⊗ (x xᵀ)`, is approximated by a product, `(Σ_n V Vᵀ) ⊗ (mean_n x xᵀ)`.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..algebra.contraction import sharing_products
from ..algebra.factors import distinct_labels, labels_of, shape_of, size_of
from ..algebra.jacobian import Jacobian
from ..algebra.rules import from_groups
from ..algebra.terms import Term
from .gauss_newton import CURVATURES, gauss_newton
from .kronecker import Kronecker
from .rows import quantity, with_float32_results
from .sampling import check_samples

SHARING = ("expand", "reduce")


@quantity
def kfac_factors(
    f: Callable,
    loss,
    *,
    curvature: str = "ggn",
    sharing: str = "expand",
    scale: float = 1.0,
    samples: int | None = None,
    key=None,
) -> Callable:
    """A function of `(params, x, *targets)` that returns a `Kronecker` for every array of parameters, in their tree.

    `curvature` is "ggn", "fisher" (for the model's own distribution) or "empirical"; see `ggn` and `fisher`.  `sharing` is
    for weights that are used at many places, as in convolutions and sequences: "expand" counts every place as an example,
    "reduce" first sums gradients and averages inputs over the places (Eschenhagen et al. 2023).  "expand" is exact for one
    output, one example and one place.  Raises ValueError for an unknown word, JacobianTooLarge if a factor does not fit.

    `samples` and `key` are those of `ggn`: one backward pass for every sample instead of one for every output.  It takes
    what different places of a sequence send back for independent, as "expand" does.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> block = jn.kfac_factors(f, jn.squared_error)(jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.zeros((4, 3)))
    >>> block.first.shape, block.last.shape, block.matrix().shape
    ((3, 3), (2, 2), (6, 6))
    """
    return of_every_array("kfac_factors", kronecker_factors, f, loss, curvature, sharing, scale, samples, key)


def of_every_array(
    name: str, make: Callable, f, loss, curvature: str, sharing: str, scale: float, samples: int | None, key
) -> Callable:
    """The function of `(params, x, *targets)` that makes an approximate block of every array of parameters.

    `make(column, reduce)` gets the rows A of G = Aᵀ A by one array, in which the places where it is used stand apart.
    """
    if sharing not in SHARING:
        raise ValueError(f"{name}: sharing must be one of {SHARING}, got {sharing!r}")
    if curvature not in CURVATURES:
        raise ValueError(f"{name}: curvature must be one of {CURVATURES}, got {curvature!r}")
    check_samples(name, samples, key)

    def run(params, *batch):
        empty = any(0 in jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batch))
        x, *targets = jax.tree.map(_with_one_example, batch) if empty else batch
        matrix = gauss_newton(name, curvature, f, loss, scale, params, x, targets, False, samples, key)
        if not matrix.symmetric:
            raise TypeError(f"{name}: no root of the loss's Hessian is known; use curvature='empirical'")
        weight = 0.0 if empty else 1.0  # of the one example that shows how many rows there are
        with sharing_products():  # a weight and its bias have the same first factor
            return matrix.left.map_leaves(lambda *column: make(tuple(weight * j for j in column), sharing == "reduce"))

    return run


def _with_one_example(leaf):
    return jnp.zeros((1, *leaf.shape[1:]), leaf.dtype) if 0 in jnp.shape(leaf)[:1] else leaf


def kronecker_factors(column: tuple[Jacobian, ...], reduce: bool) -> Kronecker:
    """The Kronecker factors of one parameter array, from the rows of all outputs."""
    uses = _uses_of(column, reduce)
    return whole_block(column) if uses is None else _product_of(uses, column)


def whole_block(column: tuple[Jacobian, ...]) -> Kronecker:
    """The exact block of one parameter array, as the first factor."""
    block = _sum_of_squares(column)
    return Kronecker(block, jnp.ones((1, 1), block.dtype), column[0].in_shape)


def factors_within(column: tuple[Jacobian, ...], reduce: bool, largest: int) -> Kronecker | None:
    """The Kronecker factors, or None where one of them would have more than `largest` rows."""
    uses = _uses_of(column, reduce)
    shapes = [column[0].in_shape] if uses is None else [uses[0].first.in_shape, uses[0].last.in_shape]
    if max(map(math.prod, shapes)) > largest:
        return None
    return whole_block(column) if uses is None else _product_of(uses, column)


def _uses_of(column: tuple[Jacobian, ...], reduce: bool) -> "list[_Use] | None":
    """Every use of an array, or None where one of them is no product, or cuts the axes elsewhere than another."""
    dtype = with_float32_results(column[0]).dtype
    found = [[use for term in j.terms if (use := _as_use(term, reduce, dtype))] for j in column]
    complete = all(len(uses) == len(j.terms) for uses, j in zip(found, column, strict=True))
    uses = [use for of_output in found for use in _with_sums(of_output)]
    return uses if uses and complete and len({use.cut for use in uses}) == 1 else None


def _product_of(uses: "list[_Use]", column: tuple[Jacobian, ...]) -> Kronecker:
    first, last = (_sum_of_squares(side) for side in zip(*[(use.first, use.last) for use in uses], strict=True))
    return Kronecker(first, last / sum(use.rows for use in uses), column[0].in_shape)


def _sum_of_squares(column) -> jax.Array:
    """Σ JᵀJ over these Jacobians, as a matrix."""
    return functools.reduce(operator.add, [with_float32_results(j.T @ j) for j in column]).matrix()


class _Use(NamedTuple):
    """A use of an array in the network: its term is the product of two Jacobians by the axes before and after `cut`."""

    cut: int
    first: Jacobian
    last: Jacobian
    rows: int
    inputs: tuple  # equal where the last parts are one and the same


def _with_sums(uses: list[_Use]) -> list[_Use]:
    """The uses, of which those with the same inputs are one: what comes back along several paths is added.

    So it is for a fused projection, whose queries, keys and values are cut out of one product.
    """
    found: dict[tuple, _Use] = {}
    for use in uses:
        known = found.get(use.inputs)
        found[use.inputs] = use if known is None else known._replace(first=known.first + use.first)
    return list(found.values())


def _as_use(term: Term, reduce: bool, dtype) -> _Use | None:
    """The term as a product of a Jacobian by the first axes of its input and one by the last axes; None if it is no product.

    Both keep the labels of the output and, without `reduce`, those of the places, which are labels of a single factor of the
    last part.
    """
    for cut in range(1, len(term.inp)):
        mine, theirs = (set(labels_of(side)) for side in (term.inp[:cut], term.inp[cut:]))
        local = [factor for factor in term.factors if factor.labels & theirs]
        rest = [factor for factor in term.factors if not factor.labels & theirs]
        if mine & theirs or not local or any(factor.labels & mine for factor in local) or theirs & set(labels_of(term.out)):
            continue
        outer = distinct_labels(term.out)
        inner = [
            label for factor in local for label in distinct_labels(factor.axes) if label not in theirs and label not in outer
        ]
        places = [label for label in inner if inner.count(label) == 1]
        kept = outer if reduce else [*outer, *places]
        constant_places = [label for label in places if not any(label in factor.labels for factor in rest)] if reduce else []
        scale = term.scale * size_of(constant_places)  # places with the same gradient
        mean = 1 / size_of(places) if reduce else 1.0
        first, last = (
            _use_part(kept, inp, factors, number, dtype)
            for inp, factors, number in ((term.inp[:cut], rest, scale), (term.inp[cut:], local, mean))
        )
        inputs = tuple((type(factor), *map(id, jax.tree.leaves(factor))) for factor in local)
        return _Use(cut, first, last, size_of(kept), (*inputs, cut, first.out_shape, mean))
    return None


def _use_part(kept, inp, factors, scale: float, dtype) -> Jacobian:
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in (shape_of([(label,) for label in kept]), shape_of(inp))]
    return from_groups([(label,) for label in kept], inp, *factors, scale=scale)(*shapes)
