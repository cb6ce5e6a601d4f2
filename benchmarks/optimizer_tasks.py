"""What the optimizers of `benchmarks/optimizers.py` are compared on: four networks in plain JAX, with their data."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn
from jaxnets import guide

from . import nanogpt


class Task(NamedTuple):
    """`loss(f(params, x), y)`, averaged, is what falls.  `factors` multiply the grids of learning rates and of dampings."""

    name: str
    make_params: Callable[[Any], Any]  # of a key
    f: Callable
    loss: Callable
    x: jax.Array
    y: jax.Array
    batch: int
    steps: int
    loops: bool = True  # XLA for CPUs has fast convolutions only outside of loops
    factors: dict[str, float] = {}

    def value(self, params, x, y):
        return jnp.mean(self.loss(self.f(params, x), y))


def affine(o: int, *shape: int, gain: float = 2.0) -> Callable:
    """A maker of normal weights `[o, *shape]` of variance gain / fan-in, with biases of 0."""
    deviation = (gain / np.prod(shape)) ** 0.5
    return lambda key: {"w": deviation * jax.random.normal(key, (o, *shape)), "b": jnp.zeros(o)}


def of_layers(*layers: Callable) -> Callable:
    return lambda key: [layer(k) for layer, k in zip(layers, jax.random.split(key, len(layers)), strict=True)]


def dense(x, p):
    return x @ p["w"].T + p["b"]


def mlp(h: Callable) -> Callable:
    def f(params, x):
        for p in params[:-1]:
            x = h(dense(x, p))
        return dense(x, params[-1])

    return f


def convnet(params, x):
    """Convolutions 3 × 3 with ReLU, each followed by the mean of 2 × 2 places, and a linear layer."""
    *convolutions, last = params
    for p in convolutions:
        x = jax.nn.relu(jax.lax.conv_general_dilated(x, p["w"], (1, 1), "SAME") + p["b"][:, None, None])
        batch, channels, height, width = x.shape
        x = x.reshape(batch, channels, height // 2, 2, width // 2, 2).mean((3, 5))
    return dense(x.reshape(len(x), -1), last)


def digits(steps: int) -> Task:
    data = jn.data.digits()
    layers = of_layers(affine(48, 64), affine(24, 48), affine(10, 24, gain=1.0))
    x, y = jnp.asarray(data.x.reshape(data.size, -1), jnp.float32), jnp.asarray(data.y, jnp.int32)
    return Task("digits: MLP 64-48-24-10, B=64", layers, mlp(jax.nn.relu), jn.cross_entropy, x, y, 64, steps)


def mnist_convnet(images, channels: tuple[int, int], batch: int, steps: int) -> Task:
    a, b = channels
    layers = of_layers(affine(a, 1, 3, 3), affine(b, a, 3, 3), affine(10, b * 49, gain=1.0))
    x, y = jnp.asarray(images.x.reshape(-1, 1, 28, 28), jnp.float32), jnp.asarray(images.y, jnp.int32)
    name = f"MNIST-5k: convnet {a}-{b}-10, B={batch}"
    return Task(name, layers, convnet, jn.cross_entropy, x, y, batch, steps, jax.default_backend() != "cpu")


def autoencoder(images, widths: tuple[int, ...], batch: int, steps: int) -> Task:
    """That of Hinton & Salakhutdinov 2006 with other widths: sigmoids, a linear code, and cross-entropy of the pixels."""
    up = widths[::-1]
    pairs = [*zip(widths[1:], widths[:-1], strict=True), *zip(up[1:], up[:-1], strict=True)]
    layers, code = of_layers(*(affine(o, i, gain=1.0) for o, i in pairs)), len(widths) - 2

    def f(params, x):
        for i, p in enumerate(params[:-1]):
            x = dense(x, p) if i == code else jax.nn.sigmoid(dense(x, p))
        return dense(x, params[-1])

    x = jnp.asarray(images.x.reshape(images.size, -1), jnp.float32)
    name = f"MNIST-5k: autoencoder {'-'.join(map(str, widths))}-…-784, B={batch}"
    factors = {"damping": 1e-3, "rate of SGD": 10.0}  # as the loss is a mean over pixels, gradient and curvature are small
    return Task(name, layers, f, jn.binary_cross_entropy_with_logits, x, x, batch, steps, factors=factors)


def gpt(width: int, layers: int, length: int, batch: int, steps: int) -> Task:
    text = "\n".join(guide.page_texts().values())
    data = jn.data.characters(text, length=length)
    sizes = nanogpt.Sizes(data.classes or 0, length, layers, 4, width)

    def make_params(key):
        shapes = nanogpt.params(sizes)
        leaves, tree = jax.tree.flatten(shapes)
        keys = jax.random.split(key, len(leaves))
        # another seed permutes what is random, and leaves the zeros and ones
        return tree.unflatten(
            [jax.random.permutation(k, a.ravel()).reshape(a.shape) for k, a in zip(keys, leaves, strict=True)]
        )

    def f(params, x):
        return nanogpt.logits(params, x, sizes.heads)

    x, y = jnp.asarray(data.x, jnp.int32), jnp.asarray(data.y, jnp.int32)
    name = f"characters of the guide: GPT of {layers} blocks, width {width}, T={length}, B={batch}"
    return Task(name, make_params, f, jn.cross_entropy, x, y, batch, steps)


def tasks(quick: bool, scale: int) -> Iterator[Task]:
    """Small ones for two cores; from `scale` 2 on the widths that were published, and more steps."""
    if quick:
        yield digits(10)
        return
    images, large = jn.data.mnist(), scale > 1
    yield digits(300 * scale)
    yield mnist_convnet(images, (16, 32) if large else (4, 8), 64 * scale, 50 * scale)
    yield autoencoder(images, (784, 1000, 500, 250, 30) if large else (784, 250, 100, 30), 128 * scale, 80 * scale)
    yield gpt(128 if large else 32, 4 if large else 2, 64 if large else 32, 16 * scale, 80 * scale)
