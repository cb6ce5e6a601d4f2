"""The reference models by name, each as published or smaller, with a batch of random inputs and targets."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from . import lstm, nanogpt, resnet, vit
from .parts import apply, cross_entropies


class Model(NamedTuple):
    """`logits(params, inputs, use)` are `[B, ..., classes]`; targets are `[B, ...]`."""

    kind: str
    sizes: Any
    name: str
    params: Any
    inputs: jax.Array
    targets: jax.Array
    logits: Callable
    loops: bool = False  # whether there is a loop, of which XLA counts one step
    running: Any = None  # the statistics of batch norms, in their order

    @property
    def args(self):
        return self.params, self.inputs, self.targets

    def losses(self, params, inputs, targets):
        """The mean cross-entropy of every example, `[B]`."""
        return cross_entropies(self.logits(params, inputs), targets)


def gpt(sizes: nanogpt.Sizes, batch: int) -> Model:
    name = f"nanoGPT {sizes.layers}×{sizes.width}, T={sizes.length}, {sizes.words} words, B={batch}"

    def logits(params, ids, use=apply):
        return nanogpt.logits(params, ids, sizes.heads, use)

    return Model("nanoGPT", sizes, name, nanogpt.params(sizes), *nanogpt.texts(sizes, batch), logits)


def residual(sizes: resnet.Sizes, batch: int, training: bool = False) -> Model:
    """In evaluation, with the statistics of the batch as running statistics, or in training."""
    depth = 2 + (3 if sizes.bottleneck else 2) * sum(sizes.blocks)
    name = f"ResNet-{depth}, width {sizes.width}, {sizes.image}×{sizes.image}, {sizes.classes} classes, B={batch}"
    params, (x, labels) = resnet.params(sizes), resnet.images(sizes, batch)
    running = None if training else jax.jit(resnet.statistics)(params, x)

    def logits(params, x, use=apply):
        return resnet.logits(params, x, resnet.BatchNorms(running), use)

    return Model("ResNet", sizes, name + ", in training" * training, params, x, labels, logits, running=running)


def vision_transformer(sizes: vit.Sizes, batch: int) -> Model:
    name = f"ViT {sizes.layers}×{sizes.width}, {sizes.image}×{sizes.image}, {sizes.classes} classes, B={batch}"

    def logits(params, x, use=apply):
        return vit.logits(params, x, sizes.patch, sizes.heads, use)

    return Model("ViT", sizes, name, vit.params(sizes), *vit.images(sizes, batch), logits)


def language_lstm(sizes: lstm.Sizes, batch: int) -> Model:
    name = f"LSTM {sizes.layers}×{sizes.width}, T={sizes.length}, {sizes.words} words, B={batch}"
    return Model("LSTM", sizes, name, lstm.params(sizes), *lstm.texts(sizes, batch), lstm.logits, loops=True)


def reference_models(scale: int) -> dict[str, Callable[[], Model]]:
    """By name; at a scale of 8 they are as published.  Batches grow with the scale, from 4 to 32."""
    batch = min(32, 4 * scale)
    return {
        "nanoGPT": functools.partial(gpt, nanogpt.sizes(scale), 4),
        "ResNet-18": functools.partial(residual, resnet.sizes(resnet.RESNET_18, scale), batch),
        "ResNet-50": functools.partial(residual, resnet.sizes(resnet.RESNET_50, scale), batch),
        "ViT-S": functools.partial(vision_transformer, vit.sizes(scale), batch),
        "LSTM": functools.partial(language_lstm, lstm.sizes(scale), batch),
    }


TINY: dict[str, Callable[[], Model]] = {
    "nanoGPT": lambda: gpt(nanogpt.Sizes(words=7, length=5, layers=1, heads=2, width=4), 2),
    "ResNet-18": lambda: residual(resnet.Sizes(False, (1, 1), width=2, image=12, classes=3), 2),
    "ResNet-50": lambda: residual(resnet.Sizes(True, (1, 1), width=2, image=12, classes=3), 2),
    "ViT-S": lambda: vision_transformer(vit.Sizes(image=4, patch=2, layers=1, heads=2, width=4, classes=3), 2),
    "LSTM": lambda: language_lstm(lstm.Sizes(words=5, length=3, layers=2, width=3), 2),
}


def count(params) -> int:
    """How many numbers there are in a tree of arrays or of their shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
