"""ResNet-18 and ResNet-50 (He et al. 2016) in plain JAX, with the shapes of torchvision, as published or smaller.

Where a block makes images smaller, its convolution of 3×3 has the stride.  Images are `[B, channels, rows, columns]`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from . import parts
from .parts import PUBLISHED_SCALE, Draws, affine, apply, norm_params, part_of


class Sizes(NamedTuple):
    bottleneck: bool  # blocks of 1×1, 3×3 and 1×1, the last with four times the channels; otherwise of 3×3 and 3×3
    blocks: tuple[int, ...]  # in each stage, whose channels are twice those of the stage before
    width: int  # channels of the first stage
    image: int
    classes: int


RESNET_18 = Sizes(bottleneck=False, blocks=(2, 2, 2, 2), width=64, image=224, classes=1000)
RESNET_50 = Sizes(bottleneck=True, blocks=(3, 4, 6, 3), width=64, image=224, classes=1000)


def sizes(published: Sizes, scale: int) -> Sizes:
    """Blocks, width, images and classes are `scale` eighths of those published, but at least a quarter."""
    part = max(2, scale)
    blocks = tuple(max(1, round(n * min(part, PUBLISHED_SCALE) / PUBLISHED_SCALE)) for n in published.blocks)
    width, image, classes = (part_of(size, part) for size in (published.width, published.image, published.classes))
    return Sizes(published.bottleneck, blocks, width, image, classes)


def params(sizes: Sizes, seed: int = 0):
    """Normal kernels whose variance is 2 over the outputs that an input reaches (He et al. 2015)."""
    draw = Draws(seed)

    def conv(o, i, k):
        return {"w": draw.normal(o, i, k, k, deviation=(2 / (o * k * k)) ** 0.5)}

    def block(i, c, stride):
        o = 4 * c if sizes.bottleneck else c
        kernels = [(c, i, 1), (c, c, 3), (o, c, 1)] if sizes.bottleneck else [(c, i, 3), (c, c, 3)]
        found = {"convs": [conv(*k) for k in kernels], "norms": [norm_params(k[0]) for k in kernels]}
        return found | ({"shortcut": conv(o, i, 1), "shortcut_norm": norm_params(o)} if (o, stride) != (i, 1) else {})

    stages, i = [], sizes.width
    for stage, count in enumerate(sizes.blocks):
        c, stage_blocks = sizes.width << stage, []
        for number in range(count):
            stage_blocks.append(block(i, c, _stride(stage, number)))
            i = 4 * c if sizes.bottleneck else c
        stages.append(stage_blocks)
    stem = {"conv": conv(sizes.width, 3, 7), "norm": norm_params(sizes.width)}
    return stem | {"stages": stages, "head": draw.affine(sizes.classes, i, i**-0.5)}


def _stride(stage: int, number: int) -> int:
    """Of a block: the first one of every stage but the first halves the images."""
    return 2 if stage and not number else 1


def images(sizes: Sizes, batch: int) -> tuple[jax.Array, jax.Array]:
    """Random images `[B, 3, image, image]`, and their classes."""
    return parts.images(sizes.image, sizes.classes, batch)


def conv(x, p, stride: int = 1):
    """Without a bias; padded by half of the kernel."""
    half = p["w"].shape[-1] // 2
    return lax.conv_general_dilated(x, p["w"], (stride, stride), [(half, half)] * 2)


class BatchNorms:
    """The batch norms of a network, called one after another.

    In evaluation they use the `running` means and variances; without these, in training, those of the batch, which they keep
    as `seen`.
    """

    def __init__(self, running=None):
        self.running = None if running is None else iter(running)
        self.seen: list[tuple[jax.Array, jax.Array]] = []

    def __call__(self, x, p):
        if self.running is None:
            self.seen.append((x.mean((0, 2, 3)), x.var((0, 2, 3))))
            mean, var = self.seen[-1]
        else:
            mean, var = (a.astype(x.dtype) for a in next(self.running))
        mean, scale, gain, shift = (a[:, None, None] for a in (mean, lax.rsqrt(var + 1e-5), p["gain"], p["shift"]))
        return (x - mean) * scale * gain + shift


def logits(params, x, norm: BatchNorms, use=apply):
    """The logits `[B, classes]` of images `[B, 3, image, image]`; `norm` is fresh."""
    x = jax.nn.relu(norm(use(functools.partial(conv, stride=2), x, params["conv"]), params["norm"]))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0)] * 2 + [(1, 1)] * 2)
    for stage, blocks in enumerate(params["stages"]):
        for number, p in enumerate(blocks):
            x = _block(x, p, _stride(stage, number), norm, use)
    return use(affine, x.mean((2, 3)), params["head"])


def _block(x, p, stride: int, norm: BatchNorms, use):
    y, strided = x, len(p["convs"]) - 2  # the first of two convolutions, or the second of three
    for i, (kernel, scale) in enumerate(zip(p["convs"], p["norms"], strict=True)):
        y = norm(use(functools.partial(conv, stride=stride if i == strided else 1), y, kernel), scale)
        y = jax.nn.relu(y) if i + 1 < len(p["convs"]) else y
    if "shortcut" in p:
        x = norm(use(functools.partial(conv, stride=stride), x, p["shortcut"]), p["shortcut_norm"])
    return jax.nn.relu(x + y)


def statistics(params, x):
    """The mean and the variance of every batch norm, in their order, over the images x."""
    norm = BatchNorms()
    logits(params, x, norm)
    return norm.seen
