"""Losses of examples that may belong to several classes at once, and of classes that are rare."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Num

from ..algebra.factors import at_least_float32
from ..algebra.rules import diagonal, einsum
from ..algebra.selections import as_int32
from ..checks import check_not_negative, check_range, check_share
from ..layers import accurate
from ..layers.accurate import sigmoid_derivative
from ..layers.layer import layer
from ..layers.samples import Example, Labels, Unit
from .binary import sigmoid_slope_root, softplus_both
from .common import as_real, check_same_shape, gradient_rule, real_targets, rule_if_real, times_or_zero

__all__ = ["multilabel_margin", "multilabel_soft_margin", "focal", "dice"]


@layer(example=Example((4, 6), Labels((4, 6))))
def multilabel_margin(predictions: Float[Array, "... k"], targets: Int[Array, "... k"]) -> Float[Array, "..."]:
    """Hinge loss of several labels  y[...] = Σ_j Σ_i max(0, 1 − x[j] + x[i]) / K,  j the labels, i the other classes.

    x are the predictions of K classes.  `targets` begins with the labels of an example; a −1 ends them, and what follows it
    does not count.  A label that is listed twice counts twice.

    ∂y[b]/∂predictions[b,k] = h[b,k],  h[i] = the number of j with 1 − x[j] + x[i] > 0, over K;  h[j] = minus the number of
    such i, over K.  At the kink it is 0.

    Labels below −1 or beyond the classes raise ValueError outside `jit` and give NaN with Jacobian 0 inside.
    """
    counts, valid = _counts_of_labels(predictions, targets)
    near, others = _near_classes(predictions, counts)
    top = lax.stop_gradient(jnp.max(jnp.where(jnp.isfinite(others), others, -jnp.inf), -1, keepdims=True, initial=-jnp.inf))
    top = jnp.where(jnp.isfinite(top), top, 0)
    ranked = jnp.sort(others, -1, descending=True) - top
    sums = _cumulated(jnp.where(jnp.isneginf(ranked), 0, ranked))
    gaps = jnp.take_along_axis(sums, near, -1) + times_or_zero(near.astype(top.dtype), 1 - (predictions - top))
    y = jnp.sum(times_or_zero(counts, gaps), -1) / predictions.shape[-1]
    valid &= ~jnp.any(jnp.isnan(predictions), -1)
    return y + accurate.nan_unless(valid, y.dtype)


def _near_classes(x, counts):
    """For every class as a label how many other classes i have 1 − x[j] + x[i] > 0; and x of these, −∞ for the labels.

    They are the first so many in the order of x, so one sort takes the place of all pairs.
    """
    others = jnp.where(counts > 0, -jnp.inf, x)
    return _count_below(-jnp.sort(others, -1, descending=True), 1 - x), others


def _count_below(ranked, limits):
    """How many entries of the ascending rows [..., k] are below each limit [..., k]."""
    shape = (math.prod(limits.shape[:-1]), limits.shape[-1])
    count = jax.vmap(lambda row, limit: jnp.searchsorted(row, limit))
    return count(ranked.reshape(shape), limits.reshape(shape)).reshape(limits.shape)


def _cumulated(x):
    """The sums of the first 0, 1, … and of all entries of each row."""
    return jnp.pad(jnp.cumsum(x, -1), [(0, 0)] * (x.ndim - 1) + [(1, 0)])


def _counts_of_labels(x, targets):
    """How often every class is listed as a label, and which examples have labels that are classes alone."""
    check_same_shape("multilabel_margin", predictions=x, targets=targets)
    k = x.shape[-1]
    check_range("multilabel_margin", "targets", targets, k, -1)
    targets = as_int32(targets)
    listed = jnp.cumsum(targets == -1, -1) == 0
    rows = jnp.where(listed & (targets >= 0), targets, k).reshape(math.prod(x.shape[:-1]), k)
    counts = jax.vmap(lambda row: jnp.zeros(k, x.dtype).at[row].add(1, mode="drop"))(rows)
    return counts.reshape(x.shape), jnp.all((targets >= -1) & (targets < k), -1)


@multilabel_margin.jacobian
def _(y, predictions, targets):
    counts, valid = _counts_of_labels(predictions, targets)
    near, _ = _near_classes(predictions, counts)
    limits = jnp.where(counts > 0, predictions - 1, jnp.inf)
    order = jnp.argsort(limits, -1)
    met = _count_below(jnp.take_along_axis(limits, order, -1), predictions)
    pushes = jnp.take_along_axis(_cumulated(jnp.take_along_axis(counts, order, -1)), met, -1)
    slope = jnp.where(counts > 0, -counts * near, pushes) / predictions.shape[-1]
    return gradient_rule(jnp.where(valid[..., None], slope, 0), "h"), None


@layer(example=Example((4, 6), Unit((4, 6)), None))
def multilabel_soft_margin(
    predictions: Float[Array, "... k"], targets: Num[Array, "... k"], weight: Float[Array, "k"] | None = None
) -> Float[Array, "..."]:
    """Mean cross-entropy of logits  y[...] = Σ_k weight[k] (t[k] log(1 + exp(−x[k])) + (1 − t[k]) log(1 + exp(x[k]))) / K.

    ∂y[b]/∂predictions[b,k] = h'[b,k],  h' = weight ((1 − t) σ(x) − t σ(−x)) / K     ∂y[b]/∂targets[b,k] = d[b,k],
    d = −weight x / K

    x are the predictions of K classes, t the targets in [0, 1].  ∂y[b]/∂weight[k] is the term of class k without its weight.
    Hessian h = weight σ(x) σ(−x) / K, root √h.
    """
    t = real_targets("multilabel_soft_margin", predictions, targets)
    ell = _cross_entropies(predictions, t)
    return jnp.sum(ell if weight is None else times_or_zero(weight, ell), -1) / max(1, t.shape[-1])


def _cross_entropies(x, t):
    above, below = softplus_both(x)
    return times_or_zero(t, below) + times_or_zero(1 - t, above)


@multilabel_soft_margin.jacobian
def _(y, predictions, targets, weight):
    x, t = predictions, as_real(targets, predictions)
    w = (1 if weight is None else weight) / jnp.asarray(max(1, t.shape[-1]), x.dtype)
    slope = w * ((1 - t) * lax.logistic(x) - t * lax.logistic(-x))
    by_targets = gradient_rule(jnp.broadcast_to(times_or_zero(w, -x), x.shape), "d")
    by_weight = None
    if weight is not None:
        by_weight = einsum("...", "k", (_cross_entropies(x, t) / max(1, t.shape[-1]), "...k", "ℓ"))
    by_predictions = gradient_rule(slope, "h'", meaning="weight ((1 − t) σ(x) − t σ(−x)) / K")
    return by_predictions, rule_if_real(targets, by_targets), by_weight


@multilabel_soft_margin.hessian
def _(y, predictions, targets, weight):
    w = (1 if weight is None else weight) / jnp.asarray(max(1, predictions.shape[-1]), predictions.dtype)
    h, root = w * sigmoid_derivative(predictions), jnp.sqrt(w) * sigmoid_slope_root(predictions)
    return diagonal(h, "h"), diagonal(root, "√h")


@layer(example=Example((4, 5), Unit((4, 5))))
def focal(
    predictions: Float[Array, "..."], targets: Num[Array, "..."], *, gamma: float = 2.0, alpha: float | None = None
) -> Float[Array, "..."]:
    """Focal loss of logits  y[...] = α t σ(−x)^γ log(1 + exp(−x)) + (1 − α) (1 − t) σ(x)^γ log(1 + exp(x)).

    x are the predictions, t the targets in [0, 1], γ = `gamma` and α = `alpha`, the weight of the class t = 1; without it
    both weights are 1.  What is easy counts little (Lin et al. 2017), and with gamma 0 it is the cross-entropy.

    ∂y[b,i]/∂predictions[b,i] = h'[b,i],  h' = −α t f(x) + (1 − α) (1 − t) f(−x),
    f(x) = σ(−x)^γ (σ(−x) + γ σ(x) log(1 + exp(−x)))

    ∂y[b,i]/∂targets[b,i] = d[b,i],  d the loss for t = 1 minus that for t = 0

    At x = ±∞ the loss is 0 if the target agrees, else ∞.  It is convex for gamma 0 alone, and its Hessian has no root.
    Raises ValueError for a negative gamma, or an alpha outside [0, 1].
    """
    t = real_targets("focal", predictions, targets)
    for_1, for_0 = _focal_losses(predictions, gamma, alpha)
    return times_or_zero(t, for_1) + times_or_zero(1 - t, for_0)


def _focal_weights(gamma, alpha) -> tuple[float, float, float]:
    gamma = check_not_negative("focal", "gamma", gamma)
    return gamma, *((1.0, 1.0) if alpha is None else ((a := check_share("focal", "alpha", alpha)), 1 - a))


def _focal_losses(x, gamma, alpha):
    """The losses for t = 1 and for t = 0."""
    gamma, of_1, of_0 = _focal_weights(gamma, alpha)
    above, below = softplus_both(x)
    easy_1, easy_0 = (_power(lax.logistic(z), gamma) for z in (-x, x))
    return times_or_zero(of_1, easy_1 * below), times_or_zero(of_0, easy_0 * above)


def _power(x, p):
    return x ** int(p) if p == int(p) else x**p


@focal.jacobian
def _(y, predictions, targets, *, gamma, alpha):
    x, t = predictions, as_real(targets, predictions)
    gamma, of_1, of_0 = _focal_weights(gamma, alpha)
    above, below = softplus_both(x)

    def f(p, other, loss):  # p = σ(−x), other = σ(x)
        return _power(p, gamma) * (p + gamma * times_or_zero(other, loss))

    low, high = lax.logistic(-x), lax.logistic(x)
    slope = of_0 * (1 - t) * f(high, low, above) - of_1 * t * f(low, high, below)
    for_1, for_0 = _focal_losses(x, gamma, alpha)
    by_predictions = diagonal(slope, "h'", "−α t f(x) + (1 − α) (1 − t) f(−x)")
    return by_predictions, rule_if_real(targets, diagonal(for_1 - for_0, "d"))


@layer(example=Example(Unit((4, 6)), Unit((4, 6))))
def dice(predictions: Float[Array, "... k"], targets: Num[Array, "... k"], *, eps: float = 1.0) -> Float[Array, "..."]:
    """Dice loss of two masks  y[...] = 1 − (2 Σ_k p[k] t[k] + eps) / (Σ_k p[k] + Σ_k t[k] + eps).

    p are the predictions, the probabilities of the entries of a mask, and t the targets, the mask itself.

    ∂y[b]/∂predictions[b,k] = d1[b,k]     ∂y[b]/∂targets[b,k] = d2[b,k],  d1 = (1 − y − 2t) / D,  d2 = (1 − y − 2p) / D

    D is the divisor.  y is computed as Σ (p (1 − t) + t (1 − p)) / D, in which no digits cancel.  Two empty masks with
    eps = 0 give 0, with Jacobian 0.  The loss is not convex, and its Hessian has no root.  Raises ValueError for a negative
    eps.
    """
    t = real_targets("dice", predictions, targets)
    return _dice(predictions, t, eps)[0]


def _dice(p, t, eps):
    """The loss, and one over its divisor, which is 0 where that is 0."""
    p, t = at_least_float32(p), at_least_float32(t)
    divisor = jnp.sum(p, -1) + jnp.sum(t, -1) + check_not_negative("dice", "eps", eps)
    inverse = jnp.where(divisor == 0, 0, 1 / jnp.where(divisor == 0, 1, divisor))
    return jnp.sum(p * (1 - t) + t * (1 - p), -1) * inverse, inverse


@dice.jacobian
def _(y, predictions, targets, *, eps):
    p, t = predictions, as_real(targets, predictions)
    y, inverse = (a[..., None] for a in _dice(p, t, eps))
    by_predictions, by_targets = ((1 - y - 2 * other) * inverse for other in (t, p))
    return gradient_rule(by_predictions, "d1"), rule_if_real(targets, gradient_rule(by_targets, "d2"))
