"""The distribution of eigenvalues by Lanczos, against NumPy's eigenvalues, and matfree's estimators of the same matrices."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from matfree import stochtrace

import jaxnets as jn

from .nets import Draws

r = Draws(11)
KEY = jax.random.key(5)


def network(params, x):
    return jn.linear(jn.tanh(jn.linear(x, params["a"])), params["b"])


PARAMS = jax.device_put({"a": r(4, 3), "b": r(2, 4)})
X, Y = r(9, 3), np.arange(9) % 2


def loss(params):
    return jnp.mean(jn.cross_entropy(network(params, X), Y))


def products():
    """Products with three matrices by trees like the parameters or the outputs, a tree that they fit, and their names."""
    matrix = jn.ggn(network, jn.cross_entropy)(PARAMS, X, Y)
    hessian, kernel = jn.hessian_vector_product(loss), jn.ntk_vector_product(network)
    return {
        "ggn": (lambda v: matrix @ v, PARAMS),
        "hessian": (lambda v: hessian(PARAMS, v), PARAMS),
        "ntk": (lambda v: kernel(PARAMS, v, X), jnp.zeros((9, 2))),
    }


def dense(product, like):
    flat, unravel = ravel_pytree(like)
    return jax.vmap(lambda v: ravel_pytree(product(unravel(v)))[0])(jnp.eye(flat.size))


@pytest.mark.parametrize("name", ["ggn", "hessian", "ntk"])
def test_all_steps_find_all_that_the_start_touches(name):
    """Moments of the spectrum up to 2·steps − 1 are those that the random directions see: g(A) between start vectors."""

    def run():
        product, like = products()[name]
        size = ravel_pytree(like)[0].size
        found = jn.spectrum(product, like, key=KEY, steps=size, samples=3)
        starts = jax.vmap(lambda key: jax.random.normal(key, (size,)))(jax.random.split(KEY, 3))
        return dense(product, like), found.nodes, found.weights, starts

    matrix, nodes, weights, starts = jax.jit(run)()
    values, vectors = np.linalg.eigh(matrix)
    starts = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    shares = np.square(starts @ vectors)  # of every eigenvector in a start
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-12)
    for power in (1, 2, 5):
        expected = (shares * values**power).sum(1)
        np.testing.assert_allclose((weights * nodes**power).sum(1), expected, rtol=1e-9)
    np.testing.assert_allclose(nodes.max(), values.max(), rtol=1e-10)
    np.testing.assert_allclose(nodes.min(), values.min(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eigenvalues", [[0.0, 0.0, 0.0, 0.0, 0.0], [3.0] * 5, [2.0, 0.0, 0.0, 0.0, 0.0]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_matrix_of_few_directions(eigenvalues, dtype):
    """After one or two steps no direction is left, and roundings must make no eigenvalue."""
    d = np.array(eigenvalues, dtype)
    found = jn.spectrum(lambda v: d * v, d, key=KEY, steps=5, samples=4)
    atol = 1e-5 if dtype == "float32" else 1e-13
    touched = np.asarray(found.nodes)[np.asarray(found.weights) > 1e-6]
    assert all(np.abs(d - node).min() < atol for node in touched)
    assert found.nodes.min() > d.min() - atol and found.nodes.max() < d.max() + atol
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-6)


def test_density_is_a_mixture_of_normal_distributions():
    found = jn.Spectrum(jnp.array([[0.0, 2.0], [1.0, 1.0]]), jnp.array([[0.25, 0.75], [0.5, 0.5]]), 7)
    at = np.linspace(-3, 5, 4001)
    density = np.asarray(found.density(at, 0.3))

    def normal(mean):
        return np.exp(-((at - mean) ** 2) / (2 * 0.3**2)) / np.sqrt(2 * np.pi * 0.3**2)

    np.testing.assert_allclose(density, 0.125 * normal(0) + 0.375 * normal(2) + 0.5 * normal(1), rtol=1e-12, atol=1e-300)
    assert repr(found) == "Spectrum(7 eigenvalues, by 2 steps of Lanczos from 2 vectors)"


def test_what_does_not_fit_is_refused(monkeypatch):
    like = {"a": jnp.zeros(3)}
    with pytest.raises(jn.ShapeError, match=r"spectrum: product returns a tree of shapes .*2.* expected .*3.*'like'"):
        jn.spectrum(lambda v: {"a": v["a"][:2]}, like, key=KEY, steps=2)
    for dtype in ("float16", "int32"):
        with pytest.raises(jn.DTypeError, match=f"spectrum: like has dtype {dtype}, expected float32 or float64"):
            jn.spectrum(lambda v: v, jnp.zeros(3, dtype), key=KEY, steps=2)
    with pytest.raises(ValueError, match="spectrum: steps must be at most 3, .* like, got 4"):
        jn.spectrum(lambda v: v, like, key=KEY, steps=4)
    with pytest.raises(ValueError, match="spectrum: samples must be at least 1"):
        jn.spectrum(lambda v: v, like, key=KEY, steps=2, samples=0)
    with pytest.raises(TypeError, match="spectrum: key must be a key"):
        jn.spectrum(lambda v: v, like, key=0, steps=2)
    with pytest.raises(ValueError, match="density: width must be positive"):
        jn.Spectrum(jnp.ones((1, 1)), jnp.ones((1, 1)), 1).density([0.0], 0.0)
    monkeypatch.setitem(sys.modules, "matfree.decomp", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxnets\[estimators\]'"):
        jn.spectrum(lambda v: v, like, key=KEY, steps=2)


@pytest.mark.parametrize("name", ["ggn", "hessian", "ntk"])
def test_matfree_takes_these_products(name):
    """XTrace is exact with as many vectors as the matrix has rows, XDiag too; Hutchinson's diagonal within its spread."""

    def run():
        product, like = products()[name]
        flat, unravel = ravel_pytree(like)

        def multiply(v):
            return ravel_pytree(product(unravel(v)))[0]

        sampler = stochtrace.sampler_normal(flat, num=flat.size - 1)
        trace = stochtrace.estimator_leave_one_out(stochtrace.leave_one_out_xtrace(), sampler)
        signs = stochtrace.sampler_signs(flat, num=2000)
        diagonal = stochtrace.estimator_monte_carlo(stochtrace.monte_carlo_diagonal(), signs)
        return dense(product, like), trace(multiply, KEY), diagonal(multiply, KEY)

    matrix, trace, diagonal = jax.jit(run)()
    np.testing.assert_allclose(trace, np.trace(matrix), rtol=0.05)
    spread = np.sqrt(np.square(matrix).sum(1) - np.square(np.diag(matrix)))
    assert (np.abs(diagonal - np.diag(matrix)) < 5 * spread / np.sqrt(2000)).all()
