"""Losses for class labels and class probabilities, one number an example."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from ..errors import DTypeError, ShapeError
from ..factors import Selection, wide
from ..layer import layer
from ..layers.softmax import LogSoftmaxOperator, complement, log_softmax, most_likely
from ..rules import axis_names, einsum, fresh_groups, from_groups


def _check_labels(name, scores, labels):
    """Integer labels must have the shape of the scores without the class axis, and name a class."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError(f"{name}: argument 'targets' has dtype {labels.dtype}, expected integer labels")
    if labels.shape != scores.shape[:-1]:
        raise ShapeError(
            f"{name}: argument 'targets' has shape {labels.shape}, expected {scores.shape[:-1]} for labels "
            f"of 'predictions' of shape {scores.shape}"
        )
    if not isinstance(labels, jax.core.Tracer):
        known = np.asarray(labels)
        wrong = (known < 0) | (known >= scores.shape[-1])
        if wrong.any():
            raise ValueError(f"{name}: argument 'targets' has label {known[wrong][0]}, expected 0 to {scores.shape[-1] - 1}")


def _pick(scores, labels):
    """scores[..., label], NaN where the label names no class."""
    labels = jnp.where(labels < 0, scores.shape[-1], labels.astype(jnp.int32))
    return jnp.take_along_axis(scores, labels[..., None], -1, mode="fill", fill_value=jnp.nan)[..., 0]


@layer
def nll(predictions: Float[Array, "... k"], targets: Num[Array, "..."]) -> Float[Array, "..."]:
    """Negative log-likelihood  y[...] = −predictions[..., targets[...]]  of log-probabilities and integer labels.

    ∂y[b]/∂predictions[b,k] = −δ(k, targets[b])

    Labels out of range raise ValueError outside `jit` and give NaN (Jacobian 0) inside.
    """
    _check_labels("nll", predictions, targets)
    return -_pick(predictions, targets)


@nll.jacobian
def _(y, predictions, targets):
    inp = fresh_groups(predictions.shape, axis_names(predictions.ndim, "k"))
    return from_groups(inp[:-1], inp, Selection(targets, inp, "targets"), scale=-1.0), None


@layer
def cross_entropy(predictions: Float[Array, "... k"], targets: Num[Array, "..."]) -> Float[Array, "..."]:
    """Cross-entropy of logits  y[...] = −Σ_k t[..., k] log softmax(predictions)[..., k].

    `targets` are integer labels [...] (t is one-hot) or probabilities [..., k].

    ∂y[b]/∂predictions[b,k] = (p−t)[b,k],  p = softmax(predictions), for Σ_k t = 1;  computed as −Σ_i t[i] (δ(i,k) − p[k]),
    accurate also where p is nearly t     ∂y[b]/∂targets[b,k] = −log p[b,k]

    A class with t = 0 may have a logit of −∞.  Labels out of range raise ValueError outside `jit`, give NaN inside.
    """
    log_p = log_softmax.forward(predictions)
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        _check_labels("cross_entropy", predictions, targets)
        return -_pick(log_p, targets)
    if targets.shape != predictions.shape:
        raise ShapeError(
            f"cross_entropy: argument 'targets' has shape {targets.shape}, expected probabilities of shape "
            f"{predictions.shape} or integer labels of shape {predictions.shape[:-1]}"
        )
    return -jnp.sum(jnp.where(targets == 0, 0, targets * jnp.where(targets == 0, 0, log_p)), -1)


@cross_entropy.jacobian
def _(y, predictions, targets):
    log_p = log_softmax.forward(predictions)
    integers = not jnp.issubdtype(targets.dtype, jnp.floating)
    p = jnp.exp(wide(log_p))
    if integers:
        others = complement(p, most_likely(wide(predictions)))
        slope = jnp.where(targets[..., None] == jnp.arange(p.shape[-1]), -others, p)
    else:
        slope = -LogSoftmaxOperator(p, fresh_groups((*p.shape, p.shape[-1]))).pull(wide(targets))
    slope = slope.astype(predictions.dtype)
    by_targets = None if integers else einsum("...", "...k", (-log_p, "...k", "−log p"))
    return einsum("...", "...k", (slope, "...k", "(p−t)")), by_targets
