"""Comparing what `jaxnets` computes of a function with what JAX computes, and a function to compare it on."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets

X = np.array([0.3, -0.7, 1.1])


def curved(x):
    return jnp.stack([jnp.sin(x[0] * x[1]), x[1] ** 2 * x[2], jnp.exp(x).sum()])


def assert_same(ours, theirs, tolerance=1e-10):
    """Same tree, shapes, dtypes; values to a tolerance relative to the largest entry of each leaf."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0)))


def both(ours, theirs):
    """Both functions of the same arguments, compiled as one program."""
    return jax.jit(lambda *args: (ours(*args), theirs(*args)))


def check_that_examples_meet(f, x):
    """The Jacobian does not claim that examples are independent, and is that of JAX."""
    assert not jax.eval_shape(jaxnets.jacobian(f), x).batched
    assert_same(*both(d(f), jax.jacrev(f))(x), 1e-9)


def d(f):
    """The dense Jacobian of f by its first argument."""
    return lambda x: jaxnets.dense(jaxnets.jacobian(f)(x))


def gradient_norms(losses):
    """The norms of the gradients of single examples, as plain JAX has them; `losses(params, x)` has a loss for each."""

    def norms(params, x):
        found = jax.vmap(jax.grad(lambda params, x: losses(params, x[None])[0]), (None, 0))(params, x)
        return jnp.sqrt(sum(jnp.sum(g.reshape(len(x), -1) ** 2, 1) for g in jax.tree.leaves(found)))

    return norms
