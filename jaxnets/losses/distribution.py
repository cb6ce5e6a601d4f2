"""Losses for distributions: a divergence of two, and the likelihoods of counts and of normal numbers."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from ..algebra.rules import diagonal
from ..checks import check_axis, check_broadcasts, check_not_negative
from ..layers import accurate
from ..layers.layer import layer
from ..layers.samples import Example, Positive, Probabilities
from .common import (
    as_real,
    check_same_shape,
    classes_last,
    gradient_rule,
    real_targets,
    rule_if_real,
    times_or_zero,
    with_classes_at,
)

__all__ = ["kl_divergence", "poisson_nll", "gaussian_nll"]


@layer(example=Example(Probabilities((4, 6), log=True), Probabilities((4, 6))))
def kl_divergence(
    predictions: Float[Array, "... k"],
    targets: Float[Array, "... k"],
    *,
    log_targets: bool = False,
    axis: int | None = -1,
) -> Float[Array, "..."]:
    """Kullback-Leibler divergence of distributions  y[...] = Σ_k t[..., k] (log t[..., k] − predictions[..., k]).

    `predictions` are log-probabilities; t are the targets, or exp(targets) with `log_targets`.  The sum over `axis` gives
    one number for each example.  With `axis` None there is no sum, and one number for each class, as in torch; for its
    "batchmean" take `reduce(y, "batchmean")`.

    ∂y[b]/∂predictions[b,k] = −t[b,k]     ∂y[b]/∂targets[b,k] = d[b,k],  d = 1 + log t − predictions,  times t with
    `log_targets`

    A class with t = 0 adds 0, even if its prediction is −∞, and its derivatives are 0.  If t > 0 and the prediction is −∞,
    y is ∞.  Negative targets give NaN.
    """
    check_same_shape("kl_divergence", predictions=predictions, targets=targets)
    t, log_t = _targets_and_log(targets, log_targets)
    y = times_or_zero(t, log_t - predictions)
    return y if axis is None else jnp.sum(y, check_axis("kl_divergence", y, axis))


def _targets_and_log(targets, log_targets):
    """t and log t; the latter is 0 where t is 0."""
    if log_targets:
        return jnp.exp(targets), jnp.where(jnp.isneginf(targets), 0, targets)
    return targets, jnp.log(jnp.where(targets == 0, 1, targets))


@kl_divergence.jacobian
def _(y, predictions, targets, *, log_targets, axis):
    if axis is not None:
        (predictions, axis), targets = classes_last("kl_divergence", predictions, axis), jnp.moveaxis(targets, axis, -1)
    t, log_t = _targets_and_log(targets, log_targets)
    slope = 1 + log_t - predictions
    slope = times_or_zero(t, slope) if log_targets else jnp.where(t == 0, 0, slope)
    if axis is None:
        return diagonal(-t, "−t"), diagonal(slope, "d")
    return tuple(with_classes_at(axis, t.ndim, gradient_rule(*each)) for each in ((-t, "−t"), (slope, "d")))


@layer(example=Example((4, 5), Positive((4, 5))))
def poisson_nll(
    predictions: Float[Array, "..."],
    targets: Num[Array, "..."],
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
) -> Float[Array, "..."]:
    """Negative log-likelihood of counts t  y[...] = exp(x[...]) − t[...] x[...],  x the logarithm of the expected count.

    Without `log_input` x is the expected count itself, and y = x − t log(x + eps).  Where t > 1, `full` adds Stirling's
    approximation of log t!, which is t log t − t + ½ log(2πt).

    ∂y[b,i]/∂predictions[b,i] = h'[b,i],  h' = exp(x) − t, or 1 − t / (x + eps)     ∂y[b,i]/∂targets[b,i] = d[b,i],
    d = −x, or −log(x + eps);  with `full` plus log t + 1 / (2t) where t > 1

    The loss is 0 if the count and the expected count are 0.  Hessian h = exp(x), or t / (x + eps)², root √h.
    """
    eps = check_not_negative("poisson_nll", "eps", eps)
    t = real_targets("poisson_nll", predictions, targets)
    mean, log_mean = (jnp.exp(predictions), predictions) if log_input else (predictions, jnp.log(predictions + eps))
    y = mean - times_or_zero(t, log_mean)
    if full:
        large = jnp.where(t > 1, t, 1)
        y = y + jnp.where(t > 1, large * jnp.log(large) - large + jnp.log(2 * math.pi * large) / 2, 0)
    return y


@poisson_nll.jacobian
def _(y, predictions, targets, *, log_input, full, eps):
    t = as_real(targets, predictions)
    if log_input:
        slope, by_targets = jnp.exp(predictions) - t, -predictions
    else:
        mean = predictions + eps
        slope = jnp.where(t == 0, 1, (mean - t) / jnp.where(t == 0, 1, mean))
        by_targets = -jnp.log(mean)
    if full:
        large = jnp.where(t > 1, t, 1)
        by_targets = by_targets + jnp.where(t > 1, jnp.log(large) + 0.5 / large, 0)
    by_predictions = diagonal(slope, "h'", "exp(x) − t" if log_input else "1 − t / (x + eps)")
    meaning = ("−x" if log_input else "−log(x + eps)") + " + log t + 1 / (2t) where t > 1" * full
    return by_predictions, rule_if_real(targets, diagonal(by_targets, "d", meaning))


@poisson_nll.hessian
def _(y, predictions, targets, *, log_input, full, eps):
    t = as_real(targets, predictions)
    if log_input:
        return diagonal(jnp.exp(predictions), "h"), diagonal(jnp.exp(predictions / 2), "√h")
    root = jnp.where(t == 0, 0, jnp.sqrt(t) / (predictions + eps))
    return diagonal(jnp.square(root), "h"), diagonal(root, "√h")


@layer(example=Example((4, 5), (4, 5), Positive((4, 5))))
def gaussian_nll(
    predictions: Float[Array, "..."],
    targets: Float[Array, "..."],
    var: Float[Array, "..."],
    *,
    full: bool = False,
    eps: float = 1e-6,
) -> Float[Array, "..."]:
    """Negative log-likelihood of normal numbers  y[...] = ½ log v[...] + ½ e[...]² / v[...],  v = max(var, eps).

    e = predictions − targets; `var` broadcasts to their shape.  `full` adds ½ log 2π.

    ∂y[b,i]/∂predictions[b,i] = (e/v)[b,i]     ∂y[b,i]/∂targets[b,i] = −(e/v)[b,i]     ∂y[b,i]/∂var[b,i] = d[b,i],
    d = ½ (v − e²) / v²

    In place of a variance up to `eps` stands the constant `eps`, so its derivative is 0; a negative variance gives NaN.
    Hessian 1/v, root 1/√v.
    """
    eps = check_not_negative("gaussian_nll", "eps", eps)
    check_same_shape("gaussian_nll", predictions=predictions, targets=targets)
    check_broadcasts("gaussian_nll", "var", var, predictions.shape)
    v, _ = _variance(var, eps)
    y = jnp.log(v) / 2 + jnp.square(predictions - targets) / (2 * v)
    return y + math.log(2 * math.pi) / 2 if full else y


def _variance(var, eps):
    """v, and where it is the constant eps."""
    constant = var <= eps
    return jnp.where(var < 0, accurate.nan_unless(~(var < 0), var.dtype), jnp.where(constant, eps, var)), constant


@gaussian_nll.jacobian
def _(y, predictions, targets, var, *, full, eps):
    v, constant = _variance(var, eps)
    ratio = (predictions - targets) / v
    slope = jnp.where(constant, 0, (1 / v - jnp.square(ratio)) / 2)
    return diagonal(ratio, "e/v"), diagonal(-ratio, "−e/v"), diagonal(slope, "d")


@gaussian_nll.hessian
def _(y, predictions, targets, var, *, full, eps):
    v = jnp.broadcast_to(_variance(var, eps)[0], y.shape)
    return diagonal(1 / v, "1/v"), diagonal(1 / jnp.sqrt(v), "1/√v")
