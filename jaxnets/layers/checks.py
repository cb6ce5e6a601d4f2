"""Checks of arguments and configuration, with the errors that layers and losses raise."""

import math
import numbers
import operator

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import DTypeError, ShapeError


def is_floating(x) -> bool:
    """Whether x has a real floating dtype; None has not."""
    return x is not None and jnp.issubdtype(jnp.result_type(x), jnp.floating)


def check_axis(layer: str, x, axis, name: str = "axis") -> int:
    """An axis of x as an integer from 0.  TypeError if it is no integer, ShapeError if x has no such axis."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{layer}: {name} must be an integer, got {axis!r}") from None
    if not -x.ndim <= number < x.ndim:
        raise ShapeError(f"{layer}: {name} {axis} is no axis of an array of shape {x.shape}")
    return number % x.ndim


def check_axes(layer: str, x, axis) -> tuple[int, ...]:
    """The axes that `axis` stands for: one axis, a tuple of axes, or None for all."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = [check_axis(layer, x, a) for a in (axis if isinstance(axis, tuple) else (axis,))]
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{layer}: axis {axis} names an axis of an array of shape {x.shape} twice")
    return tuple(axes)


def as_array(what: str, value) -> jax.Array:
    """The value as an array; DTypeError, which says `what` it is, if it is none, whatever its own conversion raises."""
    if isinstance(value, jax.Array):
        return value
    try:
        return jnp.asarray(value)
    except Exception as error:
        raise DTypeError(f"{what} is no array: {type(value).__name__}") from error


def check_range(layer: str, name: str, indices, size: int, ignored: int | None = None):
    """ValueError if an index is not from 0 to below `size`; values that are traced are not checked."""
    if isinstance(indices, jax.core.Tracer):
        return
    known = np.asarray(indices)
    wrong = ((known < 0) | (known >= size)) & (known != ignored)
    if wrong.any():
        raise ValueError(f"{layer}: argument '{name}' has {known[wrong][0]}, expected 0 to {size - 1}")


def check_number(layer: str, name: str, value) -> float:
    """A number of the configuration as a float, which takes on the dtype of the arrays; TypeError if it is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{layer}: {name} must be a number, got {value!r}")
    if math.isnan(value):
        raise ValueError(f"{layer}: {name} must be a number, got {value}")
    return float(value)


def check_nonzero(layer: str, name: str, value) -> float:
    """A number as a float; ValueError if it is 0."""
    value = check_number(layer, name, value)
    if value == 0:
        raise ValueError(f"{layer}: {name} must not be 0")
    return value


def check_integer(layer: str, name: str, value, least: int) -> int:
    """An integer; ValueError if it is below `least`."""
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{layer}: {name} must be an integer, got {value!r}") from None
    if found < least:
        raise ValueError(f"{layer}: {name} must be at least {least}, got {value}")
    return found


def check_per_axis(layer: str, name: str, value, rank: int, least: int = 1) -> tuple[int, ...]:
    """One integer for all axes, or a tuple with one for each, as a tuple with one for each of `rank` axes."""
    values = value if isinstance(value, tuple) else (value,) * rank
    if len(values) != rank:
        raise ValueError(f"{layer}: {name} {value} has {len(values)} entries, expected one for each of {rank} axes of space")
    return tuple(check_integer(layer, name, v, least) for v in values)


def check_broadcasts(layer, name, x, shape):
    """ShapeError if an argument does not broadcast to a shape."""
    try:
        if jnp.broadcast_shapes(x.shape, shape) == tuple(shape):
            return
    except ValueError:
        pass
    raise ShapeError(f"{layer}: argument '{name}' has shape {x.shape}, expected one that broadcasts to {tuple(shape)}")


def check_not_negative(layer: str, name: str, value) -> float:
    """A number as a float; ValueError if it is negative or infinite."""
    value = check_number(layer, name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{layer}: {name} must not be negative or infinite, got {value}")
    return value


def check_positive(layer: str, name: str, value) -> float:
    """A number as a float; ValueError unless it is positive and finite."""
    value = check_number(layer, name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{layer}: {name} must be positive and finite, got {value}")
    return value


def check_share(layer: str, name: str, value) -> float:
    """A number as a float; ValueError unless it is from 0 to 1."""
    value = check_number(layer, name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{layer}: {name} must be between 0 and 1, got {value}")
    return value
