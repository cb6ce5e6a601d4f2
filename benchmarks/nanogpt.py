"""nanoGPT (Karpathy 2022, github.com/karpathy/nanoGPT, model.py) in plain JAX, as published or with all sizes smaller.

Blocks with layer norm first, GELU in its exact form, biases, learned positions, and a head that shares its weights with
the embedding.  Dropout is left out, as in its pre-training.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Sizes(NamedTuple):
    words: int
    length: int
    layers: int
    heads: int
    width: int


PUBLISHED = Sizes(words=50_304, length=1024, layers=12, heads=12, width=768)
PUBLISHED_SCALE = 8  # at which `sizes` are those that are published


def sizes(scale: int) -> Sizes:
    """Words, length and width are `scale` eighths of those published, so what is dear in a small one is dear in a large one.

    There are 3 layers for each step of the scale, and at most 12.
    """
    part = min(scale, PUBLISHED_SCALE)
    words, length, width = (size * part // PUBLISHED_SCALE for size in (PUBLISHED.words, PUBLISHED.length, PUBLISHED.width))
    return Sizes(words, length, min(PUBLISHED.layers, 3 * part), PUBLISHED.heads, width)


def params(sizes: Sizes, seed: int = 0):
    """Normal weights of deviation 0.02, and 0.02/√(2·layers) where a block adds to its input; biases are 0."""
    rng = np.random.default_rng(seed)
    d = sizes.width

    def weights(*shape, deviation=0.02):
        return jnp.asarray(deviation * rng.standard_normal(shape), jnp.float32)

    def affine(o, i, deviation=0.02):
        return {"w": weights(o, i, deviation=deviation), "b": jnp.zeros(o)}

    def norm():
        return {"gain": jnp.ones(d), "shift": jnp.zeros(d)}

    def block():
        small = 0.02 / (2 * sizes.layers) ** 0.5
        attention = {"qkv": affine(3 * d, d), "out": affine(d, d, small)}
        return {"ln1": norm(), **attention, "ln2": norm(), "up": affine(4 * d, d), "down": affine(d, 4 * d, small)}

    return {
        "words": weights(sizes.words, d),
        "positions": weights(sizes.length, d),
        "blocks": [block() for _ in range(sizes.layers)],
        "last": norm(),
    }


def texts(sizes: Sizes, batch: int, seed: int = 1) -> tuple[jax.Array, jax.Array]:
    """Random words `[B, T]`, and the words that follow them."""
    words = np.random.default_rng(seed).integers(sizes.words, size=(batch, sizes.length + 1))
    return jnp.asarray(words[:, :-1], jnp.int32), jnp.asarray(words[:, 1:], jnp.int32)


def layer_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * p["gain"] + p["shift"]


def affine(x, p):
    return x @ p["w"].T + p["b"]


def attention(x, p, heads: int):
    """Every word attends to itself and to the words before it."""
    batch, length, width = x.shape
    split = affine(x, p["qkv"]).reshape(batch, length, 3, heads, width // heads)
    q, k, v = (split[:, :, i] for i in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // heads) ** -0.5
    mask = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), -1)
    return affine(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape), p["out"])


def logits(params, ids, heads: int):
    """The logits `[B, T, words]` of the words that follow `ids[B, T]`."""
    x = params["words"][ids] + params["positions"][: ids.shape[1]]
    for p in params["blocks"]:
        x = x + attention(layer_norm(x, p["ln1"]), p, heads)
        x = x + affine(jax.nn.gelu(affine(layer_norm(x, p["ln2"]), p["up"]), approximate=False), p["down"])
    return layer_norm(x, params["last"]) @ params["words"].T


def losses(params, ids, following, heads: int):
    """The mean cross-entropy of every text, `[B]`."""
    z = jax.nn.log_softmax(logits(params, ids, heads), -1)
    return -jnp.take_along_axis(z, following[..., None], -1)[..., 0].mean(-1)
