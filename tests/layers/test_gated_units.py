"""Prelu and the gated units, which are more than a function of each entry."""

import functools

import jax
import numpy as np
import pytest

import jaxnets

from ..sweeps import swept

INF = np.inf


def array_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


# --- prelu --------------------------------------------------------------------------------------------------------


def prelu_and_blocks(x, w, **config):
    def layer(x, w):
        return jaxnets.prelu(x, w, **config)

    return jax.jit(lambda x, w: (layer(x, w), *jaxnets.dense(jaxnets.jacobian(layer, (0, 1))(x, w))))(x, w)


def test_prelu_at_the_kink():
    _, by_x, by_w = prelu_and_blocks(np.array([0.0, -0.0, 2.0, -2.0]), np.float64(0.25))
    array_equal(by_x, np.diag([0.25, 0.25, 1, 0.25]))
    array_equal(by_w, [0, 0, 0, -2])


@pytest.mark.parametrize("shape, w_shape, config", swept([
    ((2, 3), (3,), {}), ((2, 3, 4), (3,), {}), ((2, 3, 4), (4,), {"axis": -1}), ((3, 2), (3,), {"axis": 0}),
    ((2, 3), (1,), {}), ((2, 3), (), {}), ((3,), (), {}), ((), (1,), {}), ((2, 1), (1,), {}), ((0, 3), (3,), {}),
], 2, several=True), ids=str)  # fmt: skip
def test_prelu_scales_channels(shape, w_shape, config):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=shape), rng.normal(size=w_shape)
    expected = np.array(x)
    for at in np.ndindex(shape):
        if x[at] < 0:
            expected[at] = x[at] * (w[at[config.get("axis", 1)]] if len(w_shape) == 1 and w_shape != (1,) else w.reshape(()))
    y, by_x, by_w = map(np.asarray, prelu_and_blocks(x, w, **config))
    array_equal(y, expected)
    assert by_x.shape == shape + shape and by_w.shape == shape + w_shape
    np.testing.assert_allclose(by_w.sum(tuple(range(len(shape), by_w.ndim))), np.minimum(x, 0), rtol=1e-15)


# --- gated units --------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def value_and_dense(f, x):
    return f(x), jaxnets.dense(jaxnets.jacobian(f)(x))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gated_units_against_numpy(axis):
    x = np.random.default_rng(0).normal(size=(4, 6))
    a, c = np.split(x, 2, axis)
    glu, swiglu = jax.jit(lambda x: (jaxnets.glu(x, axis=axis), jaxnets.swiglu(x, axis=axis)))(x)
    np.testing.assert_allclose(glu, a / (1 + np.exp(-c)), rtol=1e-14)
    np.testing.assert_allclose(swiglu, a / (1 + np.exp(-a)) * c, rtol=1e-14)


@pytest.mark.parametrize("name", ["glu", "swiglu"])
def test_gated_units_store_no_zeros(name):
    """Of 8 × 16 × 8 × 32 entries two for each of 8 × 16 outputs."""

    @jax.jit
    def compute(x):
        j = jaxnets.jacobian(jaxnets.LAYERS[name])(x)
        return j, j.dense()

    j, dense = compute(np.ones((8, 32)))
    assert j.nbytes == 2 * 8 * 16 * 8
    assert np.count_nonzero(dense) == 2 * 8 * 16


def test_gate_that_is_nearly_shut():
    """a·σ(c) is a normal number where σ(c) alone is not."""
    x = np.array([1e30, -100.0], "float32")
    y = 1e30 * np.exp(-100.0)
    value, dense = value_and_dense(jaxnets.glu, x)
    np.testing.assert_allclose(value, [y], rtol=1e-6)
    np.testing.assert_allclose(dense, [[0, y]], rtol=1e-6)


def test_gated_units_at_infinity():
    open_gate, dense = value_and_dense(jaxnets.glu, np.array([2.0, INF]))
    array_equal(open_gate, [2.0])
    array_equal(dense, [[1.0, 0.0]])
    array_equal(value_and_dense(jaxnets.glu, np.array([2.0, -INF]))[0], [0.0])
    array_equal(value_and_dense(jaxnets.swiglu, np.array([-INF, 3.0]))[1], [[0.0, 0.0]])
