"""Kronecker factors with corrected eigenvalues: EKFAC (George et al. 2018, arXiv:1806.03884).

In the basis of the eigenvectors of both factors the block of the Gauss-Newton matrix is nearly diagonal.  K-FAC takes the
products of the factors' eigenvalues for that diagonal; here it is the diagonal itself: the rows are turned into the basis
and squared.  Of all matrices with these eigenvectors it is the closest one to the block.
"""

import functools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..algebra import sharding
from ..algebra.factors import labels_of, pytree
from ..algebra.jacobian import Jacobian
from ..algebra.rules import fresh_groups, from_groups, named_tensor
from ..algebra.sizes import nbytes_of, show_bytes
from ..checks import as_array, checked
from ..errors import ShapeError
from .kfac import check_damping, kronecker_factors, of_every_array
from .rows import in_cheapest_form, quantity, squares


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
        check_damping("logdet", damping)
        return jnp.sum(jnp.log(self.eigenvalues + damping))

    def _scaled(self, name: str, v, scales):
        v = as_array(f"{name}: v", v)
        if v.shape != self.shape:
            raise ShapeError(f"{name}: v has shape {v.shape}, expected {self.shape}")
        first, last = self.first, self.last
        inner = sharding.matmul(sharding.matmul(first.T, sharding.reshaped(v, scales.shape)), last)
        inner = operator.mul(*sharding.compatible(inner, scales))
        return sharding.reshaped(sharding.matmul(sharding.matmul(first, inner), last.T), self.shape)


@quantity
def ekfac_factors(
    f: Callable,
    loss,
    *,
    curvature: str = "ggn",
    sharing: str = "expand",
    scale: float = 1.0,
    samples: int | None = None,
    key=None,
) -> Callable:
    """A function of `(params, x, *targets)` that returns an `EigenKronecker` for every array of parameters, in their tree.

    Arguments and errors are those of `kfac_factors`, whose factors give the eigenvectors.  The trace of every block is that
    of the Gauss-Newton matrix, and no matrix with these eigenvectors is closer to it in the Frobenius norm.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> block = jn.ekfac_factors(f, jn.squared_error)(jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.zeros((4, 3)))
    >>> block.eigenvalues.shape, block.matrix().shape
    ((3, 2), (6, 6))
    """
    return of_every_array("ekfac_factors", _corrected, f, loss, curvature, sharing, scale, samples, key)


def _corrected(column: tuple[Jacobian, ...], reduce: bool) -> EigenKronecker:
    """The eigenvectors of the Kronecker factors of one array, and the diagonal in their basis."""
    factors = kronecker_factors(column, reduce)
    first, last = (jnp.linalg.eigh(sharding.on_every_device(side))[1] for side in (factors.first, factors.last))
    turn = _turn(first, last, factors.shape)
    turned = [in_cheapest_form(squares, (j @ turn).T)[0] for j in column]
    eigenvalues = functools.reduce(operator.add, map(squares, turned))
    return EigenKronecker(first, last, jnp.maximum(eigenvalues, 0), factors.shape)


def _turn(first: jax.Array, last: jax.Array, shape: tuple[int, ...]) -> Jacobian:
    """P ⊗ Q as the Jacobian of an array by its coordinates in the basis."""
    cut = next(c for c in range(len(shape) + 1) if math.prod(shape[:c]) == len(first))
    axes = fresh_groups(shape)
    coordinates = fresh_groups((len(first), len(last)), start=len(shape))
    own = labels_of(axes[:cut]), labels_of(axes[cut:])
    parts = [
        named_tensor(
            vectors.reshape(*(label.size for label in labels), len(vectors)), [*((label,) for label in labels), group], name
        )
        for vectors, labels, group, name in zip((first, last), own, coordinates, ("P", "Q"), strict=True)
    ]
    like = [jax.ShapeDtypeStruct(s, first.dtype) for s in (shape, (len(first), len(last)))]
    return from_groups(axes, coordinates, *parts)(*like)
