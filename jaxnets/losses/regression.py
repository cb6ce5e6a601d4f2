"""Losses for real targets: functions of the error e = predictions − targets, entry by entry, without broadcasting."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..algebra.rules import diagonal, einsum, scaled
from ..checks import check_not_negative, check_positive, check_share
from ..layers import accurate
from ..layers.layer import layer
from .common import check_same_shape, difference_rules, times_or_zero

__all__ = ["squared_error", "absolute_error", "huber", "smooth_l1", "log_cosh", "quantile"]


def _error(loss, predictions, targets):
    check_same_shape(loss, predictions=predictions, targets=targets)
    return predictions - targets


@layer
def squared_error(predictions: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """Squared difference of every entry  y[...] = (predictions[...] − targets[...])².  Unreduced; no broadcasting.

    ∂y[b,i]/∂predictions[b,i] = (2e)[b,i]     ∂y[b,i]/∂targets[b,i] = −(2e)[b,i],  e = predictions − targets

    Hessian 2, root √2.
    """
    return jnp.square(_error("squared_error", predictions, targets))


@squared_error.jacobian
def _(y, predictions, targets):
    return difference_rules(2 * (predictions - targets), "2e", "2 (predictions − targets)")


@squared_error.hessian
def _(y, predictions, targets):
    return scaled(2.0), scaled(math.sqrt(2))


@layer
def absolute_error(predictions: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """Distance of every entry  y[...] = |predictions[...] − targets[...]|.  Unreduced; no broadcasting.

    ∂y[b,i]/∂predictions[b,i] = s[b,i]     ∂y[b,i]/∂targets[b,i] = −s[b,i],  s the sign of e = predictions − targets

    At the kink e = 0 the derivative is 0.
    """
    error = _error("absolute_error", predictions, targets)
    return error * jnp.sign(error)


@absolute_error.jacobian
def _(y, predictions, targets):
    return difference_rules(jnp.sign(predictions - targets), "s", "the sign of predictions − targets")


@layer
def huber(predictions: Float[Array, "..."], targets: Float[Array, "..."], *, delta: float = 1.0) -> Float[Array, "..."]:
    """Squared error up to a distance  y[...] = ½e[...]² where |e[...]| ≤ delta, else delta·(|e[...]| − ½delta).

    ∂y[b,i]/∂predictions[b,i] = q[b,i]     ∂y[b,i]/∂targets[b,i] = −q[b,i],  q = min(max(e, −delta), delta)

    e = predictions − targets.  Hessian 1 where |e| < delta, else 0, also at the kinks; it is its own root.  Raises
    ValueError unless delta is positive and finite.
    """
    delta = check_positive("huber", "delta", delta)
    error = _error("huber", predictions, targets)
    q = jnp.clip(error, -delta, delta)
    return q * q / 2 + delta * (jnp.abs(error) - jnp.abs(q))


@huber.jacobian
def _(y, predictions, targets, *, delta):
    return difference_rules(
        jnp.clip(predictions - targets, -delta, delta), "q", "min(max(predictions − targets, −delta), delta)"
    )


@huber.hessian
def _(y, predictions, targets, *, delta):
    inside = (jnp.abs(predictions - targets) < delta).astype(y.dtype)
    return diagonal(inside, "m"), diagonal(inside, "m")


@layer
def smooth_l1(predictions: Float[Array, "..."], targets: Float[Array, "..."], *, beta: float = 1.0) -> Float[Array, "..."]:
    """Distance without its kink  y[...] = ½e[...]²/beta where |e[...]| < beta, else |e[...]| − ½beta.

    ∂y[b,i]/∂predictions[b,i] = s[b,i]     ∂y[b,i]/∂targets[b,i] = −s[b,i],  s = min(max(e/beta, −1), 1)

    e = predictions − targets.  It is the Huber loss divided by delta.  With beta = 0, or a beta that the dtype rounds to 0,
    it is the absolute error.  Hessian 1/beta where |e| < beta, else 0, also at the kinks.  Raises ValueError for a negative
    or infinite beta.
    """
    beta = check_not_negative("smooth_l1", "beta", beta)
    error = _error("smooth_l1", predictions, targets)
    s = _bounded_slope(error, beta)
    q = jnp.clip(error, -beta, beta)
    return s * q / 2 + (error - q) * jnp.sign(error)


def _bounded_slope(error, beta):
    return jnp.sign(error) if beta < jnp.finfo(error.dtype).tiny else jnp.clip(error / beta, -1, 1)


@smooth_l1.jacobian
def _(y, predictions, targets, *, beta):
    return difference_rules(
        _bounded_slope(predictions - targets, beta), "s", "min(max((predictions − targets) / beta, −1), 1)"
    )


@smooth_l1.hessian
def _(y, predictions, targets, *, beta):
    inside = (jnp.abs(predictions - targets) < beta).astype(y.dtype)
    h = 1 / max(beta, jnp.finfo(y.dtype).tiny)
    return tuple(einsum("...", "...", (inside, "...", "m"), scale=scale) for scale in (h, math.sqrt(h)))


@layer
def log_cosh(predictions: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """Smooth distance  y[...] = log cosh(e[...]),  near 0 about ½e², far out about |e| − log 2;  e = predictions − targets.

    ∂y[b,i]/∂predictions[b,i] = (tanh e)[b,i]     ∂y[b,i]/∂targets[b,i] = −(tanh e)[b,i]

    Hessian 1 − tanh² e, root 1/cosh e.
    """
    error = _error("log_cosh", predictions, targets)
    near = jnp.abs(error) < 0.9
    square = jnp.square(jnp.where(near, error, 0))
    near_zero = jnp.log1p(square * accurate.polynomial(accurate.COSH, square) / 2) / 2  # ½ log(1 + sinh² e)
    lowest = accurate.minus_abs(error)
    return jnp.where(near, near_zero, jnp.log1p(jnp.exp(2 * lowest)) - lowest - math.log(2))


@log_cosh.jacobian
def _(y, predictions, targets):
    return difference_rules(accurate.tanh(predictions - targets), "tanh e", "tanh(predictions − targets)")


@log_cosh.hessian
def _(y, predictions, targets):
    error = predictions - targets
    q = jnp.exp(accurate.minus_abs(error))
    return diagonal(accurate.tanh_derivative(error), "h"), diagonal(2 * q / (1 + q * q), "√h")


@layer
def quantile(predictions: Float[Array, "..."], targets: Float[Array, "..."], *, q: float = 0.5) -> Float[Array, "..."]:
    """Quantile loss  y[...] = max((1 − q) e[...], −q e[...]),  e = predictions − targets.  Unreduced; no broadcasting.

    ∂y[b,i]/∂predictions[b,i] = s[b,i]     ∂y[b,i]/∂targets[b,i] = −s[b,i],  s = 1 − q where e > 0, −q where e < 0

    Its minimum over many targets is their quantile q, for q = ½ the median.  At the kink e = 0 the derivative is 0.  It is
    also called pinball loss.  Raises ValueError unless q is from 0 to 1.
    """
    error = _error("quantile", predictions, targets)
    return times_or_zero(_quantile_slope(error, check_share("quantile", "q", q)), error)


def _quantile_slope(error, q):
    return jnp.where(error > 0, 1 - q, jnp.where(error < 0, -q, jnp.sign(error)))  # the sign of NaN is NaN


@quantile.jacobian
def _(y, predictions, targets, *, q):
    return difference_rules(_quantile_slope(predictions - targets, q), "s", "1 − q where predictions > targets, −q below")
