"""What losses share: checks of arguments, products in which 0·∞ is 0, and rules."""

import jax.numpy as jnp

from ..algebra.rules import Rule, diagonal, einsum, rearranged
from ..checks import check_axis, is_floating
from ..errors import DTypeError, ShapeError


def check_same_shape(loss: str, **arrays):
    """ShapeError unless all arrays have the shape of the first one: losses do not broadcast."""
    (first, known), *others = arrays.items()
    for name, array in others:
        if array.shape != known.shape:
            raise ShapeError(f"{loss}: argument '{name}' has shape {array.shape}, expected {known.shape} as '{first}'")


def real_targets(loss: str, predictions, targets, like="predictions"):
    """The targets as real numbers; ShapeError unless they have the shape of the predictions."""
    check_same_shape(loss, **{like: predictions, "targets": targets})
    check_not_complex(loss, targets)
    return as_real(targets, predictions)


def check_not_complex(loss: str, targets):
    """DTypeError if the targets are complex."""
    if jnp.issubdtype(targets.dtype, jnp.complexfloating):
        raise DTypeError(f"{loss}: argument 'targets' has dtype {targets.dtype}, expected floating or integer")


def times_or_zero(a, b):
    """a·b with 0·∞ = 0, so that b may be infinite where a weight a is 0."""
    return a * jnp.where((a == 0) & jnp.isinf(b), 0, b)


def as_real(targets, like):
    """Integers as real numbers; unsigned ones would wrap around below 0, and short ones would overflow."""
    return targets if is_floating(targets) else targets.astype(like.dtype)


def rule_if_real(targets, rule: Rule) -> Rule | None:
    """The rule by the targets; None if these are integers."""
    return rule if is_floating(targets) else None


def classes_last(loss: str, predictions, axis):
    """The predictions with the axis of the classes last, and that axis, counted from 0."""
    if predictions.ndim == 0:
        raise ShapeError(f"{loss}: argument 'predictions' has shape (), expected an axis of classes")
    axis = check_axis(loss, predictions, axis)
    return jnp.moveaxis(predictions, axis, -1), axis


def with_classes_at(axis: int, count: int, rule: Rule | None, both: bool = False) -> Rule | None:
    """The rule by predictions of `count` axes, from the one by predictions with classes last; of both sides if `both`."""
    if rule is None or axis == count - 1:
        return rule
    order = [a for a in range(count) if a != axis] + [axis]
    return rearranged(rule, order if both else range(count - 1), order)


def difference_rules(slope, name: str, meaning: str) -> tuple[Rule, Rule]:
    """The rules of a loss of the difference of two arguments, entry by entry, and what the name of the slope means."""
    return diagonal(slope, name, meaning), diagonal(-slope, f"−{name}", meaning)


def gradient_rule(slope, name: str, index: str = "k", meaning: str = "") -> Rule:
    """The rule ∂y[...]/∂x[..., k] = slope[..., k]."""
    return einsum("...", f"...{index}", (slope, f"...{index}", name, meaning))
