"""`with_rules`: JAX's own transformations with the hand-written Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..sweeps import swept

TAIL = np.exp(-40.0)
X = np.array([40.0, 0.0])


def at_once(function, *args):
    """All that a function computes, as one program, in arrays of NumPy."""
    return jax.device_get(jax.jit(function)(*args))


def first(x):
    return jn.softmax(x)[0]


EXACT = np.array([1, -1]) * TAIL


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=0)


def test_autodiff_alone_loses_the_tail():
    plain, of_jit = at_once(lambda x: (jax.grad(first)(x), jax.grad(jax.jit(first))(x)), X)
    assert plain[0] == 0
    assert of_jit[0] == 0


@pytest.mark.parametrize("wrap", swept([
    lambda f: jax.grad(f),
    lambda f: lambda x: jax.jacfwd(f)(x),
    lambda f: jax.jacrev(f),
    lambda f: jax.jit(jax.grad(f)),
    lambda f: jax.grad(jax.jit(f)),
    lambda f: jax.grad(jax.checkpoint(f)),
    lambda f: lambda x: jax.vjp(f, x)[1](1.0)[0],
    lambda f: lambda x: jnp.stack([jax.jvp(f, (x,), (v,))[1] for v in jnp.eye(2)]),
    lambda f: lambda x: jax.linear_transpose(jax.linearize(f, x)[1], x)(1.0)[0],
    lambda f: lambda x: jax.vmap(jax.grad(f))(jnp.stack([x, x[::-1]]))[0],
    lambda f: lambda x: jax.grad(lambda xs: jax.vmap(f)(xs).sum())(jnp.stack([x, x[::-1]]))[0],
    lambda f: lambda x: jax.vmap(jax.vmap(jax.grad(f)))(x[None, None])[0, 0],
    lambda f: jax.grad(lambda x: jax.lax.cond(x[0] > 0, f, lambda x: 0.0, x)),
    lambda f: jax.grad(lambda x: jax.lax.scan(lambda c, _: (c + f(x), None), 0.0, None, length=1)[0]),
    lambda f: jn.grad(f),
], 3), ids=["grad", "jacfwd", "jacrev", "jit(grad)", "grad(jit)", "checkpoint", "vjp", "jvp", "linearize", "vmap(grad)",
        "grad(vmap)", "vmap(vmap)", "cond", "scan", "jaxnets"])  # fmt: skip
def test_every_transformation_keeps_the_tail(wrap):
    outside, inside = at_once(lambda x: (wrap(jn.with_rules(first))(x), jn.with_rules(wrap(first))(x)), X)
    close(outside, EXACT)
    close(inside, EXACT)


def test_a_jitted_function_is_traced_again():
    inner = jax.jit(first)
    assert jax.grad(inner)(X)[0] == 0
    close(jax.grad(jn.with_rules(lambda x: inner(x)))(X), EXACT)
    assert jax.grad(inner)(X)[0] == 0


def network(params, x, labels):
    x = jn.tanh(jn.linear(x, *params[0]))
    x = jn.softplus(jn.linear(x, *params[1]))
    return jn.mean(jn.cross_entropy(x, labels))


@pytest.fixture
def problem():
    normal = np.random.default_rng(0).normal
    params = [(normal(size=(5, 3)), np.ones(5)), (normal(size=(4, 5)), np.zeros(4))]
    return params, normal(size=(6, 3)), np.array([0, 1, 2, 3, 0, 1])


def test_same_values_and_gradients(problem):
    f = jn.with_rules(network)
    assert at_once(f, *problem) == at_once(network, *problem)
    gradient, expected = jax.jit(lambda *args: (jax.grad(f)(*args), jax.grad(network)(*args)))(*problem)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), gradient, expected)


def test_per_example_gradients(problem):
    params, x, labels = problem

    def each(f):
        gradient = jax.grad(lambda p, x, k: f(p, x[None], k[None]))
        return jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0)))(params, x, labels)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), each(jn.with_rules(network)), each(network))


def test_second_derivatives(problem):
    params, x, labels = problem
    f, g = (lambda x, f=f: f(params, x, labels) for f in (jn.with_rules(network), network))
    every = jax.hessian(f), jax.jacrev(jax.jacrev(f)), jax.jacfwd(jax.jacfwd(f)), jax.hessian(g)
    *found, expected = jax.jit(lambda x: [hessian(x) for hessian in every])(x)
    for ours in found:
        np.testing.assert_allclose(ours, expected, atol=1e-13)


def entropy(x):
    return jn.cross_entropy(jnp.stack([x, jnp.zeros(())]), 0)


@pytest.mark.parametrize("function, usual, x, exact", [
    (jn.sigmoid, jn.sigmoid, 40.0, TAIL / (1 + TAIL) ** 2),
    (jn.tanh, jnp.tanh, -20.0, 4 * TAIL / (1 + TAIL) ** 2),  # autodiff of our own forward keeps its digits here
    (entropy, entropy, 40.0, -TAIL / (1 + TAIL)),
], ids=["sigmoid", "tanh", "cross_entropy"])  # fmt: skip
def test_tails(function, usual, x, exact):
    ours, theirs = at_once(lambda x: (jax.grad(jn.with_rules(function))(x), jax.grad(usual)(x)), x)
    close(ours, exact)
    assert abs(theirs / exact - 1) > 1e-6


def test_keys_masks_and_integers():
    """Arguments without a Jacobian, and float16."""
    mask, x, p = np.array([True, True, False]), np.array([1.0, 2.0, np.inf]), 1 / (1 + np.e)

    def compute(x, half):
        masked = jax.grad(jn.with_rules(lambda x: jn.softmax(x, where=mask)[0]))(x)
        return masked, jax.grad(jn.with_rules(lambda x: jn.cross_entropy(x, jnp.int32(1))))(half)

    gradient, half = at_once(compute, x, np.ones(2, "float16"))
    np.testing.assert_allclose(gradient, [p * (1 - p), -p * (1 - p), 0], rtol=1e-14)
    assert half.dtype == jnp.float16
    np.testing.assert_array_equal(half, [0.5, -0.5])


def test_jaxnets_sees_the_layers_within():
    j = jn.jacobian(jn.with_rules(jn.softmax))(X)
    assert j.structure == "rank-1 update"
