"""Models as pairs of pure functions, and the presets of the command line."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp

from .catalogue import LAYERS
from .errors import ShapeError, SpecError
from .initializers import kaiming_normal


@dataclasses.dataclass(frozen=True)
class Model:
    """`init(key, input_shape)` makes parameters for inputs `[batch, *input_shape]`, `apply(params, x)` predicts.

    `output_shape(input_shape)` is the shape of one prediction.  Parameters are nested lists of dicts of arrays.
    """

    name: str
    init: Callable[..., Any]
    apply: Callable[..., Any]
    output_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    parts: tuple["Model", ...] = ()


def linear(features: int, *, bias: bool = True) -> Model:
    """An affine layer with Kaiming-normal weights w[o, i] (variance 2 / i) and zero bias."""

    def init(key, input_shape, dtype=jnp.float32):
        if len(input_shape) != 1:
            raise ShapeError(
                f"linear({features}): one example has shape {tuple(input_shape)}, expected one axis; flatten first"
            )
        w = kaiming_normal()(key, (features, input_shape[0]), dtype)
        return {"w": w, "b": jnp.zeros(features, dtype)} if bias else {"w": w}

    def apply(params, x, *, key=None, train=False):
        return LAYERS["linear"](x, params["w"], params.get("b"))

    return Model(f"linear({features})", init, apply, lambda shape: (features,))


def plain(name: str) -> Model:
    """A layer without parameters, by name."""

    def apply(params, x, *, key=None, train=False):
        return LAYERS[name](x)

    def output_shape(shape):
        return jax.eval_shape(LAYERS[name], jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1:]

    return Model(name, lambda key, input_shape, dtype=jnp.float32: {}, apply, output_shape)


def serial(*models: Model) -> Model:
    """One model after the other."""

    def init(key, input_shape, dtype=jnp.float32):
        params = []
        for i, model in enumerate(models):
            params.append(model.init(jax.random.fold_in(key, i), input_shape, dtype))
            input_shape = model.output_shape(input_shape)
        return params

    def apply(params, x, *, key=None, train=False):
        for i, (model, p) in enumerate(zip(models, params, strict=True)):
            x = model.apply(p, x, key=None if key is None else jax.random.fold_in(key, i), train=train)
        return x

    def output_shape(shape):
        for model in models:
            shape = model.output_shape(shape)
        return shape

    return Model(" ".join(model.name for model in models), init, apply, output_shape, models)


def residual(*models: Model) -> Model:
    """x + f(x), with f the models one after the other."""
    body = serial(*models)

    def init(key, input_shape, dtype=jnp.float32):
        out = body.output_shape(input_shape)
        if tuple(out) != tuple(input_shape):
            raise ShapeError(f"residual({body.name}): its output {out} and input {tuple(input_shape)} must have one shape")
        return body.init(key, input_shape, dtype)

    def apply(params, x, *, key=None, train=False):
        return LAYERS["add"](x, body.apply(params, x, key=key, train=train))

    return Model(f"residual({body.name})", init, apply, lambda shape: shape)


def mlp(*features: int, activation: str = "relu", last: str | None = "log_softmax") -> Model:
    """The traditional network: weighted sums with a non-linearity between them, and `last` behind the last one."""
    parts: list[Model] = []
    for n in features:
        parts += [linear(n), plain(activation)]
    return serial(*parts[:-1], *([plain(last)] if last else []))


_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|\d+|[(),])", re.ASCII)
MAX_FEATURES = 1_000_000


def parse(text: str) -> Model:
    """A model from words: `"flatten linear(60) relu residual(linear(60) tanh) linear(10) log_softmax"`.

    Words are `linear(FEATURES)`, `residual(WORDS)` and the layers of one argument.  The text is read, never evaluated;
    SpecError names the word that does not fit.
    """
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SpecError(f"model '{text}': cannot read '{text[position:].strip()}'")
        tokens.append(match.group(1))
        position = match.end()
    models, rest = _words(tokens, text)
    if rest:
        raise SpecError(f"model '{text}': unexpected '{rest[0]}'")
    if not models:
        raise SpecError("model: the description is empty")
    return serial(*models)


def _words(tokens, text):
    models = []
    while tokens and tokens[0] not in (")", ","):
        word, tokens = tokens[0], tokens[1:]
        if word == "linear":
            match tokens:
                case ["(", n, ")", *rest] if n.isdigit() and 0 < int(n) <= MAX_FEATURES:
                    models.append(linear(int(n)))
                    tokens = rest
                case _:
                    raise SpecError(f"model '{text}': write linear(FEATURES), with FEATURES from 1 to {MAX_FEATURES}")
        elif word == "residual":
            inner, rest = _words(tokens[1:], text) if tokens[:1] == ["("] else ([], [])
            if not inner or rest[:1] != [")"]:
                raise SpecError(f"model '{text}': write residual(WORDS)")
            models.append(residual(*inner))
            tokens = rest[1:]
        elif word in unary_layers():
            models.append(plain(word))
        else:
            close = ", ".join(get_close_matches(word, ["linear", "residual", *unary_layers()]))
            raise SpecError(
                f"model '{text}': unknown word '{word}'{f', did you mean {close}?' if close else ''}; known: "
                "linear(FEATURES), residual(WORDS) and the layers of one argument that `jaxnets layers` lists"
            )
    return models, tokens


def unary_layers() -> list[str]:
    """The layers that need one array and give one, example by example: those that a description may name."""
    names = []
    for name, layer in LAYERS.items():
        parameters = layer.signature.parameters.values()
        required = [p.kind for p in parameters if p.default is p.empty]
        reduces = any(p.name == "axis" and p.default is None for p in parameters)
        if required == [inspect.Parameter.POSITIONAL_OR_KEYWORD] and not (layer.many_outputs or reduces or layer.random):
            names.append(name)
    return names


@dataclasses.dataclass(frozen=True)
class Preset:
    """A model with inputs and targets to show it on: `data(key, batch)` gives `(x, targets, what it is)`."""

    model: Model
    data: Callable[[Any, int], tuple[Any, Any, str]]
    loss: Callable[[Any, Any], Any]  # of predictions and targets, per example


def presets() -> dict[str, Callable[[], Preset]]:
    from . import data

    nll, squared = LAYERS["nll"], LAYERS["squared_error"]
    return {
        "mynet": lambda: Preset(serial(plain("flatten"), *mlp(60, 40, 10).parts), data.noise((3, 10, 20), 10), nll),
        "spiral": lambda: Preset(mlp(100, 3), data.first(data.spiral), nll),
        "digits": lambda: Preset(mlp(48, 24, 10), data.first(data.digits), nll),
        "autoencoder": lambda: Preset(
            mlp(32, 8, 32, 64, activation="tanh", last="sigmoid"), data.itself(data.digits), squared
        ),
    }


def preset(text: str, input_shape: tuple[int, ...] | None) -> Preset:
    """A preset by name, or a description with random inputs of `input_shape` (default: 8 features)."""
    known = presets()
    if text in known:
        if input_shape is not None:
            raise SpecError(f"model '{text}' has its own input; --input is for descriptions")
        return known[text]()
    if re.fullmatch(r"\s*\w+\s*", text) and text.strip() not in ("linear", "residual", *unary_layers()):
        raise SpecError(
            f"unknown model '{text}'; presets: {', '.join(known)}; or describe one: \"linear(60) relu linear(10)\""
        )
    from . import data

    model, shape = parse(text), input_shape or (8,)
    out = model.output_shape(shape)
    return Preset(model, data.noise(shape, None, out), LAYERS["squared_error"])
