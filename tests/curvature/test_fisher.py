"""The Fisher matrix against expectations over all targets, or against what is known of a distribution."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from .nets import Draws, compare

r = Draws(5)


def each_class(p):
    """Every target of one kind for all examples, and how probable it is for each of them."""
    return [(np.full(len(p), k), p[:, k]) for k in range(p.shape[1])]


def each_bit(p):
    """Independent bits with probabilities p [B, n]."""
    for bits in itertools.product([0.0, 1.0], repeat=p.shape[1]):
        yield np.tile(bits, (len(p), 1)), jnp.prod(jnp.where(np.array(bits) == 1, p, 1 - p), 1)


def identity(y):
    return y


@pytest.mark.parametrize(
    "loss, last, probabilities, targets",
    [
        (jn.cross_entropy, identity, jax.nn.softmax, each_class),
        (jn.nll, jn.log_softmax, jnp.exp, each_class),
        (jn.binary_cross_entropy, jn.sigmoid, identity, each_bit),
        (jn.binary_cross_entropy_with_logits, identity, jax.nn.sigmoid, each_bit),
    ],
    ids=lambda thing: getattr(thing, "name", ""),
)
def test_fisher_is_the_expectation_over_targets(loss, last, probabilities, targets):
    """Targets that are given lend only their shape."""
    x, params = r(3, 2), jax.device_put(r(3, 2))

    def f(params, x):
        return last(jn.linear(x, params))

    def table(params):
        expected = 0
        for target, p in targets(probabilities(f(params, x))):
            g = jax.jacrev(lambda w, target=target: loss(f(w, x), target).reshape(3, -1).sum(1))(params).reshape(3, -1)
            expected += jnp.einsum("b,bp,bq->pq", p, g, g)
        return {"fisher": (jn.fisher(f, loss, scale=0.5)(params, x, target).matrix(), 0.5 * expected)}

    compare(table, params)


def test_fisher_of_continuous_targets():
    """J' F J with the information of a normal distribution of variance 1/2 or a given one, and of a Poisson distribution."""
    x, params, variance = r(3, 2), jax.device_put(r(2, 2)), r.positive(3, 2)

    def f(params, x):
        return jn.tanh(jn.linear(x, params))

    def table(params):
        y, j = f(params, x), jax.jacrev(f)(params, x).reshape(6, 4)

        def pair(information, loss, *targets):
            return jn.fisher(f, loss)(params, x, *targets).matrix(), j.T * jnp.ravel(information) @ j

        return {
            "squared_error": pair(2 * jnp.ones(6), jn.squared_error, x),
            "gaussian_nll": pair(1 / variance, jn.gaussian_nll, x, variance),
            "poisson_nll": pair(jnp.exp(y), jn.poisson_nll, variance),
        }

    compare(table, params)
