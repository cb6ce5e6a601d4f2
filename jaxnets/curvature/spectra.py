"""How the eigenvalues of a matrix are distributed that is known by its products, as a Hessian or a kernel."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..algebra.factors import pytree
from ..checks import as_array, check_counts, check_key, check_positive, checked
from ..errors import DTypeError, ShapeError


@pytree("nodes", "weights")
class Spectrum:
    """A distribution of eigenvalues: `nodes` and `weights`, both [sample, step]; the weights of each sample add up to 1.

    The mean of g over the eigenvalues is about `(weights * g(nodes)).sum(1).mean()`; `size` times that is the trace of g.
    """

    nodes: jax.Array
    weights: jax.Array
    size: int  # of the matrix

    def __repr__(self):
        samples, steps = jnp.shape(self.nodes)
        return f"Spectrum({self.size:,} eigenvalues, by {steps} steps of Lanczos from {samples} vectors)"

    @checked
    def density(self, at, width: float) -> jax.Array:
        """The density at some numbers [n]: each node as a normal distribution with standard deviation `width`.

        Raises ValueError unless width > 0, ShapeError if the numbers have other axes.
        """
        at = as_array("density: argument 'at'", at)
        if at.ndim != 1:
            raise ShapeError(f"density: at has shape {at.shape}, expected (n,)")
        width = check_positive("density", "width", width)
        distances = (at[:, None, None] - self.nodes) / width
        heights = jnp.exp(-jnp.square(distances) / 2) / (width * jnp.sqrt(2 * jnp.pi))
        return jnp.sum(self.weights * heights, 2).mean(1)


@checked
def spectrum(product: Callable, like, *, key, steps: int = 40, samples: int = 4) -> Spectrum:
    """The distribution of the eigenvalues of a symmetric matrix, from `steps · samples` of its products, a `Spectrum`.

    `product(v)` is the matrix times v, for v like the tree `like`: as `lambda v: G @ v` of a `GaussNewton`, or
    `hessian_vector_product(loss)` at some parameters.  Every sample takes `steps` steps of Lanczos from a random direction,
    all of them kept orthogonal, so `steps + 1` vectors are stored; the eigenvalues of the tridiagonal matrix are nodes, the
    squares of the first entries of its eigenvectors weights (Golub & Welsch 1969; Ghorbani et al. 2019).  Eigenvalues at the
    ends are found well after few steps.  A product with NaN makes all nodes of its sample NaN.  Needs the extra
    `estimators`.  Raises ShapeError if `product` returns another tree, DTypeError unless `like` is in 32 or 64 bits,
    ValueError for fewer than one step or sample, or for more steps than the matrix has rows.

    >>> d = jnp.array([1.0, 2.0, 4.0])
    >>> found = jn.spectrum(lambda v: d * v, d, key=jax.random.key(0), steps=3, samples=1)
    >>> found.nodes.round(3)
    Array([[1., 2., 4.]], dtype=float32)
    """
    check_key("spectrum", "key", key)
    check_counts("spectrum", steps=steps, samples=samples)
    like = jax.tree.map(functools.partial(as_array, "spectrum: argument 'like'"), like)
    flat, unravel = ravel_pytree(like)
    if flat.dtype not in (jnp.float32, jnp.float64):
        raise DTypeError(f"spectrum: like has dtype {flat.dtype}, expected float32 or float64")
    if steps > flat.size:
        raise ValueError(f"spectrum: steps must be at most {flat.size}, the number of entries of like, got {steps}")
    expected, found = (jax.tree.map(jnp.shape, tree) for tree in (like, jax.eval_shape(product, like)))
    if found != expected:
        raise ShapeError(f"spectrum: product returns a tree of shapes {found}, expected {expected} as 'like'")
    lanczos = _lanczos(steps)

    def of_sample(key):
        start = jax.random.normal(key, flat.shape, flat.dtype)
        found = lanczos(lambda v: ravel_pytree(product(unravel(v)))[0], start / jnp.linalg.norm(start))
        nodes, vectors = jnp.linalg.eigh(_tridiagonal(*found.J_small))
        return nodes, jnp.square(vectors[0])

    nodes, weights = jax.lax.map(of_sample, jax.random.split(key, samples))
    return Spectrum(nodes, weights, flat.size)


def _lanczos(steps: int) -> Callable:
    try:
        from matfree.decomp import tridiag_sym
    except ImportError:
        raise ModuleNotFoundError("spectrum: needs matfree: pip install 'jaxnets[estimators]'") from None
    return tridiag_sym(steps, materialize=False)


BREAKDOWN = 64  # roundings of the largest entry: what lies beside the diagonal is no larger where no direction is left


def _tridiagonal(diagonal, beside) -> jax.Array:
    """The tridiagonal matrix up to the step at which no new direction was left, as in a matrix of low rank.

    The numbers after that step are roundings, or NaN.  Its nodes then repeat the first diagonal entry, with weight 0.
    """
    largest = jnp.nanmax(jnp.abs(jnp.concatenate([diagonal, beside])))
    goes_on = jnp.cumprod(beside > BREAKDOWN * jnp.finfo(beside.dtype).eps * largest) > 0
    beside = jnp.where(goes_on, beside, 0)
    diagonal = diagonal.at[1:].set(jnp.where(goes_on, diagonal[1:], diagonal[0]))
    return jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
