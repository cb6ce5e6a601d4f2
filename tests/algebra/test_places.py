"""Terms that slices place: which boxes they fill, and the one array that is made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets
from jaxnets.algebra.boxes import by_box
from jaxnets.algebra.planning import planning
from tests.autodiff.comparing import assert_same, d

A = np.arange(1.0, 7.0).reshape(2, 3)
CASES = {  # function of a vector of 6, the number of boxes of its Jacobian
    "stacked entries": (lambda x: jnp.stack([x[5] * x[0], jnp.sin(x[2])]), 3),
    "blocks": (lambda x: jnp.concatenate([A @ x[:3], jnp.sin(x[3:])]), 2),
    "a gap in both": (lambda x: jnp.pad(x[1:3] ** 2, (2, 3)), 1),
    "an overlap": (lambda x: x[1:] * x[:-1], 2),
    "an overlap beside a block": (lambda x: jnp.concatenate([x[1:4] * x[:3], x[4:] ** 2]), 3),
    "no guillotine": (lambda x: jnp.stack([jnp.sum(x[:4]), *(x[2:] * x[:4])]), 9),
    "nothing": (lambda x: jnp.concatenate([jnp.zeros(2), x[:0]]), 0),
    "strides have no box": (lambda x: jnp.concatenate([x[::2], x[1::2]]), 2),
    "a middle axis": (lambda x: jnp.stack([x.reshape(2, 3), A * x.reshape(2, 3)], 1), 2),
    "one entry": (lambda x: x[4:5], 1),
    "parts of parts": (lambda x: jnp.concatenate([x[:1], jnp.concatenate([jnp.ones(1), jnp.pad(x[1:3], (2, 1))])]), 2),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_boxes(name):
    f, boxes = CASES[name]
    j, dense, expected = jax.jit(lambda x: ((j := jaxnets.jacobian(f)(x)), j.dense(), jax.jacrev(f)(x)))(
        np.linspace(0.3, 1.2, 6)
    )
    assert_same(dense, expected)
    assert len(by_box(j.terms)) == boxes


def test_entries_are_neither_padded_nor_added():
    """Two entries of each row are numbers that are there already: they are only written."""

    def f(x):
        return jnp.stack([x[i - 1] * x[i] for i in range(len(x))])

    lowered = jax.jit(d(f)).lower(np.ones(7))
    assert "stablehlo.pad" not in lowered.as_text()
    assert not lowered.cost_analysis().get("flops")


def test_parts_are_joined_where_a_jacobian_is_carried_out():
    """A weight that is used for every entry of a stack: one array, and no product of a part is as large as the whole."""
    x, w = jnp.asarray(A), jnp.asarray(A[:, :2] / 9)

    def f(w):
        states = [x]
        for _ in range(4):
            states.append(jnp.tanh(states[-1][:, :2] @ w) @ A)
        return jnp.stack(states[1:], 1)

    j = jaxnets.jacobian(f, order="reverse")(w)
    assert len(j.terms) > 1 and len(by_box(j.terms)) == 4
    with planning() as meter:
        j.carried_out()
    assert meter.largest == np.prod(j.shape) / 4
    assert len(j.carried_out().terms) == 1
    assert_same(*jax.jit(lambda j, w: (j.carried_out().dense(), jax.jacrev(f)(w)))(j, w))


def test_sixteen_bits_are_summed_before_they_are_rounded():
    def f(x):
        return jnp.stack([x[0] + x[1] * 3, x[1] * 2])

    dense = jax.jit(d(f))(np.ones(2, jnp.bfloat16))
    assert dense.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(dense, float), [[1, 3], [0, 2]])


def test_what_one_place_sends_back_is_multiplied_there_alone():
    """Terms in one place are added there: after two layer norms there is one, and no product is as large as the whole."""
    w = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)))

    def centred(x):
        return x - jnp.mean(x, -1, keepdims=True)

    def f(x):
        for _ in range(2):
            x = x + jnp.tanh(centred(x) @ w)
        return jnp.sum(x[:, 0] ** 2, -1)

    x = np.random.default_rng(1).normal(size=(2, 50, 4))
    j = jaxnets.jacobian(f)(x).reduced()
    assert len(j.terms) == 1 and sum(leaf.size for leaf in jax.tree.leaves(j)) == 2 * 4
    assert_same(j.dense(), jax.jacrev(f)(x))
