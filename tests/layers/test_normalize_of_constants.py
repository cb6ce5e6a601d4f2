"""Normalisations where nothing varies: exact values and Jacobians at equal numbers, zeros, NaN and ∞."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from ..sweeps import swept
from .comparing import near, normal
from .normalizations import INF, NAN, OVER, at_once, compiled, trained


@pytest.mark.parametrize("dtype", swept(["float16", "float32", "float64"], ["float32"]))
@pytest.mark.parametrize("name", OVER)
def test_equal_numbers_give_zero(name, dtype):
    """And their spread of 0 has a derivative, not NaN: jax#11716."""
    layer, _ = OVER[name]

    def first(x):
        return layer(x)[0, 0, 0]

    compute = at_once(lambda x: (layer(x), jn.grad(first)(x), jax.grad(first)(x)))
    for value in (0.0, -0.0, 0.1, -3.3, 1e4, 6e4 if dtype == "float16" else 1e30):
        y, ours, theirs = compute(np.full((3, 7, 5), value, dtype))
        equal(y, np.zeros(y.shape))
        assert not np.isnan(ours).any() and not np.isnan(theirs).any()


@pytest.mark.parametrize("eps, divisor", [(1e-5, np.sqrt(1e-5)), (0.0, None)])
@pytest.mark.parametrize("name", ["layer_norm", "instance_norm", "batch_norm"])
def test_jacobian_at_equal_numbers(name, eps, divisor):
    """Only centring remains; with eps = 0 nothing does."""
    x, n = np.full((1, 1, 4), 2.5), 4
    layer = trained if name == "batch_norm" else jn.LAYERS[name]
    expected = (np.eye(n) - 1 / n) / divisor if divisor else np.zeros((n, n))
    ours, theirs = compiled(lambda x: layer(x, eps=eps))(x)[1:]
    near(ours.reshape(n, n), expected, 1e-14)
    near(theirs.reshape(n, n), expected, 1e-14)


@pytest.mark.parametrize("eps, slope", [(1e-2, 1e2), (0.0, 0.0)])
def test_feature_that_does_not_vary(eps, slope):
    """σ ≤ eps counts as the constant eps: only centring remains."""
    x = np.array([[7.0, 1.0], [7.0, 2.0], [7.0, 4.0]])
    compute, expected = compiled(lambda x: jn.standardize(x, eps=eps)), slope * (np.eye(3) - 1 / 3)
    y, ours, theirs = compute(x)
    equal(y[:, 0], [0, 0, 0])
    near(ours[:, 0, :, 0], expected, 1e-13)
    near(ours, theirs, atol=1e-12)
    if eps:  # σ = 4.7e-4 is still below eps = 1e-2
        near(compute(x + np.eye(3, 2) * [1e-3, 0])[1][:, 0, :, 0], expected, 1e-13)


def test_deviation_of_just_eps():
    """max(σ, eps) is eps at the tie, which does not depend on x."""

    @at_once
    def compute(x, std):
        by_std = jn.jacobian(lambda std: jn.standardize(jnp.ones((1, 1)), jnp.zeros(1), std, eps=0.5))(std)
        return jn.jacobian(lambda x: jn.standardize(x, eps=1.0))(x).matrix(), by_std.matrix()

    found, by_std = compute(np.array([[-1.0], [1.0]]), np.array([0.5]))
    equal(found, [[0.5, -0.5], [-0.5, 0.5]])
    equal(by_std, [[0]])


def test_std_of_a_training_set_that_is_zero():
    x, mean, std = np.ones((2, 2)), np.zeros(2), np.array([0.0, 2.0])
    js = jn.jacobian(lambda *a: jn.standardize(*a, eps=0.5), (0, 1, 2))
    by_x, by_mean, by_std = at_once(lambda *args: jn.dense(js(*args)))(x, mean, std)
    equal(np.diagonal(by_x.reshape(4, 4)), [2, 0.5, 2, 0.5])
    equal(by_mean[0], [[-2, 0], [0, -0.5]])
    equal(by_std[0], [[0, 0], [0, -0.25]])


@pytest.mark.parametrize("row, slope", [([0.0, 0.0], 1e3), ([-0.0, 0.0], 1e3), ([3e-4, 4e-4], 1e3)])
def test_vectors_shorter_than_eps(row, slope):
    """The norm has derivative 0 at the zero vector (jax#21723, #39792), and eps is a constant: the Jacobian is I / eps."""
    x = np.array(row)
    y, ours, theirs = compiled(lambda x: jn.normalize(x, eps=1e-3))(x)
    near(y, 1e3 * x)
    near(ours, slope * np.eye(2), 1e-14)
    near(theirs, slope * np.eye(2), 1e-14)


def test_zero_vector_at_the_default_eps():
    @at_once
    def compute(x):
        y, j = jn.value_and_jacobian(jn.normalize)(x)
        none, of_none = jn.value_and_jacobian(lambda x: jn.normalize(x, eps=0.0))(x[0])
        return y, j.diagonal(), none, of_none.dense()

    for dtype in ("float32", "float64"):
        y, diagonal, none, of_none = compute(np.zeros((2, 3), dtype))
        equal(y, np.zeros((2, 3)))
        near(diagonal, np.full((2, 3), 1e12), 1e-7)
        equal(none, np.zeros(3))
        equal(of_none, np.zeros((3, 3)))


@pytest.mark.parametrize("name", OVER)
def test_nan_stays_in_its_group(name):
    layer, axes = OVER[name]
    x, layer = normal(3, 4, 5), at_once(layer)
    for bad in (NAN, INF):
        x[1, 2, 3] = bad
        wrong = np.isnan(layer(x))
        index = tuple(slice(None) if a in axes else i for a, i in enumerate((1, 2, 3)))
        expected = np.zeros(x.shape, bool)
        expected[index] = True
        equal(wrong, expected)


def test_second_derivatives_where_nothing_varies():
    x = np.full((2, 3), 4.0)

    def scalar(x):
        return sum(jnp.sum(jnp.sin(layer(x))) for layer in (jn.layer_norm, jn.standardize, trained))

    ours, theirs = jax.jit(lambda x: (jn.hessian(scalar)(x).dense(), jax.hessian(scalar)(x)))(x)
    near(ours, theirs, 1e-9, 1e-9 * np.abs(theirs).max())
