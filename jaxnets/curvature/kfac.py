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

from ..algebra import sharding
from ..algebra.contraction import sharing_products
from ..algebra.factors import distinct_labels, labels_of, pytree, shape_of, size_of
from ..algebra.jacobian import Jacobian
from ..algebra.rules import from_groups
from ..algebra.sizes import nbytes_of, show_bytes
from ..algebra.terms import Term
from ..checks import as_array, check_scalar, check_shaped, checked, is_integer, show_value
from ..errors import ShapeError
from .gauss_newton import CURVATURES, gauss_newton
from .rows import quantity, with_float32_results
from .sampling import check_samples

SHARING = ("expand", "reduce")


@pytree("first", "last")
class Kronecker:
    """`first ⊗ last`, the approximate block of a parameter array; `first` is of its first axes, `last` of its last ones.

    For w[o,i] in `x @ w.T + b`, `first` [o, o] is made of gradients by the outputs, `last` [i, i] of inputs.  If the rows
    of an array are no such product, as for a bias, `first` is the whole block, exact, and `last` is [[1]].  Raises TypeError
    if a factor is no array, ShapeError if the factors are no square matrices for an array of this shape.
    """

    first: jax.Array
    last: jax.Array
    shape: tuple[int, ...]

    def __post_init__(self):
        if not isinstance(self.shape, tuple) or not all(map(is_integer, self.shape)):
            raise TypeError(f"Kronecker: shape must be a tuple of integers, got {show_value(self.shape)}")
        check_shaped("Kronecker", "first", self.first)
        check_shaped("Kronecker", "last", self.last)
        self._check_factors("Kronecker")

    def __repr__(self):
        first, last = (list(jnp.shape(factor)) for factor in (self.first, self.last))
        whole = show_bytes(math.prod(self.shape) ** 2 * self.first.dtype.itemsize)
        return f"Kronecker({first} ⊗ {last} for {list(self.shape)}, {show_bytes(nbytes_of(self))} of {whole})"

    @checked
    def matrix(self, order: str = "row") -> jax.Array:
        """The block for w flattened by "row", as in JAX: `first ⊗ last`; or by "column", as in papers: `last ⊗ first`."""
        if order not in ("row", "column"):
            raise ValueError(f"matrix: order must be 'row' or 'column', got {order!r}")
        self._check_factors("matrix")
        return jnp.kron(self.first, self.last) if order == "row" else jnp.kron(self.last, self.first)

    def __matmul__(self, v):
        matrix = self._as_matrix("K @ v", v)
        return sharding.reshaped(sharding.matmul(sharding.matmul(self.first, matrix), self.last.T), self.shape)

    @checked
    def solve(self, v, damping: float | jax.Array = 0.0):
        """(first ⊗ last + damping·I)⁻¹ v for v of the array's shape, from the eigenvalues of both factors.

        Raises ValueError if the damping is known to be negative.
        """
        check_damping("solve", damping)
        matrix = self._as_matrix("solve", v)
        (a, p), (b, q) = (jnp.linalg.eigh(sharding.on_every_device(factor)) for factor in (self.first, self.last))
        inner = sharding.matmul(sharding.matmul(p.T, matrix), q) / (a[:, None] * b + damping)
        return sharding.reshaped(sharding.matmul(sharding.matmul(p, inner), q.T), self.shape)

    @checked
    def logdet(self, damping: float | jax.Array = 0.0) -> jax.Array:
        """log det(first ⊗ last + damping·I); raises what `solve` raises."""
        check_damping("logdet", damping)
        self._check_factors("logdet")
        a, b = (jnp.linalg.eigvalsh(sharding.on_every_device(factor)) for factor in (self.first, self.last))
        return jnp.sum(jnp.log(a[:, None] * b + damping))

    @checked
    def damped(self, damping: float | jax.Array) -> "Kronecker":
        """(first + π √damping I) ⊗ (last + √damping/π I), an approximation of first ⊗ last + damping·I that is a product.

        π² is the mean eigenvalue of `first` over that of `last` (Martens & Grosse 2015, section 6.3): `solve` of the result
        needs no further damping, and its factors can be inverted one by one.  Where `first` is the whole block, and `last`
        is [[1]], the result is `first + damping·I` itself; where a factor is 0, π is 1.
        """
        check_damping("damped", damping)
        self._check_factors("damped")
        n, m = len(self.first), len(self.last)
        if m == 1:
            whole = self.first * self.last + damping * jnp.eye(n, dtype=self.first.dtype)
            return Kronecker(whole, jnp.ones_like(self.last), self.shape)
        means = jnp.trace(self.first) / n, jnp.trace(self.last) / m
        known = (means[0] > 0) & (means[1] > 0)
        balance = jnp.sqrt(jnp.where(known, means[0], 1) / jnp.where(known, means[1], 1))
        first = self.first + balance * jnp.sqrt(damping) * jnp.eye(n, dtype=self.first.dtype)
        last = self.last + jnp.sqrt(damping) / balance * jnp.eye(m, dtype=self.last.dtype)
        return Kronecker(first, last, self.shape)

    @checked
    def inverse(self) -> "Kronecker":
        """(first ⊗ last)⁻¹ as the product of the inverses of both factors, which must be positive definite.

        Where they may not be, take `damped(…).inverse()`; what is not definite gives NaN.
        """
        self._check_factors("inverse")
        return Kronecker(_inverse_of_definite(self.first), _inverse_of_definite(self.last), self.shape)

    def _as_matrix(self, name: str, v):
        self._check_factors(name)
        v = as_array(f"{name}: v", v)
        if v.shape != self.shape:
            raise ShapeError(f"{name}: v has shape {v.shape}, expected {self.shape}")
        return sharding.reshaped(v, (len(self.first), len(self.last)))

    def _check_factors(self, name: str):
        """ShapeError unless the factors are square matrices for an array of this shape, which `jax.vmap` may change."""
        first, last = tuple(getattr(self.first, "shape", ())), tuple(getattr(self.last, "shape", ()))
        sizes = [first[0] if len(first) == 2 else 0, last[0] if len(last) == 2 else 0]
        if (first, last) != tuple((n, n) for n in sizes) or math.prod(sizes) != math.prod(self.shape):
            raise ShapeError(
                f"{name}: first {first} and last {last} are no square factors for an array of shape {self.shape}"
            )


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


def _inverse_of_definite(matrix: jax.Array) -> jax.Array:
    matrix = sharding.on_every_device(matrix)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), jnp.eye(len(matrix), dtype=matrix.dtype))


def check_damping(name: str, damping):
    """ShapeError if it is an array with axes, ValueError if it is known to be negative."""
    check_scalar(name, "damping", damping)
    if not isinstance(damping, jax.core.Tracer) and damping < 0:
        raise ValueError(f"{name}: damping must be at least 0, got {damping}")


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

    def run(params, x, *targets):
        matrix = gauss_newton(name, curvature, f, loss, scale, params, x, targets, False, samples, key)
        if not matrix.symmetric:
            raise TypeError(f"{name}: no root of the loss's Hessian is known; use curvature='empirical'")
        with sharing_products():  # a weight and its bias have the same first factor
            return matrix.left.map_leaves(lambda *column: make(column, sharing == "reduce"))

    return run


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
