"""The settings of a training as texts, so that a checkpoint can hold them and a resumed run can compare them.

The optimizers of optax and most losses and penalties are functions whose settings JAX cannot see: numbers and functions that
they were made with.  They are read from the functions themselves: their closures, their default arguments, and, where the
code is the user's, the constants and names in it.
"""

import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

from ..layers.layer import Layer

LIBRARIES = ("jax", "jaxnets", "numpy", "optax")  # their functions are known by name
WRAPPERS = ("chain", "with_extra_args_support", "init_empty_state", "scale_by_learning_rate")  # they say nothing
MAX_PARTS, MAX_DEPTH = 1000, 50  # of one optimizer, loss or penalty
MAX_NUMBERS = 16  # of an array that is written out


def settings_texts(optimizer: optax.GradientTransformation, loss: Callable, penalty: Callable | None) -> dict[str, str]:
    """What decides about every step, besides the model and the data: learning_rate, optimizer, loss and penalty."""
    outline = _Outline()
    outline.add("update", optimizer.update)
    outline.add("init", optimizer.init)
    return {
        "learning_rate": ", ".join(outline.rates) or "none",
        "optimizer": ", ".join(outline.parts),
        "loss": _text_of("loss", loss),
        "penalty": "none" if penalty is None else _text_of("penalty", penalty),
    }


def _text_of(label: str, function: Callable) -> str:
    outline = _Outline()
    outline.add(label, function)
    return ", ".join(outline.rates + outline.parts)


class _Outline:
    """The functions and objects that a function is made of, each as a text such as `scale_by_adam(b1=0.9, b2=0.999)`.

    `rates` holds what is a learning rate, `parts` the others.
    """

    def __init__(self):
        self.rates: list[str] = []
        self.parts: list[str] = []
        self._seen: dict[int, Any] = {}  # kept alive, since the next object may get the id of one that is gone

    def add(self, label: str, value: Any, is_rate: bool = False, depth: int = 0):
        """Add a value that is no plain number or text; `label` names it where it has no name of its own."""
        if id(value) in self._seen or len(self._seen) > MAX_PARTS or depth > MAX_DEPTH:
            return
        self._seen[id(value)] = value
        name, inside = _name_and_parts(value)
        plain = {key: text for key, part in inside.items() if (text := _plain_text(part)) is not None}
        is_rate |= name == "scale_by_schedule"
        if name == "scale" and "step_size" in plain:
            self.rates.append(plain.pop("step_size").removeprefix("-"))
        elif name not in WRAPPERS and name != "scale_by_schedule" and (name or plain):
            if "learning_rate" in plain:
                self.rates.append(plain.pop("learning_rate"))
            numbers = ", ".join(f"{key}={text}" for key, text in plain.items())
            self._write(f"{name or label}({numbers})" if numbers else name or label, is_rate)
        for key, part in inside.items():
            if _plain_text(part) is None:
                self.add(key, part, is_rate, depth + 1)

    def _write(self, text: str, is_rate: bool):
        texts = self.rates if is_rate else self.parts
        if text not in texts:
            texts.append(text)


def _name_and_parts(value: Any) -> tuple[str, dict[str, Any]]:
    """What a value is called, and what it is made of."""
    if isinstance(value, Layer):
        return value.name, {}
    if isinstance(value, functools.partial):
        return "", {"function": value.func, **_numbered(value.args), **value.keywords}
    if isinstance(value, types.MethodType):
        return value.__func__.__qualname__, {"self": value.__self__}
    if isinstance(value, types.FunctionType):
        return _function_name(value), dict(_function_parts(value))
    if hasattr(value, "__wrapped__"):  # by jax.jit and the like
        return "", {"function": value.__wrapped__}
    if isinstance(value, dict):
        return "", {str(key): part for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "", dict(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return "", _numbered(value)
    attributes = getattr(value, "__dict__", {}) if not isinstance(value, types.ModuleType) else {}
    return getattr(value, "__name__", type(value).__qualname__), dict(attributes)


def _numbered(values) -> dict[str, Any]:
    return {str(i): value for i, value in enumerate(values)}


def _is_of_library(function) -> bool:
    return (function.__module__ or "").split(".")[0] in LIBRARIES


def _function_name(function) -> str:
    """The function that a library offers; the user's own function, wherever it was defined."""
    return function.__qualname__.split(".")[0] if _is_of_library(function) else function.__name__


def _function_parts(function) -> Iterator[tuple[str, Any]]:
    """The variables that a function was made with and, where it is the user's, what its code says."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # the variable was not set yet
            continue
    if _is_of_library(function):
        return
    required = inspect.signature(function).parameters.values()
    yield from ((p.name, p.default) for p in required if p.default is not p.empty)
    yield from (("constant", text) for text in [" ".join(_constants(code))] if text)
    yield from (("names", text) for text in [" ".join(_names(code))] if text)
    for name in _names(code):
        found = function.__globals__.get(name)
        if isinstance(found, (int, float, np.ndarray, jax.Array)) or (
            isinstance(found, types.FunctionType) and not _is_of_library(found)
        ):
            yield name, found


def _constants(code) -> Iterator[str]:
    """The numbers that are written in the code of a function and of those inside it."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _constants(constant)
        elif isinstance(constant, (int, float, complex)) and not isinstance(constant, bool):
            yield repr(constant)


def _names(code) -> list[str]:
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names(constant)]
    return [*dict.fromkeys([*code.co_names, *inner])]


def _plain_text(value: Any) -> str | None:
    """The text of a number, a text or an array; None for what has parts."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return value if isinstance(value, str) else repr(value)
    if isinstance(value, (np.dtype, type)):
        return str(getattr(value, "name", None) or getattr(value, "__name__", value))
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _array_text(value)
    return None


def _array_text(array) -> str:
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return f"{array.dtype}{list(array.shape)}"
    found = np.asarray(array)
    if found.size <= MAX_NUMBERS:
        return str(found.tolist())
    content = np.ascontiguousarray(found).reshape(-1).view(np.uint8)
    return f"{found.dtype}{list(found.shape)} {hashlib.sha256(content.data).hexdigest()[:16]}"
