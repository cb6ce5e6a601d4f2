"""Models as pairs of pure functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..catalogue import LAYERS
from ..checks import (
    check_counts,
    check_floating_dtype,
    check_integer,
    check_key,
    check_share,
    checked,
    is_integer,
    show_value,
)
from ..errors import ShapeError
from .initializers import kaiming_normal


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


MAX_BLOCKS = 10_000  # of a residual network


def _checked_init(init: Callable) -> Callable:
    """An `init` whose arguments are checked."""

    @functools.wraps(init)
    def call(key, input_shape, dtype=jnp.float32):
        check_key("init", "key", key)
        if not isinstance(input_shape, (tuple, list)) or not all(is_integer(n) and n >= 0 for n in input_shape):
            raise ShapeError(f"init: input_shape must be the sizes of the axes of one input, got {show_value(input_shape)}")
        check_floating_dtype("init", "dtype", dtype)
        return init(key, input_shape, dtype)

    return call


def _check_layers(model: str, **layers: str | None):
    for name, layer in layers.items():
        if layer is not None:
            _check_layer(model, name, layer)


def _check_layer(model: str, name: str, layer: str):
    if layer not in LAYERS:
        raise ValueError(f"{model}: {name} must be the name of a layer, got {show_value(layer)}")


# Parts


@checked
def linear(features: int, *, bias: bool = True, weights: Callable | None = None) -> Model:
    """An affine layer with `w[o, i]` and `b[o]`.

    The initializer `weights` draws w (by default Kaiming normal, with variance 2 / i), and the bias begins at 0.

    >>> jax.tree.map(jnp.shape, jn.models.linear(3).init(jax.random.key(0), (2,)))
    {'b': (3,), 'w': (3, 2)}
    """
    check_counts("linear", features=features)
    weights = weights or kaiming_normal()

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        if len(input_shape) != 1:
            raise ShapeError(
                f"linear({features}): one example has shape {tuple(input_shape)}, expected one axis; flatten first"
            )
        w = weights(key, (features, input_shape[0]), dtype)
        return {"w": w, "b": jnp.zeros(features, dtype)} if bias else {"w": w}

    def apply(params, x, *, key=None, training=False):
        return LAYERS["linear"](x, params["w"], params.get("b"))

    return Model(f"linear({features})", init, apply, lambda shape: (features,))


@checked
def embedding(count: int, features: int) -> Model:
    """Rows of a table of `count` rows, for inputs that are indices below `count`; the table begins with normal numbers.

    >>> jn.models.embedding(97, 32).output_shape((64,))
    (64, 32)
    """
    check_counts("embedding", count=count, features=features)

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        return {"table": jax.random.normal(key, (count, features), dtype)}

    def apply(params, x, *, key=None, training=False):
        return LAYERS["embedding"](x.astype(jnp.int32), params["table"])

    return Model(f"embedding({count}, {features})", init, apply, lambda shape: (*shape, features))


@checked
def rnn(features: int) -> Model:
    """A recurrent layer with tanh: the states [t, features] of a sequence [t, i], from the state 0.

    Weights and biases begin evenly between −1/√features and 1/√features, as in PyTorch.

    >>> jax.tree.map(jnp.shape, jn.models.rnn(3).init(jax.random.key(0), (5, 2)))
    {'b_hh': (3,), 'b_ih': (3,), 'w_hh': (3, 3), 'w_ih': (3, 2)}
    """
    return _recurrent("rnn", features, gates=1)


@checked
def lstm(features: int) -> Model:
    """A long short-term memory: the states [t, features] of a sequence [t, i], from the states 0.  It begins as `rnn` does.

    >>> jn.models.lstm(128).output_shape((64, 32))
    (64, 128)
    """
    return _recurrent("lstm", features, gates=4)


@checked
def gru(features: int) -> Model:
    """Gated recurrent units: the states [t, features] of a sequence [t, i], from the state 0.  It begins as `rnn` does.

    >>> jn.models.gru(128).output_shape((64, 32))
    (64, 128)
    """
    return _recurrent("gru", features, gates=3)


def _recurrent(name: str, features: int, gates: int) -> Model:
    check_counts(name, features=features)

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        if len(input_shape) != 2:
            raise ShapeError(
                f"{name}({features}): one example has shape {tuple(input_shape)}, expected two axes: steps and features"
            )
        rows, limit = gates * features, features**-0.5
        shapes = {"w_ih": (rows, input_shape[1]), "w_hh": (rows, features), "b_ih": (rows,), "b_hh": (rows,)}
        keys = jax.random.split(key, len(shapes))
        drawn = zip(shapes.items(), keys, strict=True)
        return {which: jax.random.uniform(k, shape, dtype, -limit, limit) for (which, shape), k in drawn}

    def apply(params, x, *, key=None, training=False):
        return LAYERS[name](x, *(params[which] for which in ("w_ih", "w_hh", "b_ih", "b_hh")))

    return Model(f"{name}({features})", init, apply, lambda shape: (shape[0], features))


@checked
def conv(channels: int, size: int = 3) -> Model:
    """A convolution with kernels of `size`×`size` that keeps the height and width of images `[channels, height, width]`.

    Its weights are Kaiming normal.

    >>> jn.models.conv(8).output_shape((1, 28, 28))
    (8, 28, 28)
    """
    check_counts("conv", channels=channels, size=size)
    if size % 2 == 0:
        raise ShapeError(f"conv({channels}, {size}): the size of the kernel must be odd to keep the size of an image")

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        if len(input_shape) != 3:
            raise ShapeError(
                f"conv({channels}, {size}): one example has shape {tuple(input_shape)}, expected (channels, height, width)"
            )
        return {"w": kaiming_normal()(key, (channels, input_shape[0], size, size), dtype), "b": jnp.zeros(channels, dtype)}

    def apply(params, x, *, key=None, training=False):
        return LAYERS["conv"](x, params["w"], params["b"], padding=size // 2)

    return Model(f"conv({channels}, {size})", init, apply, lambda shape: (channels, *shape[1:]))


@checked
def plain(name: str) -> Model:
    """A layer without parameters, by name."""
    _check_layer("plain", "name", name)
    return _without_parameters(name, lambda x: LAYERS[name](x))


@checked
def max_pool(size: int) -> Model:
    """The largest entry of every window of `size`×`size`.  The windows do not overlap."""
    check_counts("max_pool", size=size)
    return _without_parameters(f"max_pool({size})", lambda x: LAYERS["max_pool"](x, kernel_size=(size, size)))


@checked
def dropout(rate: float) -> Model:
    """Drops entries at random in training (`training=True`, with a `key`), and does nothing otherwise."""
    check_share("dropout", "rate", rate)

    def apply(params, x, *, key=None, training=False):
        return LAYERS["dropout"](x, key, rate=rate, training=training)

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        return {}

    return Model(f"dropout({rate})", init, apply, lambda shape: shape)


def _without_parameters(name, function) -> Model:
    def output_shape(shape):
        return jax.eval_shape(function, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1:]

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        return {}

    return Model(name, init, lambda params, x, *, key=None, training=False: function(x), output_shape)


# Compositions


@checked
def serial(*models: Model) -> Model:
    """One model after the other.

    >>> jn.models.serial(jn.models.linear(3), jn.models.plain("relu")).name
    'linear(3) relu'
    """

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        params = []
        for i, model in enumerate(models):
            params.append(model.init(jax.random.fold_in(key, i), input_shape, dtype))
            input_shape = model.output_shape(input_shape)
        return params

    def apply(params, x, *, key=None, training=False):
        for i, (model, p) in enumerate(zip(models, params, strict=True)):
            x = model.apply(p, x, key=None if key is None else jax.random.fold_in(key, i), training=training)
        return x

    def output_shape(shape):
        for model in models:
            shape = model.output_shape(shape)
        return shape

    return Model(" ".join(model.name for model in models), init, apply, output_shape, models)


@checked
def residual(*models: Model) -> Model:
    """x + f(x), where f is the models one after the other.

    >>> jn.models.residual(jn.models.linear(60), jn.models.plain("tanh")).name
    'residual(linear(60) tanh)'
    """
    body = serial(*models)

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        out = body.output_shape(input_shape)
        if tuple(out) != tuple(input_shape):
            raise ShapeError(f"residual({body.name}): its output {out} and input {tuple(input_shape)} must have one shape")
        return body.init(key, input_shape, dtype)

    def apply(params, x, *, key=None, training=False):
        return LAYERS["add"](x, body.apply(params, x, key=key, training=training))

    return Model(f"residual({body.name})", init, apply, lambda shape: shape)


@checked
def each_step(*models: Model) -> Model:
    """The models, one after the other, at every step of a sequence [t, ...], with the same parameters.

    >>> jn.models.each_step(jn.models.linear(97)).output_shape((64, 128))
    (64, 97)
    """
    body = serial(*models)

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        if len(input_shape) < 2:
            raise ShapeError(
                f"each_step({body.name}): one example has shape {tuple(input_shape)}, expected two axes or more, steps first"
            )
        return body.init(key, input_shape[1:], dtype)

    def apply(params, x, *, key=None, training=False):
        batch, steps, *rest = x.shape
        y = body.apply(params, x.reshape(batch * steps, *rest), key=key, training=training)
        return y.reshape(batch, steps, *y.shape[1:])

    return Model(f"each_step({body.name})", init, apply, lambda shape: (shape[0], *body.output_shape(shape[1:])))


# Whole networks


@checked
def mlp(
    *features: int, activation: str = "relu", last: str | None = "log_softmax", weights: Callable | None = None
) -> Model:
    """The traditional network: weighted sums with a non-linearity between them, and the layer `last` after the last sum.

    >>> jn.models.mlp(60, 40, 10).name
    'linear(60) relu linear(40) relu linear(10) log_softmax'
    """
    _check_layers("mlp", activation=activation, last=last)
    parts: list[Model] = []
    for n in features:
        check_counts("mlp", features=n)
        parts += [linear(n, weights=weights), plain(activation)]
    return serial(*parts[:-1], *([plain(last)] if last else []))


@checked
def convnet(channels: tuple[int, ...] = (16, 32), hidden: int = 128, classes: int = 10, rate: float = 0.0) -> Model:
    """A network for images: convolutions, each followed by ReLU and max-pooling of 2×2, then a hidden layer and
    log-probabilities.  `rate` is the rate of the dropout before the last layer.

    >>> jn.models.convnet((16, 32), hidden=128).name
    'conv(16, 3) relu max_pool(2) conv(32, 3) relu max_pool(2) flatten linear(128) relu linear(10) log_softmax'
    """
    check_share("convnet", "rate", rate)
    check_counts("convnet", hidden=hidden, classes=classes)
    parts: list[Model] = []
    for c in channels:
        check_counts("convnet", channels=c)
        parts += [conv(c), plain("relu"), max_pool(2)]
    parts += [plain("flatten"), linear(hidden), plain("relu"), *([dropout(rate)] if rate else [])]
    return serial(*parts, linear(classes), plain("log_softmax"))


@checked
def autoencoder(features: int, *hidden: int, activation: str = "tanh", last: str | None = "sigmoid") -> Model:
    """A network through narrower layers and back: `autoencoder(64, 32, 8)` has the widths 64-32-8-32-64.

    >>> jn.models.autoencoder(64, 32, 8).name
    'linear(32) tanh linear(8) tanh linear(32) tanh linear(64) sigmoid'
    """
    for n in hidden:
        check_counts("autoencoder", hidden=n)
    check_counts("autoencoder", features=features)
    _check_layers("autoencoder", activation=activation, last=last)
    return mlp(*hidden, *hidden[-2::-1], features, activation=activation, last=last)


@checked
def residual_mlp(width: int, depth: int, features: int, activation: str = "relu", last: str | None = "log_softmax") -> Model:
    """A linear layer, `depth` blocks x + f(x) of `width`, and another linear layer; f is linear, non-linear, linear.

    >>> jn.models.residual_mlp(32, depth=1, features=10).name
    'linear(32) residual(linear(32) relu linear(32)) linear(10) log_softmax'
    """
    check_counts("residual_mlp", width=width, features=features)
    check_integer("residual_mlp", "depth", depth, 0, MAX_BLOCKS)
    _check_layers("residual_mlp", activation=activation, last=last)
    blocks = [residual(linear(width), plain(activation), linear(width)) for _ in range(depth)]
    return serial(linear(width), *blocks, linear(features), *([plain(last)] if last else []))


@checked
def nearest_neighbour(count: int) -> Model:
    """k[b] = argmin_k ‖x[b] − w[k]‖²: the index of the nearest of `count` stored examples w, the smallest index at a tie.

    This model is for prediction only: an integer has no gradient, and `parse` has no word for it.  `init` draws w from a
    normal distribution.  To classify, use `{"w": inputs}` with the inputs of a data set, and take the label at k.
    """
    check_counts("nearest_neighbour", count=count)

    @_checked_init
    def init(key, input_shape, dtype=jnp.float32):
        return {"w": jax.random.normal(key, (count, *input_shape), dtype)}

    def apply(params, x, *, key=None, training=False):
        w = params["w"]
        if x.shape[1:] != w.shape[1:]:
            raise ShapeError(f"nearest_neighbour: argument 'x' has shape {x.shape}, expected {('batch', *w.shape[1:])}")

        def nearest(one):  # one example at a time, so that there is never an array [batch, count, …]
            return jnp.argmin(jnp.sum(jnp.square(one - w), axis=range(1, w.ndim)))

        return jax.lax.map(nearest, x)

    return Model(f"nearest_neighbour({count})", init, apply, lambda shape: ())
