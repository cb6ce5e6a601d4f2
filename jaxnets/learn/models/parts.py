"""The parts that networks are put together of, and the ways to do it: one after the other, around, and at every step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ...catalogue import LAYERS
from ...checks import check_counts, check_share, checked
from ...errors import ShapeError
from ..initializers import kaiming_normal
from .model import Model, check_layer, checked_init


@checked
def linear(features: int, *, bias: bool = True, weights: Callable | None = None) -> Model:
    """An affine layer with `w[o, i]` and `b[o]`.

    The initializer `weights` draws w (by default Kaiming normal, with variance 2 / i), and the bias begins at 0.

    >>> jax.tree.map(jnp.shape, jn.models.linear(3).init(jax.random.key(0), (2,)))
    {'b': (3,), 'w': (3, 2)}
    """
    check_counts("linear", features=features)
    weights = weights or kaiming_normal()

    @checked_init
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

    @checked_init
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

    @checked_init
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

    @checked_init
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
    check_layer("plain", "name", name)
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

    @checked_init
    def init(key, input_shape, dtype=jnp.float32):
        return {}

    return Model(f"dropout({rate})", init, apply, lambda shape: shape)


def _without_parameters(name, function) -> Model:
    def output_shape(shape):
        return jax.eval_shape(function, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1:]

    @checked_init
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

    @checked_init
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

    @checked_init
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

    @checked_init
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
