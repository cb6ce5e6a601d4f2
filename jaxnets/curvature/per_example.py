"""Per-example gradients, and their norms and variances without an array that holds one gradient per example.

`loss(params, *args)` returns one loss per example, `[B, ...]`; further axes are summed.  Its Jacobian by weights that are
used once is a product `∂ℓ[b]/∂w[o,i] = g[b,o]·x[b,i]`, so the squared norms of its rows are `Σ_o g² · Σ_i x²`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..autodiff.transforms import dense
from .rows import Rows, loss_rows, quantity, squared_row_norms, with_float32_results


def _squared_gradient_norms(rows: Rows) -> jax.Array:
    """‖g_b‖² for every example."""
    return functools.reduce(jnp.add, map(squared_row_norms, rows.blocks[0]))


@quantity
def per_example_grads(loss: Callable, limit: float | None = None) -> Callable:
    """A function of `(params, *args)` that returns ∂ℓ[b]/∂θ for every example: a tree of arrays `[B, *leaf]`.

    It is what `jax.vmap(jax.grad(loss))` returns, computed from the batched loss.  Raises JacobianTooLarge if an array
    exceeds `limit` bytes (default: half of the free memory), and ShapeError if the loss has no axis of examples.

    >>> loss = lambda w, x, y: jn.cross_entropy(jn.linear(x, w), y)
    >>> jn.per_example_grads(loss)(jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.zeros(4, int)).shape
    (4, 3, 2)
    """

    def run(params, *args):
        rows = loss_rows("per_example_grads", loss, params, *args)
        return rows.map_leaves(lambda j: dense(j, limit))

    return run


@quantity
def per_example_grad_norms(loss: Callable) -> Callable:
    """A function of `(params, *args)` that returns ‖∂ℓ[b]/∂θ‖ for every example, `[B]`, over all parameters together.

    Sums of 16-bit numbers are accumulated in float32.  Raises ShapeError if the loss has no axis of examples.

    >>> loss = lambda w, x: jn.linear(x, w)[:, 0]
    >>> jn.per_example_grad_norms(loss)(jnp.ones((1, 2)), jnp.array([[3.0, 4.0], [0.0, 1.0]]))
    Array([5., 1.], dtype=float32)
    """

    def run(params, *args):
        return jnp.sqrt(_squared_gradient_norms(loss_rows("per_example_grad_norms", loss, params, *args)))

    return run


@quantity
def gradient_variance(loss: Callable) -> Callable:
    """A function of `(params, *args)` that returns for every parameter the variance of ∂ℓ[b]/∂θ, with divisor B − 1.

    It is computed as (Σ_b g² − B ḡ²)/(B − 1) from squares of factors, and is never negative.  Its error is the rounding
    error of the mean square, so a variance below the machine epsilon times ḡ² is lost.  Raises ValueError for fewer than two
    examples.

    >>> loss = lambda w, x: jn.linear(x, w)[:, 0]
    >>> jn.gradient_variance(loss)(jnp.ones((1, 2)), jnp.array([[3.0, 4.0], [1.0, 4.0]]))
    Array([[2., 0.]], dtype=float32)
    """

    def run(params, *args):
        rows = loss_rows("gradient_variance", loss, params, *args)
        count = _example_count("gradient_variance", rows)

        def variance(j):
            mean = with_float32_results(j.T) @ jnp.full(count, 1 / count)
            return jnp.maximum(with_float32_results(j.T @ j).diagonal() - count * mean**2, 0) / (count - 1)

        return rows.map_leaves(variance)

    return run


@quantity
def gradient_noise_scale(loss: Callable) -> Callable:
    """A function of `(params, *args)` that returns tr Σ / ‖G‖², the batch size at which noise is as large as the gradient.

    This is the simple noise scale of McCandlish et al. 2018 (appendix A).  Σ is the covariance of per-example gradients and
    G the gradient; both are estimated from the batch without bias.  The result is infinite if the estimate of ‖G‖² is not
    positive.  Raises ValueError for fewer than two examples.

    >>> loss = lambda w, x: jn.linear(x, w)[:, 0]
    >>> jn.gradient_noise_scale(loss)(jnp.ones((1, 1)), jnp.array([[2.0], [4.0]]))
    Array(0.25, dtype=float32)
    """

    def run(params, *args):
        rows = loss_rows("gradient_noise_scale", loss, params, *args)
        count = _example_count("gradient_noise_scale", rows)
        mean_square = jnp.mean(_squared_gradient_norms(rows))
        mean = sum(jnp.sum((with_float32_results(j.T) @ jnp.full(count, 1 / count)) ** 2) for j in rows.blocks[0])
        noise, signal = (mean_square - mean) * count / (count - 1), (count * mean - mean_square) / (count - 1)
        return jnp.where(signal > 0, noise / jnp.where(signal > 0, signal, 1), jnp.inf)

    return run


def _example_count(name: str, rows: Rows) -> int:
    """The number of examples; ValueError if there are fewer than two."""
    (count,) = rows.blocks[0][0].out_shape
    if count < 2:
        raise ValueError(f"{name}: a variance needs at least two examples, got {count}")
    return count
