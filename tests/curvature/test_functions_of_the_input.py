"""Laplacians, divergences, norms and determinants of functions of the input against dense Jacobians and Hessians."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxnets as jn

from ..properties import traces_of_hessians
from ..sweeps import swept
from .nets import Draws, attention, compare, convnet, mlp

r = Draws(5)


@jax.custom_jvp
def straight_through(x):
    """Its derivative is that of x³, and so are further ones."""
    return jnp.round(x)


@straight_through.defjvp
def _(primals, tangents):
    return straight_through(primals[0]), 3 * primals[0] ** 2 * tangents[0]


HEADS = [0.7 * r(2, 2) for _ in range(5)]
KERNEL, SQUARE, HEAD = (r(2, 1, 2, 2), r(2)), r(3, 3), r(2, 8)
X, PLACES = r(2, 3), np.array([0, 2])
LAPLACIANS: dict[str, tuple[Callable, Any]] = {
    "entries": (lambda x: jn.tanh(x * jnp.sin(x)) + jn.sigmoid(x) ** 2, X),
    "activations": (lambda x: jn.silu(x) * jn.gelu(x) + jax.nn.softplus(x) - jn.relu(x) + jax.nn.relu(-x), X),
    "softmax": (lambda x: jn.softmax(jn.linear(x, SQUARE)), X),
    "layer_norm": (lambda x: jn.layer_norm(x) ** 3, X),
    "loss": (lambda x: jn.cross_entropy(jn.tanh(jn.linear(x, SQUARE)), PLACES), X),
    "attention": (lambda x: attention(HEADS, x), r(2, 2, 2)),
    "convnet": (lambda x: convnet([KERNEL, (HEAD, np.zeros(2))], x) ** 2, r(1, 1, 3, 3)),
    "products": (lambda x: jn.multiply(x, x) * jnp.sum(x**2, -1, keepdims=True) * x[:, :1], X),
    "coupled": (lambda x: jn.standardize(x) * x, r(3, 2)),
    "tree": (lambda t: {"sum": jn.tanh(t["a"] + t["b"][0]) * t["a"], "one": t["b"][0] ** 3}, {"a": X, "b": [r(2, 3)]}),
    "quadratic form of a tree": (lambda t: jn.tanh(jnp.sum(jn.linear(t[0], SQUARE) * t[1], -1)), (X, r(2, 3))),
    "constant": (lambda x: (jnp.ones(3), 2 * x, jnp.sum(x[0] ** 2)), X),
    "kinks": (lambda x: jnp.max(x, -1) ** 2 + jnp.prod(x, -1), X),
    "straight_through": (lambda x: jnp.sin(straight_through(x)), X),
    "scan": (lambda x: jax.lax.scan(lambda c, a: (jnp.sin(c * a + 1), c), 1.0, x)[1], r(4)),
    "branches": (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), X),
}


SHORT = ["entries", "activations", "softmax", "loss", "convnet", "coupled", "constant", "straight_through"]


@pytest.mark.parametrize("name", swept(LAPLACIANS, SHORT))
def test_laplacian_is_the_trace_of_the_hessian(name):
    f, x = LAPLACIANS[name]

    def table(x):
        theta, unravel = ravel_pytree(x)
        traces = traces_of_hessians(lambda theta: jax.tree.leaves(f(unravel(theta))), theta)
        return {"laplacian": (tuple(jax.tree.leaves(jn.laplacian(f)(x))), tuple(traces))}

    compare(table, jax.device_put(x))


def test_laplacian_keeps_its_digits_where_a_sigmoid_saturates():
    x = np.array([[20.0]])
    exact = -np.tanh(x / 2) / (2 + 2 * np.cosh(x))  # s (1 − s) (1 − 2s); in float32 1 − s would be 0
    found = jn.laplacian(lambda x: jn.sum(jn.sigmoid(x), axis=1))(jnp.asarray(x, "float32"))
    np.testing.assert_allclose(found, exact[:, 0], rtol=1e-5)


def test_laplacian_by_an_argument_among_others():
    compare(lambda x: {"laplacian": (jn.laplacian(lambda x, y: x**2 * y)(x, X), 2 * X)}, jnp.asarray(X))


def test_divergence_is_the_trace_of_the_jacobian():
    def f(x):
        return jnp.sin(x) * jnp.sum(x, -1, keepdims=True)

    def mixed(x):
        return jn.tanh(x @ SQUARE)[:, ::-1] * X

    def table(x):
        def dense(f):
            return jnp.einsum("bibi->b", jax.jacrev(f)(x))

        one = jnp.trace(jax.jacrev(f)(x[0]))
        found = {f"{g.__name__}": (jn.divergence(g)(x), dense(g)) for g in (f, mixed)}
        by_columns = jnp.einsum("bibi->b", jax.jacrev(jn.standardize)(SQUARE))
        return found | {
            "of one": (jn.divergence(f)(x[0]), one),
            "coupled": (jn.divergence(jn.standardize)(SQUARE), by_columns),
        }

    compare(table, jnp.asarray(X))


def per_example_blocks(f, x):
    """The blocks of the dense Jacobian of each example, square or not."""
    j = jax.jacrev(f)(x).reshape(len(x), -1, len(x), x[0].size)
    return jnp.einsum("bibj->bij", j)


def test_norms_of_jacobians():
    rng = np.random.default_rng(0)  # by which the largest two singular values are well apart
    params = [(rng.normal(size=(o, i)), rng.normal(size=o)) for i, o in ((3, 4), (4, 2))]
    x = rng.normal(size=(4, 3))

    def f(x):
        return mlp(params, x)

    def table(x):
        j, singular = per_example_blocks(f, x), functools.partial(jnp.linalg.norm, ord=2, axis=(-2, -1))
        whole = jax.jacrev(jn.standardize)(x).reshape(12, 12)
        (w, _), (last, _) = params
        d = jnp.abs(1 - jnp.tanh(jn.linear(x, *params[0])) ** 2)
        norms, largest = jn.jacobian_norm(f, layers=True)(x), jn.jacobian_norm(f, "spectral", layers=True, iterations=500)(x)
        ones = np.ones(4)
        both = jn.jacobian_norm(lambda x: (f(x), 0 * x + 1.0))(x)
        return {
            "frobenius": (jn.jacobian_norm(f)(x), jnp.linalg.norm(j, axis=(1, 2))),
            "spectral": (jn.jacobian_norm(f, "spectral", iterations=500)(x), singular(j)),
            "coupled": (jn.jacobian_norm(jn.standardize)(x), jnp.linalg.norm(whole)),
            "coupled spectral": (jn.jacobian_norm(jn.standardize, "spectral", iterations=2000)(x), singular(whole)),
            "layers": (
                tuple(norms[name] for name in ("linear", "tanh", "linear 2")),
                (ones * np.linalg.norm(w), jnp.linalg.norm(d, axis=1), ones * np.linalg.norm(last)),
            ),
            "largest of layers": (
                tuple(largest[name] for name in ("linear", "tanh", "linear 2")),
                (ones * np.linalg.norm(w, 2), jnp.max(d, 1), ones * np.linalg.norm(last, 2)),
            ),
            "by entries": (jn.jacobian_norm(f, keep=-1)(x), jnp.linalg.norm(j, axis=1)),
            "by coupled examples": (
                jn.jacobian_norm(jn.standardize, keep=0)(x),
                jnp.linalg.norm(whole.reshape(12, 4, 3), axis=(0, 2)),
            ),
            "by nothing": (jn.jacobian_norm(f, keep=())(x), jnp.linalg.norm(j, axis=(1, 2))),
            "of a tree": (both, (jnp.linalg.norm(j, axis=(1, 2)), np.zeros(4))),
        }

    compare(table, jnp.asarray(x))


V, U, SIX, Y = 0.5 * r(6), 0.5 * r(6), r(6, 6), r(3, 6)


def coupling(x):
    """Half of the entries scaled and shifted by functions of the others, as in RealNVP."""
    a, b = x[:, :3], x[:, 3:]
    return jnp.concatenate([a, b * jnp.exp(jnp.tanh(a @ SQUARE)) + a], 1)


def planar(x):
    return x + U * jnp.tanh(x @ V + 0.3)[:, None]


DETERMINANTS: dict[str, tuple[Callable, Any]] = {
    "entries": (lambda x: jn.tanh(x) * 3, Y),
    "coupling": (coupling, Y),
    "planar": (planar, Y),
    "planar of layers": (lambda x: jn.add(x, jn.linear(jn.tanh(jn.linear(x, V[None])), U[:, None])), Y),
    "rank 2": (lambda x: 3 * x + U * jnp.tanh(x @ V + 0.3)[:, None] + V * jnp.sin(x @ U)[:, None], Y),
    "hidden": (lambda x: x + jnp.tanh(x @ SIX[:, :2]) @ SIX[2:4], Y),
    "linear": (lambda x: jn.linear(x, SIX, U), Y),
    "flow": (lambda x: jnp.tanh(planar(coupling(jn.linear(coupling(x)[:, ::-1], 0.3 * SIX, U)))), 0.3 * Y),
    "permutation": (lambda x: x[:, np.array([2, 0, 1, 5, 4, 3])], Y),
    "reshape": (lambda x: jn.linear(x.reshape(3, 2, 3), SQUARE), Y),
    "softmax": (lambda x: jn.softmax(x) + x, Y),
    "rows": (lambda x: jn.linear(x, SQUARE), r(2, 2, 3)),
    "zero on the diagonal": (lambda x: jnp.maximum(x, 0) + U * (x @ V)[:, None], np.abs(Y) * np.array([-1, 1, 1, 1, 1, 1])),
}
COUPLED: dict[str, tuple[Callable, Any]] = {
    "coupled": (lambda x: jn.standardize(x) + x, Y),
    "mixed": (lambda x: SQUARE @ x, Y),
    "both": (lambda x: SQUARE @ jnp.tanh(x), Y),
    "transposed": (lambda x: jnp.sin(x.reshape(6, 3)), Y),
    "vector": (lambda x: SIX @ jnp.tanh(x), U),
}


@pytest.mark.parametrize("name", swept([*DETERMINANTS, *COUPLED], 2))
def test_logdet_is_that_of_the_dense_jacobian(name):
    f, x = (DETERMINANTS | COUPLED)[name]

    def table(x):
        whole = per_example_blocks(f, x) if name in DETERMINANTS else jax.jacrev(f)(x).reshape(x.size, x.size)
        return {"logdet": (jn.logdet(f)(x), jnp.linalg.slogdet(whole)[1])}

    compare(table, jnp.asarray(x))


def test_logdet_of_singular_functions():
    for f in (lambda x: 0 * x + 1.0, lambda x: jnp.ones_like(x), jn.relu):
        assert np.all(np.asarray(jax.jit(jn.logdet(f))(-np.abs(Y))) == -np.inf)
