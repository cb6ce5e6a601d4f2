"""Blocks of a Gauss-Newton or Fisher matrix that are Kronecker products: solves, determinants and products with them.

Solves and determinants use the basis of the eigenvectors of both factors, in which an `EigenKronecker` is diagonal.  A
`Kronecker` holds the factors themselves; it is an `EigenKronecker` whose eigenvalues are the products of theirs.
"""

import math
import operator

import jax
import jax.numpy as jnp

from ..algebra import sharding
from ..algebra.factors import labels_of, pytree
from ..algebra.jacobian import Jacobian
from ..algebra.rules import fresh_groups, from_groups, named_tensor
from ..algebra.sizes import nbytes_of, show_bytes
from ..checks import as_array, check_scalar, check_shaped, checked, is_integer, show_value
from ..errors import ShapeError


@pytree("first", "last", "eigenvalues")
class EigenKronecker:
    """`(P ⊗ Q) diag(eigenvalues) (P ⊗ Q)ᵀ`, an approximate block of a parameter array, from `ekfac_factors`.

    P is `first` [n, n], eigenvectors for the array's first axes, Q is `last` [m, m] for its last ones; the eigenvalues are
    [n, m].
    """

    first: jax.Array
    last: jax.Array
    eigenvalues: jax.Array
    shape: tuple[int, ...]

    def __repr__(self):
        n, m = jnp.shape(self.eigenvalues)
        whole = show_bytes(math.prod(self.shape) ** 2 * self.first.dtype.itemsize)
        return f"EigenKronecker([{n}] ⊗ [{m}] for {list(self.shape)}, {show_bytes(nbytes_of(self))} of {whole})"

    def matrix(self) -> jax.Array:
        """The block for the array flattened by rows, as JAX does."""
        basis = jnp.kron(self.first, self.last)
        return (basis * self.eigenvalues.reshape(-1)) @ basis.T

    def __matmul__(self, v):
        return self._scaled("K @ v", v, self.eigenvalues)

    @checked
    def solve(self, v, damping: float | jax.Array = 0.0):
        """(K + damping·I)⁻¹ v for v of the array's shape.  Raises ValueError if the damping is known to be negative."""
        check_damping("solve", damping)
        return self._scaled("solve", v, 1 / (self.eigenvalues + damping))

    @checked
    def logdet(self, damping: float | jax.Array = 0.0) -> jax.Array:
        """log det(K + damping·I); raises what `solve` raises."""
        return _logdet(self.eigenvalues, damping)

    @property
    def basis(self) -> Jacobian:
        """P ⊗ Q as the Jacobian of an array by its coordinates [n, m] in the basis."""
        n, m = len(self.first), len(self.last)
        cut = next(c for c in range(len(self.shape) + 1) if math.prod(self.shape[:c]) == n)
        axes = fresh_groups(self.shape)
        coordinates = fresh_groups((n, m), start=len(self.shape))
        own = labels_of(axes[:cut]), labels_of(axes[cut:])
        parts = [
            named_tensor(
                vectors.reshape(*(label.size for label in labels), len(vectors)),
                [*((label,) for label in labels), group],
                name,
            )
            for vectors, labels, group, name in zip((self.first, self.last), own, coordinates, ("P", "Q"), strict=True)
        ]
        like = [jax.ShapeDtypeStruct(s, self.first.dtype) for s in (self.shape, (n, m))]
        return from_groups(axes, coordinates, *parts)(*like)

    def _scaled(self, name: str, v, scales):
        first, last = self.first, self.last
        inner = sharding.matmul(sharding.matmul(first.T, _as_matrix(name, v, self.shape, scales.shape)), last)
        inner = operator.mul(*sharding.compatible(inner, scales))
        return sharding.reshaped(sharding.matmul(sharding.matmul(first, inner), last.T), self.shape)


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
        self._check_factors("K @ v")
        matrix = _as_matrix("K @ v", v, self.shape, (len(self.first), len(self.last)))
        return sharding.reshaped(sharding.matmul(sharding.matmul(self.first, matrix), self.last.T), self.shape)

    @checked
    def solve(self, v, damping: float | jax.Array = 0.0):
        """(first ⊗ last + damping·I)⁻¹ v for v of the array's shape, from the eigenvalues of both factors.

        Raises ValueError if the damping is known to be negative.
        """
        check_damping("solve", damping)
        self._check_factors("solve")
        return self.in_eigenvectors().solve(v, damping)

    @checked
    def logdet(self, damping: float | jax.Array = 0.0) -> jax.Array:
        """log det(first ⊗ last + damping·I); raises what `solve` raises."""
        self._check_factors("logdet")
        return _logdet(
            _products(*(jnp.linalg.eigvalsh(sharding.on_every_device(f)) for f in (self.first, self.last))), damping
        )

    def in_eigenvectors(self) -> EigenKronecker:
        """The same block, given by the eigenvectors of both factors and the products of their eigenvalues."""
        (a, p), (b, q) = (jnp.linalg.eigh(sharding.on_every_device(factor)) for factor in (self.first, self.last))
        return EigenKronecker(p, q, _products(a, b), self.shape)

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

    def _check_factors(self, name: str):
        """ShapeError unless the factors are square matrices for an array of this shape, which `jax.vmap` may change."""
        first, last = tuple(getattr(self.first, "shape", ())), tuple(getattr(self.last, "shape", ()))
        sizes = [first[0] if len(first) == 2 else 0, last[0] if len(last) == 2 else 0]
        if (first, last) != tuple((n, n) for n in sizes) or math.prod(sizes) != math.prod(self.shape):
            raise ShapeError(
                f"{name}: first {first} and last {last} are no square factors for an array of shape {self.shape}"
            )


def _inverse_of_definite(matrix: jax.Array) -> jax.Array:
    matrix = sharding.on_every_device(matrix)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), jnp.eye(len(matrix), dtype=matrix.dtype))


def check_damping(name: str, damping):
    """ShapeError if it is an array with axes, ValueError if it is known to be negative."""
    check_scalar(name, "damping", damping)
    if not isinstance(damping, jax.core.Tracer) and damping < 0:
        raise ValueError(f"{name}: damping must be at least 0, got {damping}")


def _as_matrix(name: str, v, shape: tuple[int, ...], sizes: tuple[int, int]) -> jax.Array:
    """v as a matrix of these sizes; ShapeError unless it has the shape of the array."""
    v = as_array(f"{name}: v", v)
    if v.shape != shape:
        raise ShapeError(f"{name}: v has shape {v.shape}, expected {shape}")
    return sharding.reshaped(v, sizes)


def _products(first: jax.Array, last: jax.Array) -> jax.Array:
    """The eigenvalues [n, m] of a Kronecker product, from those of its factors."""
    return first[:, None] * last


def _logdet(eigenvalues: jax.Array, damping) -> jax.Array:
    check_damping("logdet", damping)
    return jnp.sum(jnp.log(eigenvalues + damping))
