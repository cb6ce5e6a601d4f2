"""Curvature from random combinations of rows: right on average, and as cheap as a backward pass for each sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import flops_and_bytes
from .nets import Draws, flat

r = Draws(7)
KEY = jax.random.key(3)


def mlp(params, x):
    return jn.linear(jn.tanh(jn.linear(x, params["a"])), params["b"])


def summing(params, x):
    """A sequence in which every place sends to all later ones."""
    return jn.linear(jn.tanh(jnp.cumsum(jn.linear(x, params["a"]), 1)), params["b"])


def weights(classes=3):
    return jax.device_put({"a": r(4, 2), "b": r(classes, 4)})


CASES = {
    "classes": (mlp, jn.cross_entropy, r(5, 2), np.arange(5) % 3),
    "classes of a sequence": (summing, jn.cross_entropy, r(2, 3, 2), np.arange(6).reshape(2, 3) % 3),
    "bits": (mlp, jn.binary_cross_entropy_with_logits, r(5, 2), (r(5, 3) > 0) * 1.0),
    "log-probabilities": (lambda p, x: jn.log_softmax(mlp(p, x)), jn.nll, r(5, 2), np.arange(5) % 3),
    "numbers": (mlp, jn.squared_error, r(5, 2), r(5, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_many_is_the_exact_one(name):
    """With 20,000 samples the largest of a few hundred deviations from the exact number is below 5 standard errors."""
    f, loss, x, targets = CASES[name]
    made, count, params = jn.ggn if name != "log-probabilities" else jn.fisher, 20_000, weights()

    def run(params):
        exact = made(f, loss)(params, x, targets).matrix()
        one = jax.vmap(lambda key: made(f, loss, samples=1, key=key)(params, x, targets).matrix())
        found = one(jax.random.split(KEY, count))
        return exact, found.mean(0), found.std(0), made(f, loss, samples=count, key=KEY)(params, x, targets).matrix()

    exact, mean, spread, at_once = jax.jit(run)(params)
    bound = 5 * spread / np.sqrt(count) + 1e-12 * np.abs(exact).max()
    assert (spread > 1e-3 * np.abs(exact).max()).any()  # it is an estimate
    for found in (mean, at_once):
        assert (np.abs(found - exact) <= bound).all()


def test_kronecker_factors_are_right_on_average():
    """Those of a network without a sequence, whose rows are independent."""
    f, loss, x, targets = CASES["classes"]
    params = weights()

    def factors(**sampling):
        return jn.kfac_factors(f, loss, curvature="fisher", **sampling)(params, x, targets)

    exact, found = jax.jit(lambda: (factors(), factors(samples=20_000, key=KEY)))()
    for name in params:
        np.testing.assert_allclose(found[name].first, exact[name].first, rtol=0.05, atol=0.02)
        np.testing.assert_allclose(found[name].last, exact[name].last, rtol=1e-12)


def test_every_quantity_is_that_of_one_sampled_matrix():
    f, loss, x, targets = CASES["classes of a sequence"]
    params = weights()
    sampling = {"samples": 2, "key": KEY}

    def run(params):
        matrix = jn.ggn(f, loss, scale=0.5, **sampling)(params, x, targets)
        diagonal = jn.ggn_diagonal(f, loss, scale=0.5, **sampling)(params, x, targets)
        return matrix.matrix(), flat(matrix @ params), flat(diagonal), flat(matrix.solve(params, 0.1)), flat(params)

    dense, product, diagonal, solved, v = jax.jit(run)(params)
    assert np.linalg.matrix_rank(dense) == 4  # two examples, two samples
    np.testing.assert_allclose(product, dense @ v, rtol=1e-10)
    np.testing.assert_allclose(diagonal, np.diag(dense), rtol=1e-10)
    np.testing.assert_allclose(dense @ solved + 0.1 * solved, v, rtol=1e-9, atol=1e-12)


def test_outputs_of_a_tree_have_signs_of_their_own():
    """Equal outputs with equal signs would count their products, which the exact matrix lacks."""
    x, params = r(20, 2), jax.device_put(r(1, 2))
    losses, targets = (jn.squared_error,) * 2, (np.zeros((20, 1)),) * 2

    def both(params, x):
        y = jn.linear(x, params)
        return y, y

    found = jn.ggn(both, losses, samples=1, key=KEY)(params, x, targets)
    first, second = (np.asarray(row.dense()) for (row,) in found.left.blocks)
    np.testing.assert_array_equal(abs(first), abs(second))
    assert (first == second).any() and (first == -second).any()


def classifier(params, x):
    return jn.linear(jn.relu(jn.linear(jn.relu(jn.linear(x, params[0])), params[1])), params[2])


def shapes(examples, classes, width=64):
    sizes = (width, width), (width, width), (classes, width)
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in sizes]
    return params, jax.ShapeDtypeStruct((examples, width), jnp.float32), jax.ShapeDtypeStruct((examples,), jnp.int32)


@pytest.mark.optimized
def test_one_sample_costs_a_backward_pass():
    args = shapes(16, 1000)
    gradient = flops_and_bytes(jax.grad(lambda params, x, y: jn.cross_entropy(classifier(params, x), y).sum()), *args)
    found = flops_and_bytes(jn.ggn_diagonal(classifier, jn.cross_entropy, samples=1, key=KEY), *args)
    assert found[0] <= 1.25 * gradient[0] and found[1] <= 4 * gradient[1]


@pytest.mark.optimized
def test_no_matrix_of_classes_by_classes():
    """The exact diagonal of 1,000 classes, and a sampled one of 50,000."""
    exact = flops_and_bytes(jn.ggn_diagonal(classifier, jn.cross_entropy), *shapes(64, 1000))
    assert exact[1] < 4 * 64 * 1000 * 1000
    sampled = flops_and_bytes(jn.ggn_diagonal(classifier, jn.cross_entropy, samples=1, key=KEY), *shapes(64, 50_000))
    assert sampled[1] < 8 * 4 * 64 * 50_000


def fourth_powers(z, y):
    return jnp.sum(z**4, -1)


def test_what_does_not_fit_is_refused():
    params, x, y = weights(), r(5, 2), np.zeros(5, int)
    for made in (jn.ggn, jn.fisher, jn.ggn_diagonal, jn.kfac_factors):
        with pytest.raises(TypeError, match=rf"{made.__name__}: key must be a key of jax.random, got None"):
            made(mlp, jn.cross_entropy, samples=1)
        with pytest.raises(ValueError, match=rf"{made.__name__}: samples .*1"):
            made(mlp, jn.cross_entropy, samples=0, key=KEY)
        with pytest.raises(ValueError, match=rf"{made.__name__}: key is for samples"):
            made(mlp, jn.cross_entropy, key=KEY)
    for run in (
        jn.fisher(mlp, jn.cross_entropy, kind="empirical", samples=1, key=KEY),
        jn.kfac_factors(mlp, jn.cross_entropy, curvature="empirical", samples=1, key=KEY),
    ):
        with pytest.raises(ValueError, match="'empirical' has one"):
            run(params, x, y)
    with pytest.raises(TypeError, match="ggn: no root of the Hessian of 'fourth_powers' is known; samples need one"):
        jn.ggn(mlp, fourth_powers, samples=1, key=KEY)(params, x, y)
    with pytest.raises(jn.JacobianTooLarge, match="fewer samples need less"):
        jn.ggn(mlp, jn.cross_entropy, samples=10**9, key=KEY)(params, x, y)
