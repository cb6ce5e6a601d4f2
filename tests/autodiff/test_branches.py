"""Branches: the one that is known is followed, and of others the examples stay apart, also by weights that they use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets as jn

from .comparing import assert_same, gradient_norms
from .programs import r

W, V, X = r(3, 4), r(3, 4), r(5, 4)
BRANCHES = [
    lambda p, x: jnp.tanh(x @ p[0].T),
    lambda p, x: 2 * x @ p[1].T + p[0].sum(),
    lambda p, x: x[:, :3],
    lambda p, x: lax.scan(lambda c, _: (jnp.sin(c @ p[0][:, :3]), None), x[:, :3], None, length=2)[0],
]


def f(p, x, n):
    return lax.switch(n, BRANCHES, p, x)


def losses(p, x, n):
    return jnp.sum(jnp.sin(f(p, x, n)), 1)


@jax.jit
def both(n):
    norms = gradient_norms(lambda p, x: losses(p, x, n))((W, V), X)
    total = [d(lambda p: losses(p, X, n).sum())((W, V)) for d in (jn.grad, jax.grad)]
    jacobian = jn.jacobian(f, (0, 1), on_opaque="error")((W, V), X, n)
    return (
        (jn.dense(jacobian), jn.per_example_grad_norms(losses)((W, V), X, n), total[0]),
        (jax.jacrev(f, (0, 1))((W, V), X, n), norms, total[1]),
    )


@pytest.mark.parametrize("n", [-1, *range(len(BRANCHES)), 9])
def test_every_branch_has_its_jacobian(n):
    assert_same(*both(n))


def test_a_known_branch_is_followed():
    j = jn.jacobian(lambda x: f((W, V), x, 0))(X)
    assert "tanh" in j.formula
    assert_same(j.dense(), jax.jacrev(lambda x: f((W, V), x, 0))(X))


def test_examples_stay_apart_in_branches():
    by_input = jax.eval_shape(jn.jacobian(f, 1, on_opaque="error"), (W, V), X, jnp.int32(0))
    assert by_input.batched
    assert all(leaf.size <= X.size * W.shape[0] for leaf in jax.tree.leaves(by_input))


def test_a_branch_that_is_not_taken_spoils_nothing():
    """The derivative of the square root at 0 is infinite, and is not computed."""

    @jax.jit
    def g(w, x):
        return lax.cond(x.sum() > 0, lambda w: jnp.sqrt(x @ w), lambda w: x @ w, w)

    zero = jnp.zeros((2, 3))
    np.testing.assert_array_equal(jn.jacobian(g)(jnp.ones((3, 2)), zero).dense(), np.zeros((2, 2, 3, 2)))
