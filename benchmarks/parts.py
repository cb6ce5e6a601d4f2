"""What the reference models are made of, in plain JAX: parameters, the layers that several of them have, and their losses.

A model calls `use(layer, x, p)` where a weight meets its input, which is `layer(x, p)` unless somebody wants to see the two.
"""

import jax
import jax.numpy as jnp

PUBLISHED_SCALE = 8  # at which all sizes are those that are published


def part_of(size: int, scale: int) -> int:
    """`scale` eighths of a published size, and at most the whole."""
    return size * min(scale, PUBLISHED_SCALE) // PUBLISHED_SCALE


class Draws:
    """Parameters for the beginning, drawn one after another.  Under `jax.eval_shape` they have shapes alone."""

    def __init__(self, seed: int):
        self.key = jax.random.key(seed)
        self.count = 0

    def next_key(self):
        self.count += 1
        return jax.random.fold_in(self.key, self.count)

    def normal(self, *shape: int, deviation: float) -> jax.Array:
        return deviation * jax.random.normal(self.next_key(), shape, jnp.float32)

    def uniform(self, *shape: int, reach: float) -> jax.Array:
        return jax.random.uniform(self.next_key(), shape, jnp.float32, -reach, reach)

    def affine(self, o: int, i: int, deviation: float) -> dict:
        return {"w": self.normal(o, i, deviation=deviation), "b": jnp.zeros(o, jnp.float32)}


def norm_params(width: int) -> dict:
    return {"gain": jnp.ones(width, jnp.float32), "shift": jnp.zeros(width, jnp.float32)}


def apply(layer, x, p):
    return layer(x, p)


def affine(x, p):
    return x @ p["w"].T + p["b"]


def layer_norm(x, p, eps: float = 1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * p["gain"] + p["shift"]


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def attention(x, p, heads: int, use=apply, causal: bool = False):
    """Self-attention `[B, T, width]`; if `causal`, every place attends to itself and to the places before it."""
    batch, length, width = x.shape
    split = use(affine, x, p["qkv"]).reshape(batch, length, 3, heads, width // heads)
    q, k, v = (split[:, :, i] for i in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // heads) ** -0.5
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v)
    return use(affine, mixed.reshape(x.shape), p["out"])


def transformer_block(x, p, heads: int, use=apply, causal: bool = False, eps: float = 1e-5):
    """Attention and two layers with GELU, each added to its input, with a layer norm first."""
    x = x + attention(layer_norm(x, p["ln1"], eps), p, heads, use, causal)
    return x + use(affine, gelu(use(affine, layer_norm(x, p["ln2"], eps), p["up"])), p["down"])


def block_params(draw: Draws, width: int, deviation: float, last: float) -> dict:
    """Of a transformer block; `last` is the deviation of the weights whose outputs are added to the block's input."""
    return {
        "ln1": norm_params(width),
        "qkv": draw.affine(3 * width, width, deviation),
        "out": draw.affine(width, width, last),
        "ln2": norm_params(width),
        "up": draw.affine(4 * width, width, deviation),
        "down": draw.affine(width, 4 * width, last),
    }


def cross_entropies(logits, targets):
    """The mean cross-entropy of every example, `[B]`, over all places of `logits[B, ..., classes]` and `targets[B, ...]`."""
    z = jax.nn.log_softmax(logits, -1)
    return -jnp.take_along_axis(z, targets[..., None], -1).reshape(len(z), -1).mean(-1)


def texts(words: int, length: int, batch: int, seed: int = 1) -> tuple[jax.Array, jax.Array]:
    """Random words `[B, T]`, and the words that follow them."""
    drawn = jax.random.randint(jax.random.key(seed), (batch, length + 1), 0, words, jnp.int32)
    return drawn[:, :-1], drawn[:, 1:]


def images(size: int, classes: int, batch: int, seed: int = 1) -> tuple[jax.Array, jax.Array]:
    """Random images `[B, 3, size, size]`, and their classes."""
    pixels, labels = jax.random.split(jax.random.key(seed))
    x = jax.random.normal(pixels, (batch, 3, size, size), jnp.float32)
    return x, jax.random.randint(labels, (batch,), 0, classes, jnp.int32)
