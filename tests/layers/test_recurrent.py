"""Recurrent layers: values by NumPy step by step, Jacobians by JAX, what products store, curvature, tails."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import close, equal, largest
from .comparing import near, normal

LAYERS = {"rnn": 1, "lstm": 4, "gru": 3, "diagonal_recurrence": 0}  # with the number of their gates
EVERY = pytest.mark.parametrize("name", LAYERS)


def at_once(function, *args):
    """All that a function computes, as one program, in arrays of NumPy."""
    return jax.device_get(jax.jit(function)(*args))


def arguments(name, steps=5, batch=(2,), inputs=3, hidden=4):
    """x, weights, biases and states at the start."""
    gates = LAYERS[name]
    if not gates:
        shapes = [(*batch, steps, hidden), (hidden,), (hidden,), (*batch, hidden)]
    else:
        rows = gates * hidden
        shapes = [(*batch, steps, inputs), (rows, inputs), (rows, hidden), (rows,), (rows,), (*batch, hidden)]
        shapes += [shapes[-1]] if name == "lstm" else []
    return [normal(*shape, seed=i) / (1 if i == 0 else 2) for i, shape in enumerate(shapes)]


# --- values -------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(name, x, *others):
    """One sequence, one number at a time, x[t, i]."""
    if name == "diagonal_recurrence":
        a, b, h = (np.asarray(v) for v in others)
        y = np.zeros(x.shape)
        for i in range(x.shape[1]):
            state = h[i]
            for t in range(len(x)):
                state = a[i] * state + b[i] * x[t, i]
                y[t, i] = state
        return y
    w_ih, w_hh, b_ih, b_hh, h, *c = others
    n, h, y = len(h), np.array(h), []
    c = np.array(c[0]) if c else None
    for row in x:
        new = np.zeros(n)
        for k in range(n):
            of_x = [w_ih[g * n + k] @ row + b_ih[g * n + k] for g in range(LAYERS[name])]
            of_h = [w_hh[g * n + k] @ h + b_hh[g * n + k] for g in range(LAYERS[name])]
            if name == "rnn":
                new[k] = math.tanh(of_x[0] + of_h[0])
            elif name == "gru":
                r, z = (sigmoid(of_x[g] + of_h[g]) for g in (0, 1))
                new[k] = (1 - z) * math.tanh(of_x[2] + r * of_h[2]) + z * h[k]
            else:
                i, f, g, o = (of_x[gate] + of_h[gate] for gate in range(4))
                c[k] = sigmoid(f) * c[k] + sigmoid(i) * math.tanh(g)
                new[k] = sigmoid(o) * math.tanh(c[k])
        h = new
        y.append(h)
    return np.array(y).reshape(len(x), n)


@EVERY
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_values_step_by_step(name, steps):
    args = arguments(name, steps)
    weights = slice(1, 5) if LAYERS[name] else slice(1, 3)
    starts = args[weights.stop :]
    found = at_once(jn.LAYERS[name], *args)
    assert found.shape == (2, steps, 4)
    for b in range(2):
        near(found[b], by_hand(name, args[0][b], *args[weights], *(s[b] for s in starts)), 1e-13)


@EVERY
def test_what_is_left_out_is_zero(name):
    """Without biases and starts, and a gain of 1; any leading axes."""
    args = arguments(name, 3, ())
    required = 3 if LAYERS[name] else 2
    layer, neutral = jn.LAYERS[name], [np.ones_like(a) if i == 2 else 0 * a for i, a in enumerate(args)]

    def compute(*args):
        short = layer(*args[:required])
        deep = layer(jnp.broadcast_to(args[0], (2, 1, 3, *args[0].shape)), *args[1:required])
        return short, layer(*args[:required], *neutral[required:]), deep

    short, whole, deep = at_once(compute, *args)
    near(short, whole, 1e-13)
    near(deep, np.broadcast_to(short, deep.shape), 1e-13)


# --- Jacobians ----------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_jacobians_are_those_of_jax(name, steps):
    args = arguments(name, steps)
    wrt, layer = tuple(range(len(args))), jn.LAYERS[name]

    def compute(*args):
        ours = jn.jacobian(layer, wrt, on_opaque="error")(*args)
        return jn.dense(ours), jax.jacrev(layer, wrt)(*args) if steps else None

    ours, theirs = at_once(compute, *args)
    for i, (found, argument) in enumerate(zip(ours, args, strict=True)):
        expected = theirs[i] if steps else np.zeros((2, 0, 4, *argument.shape))
        close(found, expected, 1e-10, f"argument {i}")


@EVERY
def test_no_product_stores_two_axes_of_steps_or_of_examples(name):
    """Of 40 examples and 50 steps of 2 numbers: at most the entries of the pre-activations of all gates."""
    args = arguments(name, 50, (40,), 2, 2)
    entries = 40 * 51 * 2 * max(1, LAYERS[name])
    for i, argument in enumerate(args):
        j = jax.eval_shape(jn.jacobian(jn.LAYERS[name], i), *args)
        assert j.nbytes <= 8 * 3 * entries, (i, j.nbytes)
        assert largest(lambda j, v: j @ v, j, argument) <= 2 * entries, i
        assert largest(lambda j, u: u @ j, j, np.ones(j.out_shape)) <= 2 * entries, i


@EVERY
def test_curvature_agrees_with_plain_jax(name):
    """Norms of gradients of examples, kernels and the diagonal of a Gauss-Newton matrix."""
    x, *args = arguments(name, 4, (3,), 2, 3)
    count = 4 if LAYERS[name] else 2
    params, starts = tuple(args[:count]), args[count:]
    layer, targets = jn.LAYERS[name], normal(3, 4, 3, seed=20)

    def network(params, x):
        return layer(x, *params, *(s[: len(x)] for s in starts))

    def losses(params):
        return jnp.sum(jnp.square(network(params, x) - targets), (1, 2))

    def compute(params, x):
        ours = (
            jn.per_example_grad_norms(losses)(params),
            jn.ntk(network, "trace")(params, x),
            jn.ggn_diagonal(network, jn.squared_error)(params, x, targets),
        )
        return ours, jax.jacrev(losses)(params), jax.jacrev(network)(params, x)

    (norms, kernel, diagonal), gradients, jacobians = at_once(compute, params, x)
    near(norms, np.sqrt(sum(np.square(g.reshape(3, -1)).sum(1) for g in gradients)), 1e-10)
    rows = [j.reshape(3, 12, -1) for j in jacobians]
    near(kernel, sum(np.einsum("aop,bop->ab", r, r) for r in rows), 1e-10)
    for found, row, weight in zip(diagonal, rows, params, strict=True):
        close(found, 2 * np.square(row).sum((0, 1)).reshape(weight.shape), 1e-10)


def test_layers_in_a_network():
    """Two layers, one on the other, under `jn.grad`."""
    x, *first = arguments("gru", 4, (2,), 2, 3)
    second = [w / 3 for w in arguments("lstm", 4, (2,), 3, 2)[1:5]]

    def loss(first, second):
        return jnp.sum(jnp.square(jn.lstm(jn.gru(x, *first), *second)[:, -1]))

    def compute(first, second):
        return jn.grad(loss)(first, second), jax.grad(loss)(first, second)

    ours, theirs = at_once(compute, first, second)
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-10)


# --- numbers at the ends ------------------------------------------------------------------------------------------


def test_slopes_in_the_tails():
    """Where tanh rounds to 1, autodiff's derivative is 0; ours has its digits."""
    x, one = np.full((1, 1), 20.0, "float32"), np.ones((1, 1), "float32")
    ours = at_once(lambda x: jn.jacobian(jn.rnn)(x, one, one).dense(), x)
    near(ours, np.full((1, 1, 1, 1), 4 * math.exp(-40)), 1e-6)


def test_long_products_of_a_diagonal_recurrence():
    """a^k, also for a = 0 and a < 0."""
    a = np.array([0.0, -0.5, 1.0])
    found = at_once(lambda x: jn.jacobian(jn.diagonal_recurrence)(x, a).dense(), np.zeros((4, 3)))
    expected = np.zeros((4, 3, 4, 3))
    for t, s, i in np.ndindex(4, 4, 3):
        if s <= t:
            expected[t, i, s, i] = a[i] ** (t - s)
    equal(found, expected)
