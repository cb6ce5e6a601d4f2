"""Networks that several questions use.  Each is written with jaxnets' layers and in plain JAX, and some also with torch."""

import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import jaxnets as jn


class Network(NamedTuple):
    """A network as functions of (params, x), where x has any number of leading axes, or none."""

    name: str
    params: Any
    shape: tuple[int, ...]  # of one example
    layers: Callable
    plain: Callable
    torch: Callable | None = None
    module: Callable | None = None  # a function of params that returns a torch.nn.Module with them

    def inputs(self, batch: int) -> jax.Array:
        return jax.random.normal(jax.random.key(1), (batch, *self.shape))


def dense_layers(*widths: int, gain: float = 2**0.5):
    """Layers with normal weights, whose variance is gain² divided by the width, and biases of zero."""
    keys = jax.random.split(jax.random.key(0), len(widths))
    sizes = zip(keys, widths, widths[1:], strict=False)
    return [(jax.random.normal(k, (o, i)) * gain * i**-0.5, jnp.zeros(o)) for k, i, o in sizes]


def affine(x, w, b):
    """A weighted sum with a bias, in JAX and in torch alike."""
    return x @ w.T + b


def torch_function(name, *args, **options):
    """A function of torch, which need not be installed."""
    return getattr(importlib.import_module("torch.nn.functional"), name)(*args, **options)


def torch_modules(kinds: str, params):
    """A torch.nn.Sequential of modules by name; the convolutions and linear modules hold the params, in their order."""
    nn, left, parts = importlib.import_module("torch.nn"), iter(params), []
    for kind in kinds.split():
        if kind in ("Linear", "Conv2d"):
            w, b = next(left)
            part = nn.Linear(*w.shape[::-1]) if kind == "Linear" else nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1)
            part.weight, part.bias = nn.Parameter(w), nn.Parameter(b)
        else:
            part = nn.MaxPool2d(2) if kind == "MaxPool2d" else getattr(nn, kind)()
        parts.append(part)
    return nn.Sequential(*parts)


def mlp(*widths: int, name: str = "MLP", smooth: bool = False) -> Network:
    """The traditional network with ReLU, or with tanh if it has to be smooth."""

    def apply_with(linear, h):
        def apply(params, x):
            for i, (w, b) in enumerate(params):
                x = linear(x if i == 0 else h(x), w, b)
            return x

        return apply

    return Network(
        f"{name} {'-'.join(map(str, widths))}",
        dense_layers(*widths),
        widths[:1],
        apply_with(jn.linear, jn.tanh if smooth else jn.relu),
        apply_with(affine, jnp.tanh if smooth else jax.nn.relu),
        apply_with(affine, lambda x: x.tanh() if smooth else x.relu()),
        lambda params: torch_modules((" Tanh " if smooth else " ReLU ").join(["Linear"] * len(params)), params),
    )


def deep(depth: int, width: int) -> Network:
    return mlp(*[width] * (depth + 1))._replace(name=f"MLP, {depth} layers of {width}")


def residual(depth: int, width: int) -> Network:
    """x + tanh(w x + b), repeated, with weights so small that rounding errors do not grow from layer to layer."""

    def layers(params, x):
        for w, b in params:
            x = jn.add(x, jn.tanh(jn.linear(x, w, b)))
        return x

    def plain(params, x):
        for w, b in params:
            x = x + jnp.tanh(x @ w.T + b)
        return x

    params = dense_layers(*[width] * (depth + 1), gain=depth**-0.5)
    return Network(f"residual, {depth} layers of {width}", params, (width,), layers, plain)


def convnet(size: int = 28, channels: tuple[int, int] = (8, 16), classes: int = 10, hidden: tuple[int, ...] = ()) -> Network:
    """Two convolutions of 3×3, each with ReLU and max-pooling of 2×2, then `hidden` layers with ReLU and a linear one."""

    def apply_with(convolve, relu, pool, linear):
        def apply(params, x):
            kernels, ((w, b), *rest) = params[:2], params[2:]
            lead, x = x.shape[:-3], x.reshape(-1, *x.shape[-3:])
            for kernel, bias in kernels:
                x = pool(relu(convolve(x, kernel, bias)))
            x = linear(x.reshape(*lead, -1), w, b)
            for w, b in rest:
                x = linear(relu(x), w, b)
            return x

        return apply

    def plain_conv(x, w, b):
        return lax.conv_general_dilated(x, w, (1, 1), "SAME") + b[:, None, None]

    def plain_pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    sizes = zip(jax.random.split(jax.random.key(2)), channels, (1, channels[0]), strict=True)
    kernels = [(jax.random.normal(k, (o, i, 3, 3)) * (2 / (9 * i)) ** 0.5, jnp.zeros(o)) for k, o, i in sizes]
    name = f"convnet {'-'.join(map(str, (*channels, *hidden, classes)))}" if hidden else "convnet"
    return Network(
        f"{name}, {size}×{size} images",
        [*kernels, *dense_layers(channels[1] * (size // 4) ** 2, *hidden, classes)],
        (1, size, size),
        apply_with(lambda x, w, b: jn.conv(x, w, b, padding=1), jn.relu, lambda x: jn.max_pool(x, kernel_size=2), jn.linear),
        apply_with(plain_conv, jax.nn.relu, plain_pool, affine),
        apply_with(
            lambda x, w, b: torch_function("conv2d", x, w, b, padding=1),
            lambda x: x.relu(),
            lambda x: torch_function("max_pool2d", x, 2),
            affine,
        ),
        lambda params: torch_modules(
            "Conv2d ReLU MaxPool2d " * 2 + "Flatten " + " ReLU ".join(["Linear"] * (1 + len(hidden))), params
        ),
    )


def attention(length: int = 16, width: int = 32, heads: int = 4) -> Network:
    """x + multi-head self-attention of x."""

    def layers(params, x):
        return jn.add(x, jn.multi_head_attention(x, x, *params, heads=heads))

    def plain(params, x):
        *weights, wo = params
        q, k, v = (jnp.einsum("...ti,hdi->...htd", x, w.reshape(heads, -1, width)) for w in weights)
        p = jax.nn.softmax(jnp.einsum("...htd,...hsd->...hts", q, k) * (heads / width) ** 0.5)
        y = jnp.einsum("...hts,...hsd->...thd", p, v)
        return x + y.reshape(*x.shape) @ wo.T

    params = [w for w, _ in dense_layers(*[width] * 5, gain=1.0)]  # of queries, keys, values and the output
    return Network(f"attention block, {length}×{width}, {heads} heads", params, (length, width), layers, plain)


def elementwise(n: int, depth: int = 4) -> Network:
    """x + tanh(x sin x), repeated."""

    def apply_with(multiply, tanh, add):
        def apply(params, x):
            for _ in range(depth):
                x = add(x, tanh(multiply(jnp.sin(x), x)))
            return x

        return apply

    name = f"elementwise chain, n=10^{round(math.log10(n))}"
    return Network(name, (), (n,), apply_with(jn.multiply, jn.tanh, jn.add), apply_with(jnp.multiply, jnp.tanh, jnp.add))
