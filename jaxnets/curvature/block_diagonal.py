"""A Gauss-Newton matrix approximated by one Kronecker product for every array of parameters, as one matrix."""

import functools
import operator
from dataclasses import replace

import jax
import jax.numpy as jnp

from ..algebra.factors import pytree
from ..algebra.jacobian import Jacobian
from ..algebra.rules import diagonal
from ..checks import errors_named
from .ekfac import ekfac_factors
from .gauss_newton import gauss_newton
from .gauss_newton_matrix import GaussNewton
from .kfac import kfac_factors
from .kronecker import EigenKronecker, Kronecker
from .likelihoods import is_likelihood
from .rows import Rows, of_each_example, with_float32_results

STRUCTURES = ("full", "kfac", "ekfac")


@pytree("blocks")
class BlockDiagonal:
    """The matrix with a block for every array of parameters, each an `EigenKronecker`: between two arrays it is zero.

    It answers what `GaussNewton` answers: `inner`, `inner_of_each_example`, `eigenvalues` and `logdet`.
    """

    blocks: tuple[EigenKronecker, ...]

    def __repr__(self):
        return f"BlockDiagonal([{', '.join(map(repr, self.blocks))}])"

    def eigenvalues(self) -> jax.Array:
        """The eigenvalues of all blocks."""
        return jnp.concatenate([jnp.ravel(block.eigenvalues) for block in self.blocks])

    def logdet(self, damping: float | jax.Array = 0.0) -> jax.Array:
        """log det(K + damping·I)."""
        return functools.reduce(operator.add, [block.logdet(damping) for block in self.blocks])

    def inner(self, u: Rows, w: Rows, damping: float | jax.Array) -> jax.Array:
        """The matrix U (K + damping·I)⁻¹ Wᵀ for the rows of other Jacobians by the same parameters."""
        return self._turned(u, damping).gram_matrix(self._turned(w, damping))

    def inner_of_each_example(self, u: Rows, damping: float | jax.Array) -> jax.Array:
        """The part of `inner(u, u, damping)` within each example, `[B, *outputs, *outputs]`."""
        return of_each_example(self._turned(u, damping))

    def _turned(self, rows: Rows, damping) -> Rows:
        """The rows times (K + damping·I)^(−½), in the bases of the blocks."""
        return rows.map_by_leaf([functools.partial(_turned, block, damping) for block in self.blocks])


def _turned(block: EigenKronecker, damping, j: Jacobian) -> Jacobian:
    scales = jax.lax.rsqrt(block.eigenvalues + damping)
    coordinates = jax.ShapeDtypeStruct(scales.shape, scales.dtype)
    return with_float32_results(j) @ block.basis @ diagonal(scales, "s")(coordinates, coordinates)


def curvature_of(name: str, structure: str, f, loss, scale, params, x, targets) -> GaussNewton | BlockDiagonal:
    """The curvature of `scale · Σ loss(f(params, x), *targets)`: "full", or by "kfac" or "ekfac" blocks.

    It is the Fisher matrix of a likelihood, and the Gauss-Newton matrix of any other loss.  They differ where f returns
    probabilities or their logarithms, in which `nll` is linear: the Fisher matrix is the same as by logits.
    """
    curvature = "fisher" if is_likelihood(loss, targets) else "ggn"
    if structure == "full":
        return gauss_newton(name, curvature, f, loss, scale, params, x, targets)
    with errors_named(name, instead_of=f"{structure}_factors"):
        make = kfac_factors if structure == "kfac" else ekfac_factors
        found = jax.tree.leaves(make(f, loss, curvature=curvature, scale=scale)(params, x, *targets), is_leaf=_is_block)
    blocks = [block.in_eigenvectors() if structure == "kfac" else block for block in found]
    return BlockDiagonal(tuple(replace(block, eigenvalues=jnp.maximum(block.eigenvalues, 0)) for block in blocks))


def check_structure(name: str, structure: str):
    """ValueError for an unknown word."""
    if structure not in STRUCTURES:
        raise ValueError(f"{name}: structure must be one of {STRUCTURES}, got {structure!r}")


def _is_block(value) -> bool:
    return isinstance(value, (Kronecker, EigenKronecker))
