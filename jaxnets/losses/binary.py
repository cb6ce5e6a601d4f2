"""Losses for two classes, entry by entry: of probabilities, of logits and of scores."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from ..algebra.rules import diagonal
from ..checks import check_broadcasts
from ..layers.accurate import minus_abs, sigmoid_derivative
from ..layers.layer import layer
from ..layers.samples import Example, Positive, Signs, Unit
from .common import as_real, real_targets, rule_if_real, times_or_zero

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "hinge", "perceptron", "soft_margin"]


@layer(example=Example(Unit((4, 5)), Unit((4, 5)), None))
def binary_cross_entropy(
    predictions: Float[Array, "..."], targets: Num[Array, "..."], *, weight: Float[Array, "..."] | None = None
) -> Float[Array, "..."]:
    """Cross-entropy of probabilities  y[...] = −t[...] log p[...] − (1 − t[...]) log(1 − p[...]),  p, t in [0, 1].

    ∂y[b,i]/∂predictions[b,i] = h'[b,i],  h' = (p − t) / (p (1 − p))     ∂y[b,i]/∂targets[b,i] = −(logit p)[b,i]

    `weight` broadcasts to the shape of y, and multiplies it and these derivatives; ∂y[b,i]/∂weight[i] is y without it.

    p are the predictions, t the targets.  The logarithms are not clipped: y is ∞ if the probability is 0 and the target is
    not.  A probability of 0 or 1 that equals its target gives 0, with derivative 1 or −1.  Hessian
    h = t / p² + (1 − t) / (1 − p)², root √h.  Outside [0, 1] the result is NaN.  For logits there is
    `binary_cross_entropy_with_logits`.
    """
    t = real_targets("binary_cross_entropy", predictions, targets)
    return _weighted("binary_cross_entropy", weight, _cross_entropy_of_probabilities(predictions, t))


def _cross_entropy_of_probabilities(p, t):
    return times_or_zero(t, -jnp.log(p)) + times_or_zero(1 - t, -_log_complement(p))


def _weighted(loss, weight, y):
    """The loss times its weight, which broadcasts; 0 where the weight is 0."""
    if weight is None:
        return y
    check_broadcasts(loss, "weight", weight, y.shape)
    return times_or_zero(weight, y)


def _times(weight, slope):
    return slope if weight is None else times_or_zero(weight, slope)


def _by_weight(weight, loss):
    """The rule by the weight, from a function that computes the loss without it; None if there is none."""
    return None if weight is None else diagonal(loss(), "ℓ", "the loss without its weight")


def _log_complement(p):
    """log(1 − p).  Around −0.4 the error of XLA's log1p is 100 units of the last place."""
    return jnp.where(p > 0.25, jnp.log(1 - p), jnp.log1p(-jnp.where(p > 0.25, 0, p)))


@binary_cross_entropy.jacobian
def _(y, predictions, targets, weight):
    p, t = predictions, as_real(targets, predictions)
    variance = p * (1 - p)
    sure = (variance == 0) & (p == t)
    slope = jnp.where(
        sure, 1 + p - 3 * t, (p - t) / jnp.where(sure, 1, variance)
    )  # there both of its derivatives by p are 1
    rare = jnp.where(p > 0.5, 1 - p, p)
    odds = jnp.log1p((1 - 2 * rare) / rare)
    by_targets = diagonal(_times(weight, jnp.where(p > 0.5, -odds, odds)), "−logit p", "log(p / (1 − p))")
    by_predictions = diagonal(_times(weight, slope), "h'", "(p − t) / (p (1 − p))")
    by_weight = _by_weight(weight, lambda: _cross_entropy_of_probabilities(p, t))
    return by_predictions, rule_if_real(targets, by_targets), by_weight


@binary_cross_entropy.hessian
def _(y, predictions, targets, weight):
    p, t = predictions, as_real(targets, predictions)
    a = jnp.where(t == 0, 0, jnp.sqrt(t) / p)
    b = jnp.where(t == 1, 0, jnp.sqrt(1 - t) / (1 - p))
    root = None if weight is None else jnp.sqrt(weight)
    return diagonal(_times(weight, jnp.square(a) + jnp.square(b)), "h"), diagonal(_times(root, jnp.hypot(a, b)), "√h")


def softplus_both(x):
    """log(1 + exp(x)) and log(1 + exp(−x))."""
    rest = jnp.log1p(jnp.exp(minus_abs(x)))
    return jnp.where(x > 0, x, 0) + rest, jnp.where(x < 0, -x, 0) + rest


def sigmoid_slope_root(x):
    """√(σ(x) σ(−x))."""
    q = jnp.exp(minus_abs(x) / 2)
    return q / (1 + q * q)


@layer(example=Example((4, 5), Unit((4, 5)), None, Positive((5,))))
def binary_cross_entropy_with_logits(
    predictions: Float[Array, "..."],
    targets: Num[Array, "..."],
    *,
    weight: Float[Array, "..."] | None = None,
    pos_weight: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Cross-entropy of logits  y[...] = w t[...] log(1 + exp(−x[...])) + (1 − t[...]) log(1 + exp(x[...])).

    ∂y[b,i]/∂predictions[b,i] = h'[b,i],  h' = (1 − t) σ(x) − w t σ(−x)     ∂y[b,i]/∂targets[b,i] = d[b,i],
    d = w log(1 + exp(−x)) − log(1 + exp(x)), or −x without w     ∂y[b,i]/∂pos_weight[i] = u[b,i],  u = t log(1 + exp(−x))

    x are the predictions, t the targets in [0, 1].  w = `pos_weight`, the weight of the class t = 1, broadcasts to their
    shape; so does `weight`, which multiplies y and these derivatives, and ∂y[b,i]/∂weight[i] is y without it.  It is also
    called sigmoid cross-entropy.  No terms cancel and none overflows: at x = ±∞ the loss is 0 if the target agrees, else ∞.
    Hessian h = (1 − t + w t) σ(x) σ(−x), root √h.
    """
    name = "binary_cross_entropy_with_logits"
    t = real_targets(name, predictions, targets)
    if pos_weight is not None:
        check_broadcasts(name, "pos_weight", pos_weight, predictions.shape)
    return _weighted(name, weight, _cross_entropy_of_logits(predictions, t, pos_weight))


def _cross_entropy_of_logits(x, t, pos_weight):
    above, below = softplus_both(x)
    return times_or_zero(t if pos_weight is None else pos_weight * t, below) + times_or_zero(1 - t, above)


@binary_cross_entropy_with_logits.jacobian
def _(y, predictions, targets, weight, pos_weight):
    x, t = predictions, as_real(targets, predictions)
    w = 1 if pos_weight is None else pos_weight
    h = (1 - t) * lax.logistic(x) - w * t * lax.logistic(-x)
    slope = diagonal(_times(weight, h), "h'", "(1 − t) σ(x) − w t σ(−x)")
    whole = _by_weight(weight, lambda: _cross_entropy_of_logits(x, t, pos_weight))
    if pos_weight is None:
        return slope, rule_if_real(targets, diagonal(_times(weight, -x), "d", "−x")), whole, None
    above, below = softplus_both(x)
    rest = jnp.where(x < 0, above, below)
    by_targets = times_or_zero(w, jnp.where(x < 0, -x, 0)) - jnp.where(x > 0, x, 0) + (w - 1) * rest
    by_weight = diagonal(_times(weight, times_or_zero(t, below)), "u", "t log(1 + exp(−x))")
    meaning = "w log(1 + exp(−x)) − log(1 + exp(x))"
    return slope, rule_if_real(targets, diagonal(_times(weight, by_targets), "d", meaning)), whole, by_weight


@binary_cross_entropy_with_logits.hessian
def _(y, predictions, targets, weight, pos_weight):
    t = as_real(targets, predictions)
    scale = _times(weight, jnp.ones_like(t) if pos_weight is None else 1 - t + pos_weight * t)
    root = jnp.sqrt(scale) * sigmoid_slope_root(predictions)
    return diagonal(scale * sigmoid_derivative(predictions), "h"), diagonal(root, "√h")


@layer(example=Example((4, 5), Signs((4, 5))))
def hinge(predictions: Float[Array, "..."], targets: Num[Array, "..."]) -> Float[Array, "..."]:
    """Hinge loss  y[...] = max(0, 1 − t[...] x[...])  of scores x and targets t, 1 or −1.

    ∂y[b,i]/∂predictions[b,i] = −t[b,i]     ∂y[b,i]/∂targets[b,i] = −x[b,i]  where t x < 1, else 0, also at the kink.
    """
    gap = 1 - real_targets("hinge", predictions, targets) * predictions
    return jnp.where(gap <= 0, 0, gap)


@hinge.jacobian
def _(y, predictions, targets):
    t = as_real(targets, predictions)
    met = t * predictions >= 1
    return diagonal(jnp.where(met, 0, -t), "−t"), rule_if_real(targets, diagonal(jnp.where(met, 0, -predictions), "−x"))


@layer(example=Example((4, 5), Signs((4, 5))))
def perceptron(predictions: Float[Array, "..."], targets: Num[Array, "..."]) -> Float[Array, "..."]:
    """Loss of the perceptron  y[...] = max(0, −t[...] x[...])  of scores x and targets t, 1 or −1.

    ∂y[b,i]/∂predictions[b,i] = −t[b,i]     ∂y[b,i]/∂targets[b,i] = −x[b,i]  where t x < 0, else 0, also at the kink.
    """
    gap = -real_targets("perceptron", predictions, targets) * predictions
    return jnp.where(gap <= 0, 0, gap)


@perceptron.jacobian
def _(y, predictions, targets):
    t = as_real(targets, predictions)
    met = t * predictions >= 0
    return diagonal(jnp.where(met, 0, -t), "−t"), rule_if_real(targets, diagonal(jnp.where(met, 0, -predictions), "−x"))


@layer(example=Example((4, 5), Signs((4, 5))))
def soft_margin(predictions: Float[Array, "..."], targets: Num[Array, "..."]) -> Float[Array, "..."]:
    """Logistic loss  y[...] = log(1 + exp(−t[...] x[...]))  of scores x and targets t, 1 or −1.

    ∂y[b,i]/∂predictions[b,i] = h'[b,i],  h' = −t σ(−t x)     ∂y[b,i]/∂targets[b,i] = d[b,i],  d = −x σ(−t x)

    Hessian h = t² σ(t x) σ(−t x), root √h.
    """
    return softplus_both(real_targets("soft_margin", predictions, targets) * predictions)[1]


@soft_margin.jacobian
def _(y, predictions, targets):
    t = as_real(targets, predictions)
    s = lax.logistic(-t * predictions)
    by_targets = diagonal(times_or_zero(s, -predictions), "d", "−x σ(−t x)")
    return diagonal(-t * s, "h'", "−t σ(−t x)"), rule_if_real(targets, by_targets)


@soft_margin.hessian
def _(y, predictions, targets):
    t = as_real(targets, predictions)
    z = t * predictions
    return diagonal(jnp.square(t) * sigmoid_derivative(z), "h"), diagonal(jnp.abs(t) * sigmoid_slope_root(z), "√h")
