"""Weights of a direction and a length, and weights over their largest singular value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparing import near, normal
from .test_attention import at_once


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_weight_norm(axis):
    v = normal(4, 3, 2)
    g = normal(*(() if axis is None else (v.shape[axis],)), seed=1)
    w = at_once(functools.partial(jn.weight_norm, axis=axis), v, g)
    if axis is None:
        near(w, g * v / np.sqrt((v**2).sum()), 1e-14)
        return
    for own, parts, length in zip(np.moveaxis(w, axis, 0), np.moveaxis(v, axis, 0), g, strict=True):
        near(own, length * parts / np.linalg.norm(parts.ravel()), 1e-13)


def test_weight_norm_of_zero_and_of_what_would_overflow():
    """Also by JAX's own derivative."""
    v, g = np.array([[0.0, 0.0], [3e200, 4e200], [3e-200, 4e-200]]), np.array([2.0, 5.0, 5.0])
    w, ours, theirs = at_once(
        lambda v: (jn.weight_norm(v, g), jn.jacobian(jn.weight_norm)(v, g).dense(), jax.jacrev(jn.weight_norm)(v, g)), v
    )
    near(w, [[0, 0], [3, 4], [3, 4]], 1e-15)
    equal(ours[0], np.zeros((2, 3, 2)))
    assert np.isfinite(theirs).all()


def test_the_direction_of_a_number_is_its_sign():
    y, j = jn.value_and_jacobian(jn.weight_norm)(np.array([3.0, -0.2, 0.0]), np.array([2.0, 5.0, 7.0]))
    equal(y, [2, -5, 0])
    near(j.dense(), np.zeros((3, 3)), 0, 1e-14)


def test_length_and_direction_are_orthogonal():
    """A step along v changes nothing, and what is stored is as much as the weights."""
    v, g = normal(20, 30), normal(20, seed=1)
    j = jax.eval_shape(jn.jacobian(jn.weight_norm), v, g)
    assert j.nbytes <= 8 * (20 * 30 + 2 * 20)
    near(jax.jit(lambda v: jn.jacobian(jn.weight_norm)(v, g) @ v)(v), np.zeros((20, 30)), 0, 1e-14)


@pytest.mark.parametrize("axis, shape", [(0, (5, 3)), (1, (2, 4, 3)), (-1, (2, 2, 3))])
def test_spectral_norm_at_the_singular_vector(axis, shape):
    """After many steps σ is the largest singular value; its derivative is that of the true one, û v̂ᵀ, and by u it is 0."""
    w, u = normal(*shape), normal(shape[axis], seed=1)
    matrix = np.moveaxis(w, axis, 0).reshape(shape[axis], -1)
    left, values, right = np.linalg.svd(matrix)

    @jax.jit
    def run(w, u):
        u = jn.power_iteration(w, u, iterations=200, axis=axis)
        by_w, by_u = jn.jacobian(functools.partial(jn.spectral_norm, axis=axis), (0, 1))(w, u)
        return u, jn.spectral_norm(w, u, axis=axis), by_w.dense(), by_u.dense()

    found, y, by_w, by_u = run(w, u)
    near(np.abs(found @ left[:, 0]), 1, 1e-13)
    near(y, w / values[0], 1e-12)
    near(by_u, np.zeros(by_u.shape), 0, 1e-6)
    slope = np.moveaxis(np.outer(left[:, 0], right[0]).reshape(np.moveaxis(w, axis, 0).shape), 0, axis)
    size = w.size
    expected = (np.eye(size) - np.outer(y.ravel(), slope.ravel())) / values[0]
    near(by_w.reshape(size, size), expected, 1e-6, 1e-9)


def test_any_vector_is_a_lower_bound_and_its_length_does_not_count():
    w, u = normal(5, 3), normal(5, seed=1)
    unit = u / np.linalg.norm(u)
    y, scaled = at_once(lambda w, u: (jn.spectral_norm(w, u), jn.spectral_norm(w, 1e-200 * u)), w, u)
    near(y, w / np.linalg.norm(unit @ w), 1e-14)
    near(scaled, y, 1e-14)
    assert np.linalg.norm(unit @ w) < np.linalg.svd(w)[1][0]


def test_steps_of_the_power_iteration():
    """Each is Wᵀ and W, and no gradient goes through."""
    w, u = normal(4, 3), normal(4, seed=1)
    found = at_once(lambda w, u: [jn.power_iteration(w, u, iterations=n) for n in (0, 1, 2)], w, u)
    for vector in found:
        near(vector, u / np.linalg.norm(u), 1e-13)
        u = w @ (w.T @ u)

    def trained(w, u):
        return jn.spectral_norm(w, jn.power_iteration(w, u))

    def fixed(w):
        return jn.spectral_norm(w, found[1])

    def run(w, u):
        ours = jn.dense(jn.jacobian(trained, (0, 1), on_opaque="error")(w, u))
        return *ours, jn.jacobian(fixed)(w).dense(), jax.jacrev(trained)(w, u)

    ours, by_u, expected, theirs = at_once(run, w, normal(4, seed=1))
    near(ours, expected, 1e-12, 1e-14)
    near(theirs, expected, 1e-12, 1e-14)
    equal(by_u, np.zeros((4, 3, 4)))


@pytest.mark.parametrize(
    "w, u", [(np.zeros((3, 2)), np.ones(3)), (np.ones((3, 2)), np.zeros(3)), (np.ones((3, 0)), np.ones(3))]
)
def test_weights_of_zero_have_no_singular_vector(w, u):
    def run(w, u):
        return jn.spectral_norm(w, u), jn.dense(jn.jacobian(jn.spectral_norm, (0, 1))(w, u)), jn.power_iteration(w, u)

    y, js, vector = at_once(run, w, u)
    equal(y, np.zeros(w.shape))
    assert not any(np.asarray(j).any() for j in js)
    assert np.isfinite(vector).all()


def test_power_iteration_of_a_vector_that_does_not_fit():
    with pytest.raises(jn.ShapeError, match=r"power_iteration: argument 'u' has shape \(2,\), expected \(3,\)"):
        jn.power_iteration(np.ones((3, 2)), np.ones(2))
    assert jax.eval_shape(jn.power_iteration, np.ones((3, 2)), np.ones(3)).dtype == jnp.float64
