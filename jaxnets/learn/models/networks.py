"""Whole networks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ...checks import check_counts, check_integer, check_share, checked
from ...errors import ShapeError
from .model import Model, check_layers, checked_init
from .parts import conv, dropout, linear, max_pool, plain, residual, serial

MAX_BLOCKS = 10_000  # of a residual network


@checked
def mlp(
    *features: int, activation: str = "relu", last: str | None = "log_softmax", weights: Callable | None = None
) -> Model:
    """The traditional network: weighted sums with a non-linearity between them, and the layer `last` after the last sum.

    >>> jn.models.mlp(60, 40, 10).name
    'linear(60) relu linear(40) relu linear(10) log_softmax'
    """
    check_layers("mlp", activation=activation, last=last)
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
    check_layers("autoencoder", activation=activation, last=last)
    return mlp(*hidden, *hidden[-2::-1], features, activation=activation, last=last)


@checked
def residual_mlp(width: int, depth: int, features: int, activation: str = "relu", last: str | None = "log_softmax") -> Model:
    """A linear layer, `depth` blocks x + f(x) of `width`, and another linear layer; f is linear, non-linear, linear.

    >>> jn.models.residual_mlp(32, depth=1, features=10).name
    'linear(32) residual(linear(32) relu linear(32)) linear(10) log_softmax'
    """
    check_counts("residual_mlp", width=width, features=features)
    check_integer("residual_mlp", "depth", depth, 0, MAX_BLOCKS)
    check_layers("residual_mlp", activation=activation, last=last)
    blocks = [residual(linear(width), plain(activation), linear(width)) for _ in range(depth)]
    return serial(linear(width), *blocks, linear(features), *([plain(last)] if last else []))


@checked
def nearest_neighbour(count: int) -> Model:
    """k[b] = argmin_k ‖x[b] − w[k]‖²: the index of the nearest of `count` stored examples w, the smallest index at a tie.

    This model is for prediction only: an integer has no gradient, and `parse` has no word for it.  `init` draws w from a
    normal distribution.  To classify, use `{"w": inputs}` with the inputs of a data set, and take the label at k.
    """
    check_counts("nearest_neighbour", count=count)

    @checked_init
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
