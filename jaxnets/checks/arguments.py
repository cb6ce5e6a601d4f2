"""Checks of what an annotation cannot say: axes, shapes, ranges, dtypes and trees."""

import contextlib
import math
import numbers
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import DTypeError, ShapeError
from .annotations import show_value

MAX_INTEGER = 2**31 - 1  # of sizes and places, which XLA counts in 32 bits


def is_floating(x) -> bool:
    """Whether x has a real floating dtype; None has not."""
    return x is not None and jnp.issubdtype(jnp.result_type(x), jnp.floating)


@contextlib.contextmanager
def errors_named(function: str, *, instead_of: str) -> Iterator[None]:
    """What another function says of arguments that were handed on to it is said by the function that was called."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace(f"{instead_of}:", f"{function}:", 1)) from None


def check_axis(layer: str, x, axis, name: str = "axis") -> int:
    """An axis of x as an integer from 0.  TypeError if it is no integer, ShapeError if x has no such axis."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{layer}: {name} must be an integer, got {axis!r}") from None
    if not -x.ndim <= number < x.ndim:
        raise ShapeError(f"{layer}: {name} {axis} is no axis of an array of shape {x.shape}")
    return number % x.ndim


def check_axes(layer: str, x, axis, name: str = "axis") -> tuple[int, ...]:
    """The axes that `axis` stands for: one axis, a tuple of axes, or None for all."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = [check_axis(layer, x, a, name) for a in (axis if isinstance(axis, tuple) else (axis,))]
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{layer}: {name} {axis} names an axis of an array of shape {x.shape} twice")
    return tuple(axes)


def as_array(what: str, value) -> jax.Array:
    """The value as an array; DTypeError, which says `what` it is, if it is none, whatever its own conversion raises."""
    if isinstance(value, jax.Array):
        return value
    try:
        return jnp.asarray(value)
    except Exception as error:
        raise DTypeError(f"{what} is no array: {type(value).__name__}") from error


def as_numpy(name, argument, value):
    """An array of NumPy; DTypeError if the value makes none of numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{name}: {argument} is no array: {error}") from None
    if array.dtype == object:
        raise DTypeError(f"{name}: {argument} is no array of numbers, got {show_value(value)}")
    return array


def as_numbers(name: str, argument: str, value, *axes: int | str) -> np.ndarray:
    """A real array of NumPy with these axes: for each its size, or a word if any size is right.

    Raises DTypeError if the value makes no such array, ShapeError if it has other axes.
    """
    array = as_numpy(name, argument, value)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise DTypeError(f"{name}: {argument} must hold real numbers, got an array of {array.dtype}")
    check_shape(name, argument, array, *axes)
    return array


def check_shape(name: str, argument: str, array, *axes: int | str):
    """ShapeError unless an array has these axes: for each its size, or a word if any size is right."""
    if array.ndim != len(axes) or any(n != size for n, size in zip(array.shape, axes, strict=True) if isinstance(size, int)):
        expected = f"({', '.join(map(str, axes))}{',' * (len(axes) == 1)})"
        raise ShapeError(f"{name}: {argument} has shape {array.shape}, expected {expected}")


def check_filled(name: str, argument: str, values):
    """ValueError if there is nothing in it."""
    if not len(values):
        raise ValueError(f"{name}: {argument} must not be empty")


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


def check_integer(layer: str, name: str, value, least: int, most: float = MAX_INTEGER) -> int:
    """An integer; ValueError if it is below `least` or above `most`."""
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{layer}: {name} must be an integer, got {show_value(value)}") from None
    if found < least:
        raise ValueError(f"{layer}: {name} must be at least {least}, got {value}")
    if found > most:
        raise ValueError(f"{layer}: {name} must be at most {most}, got {value}")
    return found


def check_counts(name: str, **counts):
    """TypeError or ValueError unless each is an integer of at least 1."""
    for argument, count in counts.items():
        check_integer(name, argument, count, 1)


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


def check_scalar(name: str, argument: str, value):
    """ShapeError if a number is an array with axes."""
    if jnp.shape(value):
        raise ShapeError(f"{name}: {argument} must be one number, got {show_value(value)}")


def check_shaped(name: str, argument: str, value):
    """TypeError if it has no shape and dtype, as arrays have and what stands for them."""
    if not (isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype")):
        raise TypeError(f"{name}: {argument} must be an array, got {show_value(value)}")


def as_tree_like(name: str, argument: str, tree, like):
    """A tree with arrays for leaves; ShapeError if its structure or its shapes are not those of `like`."""
    found: Any
    expected: Any
    (leaves, found), (others, expected) = jax.tree.flatten(tree), jax.tree.flatten(like)
    shapes = [jnp.shape(other) for other in others]
    try:
        arrays = [as_array(f"{name}: {argument}", leaf) for leaf in leaves]
    except DTypeError:
        if found == expected:
            raise
        arrays = []
    if found != expected or [a.shape for a in arrays] != shapes:
        got = f"{found} of shapes {[a.shape for a in arrays]}"
        raise ShapeError(f"{name}: {argument} must be like params, {expected} of shapes {shapes}, got {got}")
    return jax.tree.unflatten(found, arrays)


def as_tangent(name: str, argument: str, tree, like):
    """What `as_tree_like` returns, in the dtypes of the arrays in `like`."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype), as_tree_like(name, argument, tree, like), like)


def check_key(name: str, argument: str, key):
    """TypeError if it is no single key of `jax.random`, of the new kind or of the old one."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    is_new = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not is_new and (dtype != jnp.uint32 or not shape or len(shape) != 1):
        raise TypeError(f"{name}: {argument} must be a key of jax.random, got {show_value(key)}")


def check_floating_dtype(name: str, argument: str, dtype):
    """DTypeError if it is no real floating dtype."""
    try:
        fits = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        fits = False
    if not fits or dtype is None:
        raise DTypeError(f"{name}: {argument} must be a floating dtype, got {show_value(dtype)}")


def check_seed(name: str, seed):
    """A seed of NumPy's random numbers; TypeError or ValueError unless it is an integer of at least 0."""
    return check_integer(name, "seed", seed, 0, math.inf)
