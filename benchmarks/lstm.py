"""The medium LSTM language model of Zaremba, Sutskever and Vinyals (2014) in plain JAX, as published or smaller.

Two layers of 650 that begin with zeros, one bias for each, and a head of its own.  Dropout is left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import parts
from .parts import Draws, affine, apply, part_of


class Sizes(NamedTuple):
    words: int
    length: int
    layers: int
    width: int


PUBLISHED = Sizes(words=10_000, length=35, layers=2, width=650)


def sizes(scale: int) -> Sizes:
    """Words, length and width are `scale` eighths of those published, but at least a quarter."""
    words, length, width = (part_of(size, max(2, scale)) for size in (PUBLISHED.words, PUBLISHED.length, PUBLISHED.width))
    return Sizes(words, length, PUBLISHED.layers, width)


def params(sizes: Sizes, seed: int = 0):
    """All weights are uniform in ±0.05, biases are 0.  Those of the words are not called "w": there are too many of them."""
    draw, d = Draws(seed), sizes.width

    def weights(*shape):
        return draw.uniform(*shape, reach=0.05)

    def layer():
        return {"input": {"w": weights(4 * d, d), "b": jnp.zeros(4 * d, jnp.float32)}, "state": {"w": weights(4 * d, d)}}

    return {
        "words": weights(sizes.words, d),
        "layers": [layer() for _ in range(sizes.layers)],
        "head": {"words": weights(sizes.words, d), "b": jnp.zeros(sizes.words, jnp.float32)},
    }


def texts(sizes: Sizes, batch: int) -> tuple[jax.Array, jax.Array]:
    """Random words `[B, T]`, and the words that follow them."""
    return parts.texts(sizes.words, sizes.length, batch)


def linear(x, p):
    return x @ p["w"].T


def step(carry, x, p, use):
    """The state after one step whose input adds `x[B, 4·width]` to the gates, and the output."""
    h, c = carry
    i, f, o, g = jnp.split(x + use(linear, h, p["state"]), 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def unrolled(step, carry, xs):
    """`lax.scan`, written out."""
    found = []
    for x in xs:
        carry, y = step(carry, x)
        found.append(y)
    return carry, jnp.stack(found)


def logits(params, ids, use=apply):
    """The logits `[B, T, words]` of the words that follow `ids[B, T]`.  The loop is unrolled if `use` is given."""
    loop = jax.lax.scan if use is apply else unrolled
    x = params["words"][ids].swapaxes(0, 1)
    for p in params["layers"]:
        start = jnp.zeros(x.shape[1:], x.dtype)
        x = loop(lambda carry, x, p=p: step(carry, x, p, use), (start, start), use(affine, x, p["input"]))[1]
    return x.swapaxes(0, 1) @ params["head"]["words"].T + params["head"]["b"]
