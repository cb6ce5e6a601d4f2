"""From one loss per example to one number."""

import jax.numpy as jnp

from ..algebra.factors import at_least_float32
from ..checks import check_broadcasts, checked
from ..errors import DTypeError, ShapeError
from ..layers.reduce import mean
from ..layers.reduce import sum as total

REDUCTIONS = ("mean", "sum", "batchmean", "none")


@checked
def reduce(loss, reduction: str = "mean", *, weights=None, where=None):
    """The mean or the sum of losses, or the losses themselves ("none"), weighted, over the entries where `where` is True.

    The mean with weights is Σ w ℓ / Σ w.  "batchmean" is Σ w ℓ over the number of examples, which is the length of the first
    axis, without those that are masked completely.  Weights and mask broadcast to the shape of `loss`.  Masked entries count
    neither in the result nor in Σ w, and have no influence, whatever they hold; with "none" they are 0.  If no entry is
    left, or Σ w is 0, the result is 0 with derivative 0.  Float16 and bfloat16 are summed in float32; the result has the
    dtype of `loss`.

    A mask cannot remove a NaN from the derivative of the loss itself: mask the arguments of the loss, too.

    Raises ValueError for an unknown reduction, ShapeError if weights or mask do not fit or "batchmean" finds no first axis,
    DTypeError if `loss` or `weights` are not floating or `where` is not boolean.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduce: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    loss = _as_array("loss", loss, jnp.floating)
    if where is None:
        where = jnp.ones(loss.shape, bool) if loss.size == 0 else None
    else:
        where = _broadcast_argument("where", where, jnp.bool_, loss.shape)
    value = _zero_where_masked(at_least_float32(loss), where)
    if weights is not None:
        weights = _broadcast_argument("weights", weights, jnp.floating, loss.shape)
        weights = _zero_where_masked(at_least_float32(weights), where)
        value = value * weights
    if reduction == "none":
        result = value
    elif reduction == "sum":
        result = total(value)
    elif reduction == "batchmean":
        result = total(value) / _count_examples(loss, where)
    elif weights is None:
        result = mean(value, where)
    else:
        whole = total(weights)
        result = jnp.where(whole == 0, 0, total(value) / jnp.where(whole == 0, 1, whole))
    return result.astype(loss.dtype)


def _count_examples(loss, where):
    """The length of the first axis, without examples of which nothing is left; at least 1."""
    if not loss.shape:
        raise ShapeError("reduce: argument 'loss' has shape (), expected a first axis of examples for 'batchmean'")
    if where is None:
        return loss.shape[0]
    return jnp.maximum(1, jnp.sum(jnp.any(where, range(1, where.ndim))))


def _zero_where_masked(array, where):
    """The array with 0 where it is masked.  This comes before every product, because 0 times NaN is NaN."""
    return array if where is None else jnp.where(where, array, 0)


def _as_array(name, value, kind):
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise DTypeError(f"reduce: argument '{name}' is no array: {type(value).__name__}") from None
    if not jnp.issubdtype(array.dtype, kind):
        raise DTypeError(f"reduce: argument '{name}' has dtype {array.dtype}, expected {getattr(kind, '__name__', kind)}")
    return array


def _broadcast_argument(name, value, kind, shape):
    array = _as_array(name, value, kind)
    check_broadcasts("reduce", name, array, shape)
    return jnp.broadcast_to(array, shape)
