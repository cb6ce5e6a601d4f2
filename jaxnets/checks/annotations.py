"""Arguments of public functions, checked by their annotations."""

import collections.abc
import difflib
import functools
import inspect
import numbers
import operator
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

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
        given = bound_arguments(name, signature, args, kwargs)
        check(given.arguments)
        return function(*given.args, **given.kwargs)

    return call


def bound_arguments(name: str, signature: inspect.Signature, args, kwargs) -> inspect.BoundArguments:
    """What is given for each parameter; TypeError if it does not fit.

    A name that is written wrong makes one argument unknown and another one missing; the error names the unknown one, which
    is what stands in the call.
    """
    parameters = signature.parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        unknown = next((argument for argument in kwargs if argument not in known), None)
        if unknown is not None:
            like = [k for k in known if unknown in k] or difflib.get_close_matches(unknown, known, 1, 0.5)
            hint = f"; did you mean {like[0]!r}?" if like else f"; known: {', '.join(known)}" if known else ""
            raise TypeError(f"{name}: got an unexpected keyword argument {unknown!r}{hint}")
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


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
