"""Kronecker factors with corrected eigenvalues: EKFAC (George et al. 2018, arXiv:1806.03884).

In the basis of the eigenvectors of both factors the block of the Gauss-Newton matrix is nearly diagonal.  K-FAC takes the
products of the factors' eigenvalues for that diagonal; here it is the diagonal itself: the rows are turned into the basis
and squared.  Of all matrices with these eigenvectors it is the closest one to the block.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable

import jax.numpy as jnp

from ..algebra.jacobian import Jacobian
from .kfac import kronecker_factors, of_every_array
from .kronecker import EigenKronecker
from .rows import in_cheapest_form, quantity, squares


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
    """The eigenvectors of the Kronecker factors of one array, and the diagonal of the block in their basis."""
    found = kronecker_factors(column, reduce).in_eigenvectors()
    turned = [in_cheapest_form(squares, (j @ found.basis).T)[0] for j in column]
    eigenvalues = functools.reduce(operator.add, map(squares, turned), jnp.zeros_like(found.eigenvalues))
    return dataclasses.replace(found, eigenvalues=jnp.maximum(eigenvalues, 0))
