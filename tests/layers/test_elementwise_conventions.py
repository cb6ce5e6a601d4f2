"""Elementwise layers where the derivative does not exist and at special values, in exact tables; and published bugs.

The others than these few: test_activations.py.  An issue number in a test's name is that of a library that had, or has, the
fault.
"""

import functools

import jax
import numpy as np
import pytest

import jaxnets

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]


def array_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


# layer, x, value, derivative
EXACT = [
    ("relu", 0.0, 0.0, 0.0),
    ("relu", -0.0, 0.0, 0.0),
    ("relu", 1e-30, 1e-30, 1.0),
    ("relu", -1e-30, 0.0, 0.0),
    ("relu", INF, INF, 1.0),
    ("relu", -INF, 0.0, 0.0),
    ("relu", 1e4, 1e4, 1.0),
    ("relu", -1e4, 0.0, 0.0),
    ("tanh", 0.0, 0.0, 1.0),
    ("tanh", -0.0, -0.0, 1.0),
    ("tanh", INF, 1.0, 0.0),
    ("tanh", -INF, -1.0, 0.0),
    ("tanh", 1e4, 1.0, 0.0),
    ("tanh", -1e4, -1.0, 0.0),
    ("tanh", 710.0, 1.0, 0.0),
    ("sigmoid", 0.0, 0.5, 0.25),
    ("sigmoid", -0.0, 0.5, 0.25),
    ("sigmoid", INF, 1.0, 0.0),
    ("sigmoid", -INF, 0.0, 0.0),
    ("sigmoid", 1e4, 1.0, 0.0),
    ("sigmoid", -1e4, 0.0, 0.0),
    ("softplus", 0.0, np.log(2), 0.5),
    ("softplus", -0.0, np.log(2), 0.5),
    ("softplus", INF, INF, 1.0),
    ("softplus", -INF, 0.0, 0.0),
    ("softplus", 1e4, 1e4, 1.0),
    ("softplus", -1e4, 0.0, 0.0),
    ("softplus", 88.8, 88.8, 1.0),
    ("softplus", 710.0, 710.0, 1.0),
    ("identity", INF, INF, 1.0),
    ("identity", -0.0, -0.0, 1.0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, x, value, derivative", EXACT)
def test_special_values(name, x, value, derivative, dtype):
    x, layer = np.array([x], dtype), jaxnets.LAYERS[name]
    y, slope = map(np.asarray, value_and_slope(layer, x))
    array_equal(y, np.array([value], dtype))
    assert np.signbit(y[0]) == np.signbit(value)
    array_equal(slope, np.array([derivative], dtype))


@functools.partial(jax.jit, static_argnums=0)
def value_and_slope(layer, x):
    return layer(x), jaxnets.jacobian(layer)(x).diagonal()


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softplus", "identity"])
def test_nan_propagates(name):
    assert np.isnan(value_and_slope(jaxnets.LAYERS[name], np.array([NAN]))[0]).all()


@pytest.mark.parametrize("x1, x2, value, by_x1", [
    (1.0, 1.0, 1.0, 0.0), (0.0, -0.0, -0.0, 0.0), (-0.0, 0.0, 0.0, 0.0), (INF, INF, INF, 0.0), (-INF, -INF, -INF, 0.0),
    (2.0, 1.0, 2.0, 1.0), (1.0, 2.0, 2.0, 0.0), (NAN, 1.0, NAN, 1.0), (1.0, NAN, NAN, 0.0), (1e-30, 0.0, 1e-30, 1.0),
])  # fmt: skip
def test_maximum_selects_the_second_at_ties(x1, x2, value, by_x1):
    y, first, second = map(np.asarray, maximum_and_jacobians(np.array([x1]), np.array([x2])))
    array_equal(y, [value])
    assert np.signbit(y[0]) == np.signbit(value) or np.isnan(value)
    array_equal(first, [[by_x1]])
    array_equal(second, [[1 - by_x1]])


@jax.jit
def maximum_and_jacobians(x1, x2):
    return jaxnets.maximum(x1, x2), *jaxnets.dense(jaxnets.jacobian(jaxnets.maximum, (0, 1))(x1, x2))


@pytest.mark.parametrize("name, x, value, derivative", [
    ("softplus", 89.0, 89.0, 1.0), ("softplus", 0.0, np.log(2), 0.5), ("sigmoid", -200.0, np.exp(-200.0), np.exp(-200.0)),
    ("relu", 1.2e-38, 1.2e-38, 1.0), ("relu", 0.0, 0.0, 0.0),
], ids=["burn#5373", "jax#2107", "jax#777", "jax#37821", "jax#2342 #14682"])  # fmt: skip
def test_published_bugs_of_elementwise_layers(name, x, value, derivative):
    layer = jaxnets.LAYERS[name]
    found, slope = jax.jit(jaxnets.value_and_grad(layer))(np.float64(x))
    np.testing.assert_allclose([found, slope], [value, derivative], rtol=1e-14)
