"""What a checkpoint tells of the training that it is of: how `fit` writes it, and how it is checked before it is used."""

import hashlib
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ..errors import CheckpointError
from .descent import GRADIENTS

MAX_AXES, MAX_NUMBERS = 32, 2**40  # of one example


class Description(NamedTuple):
    """What `fit` saves beside the arrays.  `settings` is None in checkpoints of versions that did not record them."""

    run: dict[str, Any]
    settings: dict[str, str] | None
    history: list[dict[str, Any]]


def run_description(model, data, batch, gradient, shuffle, key, patience) -> dict:
    """What must stay the same so that a resumed run ends with the same bits."""
    content = hashlib.sha256(np.ascontiguousarray(data.x).data)
    content.update(np.ascontiguousarray(data.y).data)
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return {
        "model": model.name,
        "data": {
            "name": data.name,
            "examples": data.size,
            "shape": list(data.shape),
            "classes": data.classes,
            "sha256": content.hexdigest(),
        },
        "batch_size": batch,
        "gradient": gradient,
        "shuffle": shuffle,
        "key": np.asarray(jax.random.key_data(key) if typed else key).tolist(),
        "prng": str(jax.random.key_impl(key)),
        "patience": patience,
    }


def checked_description(path, config: dict) -> Description:
    """The part of a checkpoint's description that `fit` wrote.  Raises CheckpointError where something else stands there."""
    for name, (what, fits) in FIELDS.items():
        if not fits(config.get(name)):
            raise CheckpointError(f"{path}: its description was not written by fit: {name} is not {what}")
    for name, fits in RUN_FIELDS.items():
        if name not in config["run"] or not fits(config["run"][name]):
            raise CheckpointError(f"{path}: its description was not written by fit: {name} of its run does not fit")
    return Description(config["run"], config.get("settings"), config["history"])


def _is_count(value, least: int = 1) -> bool:
    return type(value) is int and least <= value < 2**63


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_data(value) -> bool:
    """Whether this tells of a data set."""
    return (
        isinstance(value, dict)
        and _is_shape(value.get("shape"))
        and _is_count(value.get("examples"))
        and (value.get("classes") is None or _is_count(value["classes"]))
    )


def _is_shape(value) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= MAX_AXES
        and all(_is_count(size, 0) for size in value)
        and math.prod(value) <= MAX_NUMBERS
        and max(value) <= MAX_NUMBERS  # also where another axis is empty
    )


def _is_history(value) -> bool:
    """Whether this is a list of metrics, each with a loss, and all numbers."""
    return isinstance(value, list) and all(
        isinstance(metrics, dict) and "loss" in metrics and all(map(_is_number, metrics.values())) for metrics in value
    )


def _is_settings(value) -> bool:
    return value is None or isinstance(value, dict) and all(map(_is_text, value.values()))


FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "run": ("a description of a run", lambda value: isinstance(value, dict)),
    "settings": ("a table of texts", _is_settings),
    "history": ("a list of metrics", _is_history),
}
RUN_FIELDS: dict[str, Callable[[Any], bool]] = {
    "model": _is_text,
    "data": _is_data,
    "batch_size": _is_count,
    "gradient": lambda value: _is_text(value) and value in GRADIENTS,
    "shuffle": lambda value: isinstance(value, bool),
    "key": lambda value: isinstance(value, list),
    "prng": _is_text,
    "patience": lambda value: value is None or _is_count(value),
}
