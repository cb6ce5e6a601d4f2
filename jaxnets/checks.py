"""Checks of arguments and configuration, with the errors that public functions, layers and losses raise.

`checked` is for public functions: it reads their annotations.  The others are for what an annotation cannot say.
"""

import collections.abc
import contextlib
import functools
import inspect
import math
import numbers
import operator
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .errors import DTypeError, ShapeError

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


# Arguments of public functions, checked by their annotations

F = TypeVar("F", bound=Callable)
Kind = tuple[str, Callable[[Any], bool]]  # what an argument must be, in words, and whether a value is that


def checked(function: F) -> F:
    """Decorator of public functions and classes: TypeError, by name, for arguments that do not fit their annotations.

    An annotation is checked if it is `Callable`, `str`, `int`, `bool`, `float`, a path, a class, or made of these by `|`,
    `tuple` and `Literal`.  Arrays and trees are left to the function.
    """
    if isinstance(function, type):
        function.__init__ = _checked(function.__init__, function.__name__)  # type: ignore[misc]
        return function
    return _checked(function, function.__name__)  # type: ignore[return-value]


def _checked(function: Callable, name: str) -> Callable:
    signature = inspect.signature(function)
    check = annotation_check(name, signature.parameters.values())

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        check(given.arguments)
        return function(*given.args, **given.kwargs)

    return call


def annotation_check(name: str, parameters: Iterable[inspect.Parameter]) -> Callable[[dict[str, Any]], None]:
    """A function that checks arguments in place: TypeError for one that does not fit the annotation of its parameter.

    An integer where a number is asked for becomes a float, since it may not fit into the integers of JAX, and an integer of
    NumPy or JAX where a count is asked for becomes Python's.
    """
    parameters = list(parameters)
    kinds = [(p.name, p.kind is p.VAR_POSITIONAL, kind) for p in parameters if (kind := _kind(p.annotation))]
    floats, integers = ([p.name for p in parameters if _kinds_of_number(p.annotation) == {kind}] for kind in (float, int))

    def check(given):
        for argument, many, kind in kinds:
            if argument in given and many:
                for i, value in enumerate(given[argument]):
                    _check_kind(name, f"{argument}[{i}]", value, kind)
            elif argument in given:
                _check_kind(name, argument, given[argument], kind)
        for argument in floats:
            if isinstance(given.get(argument), int):
                given[argument] = float(given[argument])
        for argument in integers:
            if argument in given and is_integer(given[argument]):
                given[argument] = operator.index(given[argument])

    return check


def _kinds_of_number(annotation) -> set[type]:
    """Whether an annotation, or a part of it if it is a union, is `int` or `float`."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    parts = typing.get_args(annotation) if is_union else (annotation,)
    return {kind for kind in (int, float) if kind in parts}


def _check_kind(name: str, argument: str, value, kind: Kind):
    words, fits = kind
    if not fits(value):
        raise TypeError(f"{name}: {argument} must be {words}, got {show_value(value)}")
    if isinstance(value, (str, os.PathLike)) and "\0" in str(value):
        raise ValueError(f"{name}: {argument} must be without the character NUL, got {str(value)!r}")


def show_value(value) -> str:
    """A value in an error: itself if it is short, else its type."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"an array of shape {value.shape}"
    plain = value is None or isinstance(value, (bool, int, float, complex, str, bytes, tuple, list, dict))
    return repr(value) if plain and len(repr(value)) <= 60 else type(value).__name__


def fits_annotation(annotation, value) -> bool:
    """Whether a value is what an annotation asks for; False for annotations that are not checked."""
    kind = _kind(annotation)
    return kind is not None and bool(kind[1](value))


def _kind(annotation) -> Kind | None:
    """What a value of this annotation must be; None if anything can be right."""
    if annotation in KINDS:
        return KINDS[annotation]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind(part) for part in parts]
        if not all(kinds):
            return None
        words = dict.fromkeys(kind[0] for kind in kinds if kind)
        return " or ".join(words), lambda value: any(kind[1](value) for kind in kinds if kind)
    if origin is typing.Literal:
        return " or ".join(map(repr, parts)), lambda value: isinstance(value, str) and value in parts
    if origin is tuple:
        return _kind_of_tuple(parts)
    if origin is collections.abc.Sequence:
        return _kind_of_sequence(*parts)
    if origin is dict:
        return _kind_of_dict(*parts)
    known = origin or annotation
    if not isinstance(known, type) or known in (inspect.Parameter.empty, object) or hasattr(known, "dim_str"):
        return None
    if known is collections.abc.Callable:
        return "callable", callable
    fields = getattr(known, "_fields", None)  # a named tuple is whatever has its fields
    if fields:
        return _with_article(known.__name__), lambda value: all(hasattr(value, field) for field in fields)
    return _with_article(known.__name__), lambda value: isinstance(value, known) and not isinstance(value, str)


def _kind_of_tuple(parts) -> Kind:
    if len(parts) == 2 and parts[1] is ...:
        kind = _kind(parts[0])
        words = f"a tuple ({kind[0]}, …)" if kind else "a tuple"
        return words, lambda value: isinstance(value, (tuple, list)) and all(kind is None or kind[1](v) for v in value)
    kinds = [_kind(part) for part in parts]

    def fits(value):
        pairs = zip(value, kinds, strict=True) if isinstance(value, (tuple, list)) and len(value) == len(kinds) else None
        return pairs is not None and all(kind is None or kind[1](v) for v, kind in pairs)

    return f"a tuple of {len(kinds)}", fits


def _kind_of_sequence(part) -> Kind:
    words, fits = _kind(part) or ANYTHING
    kinds = (collections.abc.Sequence, np.ndarray)
    return f"a sequence ({words}, …)", lambda value: isinstance(value, kinds) and all(map(fits, value))


def _kind_of_dict(key, value) -> Kind:
    (key_words, fits_key), (value_words, fits_value) = _kind(key) or ANYTHING, _kind(value) or ANYTHING

    def fits(found):
        return isinstance(found, dict) and all(fits_key(k) and fits_value(v) for k, v in found.items())

    return f"a dict of {key_words}: {value_words}", fits


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def is_integer(value) -> bool:
    """Whether it counts something: an integer of Python, NumPy or JAX, and no truth value."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, (bool, np.bool_)) and getattr(value, "dtype", np.dtype(int)).kind in "iu"


def _is_number(value) -> bool:
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return value.ndim == 0 and (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer))
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, numbers.Real)


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


ANYTHING: Kind = ("anything", lambda value: True)
KINDS: dict[Any, Kind | None] = {
    None: ("None", lambda value: value is None),
    type(None): ("None", lambda value: value is None),
    bool: ("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    int: ("an integer", is_integer),
    float: ("a number", _is_number),
    str: ("a string", lambda value: isinstance(value, str)),
    os.PathLike: ("a path", lambda value: isinstance(value, os.PathLike)),
    jax.Array: ("an array", lambda value: isinstance(value, (jax.Array, np.ndarray, np.generic))),
    np.ndarray: None,  # what NumPy makes an array of
    Callable: ("callable", callable),
    Any: None,
}
