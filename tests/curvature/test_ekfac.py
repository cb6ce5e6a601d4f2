"""Corrected eigenvalues, determinants and damping of Kronecker factors, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from .nets import Draws

r = Draws(17)


def mlp(params, x):
    return jn.linear(jn.tanh(jn.linear(x, params["a"], params["c"])), params["b"])


def convolved(params, x):
    return jn.linear(jn.flatten(jn.tanh(jn.conv(x, params["k"]))), params["b"])


def sequence(params, x):
    return jn.mean(jn.tanh(jn.linear(x, params["w"])), axis=1)


CASES = {
    "mlp": (mlp, {"a": r(4, 2), "b": r(3, 4), "c": r(4)}, r(5, 2), jn.cross_entropy, np.arange(5) % 3),
    "convolution": (convolved, {"k": r(2, 1, 2, 2), "b": r(2, 8)}, r(4, 1, 3, 3), jn.squared_error, r(4, 2)),
    "sequence": (sequence, {"w": r(3, 2)}, r(4, 5, 2), jn.squared_error, r(4, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_closest_matrix_with_these_eigenvectors(name):
    f, params, x, loss, targets = CASES[name]

    def run(params):
        args = params, x, targets
        return jn.ggn(f, loss)(*args).matrix(), jn.kfac_factors(f, loss)(*args), jn.ekfac_factors(f, loss)(*args)

    whole, factors, corrected = jax.jit(run)(jax.device_put(params))
    start = 0
    for key in sorted(params):  # as JAX orders them
        stop = start + params[key].size
        block, found = np.asarray(whole)[start:stop, start:stop], corrected[key]
        basis = np.kron(found.first, found.last)
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12)
        np.testing.assert_allclose(found.eigenvalues.ravel(), np.diag(basis.T @ block @ basis), rtol=1e-9, atol=1e-12)
        products = factors[key].matrix()
        turned = basis.T @ products @ basis  # the basis is that of the factors
        np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-9 * abs(products).max())
        far = np.linalg.norm(block - found.matrix())
        assert far <= np.linalg.norm(block - products) + 1e-12 * np.linalg.norm(block)
        start = stop
    assert start == len(whole)


def test_products_solutions_and_determinants():
    f, params, x, loss, targets = CASES["mlp"]
    v = r(4, 2)

    def run(params, v):
        args = params, x, targets
        both = jn.ekfac_factors(f, loss)(*args)["a"], jn.kfac_factors(f, loss)(*args)["a"]
        return [(k.matrix(), k @ v, k.solve(v, 0.1), k.logdet(0.1)) for k in both], both[1].damped(0.1).matrix(), both[1]

    found, damped, factors = jax.jit(run)(jax.device_put(params), v)
    for dense, product, solution, determinant in found:
        shifted = dense + 0.1 * np.eye(8)
        np.testing.assert_allclose(product.ravel(), dense @ v.ravel(), rtol=1e-10)
        np.testing.assert_allclose(solution.ravel(), np.linalg.solve(shifted, v.ravel()), rtol=1e-10)
        np.testing.assert_allclose(determinant, np.linalg.slogdet(shifted)[1], rtol=1e-10)
    a, b = np.asarray(factors.first), np.asarray(factors.last)
    balance = np.sqrt(np.linalg.eigvalsh(a).mean() / np.linalg.eigvalsh(b).mean())
    expected = np.kron(a + balance * np.sqrt(0.1) * np.eye(4), b + np.sqrt(0.1) / balance * np.eye(2))
    np.testing.assert_allclose(damped, expected, rtol=1e-12)


def test_sampled_and_empirical_curvature():
    """Both have one row for an example, whose gradient the dense matrix is made of."""
    f, params, x, loss, targets = CASES["mlp"]

    def run(params):
        found = jn.ekfac_factors(f, loss, curvature="empirical", scale=0.5)(params, x, targets)["a"]
        sampled = {"samples": 2, "key": jax.random.key(0)}
        estimate = jn.ekfac_factors(f, loss, **sampled)(params, x, targets)["a"]
        gradients = jax.jacrev(lambda a: loss(f(params | {"a": a}, x), targets))(params["a"]).reshape(5, -1)
        return found, gradients, estimate, jn.ggn(f, loss, **sampled)(params, x, targets).diagonal()["a"]

    found, gradients, estimate, diagonal = jax.jit(run)(jax.device_put(params))
    basis = np.kron(found.first, found.last)
    expected = 0.5 * np.square(np.asarray(gradients) @ basis).sum(0)
    np.testing.assert_allclose(found.eigenvalues.ravel(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(estimate.eigenvalues.sum(), diagonal.sum(), rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_an_empty_batch_has_blocks_of_the_same_structure(name):
    f, params, x, loss, targets = CASES[name]
    params = jax.device_put(params)
    for make in (jn.kfac_factors, jn.ekfac_factors):
        full, empty = (jax.eval_shape(make(f, loss), params, x[:n], targets[:n]) for n in (len(x), 0))
        assert str(empty) == str(full) and jax.tree.structure(empty) == jax.tree.structure(full)
    if name == "mlp":
        for block in (make(f, loss)(params, x[:0], targets[:0])["a"] for make in (jn.kfac_factors, jn.ekfac_factors)):
            assert not np.any(block.matrix())
            np.testing.assert_allclose(block.solve(jnp.ones((4, 2)), 0.5), np.full((4, 2), 2.0), rtol=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="ekfac_factors: sharing must be one of"):
        jn.ekfac_factors(mlp, jn.cross_entropy, sharing="both")
    with pytest.raises(ValueError, match="ekfac_factors: curvature must be one of"):
        jn.ekfac_factors(mlp, jn.cross_entropy, curvature="none")
    f, params, x, loss, targets = CASES["mlp"]
    found = jn.ekfac_factors(f, loss)(jax.device_put(params), x, targets)["a"]
    assert repr(found) == "EigenKronecker([4] ⊗ [2] for [4, 2], 224 B of 512 B)"
    with pytest.raises(jn.ShapeError, match=r"solve: v has shape \(2, 4\), expected \(4, 2\)"):
        found.solve(jnp.ones((2, 4)))
    for block in (found, jn.kfac_factors(f, loss)(jax.device_put(params), x, targets)["a"]):
        with pytest.raises(ValueError, match="solve: damping must be at least 0, got -1.0"):
            block.solve(jnp.ones((4, 2)), -1.0)
        with pytest.raises(ValueError, match="logdet: damping must be at least 0, got -1.0"):
            block.logdet(-1.0)
    with pytest.raises(TypeError, match="ekfac_factors: no root of the loss's Hessian"):
        jn.ekfac_factors(mlp, lambda z, y: jnp.sum(z**4, -1))(jax.device_put(params), x, targets)
