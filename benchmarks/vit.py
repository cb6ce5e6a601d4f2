"""The vision transformer ViT-S/16 (Dosovitskiy et al. 2021; this size by Touvron et al. 2021) in plain JAX, or smaller.

Patches of 16×16 pixels, a class token, learned positions, blocks with layer norm first and GELU in its exact form.  Dropout
and stochastic depth are left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import parts
from .parts import Draws, affine, apply, block_params, layer_norm, norm_params, part_of, transformer_block

EPS = 1e-6  # of the layer norms


class Sizes(NamedTuple):
    image: int
    patch: int
    layers: int
    heads: int
    width: int
    classes: int


PUBLISHED = Sizes(image=224, patch=16, layers=12, heads=6, width=384, classes=1000)


def sizes(scale: int) -> Sizes:
    """Width and classes are `scale` eighths of those published, but at least a quarter; so is the number of patches.

    There are 3 layers for each step of the scale, and at most 12.
    """
    part = max(2, scale)
    image = round(part_of(PUBLISHED.image**2, part) ** 0.5 / PUBLISHED.patch) * PUBLISHED.patch
    width, classes = part_of(PUBLISHED.width, part), part_of(PUBLISHED.classes, part)
    return PUBLISHED._replace(image=image, layers=min(PUBLISHED.layers, 3 * scale), width=width, classes=classes)


def params(sizes: Sizes, seed: int = 0):
    """Normal weights of deviation 0.02, biases of 0."""
    draw, d = Draws(seed), sizes.width
    return {
        "patches": draw.affine(d, 3 * sizes.patch**2, 0.02),
        "class": draw.normal(d, deviation=0.02),
        "positions": draw.normal((sizes.image // sizes.patch) ** 2 + 1, d, deviation=0.02),
        "blocks": [block_params(draw, d, 0.02, 0.02) for _ in range(sizes.layers)],
        "last": norm_params(d),
        "head": draw.affine(sizes.classes, d, 0.02),
    }


def images(sizes: Sizes, batch: int) -> tuple[jax.Array, jax.Array]:
    """Random images `[B, 3, image, image]`, and their classes."""
    return parts.images(sizes.image, sizes.classes, batch)


def as_patches(x, patch: int):
    """`[B, c, n·patch, n·patch]` as `[B, n·n, c·patch·patch]`."""
    batch, c, rows, columns = x.shape
    x = x.reshape(batch, c, rows // patch, patch, columns // patch, patch)
    return x.transpose(0, 2, 4, 1, 3, 5).reshape(batch, -1, c * patch * patch)


def logits(params, x, patch: int, heads: int, use=apply):
    """The logits `[B, classes]` of images `[B, 3, image, image]`."""
    x = use(affine, as_patches(x, patch), params["patches"])
    first = jnp.broadcast_to(params["class"], (len(x), 1, x.shape[2]))
    x = jnp.concatenate([first, x], 1) + params["positions"]
    for p in params["blocks"]:
        x = transformer_block(x, p, heads, use, eps=EPS)
    return use(affine, layer_norm(x, params["last"], EPS)[:, 0], params["head"])
