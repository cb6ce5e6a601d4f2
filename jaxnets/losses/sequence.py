"""A loss of sequences whose labels are in order, but at unknown steps."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..algebra.rules import einsum, fresh_groups
from ..algebra.selections import as_int32
from ..checks import check_integer, check_range
from ..errors import ShapeError
from ..layers import accurate
from ..layers.layer import layer
from ..layers.samples import Example, Labels
from ..layers.softmax import LogSoftmaxOperator, log_softmax, softmax

__all__ = ["ctc"]


@layer(example=Example((4, 7, 6), Labels((4, 2), 5), None, None, blank=-1))
def ctc(
    predictions: Float[Array, "... t k"],
    targets: Int[Array, "... n"],
    *,
    input_lengths: Int[Array, "..."] | None = None,
    target_lengths: Int[Array, "..."] | None = None,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Float[Array, "..."]:
    """Connectionist temporal classification  y[...] = −log Σ_π Π_t p[..., t, π[t]],  p = softmax(predictions).

    The sum goes over all paths π that read as the targets.  A path has a label or the blank at every step.  It is read
    without repetitions and then without blanks: "a a – a b b" reads "a a b" (Graves et al. 2006).

    ∂y[b]/∂predictions[b,t,k] = (p−γ)[b,t,k],  γ[t,k] = the probability that a path that reads as the targets has k at step t

    The predictions are logits [..., t, k]; log-probabilities are logits, too.  The targets are labels [..., n], but none is
    the class `blank`, which counts from the end if it is negative.  The first input_lengths[...] steps and the first
    target_lengths[...] labels count, by default all.  What follows them has no influence, whatever it holds.  In torch the
    steps come first, [t, b, k].  optax marks what does not count: the lengths are the sums of 1 − paddings.

    All is computed with logarithms, in one pass over the steps and one back, and p − γ without a difference.  If no path is
    possible, since there are too few steps or a label has the logit −∞, y is ∞, or 0 with `zero_infinity`, and its Jacobian
    is 0.  Targets that are the blank or no class, and lengths out of range, raise ValueError outside `jit` and give NaN with
    Jacobian 0 inside.
    """
    paths = _paths(predictions, targets, input_lengths, target_lengths, blank)
    _, end, total = _forward(_log_probabilities(predictions, paths), paths)
    y = -total - _log_sum(jnp.moveaxis(_possible_ends(end, paths), -1, 0))
    y = jnp.where(jnp.isposinf(y), 0, y) if zero_infinity else y
    return jnp.where(paths.valid, y, accurate.nan_unless(paths.valid, y.dtype))


class _Paths(NamedTuple):
    """The states of paths: a blank, the first label, a blank, the second label and so on, and a last blank.

    A path stays in a state, goes on to the next one, or over a blank between two different labels.
    """

    labels: Any  # [..., s], of every state
    skips: Any  # [..., s], whether a path may come from two states before
    steps: Any  # [...], how many count
    count: Any  # [...], how many targets count
    valid: Any  # [...], whether lengths and targets are in range


def _paths(predictions, targets, input_lengths, target_lengths, blank) -> _Paths:
    *lead, t, k = predictions.shape
    n = targets.shape[-1]
    if targets.shape[:-1] != tuple(lead):
        raise ShapeError(f"ctc: argument 'targets' has shape {targets.shape}, expected {(*lead, n)} for labels of sequences")
    blank = check_integer("ctc", "blank", blank, -k, k - 1) % k
    steps = _checked_lengths("input_lengths", input_lengths, tuple(lead), t)
    count = _checked_lengths("target_lengths", target_lengths, tuple(lead), n)
    _check_targets(targets, count, k, blank)
    targets = as_int32(targets)
    used = jnp.arange(n) < count[..., None]
    wrong = used & ((targets < 0) | (targets >= k) | (targets == blank))
    valid = ~jnp.any(wrong, -1) & (steps >= 0) & (steps <= t) & (count >= 0) & (count <= n)
    targets = jnp.where(used & ~wrong, targets, blank)
    labels = lax.pad(targets, jnp.int32(blank), [(0, 0, 0)] * len(lead) + [(1, min(n, 1), 1)])
    skips = (labels != blank) & (labels != _shifted(labels, 2, blank))
    return _Paths(labels, skips, steps, count, valid)


def _checked_lengths(name, lengths, lead, most):
    """The lengths as int32; by default `most`."""
    if lengths is None:
        return jnp.full(lead, most, jnp.int32)
    if lengths.shape != lead:
        raise ShapeError(f"ctc: argument '{name}' has shape {lengths.shape}, expected {lead}, a length for each sequence")
    check_range("ctc", name, lengths, most + 1)
    return as_int32(lengths)


def _check_targets(targets, count, classes, blank):
    """ValueError if a known target that counts is the blank or no class."""
    if isinstance(targets, jax.core.Tracer) or isinstance(count, jax.core.Tracer):
        return
    known = np.asarray(targets)[np.arange(targets.shape[-1]) < np.asarray(count)[..., None]]
    check_range("ctc", "targets", known, classes)
    if (known == blank).any():
        raise ValueError(f"ctc: argument 'targets' has {blank}, which is the blank")


def _finite(x):
    """x with 0 in place of −∞."""
    return jnp.where(jnp.isneginf(x), 0, x)


def _log_sum(x):
    """log Σ exp(x) over the first axis; −∞ if all are −∞, with a derivative that is 0."""
    largest = _finite(lax.stop_gradient(jnp.max(x, 0)))
    total = jnp.sum(jnp.exp(x - largest), 0)
    return jnp.where(total == 0, -jnp.inf, largest + jnp.log(jnp.where(total == 0, 1, total)))


def _shifted(x, by, fill):
    """x[..., s − by], and `fill` where there is none."""
    before, behind = max(by, 0), max(-by, 0)
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, behind)], constant_values=fill)
    return padded[..., behind : behind + x.shape[-1]]


def _sources(x, paths):
    """For every state what x holds for those a path may come from: the same, the one before, and the one before that."""
    return jnp.stack([x, _shifted(x, 1, -jnp.inf), jnp.where(paths.skips, _shifted(x, 2, -jnp.inf), -jnp.inf)])


def _log_probabilities(predictions, paths):
    """The logarithm of softmax, of zeros at steps that do not count."""
    live = jnp.arange(predictions.shape[-2]) < paths.steps[..., None]
    return log_softmax.forward(jnp.where(live[..., None], predictions, 0))


def _forward(log_p, paths):
    """The logarithms of how probable all beginnings of paths are: by their state before and after each move, and in the end.

    The first two are [t, ..., s], without the label of step t; the last is [..., s].  After every step the largest one is
    subtracted, which keeps their digits; the sum of all that was subtracted is returned, too.
    """
    scores = jnp.take_along_axis(log_p, paths.labels[..., None, :], -1)
    first = jnp.arange(paths.labels.shape[-1]) == 0
    start = jnp.where(first, 0, jnp.full_like(scores[..., 0, :], -jnp.inf))

    def step(carry, each):
        (before, total), (t, score) = carry, each
        reached = _log_sum(_sources(before, paths))
        after = jnp.where((t < paths.steps)[..., None], reached + score, before)
        largest = _finite(lax.stop_gradient(jnp.max(after, -1)))
        return (after - largest[..., None], total + largest), (before, reached)

    steps = jnp.arange(log_p.shape[-2]), jnp.moveaxis(scores, -2, 0)
    (end, total), table = lax.scan(step, (start, jnp.zeros_like(scores[..., 0, 0])), steps)
    return table, end, total


def _possible_ends(end, paths):
    """What the states hold in which a path may end, the last blank and the last label; −∞ elsewhere."""
    behind = 2 * paths.count[..., None] - jnp.arange(end.shape[-1])
    return jnp.where((behind == 0) | (behind == 1), end, -jnp.inf)


def _posterior(log_p, paths):
    """γ[..., t, k]: how probable label k is at step t for a path that reads as the targets; 0 if there is none."""
    (before, reached), end, _ = _forward(log_p, paths)
    came_from = jnp.exp(_sources(before, paths) - _finite(reached))

    def step(weights, each):
        t, came_from = each
        live = (t < paths.steps)[..., None]
        stayed, next_one, skipped = weights * came_from
        back = stayed + _shifted(next_one, -1, 0) + _shifted(skipped, -2, 0)
        return jnp.where(live, back, weights), jnp.where(live, weights, 0)

    final = softmax.forward(_possible_ends(end, paths))
    _, weights = lax.scan(step, final, (jnp.arange(log_p.shape[-2]), jnp.moveaxis(came_from, 0, 1)), reverse=True)
    return _by_label(jnp.moveaxis(weights, 0, -2), paths.labels, log_p.shape[-1])


def _by_label(weights, labels, classes):
    """The weights of the states [..., t, s] added up for every label [..., t, k]."""
    *lead, t, n = weights.shape
    add = jax.vmap(lambda row, label: jnp.zeros((t, classes), row.dtype).at[:, label].add(row))
    rows = add(weights.reshape(math.prod(lead), t, n), labels.reshape(math.prod(lead), n))
    return rows.reshape(*lead, t, classes)


@ctc.jacobian
def _(y, predictions, targets, input_lengths, target_lengths, *, blank, zero_infinity):
    paths = _paths(predictions, targets, input_lengths, target_lengths, blank)
    log_p = _log_probabilities(predictions, paths)
    gamma = jnp.where(paths.valid[..., None, None], _posterior(log_p, paths), 0)
    p = jnp.exp(log_p)
    slope = -LogSoftmaxOperator(p, fresh_groups((*p.shape, p.shape[-1]))).pull(gamma[None])[0]
    return einsum("...", "...tk", (slope, "...tk", "(p−γ)")), None, None, None
