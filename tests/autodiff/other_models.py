"""Models of Flax, Equinox and Haiku, written as their own tutorials write them.

Every library has the models that are idiomatic in it: a convnet, a ResNet block with batch norm and max-pool, a
transformer block, an LSTM under scan.  A builder imports its library itself, so the rest runs where one is missing.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest


class Model(NamedTuple):
    library: str
    build: Callable  # () -> (apply, params, x), where apply(params, x) is the model of a batch
    coupled: bool = False  # batch norm in training: an example depends on the others
    scans: bool = False  # a scan is opaque, so nothing tells that its examples are independent
    tolerance: float = 1e-10  # relative to the largest entry


MODELS: list[Model] = []


def model(library, **facts):
    def register(build):
        MODELS.append(Model(library, build, **facts))
        return build

    return register


def library(name):
    return pytest.importorskip(name, reason=f"{name.split('.')[0]} is not installed: pip install -e '.[test]'")


def double(tree):
    """The libraries make float32 parameters even where JAX's default is float64."""
    return jax.tree.map(lambda a: widened(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def widened(array):
    return jax.device_put(np.asarray(array, np.float64))


def normal(*shape):
    return jax.device_put(np.random.default_rng(1).normal(size=shape))


# --- flax.nnx: the parameters are split from the model and merged into it again ----------------------------------------


def split(module):
    from flax import nnx

    graph, params, rest = nnx.split(double(module), nnx.Param, ...)
    # A model mutates its statistics and counters of keys; inside a transformation Flax allows that on a copy.
    return lambda params, x: nnx.merge(graph, params, rest, copy=True)(x), params


@model("flax.nnx")
def nnx_convnet():
    from flax import nnx

    class ConvNet(nnx.Module):
        def __init__(self, *, rngs):
            self.conv = nnx.Conv(1, 2, kernel_size=(3, 3), rngs=rngs)
            self.head = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            x = nnx.avg_pool(nnx.relu(self.conv(x)), (2, 2), strides=(2, 2))
            return self.head(x.reshape(x.shape[0], -1))

    return *split(ConvNet(rngs=nnx.Rngs(0))), normal(2, 4, 4, 1)


@model("flax.nnx", coupled=True)
def nnx_resnet_in_training():
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, *, rngs):
            self.conv1 = nnx.Conv(2, 2, (3, 3), use_bias=False, rngs=rngs)
            self.norm1 = nnx.BatchNorm(2, rngs=rngs)
            self.conv2 = nnx.Conv(2, 2, (3, 3), use_bias=False, rngs=rngs)
            self.norm2 = nnx.BatchNorm(2, rngs=rngs)

        def __call__(self, x):
            y = nnx.relu(self.norm1(self.conv1(x)))
            y = self.norm2(self.conv2(y))
            return nnx.max_pool(nnx.relu(x + y), (2, 2), strides=(2, 2))

    return *split(Block(rngs=nnx.Rngs(0))), normal(2, 4, 4, 2)


@model("flax.nnx", tolerance=2e-5)  # nnx attends with JAX's own attention, whose softmax is always float32
def nnx_transformer():
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, *, rngs):
            self.norm1 = nnx.LayerNorm(4, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(num_heads=2, in_features=4, decode=False, rngs=rngs)
            self.norm2 = nnx.LayerNorm(4, rngs=rngs)
            self.wide = nnx.Linear(4, 6, rngs=rngs)
            self.narrow = nnx.Linear(6, 4, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[..., 0]))
            return x + self.narrow(nnx.gelu(self.wide(self.norm2(x))))

    return *split(Block(rngs=nnx.Rngs(0))), normal(2, 3, 4)


@model("flax.nnx", scans=True)
def nnx_lstm():
    from flax import nnx

    # The first carry has the dtype of the parameters, and a scan wants it to stay.
    rnn = nnx.RNN(nnx.LSTMCell(2, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
    return *split(rnn), normal(2, 4, 2)


# --- flax.linen: model.apply(variables, x) -----------------------------------------------------------------------------


@model("flax.linen")
def linen_resnet():
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            y = nn.Conv(2, (3, 3), use_bias=False)(x)
            y = nn.relu(nn.BatchNorm(use_running_average=not train)(y))
            y = nn.Conv(2, (3, 3), use_bias=False)(y)
            y = nn.BatchNorm(use_running_average=not train)(y)
            return nn.max_pool(nn.relu(x + y), (2, 2), strides=(2, 2))

    x, block = normal(2, 4, 4, 2), Block()
    return functools.partial(block.apply, train=False), block.init(jax.random.key(0), x, train=False), x


@model("flax.linen")
def linen_transformer():
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=2)(y, mask=nn.make_causal_mask(x[..., 0]))
            y = nn.gelu(nn.Dense(6)(nn.LayerNorm()(x)))
            return x + nn.Dense(x.shape[-1])(y)

    x, block = normal(2, 3, 4), Block()
    return block.apply, block.init(jax.random.key(0), x), x


# --- equinox: models of one example, under vmap; partitioned and combined again ----------------------------------------


def partition(module):
    import equinox as eqx

    params, static = eqx.partition(module, eqx.is_inexact_array)
    return lambda params, x: jax.vmap(eqx.combine(params, static))(x), params


@model("equinox")
def equinox_convnet():
    import equinox as eqx

    class ConvNet(eqx.Module):
        conv: eqx.nn.Conv2d
        pool: eqx.nn.MaxPool2d
        head: eqx.nn.Linear

        def __init__(self, key):
            key1, key2 = jax.random.split(key)
            self.conv = eqx.nn.Conv2d(1, 2, kernel_size=3, key=key1)
            self.pool = eqx.nn.MaxPool2d(kernel_size=2, stride=2)
            self.head = eqx.nn.Linear(8, 3, key=key2)

        def __call__(self, x):
            return self.head(jnp.ravel(jax.nn.relu(self.pool(self.conv(x)))))

    return *partition(ConvNet(jax.random.key(0))), normal(2, 1, 6, 6)


@model("equinox", coupled=True)
def equinox_resnet_in_training():
    import equinox as eqx

    class Block(eqx.Module):
        conv: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm
        pool: eqx.nn.MaxPool2d

        def __init__(self, key):
            self.conv = eqx.nn.Conv2d(2, 2, kernel_size=3, padding=1, use_bias=False, key=key)
            self.norm = eqx.nn.BatchNorm(2, axis_name="batch", mode="batch")
            self.pool = eqx.nn.MaxPool2d(kernel_size=2, stride=2)

        def __call__(self, x, state):
            y, state = self.norm(self.conv(x), state)
            return self.pool(jax.nn.relu(x + y)), state

    block, state = eqx.nn.make_with_state(Block)(jax.random.key(0))
    params, static = eqx.partition(block, eqx.is_inexact_array)

    def apply(params, x):
        batched = jax.vmap(eqx.combine(params, static), axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        return batched(x, state)[0]

    return apply, params, normal(2, 2, 4, 4)


@model("equinox")
def equinox_transformer():
    import equinox as eqx

    class Block(eqx.Module):
        norm1: eqx.nn.LayerNorm
        attention: eqx.nn.MultiheadAttention
        norm2: eqx.nn.LayerNorm
        mlp: eqx.nn.MLP

        def __init__(self, key):
            key1, key2 = jax.random.split(key)
            self.norm1 = eqx.nn.LayerNorm(4)
            self.attention = eqx.nn.MultiheadAttention(num_heads=2, query_size=4, key=key1)
            self.norm2 = eqx.nn.LayerNorm(4)
            self.mlp = eqx.nn.MLP(4, 4, width_size=6, depth=1, activation=jax.nn.gelu, key=key2)

        def __call__(self, x):
            y = jax.vmap(self.norm1)(x)
            x = x + self.attention(y, y, y, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
            return x + jax.vmap(lambda v: self.mlp(self.norm2(v)))(x)

    return *partition(Block(jax.random.key(0))), normal(2, 3, 4)


@model("equinox", scans=True)
def equinox_lstm():
    import equinox as eqx

    class LSTM(eqx.Module):
        cell: eqx.nn.LSTMCell

        def __call__(self, xs):
            zeros = jnp.zeros(self.cell.hidden_size)
            (h, _), _ = jax.lax.scan(lambda carry, x: (self.cell(x, carry), None), (zeros, zeros), xs)
            return h

    return *partition(LSTM(eqx.nn.LSTMCell(2, 3, key=jax.random.key(0)))), normal(2, 4, 2)


# --- haiku: a function of modules, transformed -------------------------------------------------------------------------


@model("haiku")
def haiku_convnet():
    import haiku as hk

    def convnet(x):
        x = jax.nn.relu(hk.Conv2D(2, kernel_shape=3)(x))
        return hk.Linear(3)(hk.Flatten()(hk.avg_pool(x, (2, 2, 1), (2, 2, 1), padding="VALID")))

    x, net = normal(2, 4, 4, 1), hk.without_apply_rng(hk.transform(convnet))
    return net.apply, net.init(jax.random.key(0), x), x


@model("haiku", coupled=True)
def haiku_resnet_in_training():
    import haiku as hk

    def block(x):
        y = hk.Conv2D(2, kernel_shape=3, with_bias=False)(x)
        y = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(y, is_training=True)
        return hk.max_pool(jax.nn.relu(x + y), (2, 2, 1), (2, 2, 1), padding="VALID")

    x, net = normal(2, 4, 4, 2), hk.without_apply_rng(hk.transform_with_state(block))
    params, state = net.init(jax.random.key(0), x)
    return lambda params, x: net.apply(params, state, x)[0], params, x


@model("haiku", scans=True)
def haiku_lstm():
    import haiku as hk

    def lstm(x):
        core = hk.LSTM(3)
        return hk.dynamic_unroll(core, x, core.initial_state(x.shape[0]), time_major=False)[0]

    x, net = normal(2, 4, 2), hk.without_apply_rng(hk.transform(lstm))
    return net.apply, net.init(jax.random.key(0), x), x
