"""Programs with loops, as people write them: recurrent cells, scanned layers, solvers, filters, unrolled optimisers.

`test_loops.py` compares their Jacobians with those of `jax.jacrev`.  Arrays are NumPy's, as in `programs.py`.
"""

from functools import partial

import equinox
import flax.linen
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from .programs import Program, pos, r

B, T, H, D = 2, 4, 3, 2
XS, H0, W, U, V = r(T, B, D), r(B, H), 0.7 * r(H, H), r(H, D), r(D, H)


def scan(step, init, xs=None, **options):
    """All that a scan returns, flat."""
    return jax.tree.leaves(lax.scan(step, init, xs, **options))


def elman(w, u, h, xs, **options):
    return scan(lambda h, x: (jnp.tanh(h @ w.T + x @ u.T),) * 2, h, xs, **options)


def lstm(w, u, h, xs):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(h @ w.T + x @ u.T, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return scan(step, (h, h), xs)


def gru(w, u, h, xs):
    def step(h, x):
        (r_h, z_h, n_h), (r_x, z_x, n_x) = jnp.split(h @ w.T, 3, -1), jnp.split(x @ u.T, 3, -1)
        n = jnp.tanh(n_x + jax.nn.sigmoid(r_h + r_x) * n_h)
        z = jax.nn.sigmoid(z_h + z_x)
        return ((1 - z) * n + z * h,) * 2

    return scan(step, h, xs)


def decoder(w, u, v, h, xs):
    """Its readout sees the state, a value on the way to the next state, and the input."""

    def step(h, x):
        a = h @ w.T + x @ u.T
        new = jnp.tanh(a)
        return new, (new @ v.T + jnp.sin(a)[:, : len(v)], h, x, 2 * w[0])

    return scan(step, h, xs)


def two_layers(w, u, h, xs):
    def step(carry, x):
        lower, upper = carry
        lower = jnp.tanh(lower @ w.T + x @ u.T)
        upper = jnp.tanh(upper @ w.T + lower)
        return (lower, upper), upper

    return scan(step, (h, 2 * h), xs)


def accumulators(w, u, h, xs):
    """A loss, a counter and a key are carried beside the state."""

    def step(carry, x):
        h, total, count, key = carry
        key, own = jax.random.split(key)
        h = jnp.tanh(h @ w.T + x @ u.T) * jax.random.bernoulli(own, 0.7, h.shape)
        return (h, total + jnp.mean(h**2) / (1 + count), count + 1, key), None

    (h, total, *_), _ = lax.scan(step, (h, jnp.zeros((), h.dtype), 0, jax.random.key(0)), xs)
    return h, total


def transformer(layers, x, checkpoint=False):
    def layer(x, p):
        q, k, v = jnp.split(x @ p["qkv"], 3, -1)
        x = x + jax.nn.softmax(q @ k.swapaxes(-1, -2) / 2) @ v
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return x + jax.nn.gelu((x - mean) / jnp.sqrt(var + 1e-5) * p["g"] @ p["up"] + p["b"]) @ p["down"], None

    return lax.scan(jax.checkpoint(layer) if checkpoint else layer, x, layers)[0]


LAYERS = {"qkv": r(3, H, 3 * H), "g": pos(3, H), "up": r(3, H, 4), "b": r(3, 4), "down": r(3, 4, H)}


def rk4(f, x, steps=3, dt=0.1):
    def step(x, _):
        a = f(x)
        b = f(x + dt / 2 * a)
        c = f(x + dt / 2 * b)
        d = f(x + dt * c)
        return x + dt / 6 * (a + 2 * b + 2 * c + d), x

    return scan(step, x, length=steps)


def leapfrog(w, q, p):
    def force(q):
        return -jax.grad(lambda q: jnp.sum(jnp.cos(w @ q)))(q)

    def step(state, _):
        q, p = state
        p = p + 0.05 * force(q)
        q = q + 0.1 * p
        return (q, p + 0.05 * force(q)), (q, p)

    return scan(step, (q, p), length=3)


def kalman(a, c, q, ys):
    def step(state, y):
        m, p = state
        m, p = a @ m, a @ p @ a.T + q @ q.T
        s = c @ p @ c.T + jnp.eye(len(c), dtype=c.dtype)
        gain = jnp.linalg.solve(s, c @ p).T
        innovation = y - c @ m
        loss = innovation @ jnp.linalg.solve(s, innovation) + jnp.linalg.slogdet(s)[1]
        return (m + gain @ innovation, p - gain @ c @ p), loss

    n = len(a)
    return jnp.sum(lax.scan(step, (jnp.zeros(n, a.dtype), jnp.eye(n, dtype=a.dtype)), ys)[1])


def hmm(log_start, log_move, log_emit):
    def step(alpha, emit):
        return jax.nn.logsumexp(alpha[:, None] + log_move, axis=0) + emit, None

    return jax.nn.logsumexp(lax.scan(step, log_start + log_emit[0], log_emit[1:])[0])


def s4d(a, b, c, u):
    decay = jnp.exp(-jnp.exp(a))
    return lax.scan(lambda h, x: (decay * h + b * x[..., None], jnp.einsum("...hn,hn->...h", h, c)), jnp.zeros_like(
        u[0][..., None] * b), u)[1]  # fmt: skip


def sinkhorn(cost, log_a, log_b):
    def step(fg, _):
        f, g = fg
        f = log_a - jax.nn.logsumexp(g[None, :] - cost, 1)
        g = log_b - jax.nn.logsumexp(f[:, None] - cost, 0)
        return (f, g), None

    f, g = lax.scan(step, (jnp.zeros_like(log_a), jnp.zeros_like(log_b)), None, length=4)[0]
    return jnp.exp(f[:, None] + g[None, :] - cost)


def unrolled(optimizer, w, x, rate):
    """The weights after some steps of training, as a function of the weights at first, the data and the rate."""

    def step(state, _):
        w, inner = state
        updates, inner = optimizer(rate).update(jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w) ** 2))(w), inner, w)
        return (optax.apply_updates(w, updates), inner), None

    return lax.scan(step, (w, optimizer(rate).init(w)), None, length=3)[0][0]


def nested(w, u, h, xs):
    def outer(h, x):
        drive = x @ u.T
        return lax.scan(lambda h, s: (jnp.tanh(h @ w.T + s * drive), h.sum()), h, jnp.arange(1, 3, dtype=h.dtype))

    return scan(outer, h, xs)


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


@jax.custom_jvp
def softened(x):
    return jnp.logaddexp(x, 0)


softened.defjvps(lambda t, _, x: jax.nn.sigmoid(x) * t)


@jax.custom_jvp
def run_by_rule(w, h):
    return scan(lambda c, _: (jnp.tanh(c @ w), c), h, length=3)


run_by_rule.defjvp(
    lambda primals, tangents: jax.jvp(lambda w, h: scan(lambda c, _: (jnp.tanh(c @ w), c), h, length=3), primals, tangents)
)


def drawn(init, *args):
    """Random parameters of the shapes that a module initialises."""
    return jax.tree.map(lambda p: 0.6 * r(*p.shape), jax.eval_shape(init, jax.random.key(0), *args))


def with_linen(make, x):
    """A scanned cell of Flax as a function of its parameters."""
    module = flax.linen.RNN(make(H, param_dtype=jnp.float64))
    return Program(f"flax {make.__name__}", module.apply, (drawn(module.init, x), x))


def with_equinox(make, x):
    """A scanned cell of Equinox as a function of its arrays."""
    cell = equinox.filter_eval_shape(make, D, H, key=jax.random.key(0))
    arrays, static = equinox.partition(cell, lambda p: isinstance(p, jax.ShapeDtypeStruct))

    def run(arrays, x):
        cell = equinox.combine(arrays, static)
        start = jnp.zeros(H, x.dtype)
        return scan(lambda c, x: (cell(x, c), None), (start, start) if make is equinox.nn.LSTMCell else start, x)

    return Program(f"equinox {make.__name__}", run, (jax.tree.map(lambda p: 0.6 * r(*p.shape), arrays), x))


def with_haiku(make, x):
    """A scanned core of Haiku as a function of its parameters."""

    def run(x):
        core = make(H)
        return haiku.dynamic_unroll(core, x, core.initial_state(x.shape[1]))

    made = haiku.without_apply_rng(haiku.transform(run))
    return Program(f"haiku {make.__name__}", made.apply, (drawn(made.init, x), x))


def indexed(w, xs):
    """The counter of the loop says which entry is used."""
    return lax.fori_loop(0, T, lambda i, c: jnp.tanh(w @ c + xs[i]), xs[0])


def written(xs):
    """The counter of the loop says which entry is written."""
    return lax.fori_loop(1, T, lambda i, a: a.at[i].set(jnp.sin(a[i - 1]) + a[i]), xs)


def generated(w, u, h, xs, last_only=True):
    """Each step writes its state into a buffer, and reads the last one there, as with a cache of keys and values."""
    start = jnp.zeros((len(h), len(xs) + 1, h.shape[1]), h.dtype).at[:, 0].set(h)

    def step(carry, x):
        i, buffer = carry
        new = jnp.tanh(lax.dynamic_index_in_dim(buffer, i, 1, False) @ w.T + x @ u.T)
        return (i + 1, buffer.at[:, i + 1].set(new)), new

    (_, buffer), new = lax.scan(step, (0, start), xs)
    return [buffer] if last_only else [buffer, new]


def deep(w, u, h, xs):
    """A loop over layers, each with its own state and weights, in a loop over time."""

    def step(states, x):
        def layer(x, one):
            w, u, h = one
            h = jnp.tanh(h @ w.T + x @ u.T)
            return h, h

        top, states = lax.scan(layer, x, (w, u, states))
        return states, top

    return scan(step, h, xs)


def observed(w, u, h, xs):
    """What is looked at outside lies before a state and after another one, and is used once more inside."""

    def step(carry, x):
        h, c = carry
        a = jnp.sin(h @ w.T + x @ u.T)
        b = a * c
        return (jnp.tanh(b), a + c), (a, 2 * b)

    return scan(step, (h, h), xs)[2:]


def sums_and_products(x):
    return scan(lambda c, v: ((c[0] + v, c[1] * v),) * 2, (x[0], x[1]), x)


def branching(w, x):
    def step(c, i):
        return lax.cond(i % 2 == 0, jnp.sin, lambda c: jnp.tanh(w @ c), c), c

    return scan(step, x, jnp.arange(4))


def value_iteration(reward, p):
    def step(_, v):
        return jnp.max(reward + 0.9 * jnp.einsum("ast,t->as", p, v), 0)

    return lax.fori_loop(0, 5, step, jnp.zeros(3))


def convolutions(k, x):
    def layer(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jnp.tanh(lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=numbers)), None

    return lax.scan(layer, x, k)[0]


def linear_recurrence(a, x):
    def combine(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    return lax.associative_scan(combine, (jnp.broadcast_to(a, x.shape), x))[1]


def lorenz(p, x):
    def f(x):
        return jnp.stack([p[0] * (x[1] - x[0]), x[0] * (p[1] - x[2]) - x[1], x[0] * x[1] - p[2] * x[2]])

    return rk4(f, x)


LOOPS = [
    Program("elman", elman, (W, U, H0, XS)),
    Program("elman in reverse", partial(elman, reverse=True), (W, U, H0, XS)),
    Program("elman unrolled by 2", partial(elman, unroll=2), (W, U, H0, XS)),
    Program("elman in one step", elman, (W, U, H0, XS[:1])),
    Program("elman in no step", elman, (W, U, H0, XS[:0])),
    Program("elman under jit", jax.jit(elman), (W, U, H0, XS)),
    Program("elman under vmap", lambda w, u, h, xs: jax.vmap(elman, (None, None, 0, 1))(w, u, h, xs), (W, U, H0, XS)),
    Program("elman under checkpoint", jax.checkpoint(elman), (W, U, H0, XS)),
    Program("lstm", lstm, (r(4 * H, H), r(4 * H, D), H0, XS)),
    Program("gru", gru, (r(3 * H, H), r(3 * H, D), H0, XS)),
    Program("decoder", decoder, (W, U, V, H0, XS)),
    Program("two layers", two_layers, (W, U, H0, XS)),
    Program("accumulators", accumulators, (W, U, H0, XS)),
    Program("closed over", lambda w, h: scan(lambda c, _: (jnp.sin(w @ c), None), h, length=3), (W, r(H))),
    Program(
        "a carry that is swapped",
        lambda x, y: scan(lambda c, _: ((c[1], jnp.tanh(c[0])), c[0]), (x, y), length=3),
        (r(H), r(H)),
    ),  # fmt: skip
    Program("a carry that is replaced", lambda x, y: scan(lambda c, v: (v * 2, c * v), x, y), (r(H), r(T, H))),
    Program(
        "a carry that is replaced, backwards",
        lambda x, y: scan(lambda c, v: (v * 2, c * v), x, y, reverse=True),
        (r(H), r(T, H)),
    ),  # fmt: skip
    Program(
        "a carry that is replaced by one of another",
        lambda w, x: scan(lambda c, _: ((jnp.tanh(w @ c[0]), jnp.sin(c[0])), None), (x, x), length=3)[1],
        (W, r(H)),
    ),  # fmt: skip
    Program(
        "a loop in a map",
        lambda w, x: lax.map(lambda v: scan(lambda c, _: (jnp.tanh(w @ c + v),) * 2, v, length=3)[1], x),
        (W, r(T, H)),
    ),  # fmt: skip
    Program("a carry that is kept", lambda x, y: scan(lambda c, v: (c, c * v), x, y), (r(H), r(T, H))),
    Program("no carry", lambda w, x: lax.map(lambda v: jnp.tanh(w @ v), x), (W, r(T, H))),
    Program("mapped in batches", lambda w, x: lax.map(lambda v: jnp.tanh(w @ v), x, batch_size=2), (W, r(T, H))),
    Program("a loop by counting", lambda w, x: lax.fori_loop(0, 3, lambda i, c: jnp.tanh(w @ c + i), x), (W, r(H))),
    Program("indexed by the counter", indexed, (W, r(T, H))),
    Program("written by the counter", written, (r(T, H),)),
    Program("generated into a buffer", generated, (W, U, H0, XS)),
    Program("generated into a buffer and seen", partial(generated, last_only=False), (W, U, H0, XS)),
    Program("layers in time", deep, (r(3, H, H), r(3, H, H), r(3, B, H), r(T, B, H))),
    Program(
        "one array as a whole and step by step", lambda x: scan(lambda c, v: (c * x * v, None), jnp.ones(H), x), (r(H),)
    ),
    Program("a rule that runs the loop", run_by_rule, (W, H0)),
    Program("seen inside of a step", observed, (W, U, H0, XS)),
    Program("cumulative sum and product", sums_and_products, (r(T, H),)),
    Program("scanned transformer", transformer, (LAYERS, r(B, 3, H))),
    Program("scanned transformer with checkpoint", partial(transformer, checkpoint=True), (LAYERS, r(B, 3, H))),
    Program("neural ODE", lambda w, v, x: rk4(lambda x: jnp.tanh(x @ w.T) @ v.T, x), (r(4, D), r(D, 4), r(B, D))),
    Program("Lorenz", lorenz, (pos(3), r(3))),
    Program("leapfrog", leapfrog, (W, r(H), r(H))),
    Program("Kalman filter", kalman, (0.5 * r(2, 2), r(1, 2), r(2, 2), r(T, 1))),
    Program("hidden Markov model", hmm, (r(H), r(H, H), r(T, H))),
    Program("S4D", s4d, (r(D, H), r(D, H), r(D, H), r(T, D))),
    Program("S4D of a batch", s4d, (r(D, H), r(D, H), r(D, H), r(T, B, D))),
    Program("diagonal by associative scan", linear_recurrence, (pos(H), r(T, H))),
    Program("Sinkhorn", sinkhorn, (pos(3, 4), r(3), r(4))),
    Program("gradient descent unrolled", partial(unrolled, optax.sgd), (r(H), r(5, H), np.float64(0.1))),
    Program("momentum unrolled", partial(unrolled, partial(optax.sgd, momentum=0.9)), (r(H), r(5, H), np.float64(0.1))),
    Program("Adam unrolled", partial(unrolled, optax.adam), (r(H), r(5, H), np.float64(0.1))),
    Program("nested", nested, (W, U, H0, XS)),
    Program("cond inside", branching, (W, r(H))),
    Program("custom_vjp inside", lambda w, x: scan(lambda c, _: (jnp.sin(w @ doubled(c)),) * 2, x, length=3), (W, r(H))),
    Program("custom_jvp inside", lambda w, x: scan(lambda c, _: (softened(w @ c),) * 2, x, length=3), (W, r(H))),
    Program("convolutions", convolutions, (r(2, 3, 3, 2, 2), r(B, 4, 4, 2))),
    Program("sorted and selected", lambda x: scan(lambda c, v: (jnp.sort(c + v), jnp.max(c * v)), x[0], x), (r(T, H),)),
    Program("value iteration", value_iteration, (r(2, 3), pos(2, 3, 3))),
    with_linen(flax.linen.SimpleCell, r(B, T, D)),
    with_linen(flax.linen.LSTMCell, r(B, T, D)),
    with_linen(flax.linen.GRUCell, r(B, T, D)),
    with_equinox(equinox.nn.LSTMCell, r(T, D)),
    with_equinox(equinox.nn.GRUCell, r(T, D)),
    with_haiku(haiku.LSTM, r(T, B, D)),
    with_haiku(haiku.GRU, r(T, B, D)),
]
