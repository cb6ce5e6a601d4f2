"""Loops, branches, solvers and functions whose author gave the derivative: along which axes they mix nothing.

Every program takes five examples; what they share must be claimed, and no more.
"""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxnets

from .comparing import assert_same, check_that_examples_meet
from .programs import r

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")
X, W, SQUARE = r(5, 4), r(4, 4), r(5, 3, 3)


def spd(a):
    return a @ a.mT + 3 * jnp.eye(a.shape[-1])


def layers(x):
    return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, jnp.stack([W, 2 * W]))[0]


def times(x):
    """A recurrence along the second axis, whose steps are stacked."""
    return lax.scan(lambda c, u: (jnp.sin(c) + u, c * u), x[:, 0], x.T)[1].T


def two_carries(x):
    """What the first carry says reaches the second one a step later."""
    return lax.scan(lambda c, _: ((c[1], jnp.sin(c[0]) + c[1].mean(1, keepdims=True)), None), (x, x * x), None, length=3)[0]


@jax.custom_vjp
def clipped_gradient(x):
    return x


clipped_gradient.defvjp(lambda x: (x, None), lambda _, cotangent: (jnp.clip(cotangent, -0.5, 0.5),))


EXAMPLES_STAY_APART = {
    "scan over layers": (layers, X),
    "scan over time": (times, X),
    "two carries": (lambda x: two_carries(x)[1], X),
    "scan in a scan": (lambda x: lax.scan(lambda h, _: (layers(h), None), x, None, length=2)[0], X),
    "map over examples": (lambda x: lax.map(lambda v: jnp.cumsum(v) * v.sum(), x), X),
    "while": (lambda x: lax.while_loop(lambda s: s[1] < 3, lambda s: (jnp.sin(s[0]) @ W, s[1] + 1), (x, 0))[0], X),
    "fori": (lambda x: lax.fori_loop(0, 3, lambda i, h: h * jnp.roll(h, 1, 1), x), X),
    "cond": (lambda x: lax.cond(W[0, 0] > 0, lambda x: x @ W, jnp.sin, x), X),
    "cond whose branches differ": (lambda x: lax.cond(W[0, 0] > 0, lambda x: x[:, ::-1], lambda x: x * 1.5, x), X),
    "custom_vjp": (lambda x: clipped_gradient(jnp.sin(x)) * x, X),
    "cholesky": (lambda a: jnp.linalg.cholesky(spd(a)), SQUARE),
    "solve": (lambda a: jnp.linalg.solve(spd(a), a), SQUARE),
    "inverse": (lambda a: jnp.linalg.inv(spd(a)), SQUARE),
    "slogdet": (lambda a: jnp.linalg.slogdet(spd(a))[1], SQUARE),
    "eigh": (lambda a: jnp.linalg.eigh(spd(a))[0], SQUARE),
    "associative_scan": (lambda x: lax.associative_scan(jnp.multiply, x, axis=1), X),
}  # fmt: skip
EXAMPLES_MEET = {
    "in a carry": lambda x: lax.scan(lambda h, _: (h - h.mean(0), None), x, None, length=2)[0],
    "after two steps": lambda x: lax.scan(lambda c, _: ((c[1], c[1].sum(0) * c[0]), None), (x, x), None, length=3)[0][0],
    "in a branch": lambda x: lax.cond(W[0, 0] > 0, lambda x: x, lambda x: x - x.mean(0), x),
    "along the loop": lambda x: lax.scan(lambda c, v: (c + v, c * v), jnp.zeros(4), x)[1],
    "where axes change places": lambda x: lax.scan(lambda h, _: (h.T, None), x @ x.T, None, length=3)[0],
}


@pytest.mark.parametrize("name", EXAMPLES_STAY_APART)
def test_examples_that_stay_apart_are_claimed_to(name):
    f, x = EXAMPLES_STAY_APART[name]
    reference = jax.jacfwd if name == "while" else jax.jacrev

    def each(x):
        return jax.vmap(reference(lambda v: f(v[None])[0]))(x)

    assert_same(*jax.jit(lambda x: (jaxnets.jacobian(f)(x).per_example(), each(x)))(x), 1e-9)


@pytest.mark.parametrize("name", EXAMPLES_MEET)
def test_examples_that_meet_are_right(name):
    check_that_examples_meet(EXAMPLES_MEET[name], X)


def test_axes_that_the_elements_of_a_scan_have_are_shared_one_by_one():
    """Without a carry each step is by itself; what a constant has in common with each step stays shared, too."""
    scale = r(5, 4)

    def f(x, scale):
        return lax.scan(lambda _, v: (None, scale * jnp.sin(v)), None, x)[1]  # [t, b, n]

    x = r(3, 5, 4)
    by_x, by_scale = jaxnets.jacobian(f, (0, 1))(x, scale)
    assert by_x.shared_axes() == {0: 0, 1: 1, 2: 2}
    assert by_scale.shared_axes() == {1: 0, 2: 1}
    assert_same(
        *jax.jit(lambda *a: (jaxnets.dense(jaxnets.jacobian(f, (0, 1))(*a)), jax.jacrev(f, (0, 1))(*a)))(x, scale), 1e-9
    )


@pytest.mark.parametrize("total", [False, True])
def test_a_plan_through_a_backward_function_is_explained(total):
    def f(x):
        y = clipped_gradient(jnp.tanh(x)) @ W
        return y.sum() if total else y

    assert "reverse (chosen)" in str(jaxnets.explain_plan(f, X))


def test_a_backward_function_that_is_not_linear_gets_what_jax_gives_it():
    """Whole cotangents: per example, per output, and along several paths at once."""

    def f(x):
        h = clipped_gradient(jnp.tanh(x))
        return (3 * h) @ W + jnp.cumsum(h, 1)

    def each(x):
        return jax.vmap(jax.jacrev(lambda v: f(v[None])[0]))(x)

    assert_same(*jax.jit(lambda x: (jaxnets.jacobian(f)(x).per_example(), each(x)))(X), 1e-9)
    assert_same(*jax.jit(lambda x: (jaxnets.jacobian(f)(x).dense(), jax.jacrev(f)(x)))(X), 1e-9)
