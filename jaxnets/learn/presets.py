"""The models that the command line knows by name, and a model with parameters on a batch of data."""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra.sizes import check_fits
from ..catalogue import LAYERS
from ..errors import SpecError
from . import data, models
from .models import Model
from .once import jit_once
from .spec import WORDS, parse, unary_layers

DIGITS = "linear(48) relu linear(24) relu linear(10) log_softmax"  # also the network of the task of this name


@dataclasses.dataclass(frozen=True)
class Preset:
    """A model and the data to show it on: `data(key, batch)` returns `(x, targets, a description of x)`."""

    model: Model
    data: Callable[[Any, int], tuple[Any, Any, str]]
    loss: Callable[[Any, Any], Any]  # of predictions and targets, per example

    def __repr__(self):
        return f"Preset({self.model}, {getattr(self.loss, 'name', self.loss)})"


def presets() -> dict[str, Callable[[], Preset]]:
    nll, squared = LAYERS["nll"], LAYERS["squared_error"]
    return {
        "mynet": lambda: Preset(
            parse("flatten linear(60) relu linear(40) relu linear(10) log_softmax"), noise_batch((3, 10, 20), 10), nll
        ),
        "spiral": lambda: Preset(models.mlp(100, 3), labelled_batch(data.spiral), nll),
        "digits": lambda: Preset(parse(DIGITS), labelled_batch(data.digits), nll),
        "autoencoder": lambda: Preset(models.autoencoder(64, 32, 8), reconstruction_batch(data.digits), squared),
    }


def find_preset(text: str, input_shape: tuple[int, ...] | None) -> Preset:
    """The preset of this name, or a described model on random inputs of `input_shape` (by default 8 features)."""
    known = presets()
    if text in known:
        if input_shape is not None:
            raise SpecError(f"model '{text}' has its own input; --input is for descriptions")
        return known[text]()
    if re.fullmatch(r"\s*\w+\s*", text) and text.strip() not in (*WORDS, "residual", *unary_layers()):
        raise SpecError(
            f"unknown model '{text}'; presets: {', '.join(known)}; or describe one: \"linear(60) relu linear(10)\""
        )
    model, shape = parse(text), input_shape or (8,)
    out = model.output_shape(shape)
    if ends_in_log_softmax(model):
        return Preset(model, noise_batch(shape, out[-1], out[:-1]), LAYERS["nll"])
    return Preset(model, noise_batch(shape, None, out), LAYERS["squared_error"])


def ends_in_log_softmax(model: Model) -> bool:
    """Whether a model is a classifier that gives the logarithms of probabilities."""
    last = model
    while last.parts:
        last = last.parts[-1]
    return last.name == "log_softmax"


@dataclasses.dataclass(frozen=True)
class Problem:
    """A model with parameters and a batch: the `network(params, x)`, and its average `loss(params, x)` at fixed targets.

    If the problem was made `abstract`, `params` holds shapes and no numbers.  `source` says in words what x is.  `targets`
    are those of the loss, if the network is the model's `apply` and the loss the average of its preset's.
    """

    title: str
    model: Model
    params: Any
    x: Any
    network: Callable[[Any, Any], Any]
    loss: Callable[[Any, Any], Any]
    source: str
    targets: Any = None

    def __repr__(self):
        return f"Problem({self.model} on {list(self.x.shape)}, {self.source})"


def make_problem(
    text: str,
    input_shape: tuple[int, ...] | None = None,
    batch: int = 4,
    seed: int = 0,
    dtype: str = "float32",
    abstract: bool = False,
) -> Problem:
    """A preset or a described model on a batch of its data.

    Raises SpecError where the text describes no model, ShapeError where a module does not fit (the message names it),
    ValueError for a batch size out of range, and MemoryError where the data or the parameters take too much memory.
    """
    chosen = find_preset(text, input_shape)
    keys = jit_once(lambda: tuple(jax.random.split(jax.random.key(seed))))()
    x, targets, source = chosen.data(keys[0], batch)
    x = x.astype(dtype)
    targets = targets.astype(dtype) if jnp.issubdtype(targets.dtype, jnp.floating) else targets
    make = functools.partial(chosen.model.init, input_shape=x.shape[1:], dtype=jnp.dtype(dtype))
    params = jax.eval_shape(make, keys[1])
    if not abstract:
        check_fits(f"the parameters of '{chosen.model.name}'", params)
        params = jit_once(make)(keys[1])

    def network(params, x):
        return chosen.model.apply(params, x)

    def loss(params, x):
        return LAYERS["mean"](chosen.loss(network(params, x), targets))

    return Problem(text, chosen.model, params, x, network, loss, source, targets)


# Batches to show a model on; each function here returns a function of a key and a batch size.


def labelled_batch(load):
    """A random batch of a data set, with its labels."""

    def batch(key, size):
        data = load()
        if not 0 < size <= data.size:
            raise ValueError(f"batch must be 1 to {data.size} for {data.name}, got {size}")
        choose = jit_once(lambda key: jax.random.choice(key, data.size, (size,), replace=False))
        chosen = np.asarray(choose(key))
        source = f"{size} of {data.size} examples of {data.name}"
        return jnp.asarray(data.x[chosen], jnp.result_type(float)), jnp.asarray(data.y[chosen]), source

    return batch


def reconstruction_batch(load):
    """A random batch of a data set whose targets are its inputs, for autoencoders."""

    def batch(key, size):
        x, _, name = labelled_batch(load)(key, size)
        return x, x, name

    return batch


def noise_batch(shape, classes=None, target_shape=()):
    """Normal inputs [batch, *shape] with random labels, or without `classes` normal targets, [batch, *target_shape]."""

    def batch(key, size):
        if size < 1:
            raise ValueError(f"batch must be at least 1, got {size}")
        dtype = jnp.result_type(float)
        check_fits(f"{size} examples of shape {list(shape)}", jax.ShapeDtypeStruct((size, *shape), dtype))
        check_fits(f"{size} targets of shape {list(target_shape)}", jax.ShapeDtypeStruct((size, *target_shape), dtype))

        @jit_once
        def draw(key):
            x, another = jax.random.normal(key, (size, *shape)), jax.random.fold_in(key, 1)
            if classes is None:
                return x, jax.random.normal(another, (size, *target_shape))
            return x, jax.random.randint(another, (size, *target_shape), 0, classes)

        return *draw(key), "normal noise"

    return batch
