"""nanoGPT (Karpathy 2022, github.com/karpathy/nanoGPT, model.py) in plain JAX, as published or with all sizes smaller.

Blocks with layer norm first, GELU in its exact form, biases, learned positions, and a head that shares its weights with
the embedding.  Dropout is left out, as in its pre-training.
"""

from typing import NamedTuple

import jax

from . import parts
from .parts import Draws, apply, block_params, cross_entropies, layer_norm, norm_params, part_of, transformer_block


class Sizes(NamedTuple):
    words: int
    length: int
    layers: int
    heads: int
    width: int


PUBLISHED = Sizes(words=50_304, length=1024, layers=12, heads=12, width=768)


def sizes(scale: int) -> Sizes:
    """Words, length and width are `scale` eighths of those published, so what is dear in a small one is dear in a large one.

    There are 3 layers for each step of the scale, and at most 12.
    """
    words, length, width = (part_of(size, scale) for size in (PUBLISHED.words, PUBLISHED.length, PUBLISHED.width))
    return Sizes(words, length, min(PUBLISHED.layers, 3 * scale), PUBLISHED.heads, width)


def params(sizes: Sizes, seed: int = 0):
    """Normal weights of deviation 0.02, and 0.02/√(2·layers) where a block adds to its input; biases are 0."""
    draw, small = Draws(seed), 0.02 / (2 * sizes.layers) ** 0.5
    return {
        "words": draw.normal(sizes.words, sizes.width, deviation=0.02),
        "positions": draw.normal(sizes.length, sizes.width, deviation=0.02),
        "blocks": [block_params(draw, sizes.width, 0.02, small) for _ in range(sizes.layers)],
        "last": norm_params(sizes.width),
    }


def texts(sizes: Sizes, batch: int) -> tuple[jax.Array, jax.Array]:
    """Random words `[B, T]`, and the words that follow them."""
    return parts.texts(sizes.words, sizes.length, batch)


def logits(params, ids, heads: int, use=apply):
    """The logits `[B, T, words]` of the words that follow `ids[B, T]`."""
    x = params["words"][ids] + params["positions"][: ids.shape[1]]
    for p in params["blocks"]:
        x = transformer_block(x, p, heads, use, causal=True)
    return layer_norm(x, params["last"]) @ params["words"].T


def losses(params, ids, following, heads: int):
    """The mean cross-entropy of every text, `[B]`."""
    return cross_entropies(logits(params, ids, heads), following)
