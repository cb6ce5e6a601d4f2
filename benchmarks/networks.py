"""Networks that several questions use."""

import jax
import jax.numpy as jnp

import jaxnets as jn


def dense_layers(*widths: int, seed: int = 0):
    """Kaiming-normal weights and zero biases between these widths."""
    keys = jax.random.split(jax.random.key(seed), len(widths))
    sizes = zip(keys, widths, widths[1:], strict=False)
    return [(jax.random.normal(k, (o, i)) * (2 / i) ** 0.5, jnp.zeros(o)) for k, i, o in sizes]


def mlp(params, x):
    """The traditional network with jaxnets layers."""
    for i, (w, b) in enumerate(params):
        x = jn.linear(x if i == 0 else jn.relu(x), w, b)
    return x


def plain_mlp(params, x):
    """The same network as one writes it without jaxnets."""
    for i, (w, b) in enumerate(params):
        x = (x if i == 0 else jax.nn.relu(x)) @ w.T + b
    return x


def residual(params, x):
    """x + tanh(w x + b), repeated."""
    for w, b in params:
        x = jn.add(x, jn.tanh(jn.linear(x, w, b)))
    return x


def plain_residual(params, x):
    for w, b in params:
        x = x + jnp.tanh(x @ w.T + b)
    return x
