"""How long do gradients, norms, kernels and Jacobians through loops take, compared with plain JAX?"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

from .harness import Result, measure

_rng = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return jnp.asarray(scale * _rng.normal(size=shape), jnp.float32)


def lstm(params, x):
    """The states of an LSTM at all times, `[B, T, H]`, of `x[B, T, D]`."""
    by_state, by_input, bias = params

    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(h @ by_state.T + x @ by_input.T + bias, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((len(x), by_state.shape[1]))
    return jax.lax.scan(step, (start, start), x.swapaxes(0, 1))[1].swapaxes(0, 1)


def lstm_params(hidden: int):
    return tuple(normal(*shape, scale=hidden**-0.5) for shape in ((4 * hidden, hidden), (4 * hidden, hidden), (4 * hidden,)))


def gpt_losses(params, tokens):
    """The mean loss of every text `[B, S + 1]` under a transformer that scans over its layers, whose weights are stacked."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    mask = jnp.tril(jnp.ones((inputs.shape[1],) * 2, bool))

    def normalized(x, gain):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * gain

    def layer(x, p):
        heads = (*x.shape[:2], 4, x.shape[2] // 4)
        q, k, v = (a.reshape(heads) for a in jnp.split(normalized(x, p["first"]) @ p["qkv"], 3, -1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(heads[-1])
        attention = jax.nn.softmax(jnp.where(mask, scores, -1e9), -1)
        x = x + jnp.einsum("bhqk,bkhd->bqhd", attention, v).reshape(x.shape) @ p["out"]
        return x + jax.nn.gelu(normalized(x, p["second"]) @ p["up"] + p["bias"]) @ p["down"], None

    x = params["embedding"][inputs] + params["positions"]
    x = jax.lax.scan(layer, x, params["layers"])[0]
    scores = jax.nn.log_softmax(normalized(x, params["last"]) @ params["embedding"].T)
    return -jnp.take_along_axis(scores, targets[..., None], -1)[..., 0].mean(-1)


def gpt_params(layers: int, width=64, length=64, words=256):
    return {
        "embedding": normal(words, width, scale=0.1),
        "positions": normal(length, width, scale=0.1),
        "last": jnp.ones(width),
        "layers": {
            "first": jnp.ones((layers, width)),
            "second": jnp.ones((layers, width)),
            "qkv": normal(layers, width, 3 * width, scale=0.1),
            "out": normal(layers, width, width, scale=0.1),
            "up": normal(layers, width, 4 * width, scale=0.1),
            "bias": jnp.zeros((layers, 4 * width)),
            "down": normal(layers, 4 * width, width, scale=0.05),
        },
    }


def flow_losses(params, x):
    """|x(1)|² of points `[B, D]` that move along a network, by 40 steps of the fourth-order Runge-Kutta method."""
    first, last = params

    def f(x):
        return jnp.tanh(x @ first.T) @ last.T

    def step(x, _, dt=1 / 40):
        a = f(x)
        b = f(x + dt / 2 * a)
        c = f(x + dt / 2 * b)
        d = f(x + dt * c)
        return x + dt / 6 * (a + 2 * b + 2 * c + d), None

    return jnp.sum(jax.lax.scan(step, x, None, length=40)[0] ** 2, -1)


def by_scan(decay, x):
    """h[t] = decay · h[t−1] + x[t], entry by entry."""
    return jax.lax.scan(lambda h, u: (decay * h + u,) * 2, jnp.zeros_like(x[0]), x)[1]


def by_associative_scan(decay, x):
    """The same in a logarithmic number of steps."""

    def combine(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    return jax.lax.associative_scan(combine, (jnp.broadcast_to(decay, x.shape), x))[1]


def mean_of(losses: Callable) -> Callable:
    return lambda params, x: losses(params, x).mean()


def gradients_of_examples(losses: Callable) -> Callable:
    return jax.vmap(jax.grad(lambda params, x: losses(params, x[None])[0]), (None, 0))


def norms(losses: Callable) -> Callable:
    def of(params, x):
        found = gradients_of_examples(losses)(params, x)
        return jnp.sqrt(sum(jnp.sum(g.reshape(len(x), -1) ** 2, 1) for g in jax.tree.leaves(found)))

    return of


def rows(model: Callable, params, x):
    """The Jacobians of all outputs of every example by all parameters, `[B, outputs, parameters]`."""
    found = jax.vmap(jax.jacrev(lambda params, x: model(params, x[None])[0].ravel()), (None, 0))(params, x)
    return jnp.concatenate([j.reshape(*j.shape[:2], -1) for j in jax.tree.leaves(found)], -1)


def last_state(params, x):
    return lstm(params, x)[:, -1]


def run(quick: bool, scale: int) -> Iterator[Result]:
    ask = partial(measure, "loops", quick=quick)

    def gradient_and_norms(case, losses, args, tolerance=1e-4):
        ours, theirs = jn.grad(mean_of(losses)), jax.grad(mean_of(losses))
        yield ask(f"gradient, {case}", {"jaxnets": ours, "jax.grad": theirs}, args, tolerance=tolerance)
        ours, theirs = jn.per_example_grad_norms(losses), norms(losses)
        yield ask(f"norms, {case}", {"jaxnets": ours, "vmap(jax.grad)": theirs}, args, tolerance=tolerance)

    hidden, steps, batch = (16, 5, 4) if quick else (256, 50, 32 * scale)
    args = lstm_params(hidden), normal(batch, steps, hidden)
    case = f"LSTM, H={hidden}, T={steps}, B={batch}"
    yield from gradient_and_norms(case, lambda params, x: jnp.sum(lstm(params, x) ** 2, (1, 2)), args)

    hidden, steps, batch = (8, 5, 4) if quick else (32, 20, 16 * scale)
    args = lstm_params(hidden), normal(batch, steps, hidden)
    case = f"last state of an LSTM, H={hidden}, T={steps}, B={batch}"

    def kernel(params, x):
        j = rows(last_state, params, x)
        return jnp.einsum("aip,bip->ab", j, j)

    ours = {"jaxnets": lambda params, x: jn.ntk(last_state, "trace")(params, x)}
    yield ask(f"NTK, {case}", ours | {"vmap(jacrev)": kernel}, args, tolerance=1e-4)

    def diagonal(params, x):
        squares = 2 * jnp.sum(rows(last_state, params, x) ** 2, (0, 1))
        sizes = np.cumsum([leaf.size for leaf in params])[:-1]
        return tuple(part.reshape(leaf.shape) for part, leaf in zip(jnp.split(squares, sizes), params, strict=True))

    def ggn_diagonal(params, x):
        return jn.ggn_diagonal(last_state, jn.squared_error)(params, x, jnp.zeros((len(x), hidden)))

    yield ask(f"GGN diagonal, {case}", {"jaxnets": ggn_diagonal, "vmap(jacrev)": diagonal}, args, tolerance=1e-4)

    for layers in (2,) if quick else (2, 8, 24):
        tokens = jnp.asarray(_rng.integers(0, 256, (2 if quick else 8, 65)))
        args = gpt_params(layers), tokens
        yield from gradient_and_norms(f"GPT scanned over {layers} layers, B={len(tokens)}", gpt_losses, args, 1e-3)

    args = (normal(64, 16, scale=0.2), normal(16, 64, scale=0.2)), normal(8 if quick else 32 * scale, 16)
    yield from gradient_and_norms(f"Runge-Kutta, 40 steps, B={len(args[1])}", flow_losses, args)

    args = jax.nn.sigmoid(normal(16)), normal(8 if quick else 64, 16)
    for name, f in (("scan", by_scan), ("associative scan", by_associative_scan)):
        contenders = {
            "jaxnets": lambda decay, x, f=f: jn.jacobian(lambda x: f(decay, x))(x).dense(),
            "jacrev": jax.jacrev(f, 1),
            "jacfwd": jax.jacfwd(f, 1),
        }
        yield ask(f"Jacobian of a diagonal recurrence by {name}, T={len(args[1])}, H=16", contenders, args)
