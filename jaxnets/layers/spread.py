"""Variances and standard deviations: reductions of the differences to a mean.

They take `axis`, `keepdims` and a mask `where` as the other reductions do.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..checks import check_number
from .layer import layer
from .lengths import scale_and_squares, unit_vectors
from .normalize_common import deviations, safe_sqrt
from .reduce import Axis, full_mask, reduced_axes, weighted_sum_rule

__all__ = ["var", "std"]


def _deviations_and_count(name, x, where, axes, correction):
    """x minus its mean, 0 where the mask is False, and the divisor m, at least 0; 1 if everything is masked."""
    correction = check_number(name, "correction", correction)
    mask = full_mask(name, x, where)
    if mask is None:
        return deviations(x, axes), jnp.asarray(max(math.prod(x.shape[a] for a in axes) - correction, 0.0), x.dtype)
    count = jnp.sum(mask, axes, keepdims=True).astype(x.dtype)
    total = jnp.maximum(count, 1)
    kept = jnp.where(mask, x, 0)
    low = jnp.min(jnp.where(mask, x, jnp.inf), axes, keepdims=True, initial=jnp.inf)
    high = jnp.max(jnp.where(mask, x, -jnp.inf), axes, keepdims=True, initial=-jnp.inf)
    mean = jnp.clip(jnp.sum(kept, axes, keepdims=True) / total, low, high)
    d = jnp.where(mask, kept - lax.stop_gradient(jnp.where(count > 0, mean, 0)), 0)
    d = jnp.where(mask, d - jnp.sum(d, axes, keepdims=True) / total, 0)
    return d, jnp.where(count > 0, jnp.maximum(count - correction, 0), 1)


@layer
def var(
    x: Float[Array, "..."],
    where: Bool[Array, "..."] | None = None,
    *,
    axis: Axis = None,
    keepdims: bool = False,
    correction: float = 0.0,
) -> Float[Array, "..."]:
    """Variance  y = Σ (x − μ)² / m  along `axis`, with μ the mean of the n entries and m = n − `correction`.

    ∂y/∂x[b,i] = (2d/m)[b,i],  d = x − μ

    A `correction` of 1, torch's default, gives the unbiased variance.  Where m is not positive y is NaN, or ∞ if d is not 0,
    as in NumPy; but if everything is masked the variance is 0, with Jacobian 0.
    """
    axes = reduced_axes("var", x, axis)
    d, m = _deviations_and_count("var", x, where, axes, correction)
    y = jnp.sum(jnp.square(d), axes, keepdims=True) / m
    return y if keepdims else jnp.squeeze(y, axes)


@var.jacobian
def _(y, x, where, *, axis, keepdims, correction):
    d, m = _deviations_and_count("var", x, where, reduced_axes("var", x, axis), correction)
    return weighted_sum_rule(x, axis, keepdims, (2 * d / m, "2d/m", "twice the differences to the mean, over m")), None


@layer
def std(
    x: Float[Array, "..."],
    where: Bool[Array, "..."] | None = None,
    *,
    axis: Axis = None,
    keepdims: bool = False,
    correction: float = 0.0,
) -> Float[Array, "..."]:
    """Standard deviation  y = √(Σ (x − μ)² / m)  along `axis`, with μ the mean of the n entries and m = n − `correction`.

    ∂y/∂x[b,i] = (u/√m)[b,i],  u = d / |d|  with  d = x − μ,  which is d / (m y);  0 if all entries are equal

    A `correction` of 1 is torch's default.  d is divided by its largest entry before it is squared, so that the squares
    neither overflow nor vanish.  Where m is not positive y is NaN, or ∞ if d is not 0, as in NumPy; but if everything is
    masked y is 0, with Jacobian 0.
    """
    axes = reduced_axes("std", x, axis)
    d, m = _deviations_and_count("std", x, where, axes, correction)
    scale, squares = scale_and_squares(d, axes)
    y = scale * (safe_sqrt(squares) / jnp.sqrt(m))
    return y if keepdims else jnp.squeeze(y, axes)


@std.jacobian
def _(y, x, where, *, axis, keepdims, correction):
    axes = reduced_axes("std", x, axis)
    d, m = _deviations_and_count("std", x, where, axes, correction)
    unit = unit_vectors(d, axes)[0] / jnp.sqrt(m)
    return weighted_sum_rule(x, axis, keepdims, (unit, "u/√m", "the differences to the mean over their length and √m")), None
