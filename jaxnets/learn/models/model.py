"""What a model is, and checks of what models are made with."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ...catalogue import LAYERS
from ...checks import check_floating_dtype, check_key, checked, is_integer, show_value
from ...errors import ShapeError


@checked
@dataclasses.dataclass(frozen=True)
class Model:
    """A parametrised function ȳ = G(x, w).  `init(key, input_shape)` makes w for inputs `[batch, *input_shape]`, and
    `apply(params, x, *, key=None, training=False)` is G.

    `output_shape(input_shape)` is the shape of one prediction.  `training=True` needs a `key` if the model has dropout.
    Parameters are nested lists of dicts of arrays.  `name` is a description from which `parse` makes the same model.

    >>> model = jn.models.mlp(30, 3)
    >>> params = model.init(jax.random.key(0), (2,))
    >>> model.apply(params, jnp.ones((50, 2))).shape
    (50, 3)
    """

    name: str
    init: Callable[..., Any]
    apply: Callable[..., Any]
    output_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    parts: tuple["Model", ...] = ()

    def __repr__(self):
        return f"Model({self.name})"


def checked_init(init: Callable) -> Callable:
    """An `init` whose arguments are checked."""

    @functools.wraps(init)
    def call(key, input_shape, dtype=jnp.float32):
        check_key("init", "key", key)
        if not isinstance(input_shape, (tuple, list)) or not all(is_integer(n) and n >= 0 for n in input_shape):
            raise ShapeError(f"init: input_shape must be the sizes of the axes of one input, got {show_value(input_shape)}")
        check_floating_dtype("init", "dtype", dtype)
        return init(key, input_shape, dtype)

    return call


def check_layers(model: str, **layers: str | None):
    for name, layer in layers.items():
        if layer is not None:
            check_layer(model, name, layer)


def check_layer(model: str, name: str, layer: str):
    if layer not in LAYERS:
        raise ValueError(f"{model}: {name} must be the name of a layer, got {show_value(layer)}")
