"""Losses for class labels and class probabilities: one number for each example."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from ..algebra.factors import Label, Tensor
from ..algebra.rules import axis_names, diagonal, einsum, fresh_groups, from_groups, total, zero
from ..algebra.selections import Selection, as_int32
from ..algebra.sharding import entries_at, mask_at
from ..checks import MAX_INTEGER, check_integer, check_number, check_range, check_share, is_floating
from ..errors import DTypeError, ShapeError
from ..layers import accurate
from ..layers.layer import layer
from ..layers.samples import Example, Labels
from ..layers.softmax import LogSoftmaxOperator, SoftmaxOperator, SoftmaxRootOperator, log_softmax, sum_of_others
from ..layers.sparsemax import excess, projection_rule
from .common import check_same_shape, classes_last, gradient_rule, times_or_zero, with_classes_at

__all__ = ["nll", "cross_entropy", "multi_class_hinge", "sparsemax_loss"]


def _labels_and_ignored(loss, scores, labels, ignore_index=None):
    """The labels as int32 and where they are ignored; a label that is ignored or no class becomes the number of classes."""
    count = scores.shape[-1]
    if ignore_index is not None:
        ignore_index = check_integer(loss, "ignore_index", ignore_index, -MAX_INTEGER)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError(f"{loss}: argument 'targets' has dtype {labels.dtype}, expected integer labels")
    if labels.shape != scores.shape[:-1]:
        raise ShapeError(
            f"{loss}: argument 'targets' has shape {labels.shape}, expected {scores.shape[:-1]} for labels "
            f"of 'predictions' of shape {scores.shape}"
        )
    check_range(loss, "targets", labels, count, ignore_index)
    labels = as_int32(labels)
    ignored = jnp.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index
    return jnp.where(ignored | (labels < 0) | (labels >= count), count, labels), ignored


def _label_score(scores, labels):
    """scores[..., label]; NaN where the label is no class."""
    return entries_at(scores, labels)


def _label_weight(weight, labels):
    """weight[label]; 0 where the label is no class."""
    return jnp.take(weight, labels, mode="fill", fill_value=0)


def _zero_where_ignored(y, scores, labels, ignored):
    """y where the label is a class, 0 where it is ignored, else NaN."""
    known = labels < scores.shape[-1]
    return jnp.where(known, y, accurate.nan_unless(known | ignored, y.dtype))


def _negative_log_likelihood(loss, log_p, targets, weight, ignore_index):
    """−weight[label]·log_p[..., label]."""
    labels, ignored = _labels_and_ignored(loss, log_p, targets, ignore_index)
    y = -_label_score(log_p, labels)
    y = y if weight is None else times_or_zero(_label_weight(weight, labels), y)
    return _zero_where_ignored(y, log_p, labels, ignored)


def _weight_rule(y, labels, weight):
    """The rule ∂y[...]/∂weight[k] of a loss that is weight[label]·y, for this y."""
    groups = fresh_groups((*labels.shape, len(weight)), axis_names(labels.ndim + 1, "k"))
    value = jnp.where(labels < len(weight), y, 0)
    return from_groups(groups[:-1], groups[-1:], Tensor(value, groups[:-1], "u"), Selection(labels, groups, "targets"))


@layer(example=Example((4, 6), Labels((4,)), None))
def nll(
    predictions: Float[Array, "..."],
    targets: Int[Array, "..."],
    weight: Float[Array, "k"] | None = None,
    *,
    axis: int = -1,
    ignore_index: int | None = None,
) -> Float[Array, "..."]:
    """Negative log-likelihood  y[...] = −predictions[..., targets[...]]  of log-probabilities and integer labels.

    The classes are along `axis`, by default the last one; torch has them at axis 1.

    ∂y[b]/∂predictions[b,k] = −δ(k, targets[b])

    `weight` multiplies y and its Jacobian by weight[targets[b]]; ∂y[b]/∂weight[k] = −predictions[b,k]·δ(k, targets[b]).  A
    class of weight 0 may have a prediction of −∞.  Where the label is `ignore_index`, which may be out of range, y and its
    Jacobians are 0.

    Labels out of range raise ValueError outside `jit` and give NaN with Jacobian 0 inside.
    """
    log_p, _ = _checked_classes("nll", predictions, weight, axis)
    return _negative_log_likelihood("nll", log_p, targets, weight, ignore_index)


def _checked_classes(loss, predictions, weight, axis):
    """The predictions with classes last, and their axis; ShapeError unless there is one weight for each class."""
    moved, axis = classes_last(loss, predictions, axis)
    if weight is not None and len(weight) != moved.shape[-1]:
        raise ShapeError(
            f"{loss}: argument 'weight' has shape {weight.shape}, expected [k] with k = {moved.shape[-1]} as in "
            "'predictions'"
        )
    return moved, axis


@nll.jacobian
def _(y, predictions, targets, weight, *, axis, ignore_index):
    predictions, axis = classes_last("nll", predictions, axis)
    labels, _ = _labels_and_ignored("nll", predictions, targets, ignore_index)
    inp = fresh_groups(predictions.shape, axis_names(predictions.ndim, "k"))
    weights = [] if weight is None else [Tensor(_label_weight(weight, labels), inp[:-1], "w")]
    by_predictions = from_groups(inp[:-1], inp, *weights, Selection(labels, inp, "targets"), scale=-1.0)
    by_weight = None if weight is None else _weight_rule(-_label_score(predictions, labels), labels, weight)
    return with_classes_at(axis, predictions.ndim, by_predictions), None, by_weight


def _smoothed_targets(predictions, targets, weight, ignore_index, label_smoothing):
    """The smoothed targets t and weight·t, both [..., k] as the predictions, and where they count."""
    if is_floating(targets):
        check_same_shape("cross_entropy", predictions=predictions, targets=targets)
        if ignore_index is not None:
            raise ValueError(f"cross_entropy: ignore_index {ignore_index} goes with labels, got probabilities")
        t, known = targets, jnp.ones(targets.shape[:-1], bool)
    else:
        labels, _ = _labels_and_ignored("cross_entropy", predictions, targets, ignore_index)
        known = labels < predictions.shape[-1]
        t = mask_at(predictions, labels).astype(predictions.dtype)
    s = check_share("cross_entropy", "label_smoothing", label_smoothing)
    t = jnp.where(known[..., None], (1 - s) * t + s / max(1, t.shape[-1]), 0)
    return t, t if weight is None else weight * t, known


@layer(example=Example((4, 6), Labels((4,)), None))
def cross_entropy(
    predictions: Float[Array, "..."],
    targets: Num[Array, "..."],
    weight: Float[Array, "k"] | None = None,
    *,
    axis: int = -1,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Float[Array, "..."]:
    """Cross-entropy of logits  y[...] = −Σ_k weight[k] t[..., k] log softmax(predictions)[..., k].

    `targets` are integer labels [...], so that t is one-hot, or probabilities [..., k].  The classes are along `axis` of
    both, by default the last one; torch has them at axis 1.  Without `weight` all weights are 1.

    ∂y[b]/∂predictions[b,k] = (p−t)[b,k],  p = softmax(predictions), for Σ_k t = 1;  computed as −Σ_i t[i] (δ(i,k) − p[k]),
    which is accurate even where p is nearly t     ∂y[b]/∂targets[b,k] = −(log p)[b,k]

    `label_smoothing` s replaces t by (1 − s) t + s / K, with K classes.  ∂y/∂weight[k] = −t[k] log p[k].  The Hessian is
    Q (diag p − p pᵀ) with Q = Σ_k weight[k] t[k], its root √Q (diag √p − p √pᵀ).

    A class with t = 0 or weight 0 may have a logit of −∞.  Where the label is `ignore_index`, which may be out of range, y
    and its derivatives are 0.  Labels out of range raise ValueError outside `jit` and give NaN with Jacobian 0 inside.
    """
    predictions, targets, _ = _logits_and_targets(predictions, targets, weight, axis)
    log_p = log_softmax.forward(predictions)
    if label_smoothing == 0 and not is_floating(targets):
        return _negative_log_likelihood("cross_entropy", log_p, targets, weight, ignore_index)
    _, weighted, _ = _smoothed_targets(predictions, targets, weight, ignore_index, label_smoothing)
    y = jnp.sum(times_or_zero(weighted, -log_p), -1)
    if is_floating(targets):
        return y
    return _zero_where_ignored(y, log_p, *_labels_and_ignored("cross_entropy", log_p, targets, ignore_index))


def _logits_and_targets(predictions, targets, weight, axis):
    """Logits, and targets if they are probabilities, with classes last, and the axis that the classes had."""
    moved, axis = _checked_classes("cross_entropy", predictions, weight, axis)
    if is_floating(targets):
        check_same_shape("cross_entropy", predictions=predictions, targets=targets)
        targets = jnp.moveaxis(targets, axis, -1)
    return moved, targets, axis


@cross_entropy.jacobian
def _(y, predictions, targets, weight, *, axis, ignore_index, label_smoothing):
    predictions, targets, axis = _logits_and_targets(predictions, targets, weight, axis)
    log_p = log_softmax.forward(predictions)
    p = jnp.exp(log_p)
    if label_smoothing == 0 and not is_floating(targets):
        labels, _ = _labels_and_ignored("cross_entropy", predictions, targets, ignore_index)
        own = mask_at(p, labels)
        slope = jnp.where(own, -sum_of_others(p, own), p)
        slope = slope if weight is None else slope * _label_weight(weight, labels)[..., None]
        slope = jnp.where(labels[..., None] < p.shape[-1], slope, 0)
        by_weight = None if weight is None else _weight_rule(-_label_score(log_p, labels), labels, weight)
        return with_classes_at(axis, p.ndim, gradient_rule(slope, "(p−t)")), None, by_weight
    t, weighted, known = _smoothed_targets(predictions, targets, weight, ignore_index, label_smoothing)
    slope = -LogSoftmaxOperator(p, fresh_groups((*p.shape, p.shape[-1]))).pull(weighted[None])[0]
    by_predictions = gradient_rule(jnp.where(known[..., None], slope, 0), "(p−t)")
    kept = (1 - label_smoothing) * (1 if weight is None else weight)
    by_targets = gradient_rule(times_or_zero(kept, -log_p), "−log p") if is_floating(targets) else None
    slope = jnp.where(known[..., None], times_or_zero(t, -log_p), 0)
    rules = (with_classes_at(axis, p.ndim, rule) for rule in (by_predictions, by_targets))
    return *rules, einsum("...", "k", (slope, "...k", "−t log p"))


@cross_entropy.hessian
def _(y, predictions, targets, weight, *, axis, ignore_index, label_smoothing):
    predictions, targets, axis = _logits_and_targets(predictions, targets, weight, axis)
    _, weighted, known = _smoothed_targets(predictions, targets, weight, ignore_index, label_smoothing)
    p = jnp.where(known[..., None], jnp.exp(log_softmax.forward(predictions)), 0)
    inp = fresh_groups(p.shape, axis_names(p.ndim, "j"))
    shared, i = inp[:-1], (Label(p.ndim, p.shape[-1], "i"),)

    def rule(operator, total, name):
        factors = [] if weight is None and not is_floating(targets) else [Tensor(total, shared, name)]
        whole = from_groups((*shared, i), inp, *factors, operator(p, (*shared, i, inp[-1])))
        return with_classes_at(axis, p.ndim, whole, both=True)

    total = jnp.sum(weighted, -1)
    return rule(SoftmaxOperator, total, "Q"), rule(SoftmaxRootOperator, jnp.sqrt(total), "√Q")


@layer(example=Example((4, 6), Labels((4,)), None))
def multi_class_hinge(
    predictions: Float[Array, "... k"],
    targets: Int[Array, "..."],
    weight: Float[Array, "k"] | None = None,
    *,
    margin: float = 1.0,
    p: int = 1,
) -> Float[Array, "..."]:
    """Hinge loss of scores and labels  y[...] = weight[t] Σ_{j≠t} max(0, margin − x[t] + x[j])^p / K,  t = targets[...].

    x are the predictions of K classes, p is 1 or 2.

    ∂y[b]/∂predictions[b,k] = h[b,k],  h[j] = weight[t] p max(0, margin − x[t] + x[j])^(p−1) / K for j ≠ t where
    margin − x[t] + x[j] > 0, else 0, also at the kink; h[t] = −Σ_{j≠t} h[j]

    ∂y/∂weight[t] = y / weight[t].  For p = 2 the Hessian is S Sᵀ with the root S, whose column j is √(2 weight[t] / K) times
    e[j] − e[t] where h[j] > 0, else 0, for unit vectors e.  Labels out of range raise ValueError outside `jit` and give NaN
    with Jacobian 0 inside.
    """
    check_number("multi_class_hinge", "margin", margin)
    if p not in (1, 2):
        raise ValueError(f"multi_class_hinge: p must be 1 or 2, got {p!r}")
    labels, ignored = _labels_and_ignored("multi_class_hinge", predictions, targets)
    gaps, _ = _hinge_gaps(predictions, labels, margin)
    y = jnp.sum(gaps**p, -1) / predictions.shape[-1]
    y = y if weight is None else times_or_zero(_label_weight(weight, labels), y)
    return _zero_where_ignored(y, predictions, labels, ignored)


def _hinge_gaps(x, labels, margin):
    """max(0, margin − x[t] + x[j]), which is set to 0 for j = t, and where j is t."""
    own = mask_at(x, labels)
    gap = margin - _label_score(x, labels)[..., None] + x
    return jnp.where(own | (gap <= 0), 0, gap), own


@multi_class_hinge.jacobian
def _(y, predictions, targets, weight, *, margin, p):
    labels, _ = _labels_and_ignored("multi_class_hinge", predictions, targets)
    gaps, own = _hinge_gaps(predictions, labels, margin)
    count = predictions.shape[-1]
    slope = jnp.where(gaps == 0, 0, jnp.ones_like(gaps) if p == 1 else 2 * gaps) / count
    slope = slope if weight is None else slope * _label_weight(weight, labels)[..., None]
    slope = jnp.where(own, -jnp.sum(slope, -1, keepdims=True), slope)
    by_predictions = gradient_rule(jnp.where(labels[..., None] < count, slope, 0), "h")
    by_weight = None if weight is None else _weight_rule(jnp.sum(gaps**p, -1) / count, labels, weight)
    return by_predictions, None, by_weight


@multi_class_hinge.hessian
def _(y, predictions, targets, weight, *, margin, p):
    labels, _ = _labels_and_ignored("multi_class_hinge", predictions, targets)
    gaps, own = _hinge_gaps(predictions, labels, margin)
    if p == 1:
        return zero, zero
    w = 1 if weight is None else _label_weight(weight, labels)[..., None]
    scale = jnp.where(labels[..., None] < predictions.shape[-1], w * 2 / jnp.asarray(predictions.shape[-1], y.dtype), 0)
    hit, own = (gaps > 0).astype(y.dtype), own.astype(y.dtype)
    total_hit = jnp.sum(hit, -1, keepdims=True)

    def outer(name, left, right, sign):
        return einsum("...i", "...j", (left, "...i", name[0]), (right, "...j", name[1]), scale=sign)

    h = total(
        diagonal(scale * hit, "h"),
        outer("ch", scale * own, hit, -1.0),
        outer("hc", hit, scale * own, -1.0),
        outer("cc", scale * total_hit * own, own, 1.0),
    )
    root = jnp.sqrt(scale)
    return h, total(diagonal(root * hit, "√h"), outer("ch", own, root * hit, -1.0))


@layer(example=Example((4, 6), Labels((4,))))
def sparsemax_loss(predictions: Float[Array, "... k"], targets: Int[Array, "..."]) -> Float[Array, "..."]:
    """Loss of `sparsemax`  y[...] = ½ (1 + Σ_k p[..., k]²) − x[..., t] + τ[...],  p = max(0, x − τ),  t = targets[...].

    x are the predictions; τ makes the sum of p 1.  The loss is 0 where p[t] is 1.

    ∂y[b]/∂predictions[b,k] = (p−t)[b,k],  p minus the one-hot target

    It is computed as ½ Σ_{k≠t} p[k]² + ½ (1 − p[t])², plus τ − x[t] where that is positive, and p[t] − 1 as the sum of the
    others, so that no digits cancel.  The Hessian is diag s − s sᵀ / Σ s, where s is 1 where p > 0, else 0; it is its own
    root.  Labels out of range raise ValueError outside `jit` and give NaN with Jacobian 0 inside.
    """
    labels, ignored = _labels_and_ignored("sparsemax_loss", predictions, targets)
    z, own = _excess_and_own(predictions, labels)
    others = jnp.where(own, 0, jnp.maximum(0, z))
    left = -_label_score(z, labels)
    rest = jnp.where(left < 0, jnp.sum(others, -1), 1)
    y = (jnp.sum(jnp.square(others), -1) + jnp.square(rest)) / 2 + jnp.where(left > 0, left, 0)
    return _zero_where_ignored(y, predictions, labels, ignored)


def _excess_and_own(x, labels):
    """x − τ, and where the class is that of the label."""
    return excess(x), mask_at(x, labels)


@sparsemax_loss.jacobian
def _(y, predictions, targets):
    labels, _ = _labels_and_ignored("sparsemax_loss", predictions, targets)
    z, own = _excess_and_own(predictions, labels)
    p = jnp.maximum(0, z)
    slope = jnp.where(own, -sum_of_others(p, own), p)
    return gradient_rule(jnp.where(labels[..., None] < p.shape[-1], slope, 0), "(p−t)"), None


@sparsemax_loss.hessian
def _(y, predictions, targets):
    labels, _ = _labels_and_ignored("sparsemax_loss", predictions, targets)
    z, _ = _excess_and_own(predictions, labels)
    support = ((z > 0) & (labels[..., None] < z.shape[-1])).astype(y.dtype)
    return (projection_rule(support, z.ndim - 1),) * 2
