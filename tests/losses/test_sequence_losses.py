"""CTC against a sum over all paths, a step at a time, and against the gradient of optax."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxnets as jn

from ..computing import equal, numbers
from .comparisons import INF, near


def all_paths(x, targets, blank):
    """The loss, and how probable every label is at every step, from every path there is."""
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    total, gamma = 0.0, np.zeros(x.shape)
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        read = [label for label, _ in itertools.groupby(path) if label != blank]
        if read == list(targets):
            weight = np.prod([row[label] for row, label in zip(p, path, strict=True)])
            total += weight
            for t, label in enumerate(path):
                gamma[t, label] += weight
    return (-np.log(total), p - gamma / total) if total else (INF, np.zeros(x.shape))


VALUE_AND_GRADIENTS = jax.jit(
    lambda x, targets, steps, count, blank: (
        jn.ctc(x, targets, input_lengths=steps, target_lengths=count, blank=blank),
        jn.jacobian(lambda x: jn.ctc(x, targets, input_lengths=steps, target_lengths=count, blank=blank))(x).per_example(),
    ),
    static_argnums=4,
)


@given(st.data())
def test_every_path(data):
    """Batches of short sequences, with labels that repeat, and with lengths from none to all, too short ones among them."""
    blank, seed = data.draw(st.sampled_from([0, 2, -1])), data.draw(st.integers(0, 99))
    steps, count = (data.draw(st.lists(st.integers(0, n), min_size=3, max_size=3)) for n in (5, 3))
    labels = [label for label in range(3) if label != blank % 3]
    targets = np.reshape(data.draw(st.lists(st.sampled_from(labels), min_size=9, max_size=9)), (3, 3))
    x = 2 * numbers((3, 5, 3), seed)
    y, gradients = VALUE_AND_GRADIENTS(x, targets, np.array(steps), np.array(count), blank)
    for b, (t, n) in enumerate(zip(steps, count, strict=True)):
        value, gradient = all_paths(x[b, :t], targets[b, :n], blank % 3)
        np.testing.assert_allclose(y[b], value, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gradients[b, :t], gradient, atol=1e-13)
        equal(gradients[b, t:], np.zeros((5 - t, 3)))


def test_gradient_is_that_of_optax():
    """Of long sequences; for us some labels behind the lengths are no classes, and the logits there are NaN."""
    rng = np.random.default_rng(0)
    x, targets = 3 * rng.normal(size=(4, 30, 6)), rng.integers(1, 6, size=(4, 8))
    steps, count = np.array([30, 25, 28, 17]), np.array([8, 3, 0, 8])
    unused = [np.arange(n) >= lengths[:, None] for n, lengths in ((30, steps), (8, count))]

    def theirs(x):
        return jnp.sum(optax.ctc_loss(x, unused[0] * 1.0, targets, unused[1] * 1.0, log_epsilon=-1e30))

    def ours(x):
        ends = np.where(unused[1], -7, targets)
        return jnp.sum(jn.ctc(x, ends, input_lengths=steps, target_lengths=count))

    masked = np.where(unused[0][..., None], np.nan, x)

    @jax.jit
    def run(x, masked):
        return jn.value_and_grad(ours)(masked), jax.value_and_grad(theirs)(x)

    (value, slope), (expected, right) = run(x, masked)
    near(value, expected, 1e-12)
    np.testing.assert_allclose(slope, right, atol=1e-12)


def test_a_nearly_certain_path_keeps_its_digits():
    """The gradient is p − γ with both nearly 1, whose difference has no digit."""
    value, slope = jax.jit(jn.value_and_grad(lambda x: jn.ctc(x, np.array([1, 1]))))(np.array([[0.0, 40], [42, 0], [0, 41]]))
    near(value, np.exp(-40.0) + np.exp(-42.0) + np.exp(-41.0), 1e-12)
    near(slope, np.array([[1, -1], [-1, 1], [1, -1]]) * np.exp([[-40.0], [-42], [-41]]), 1e-12)


def test_no_possible_path():
    """Too few steps, or a label that cannot be: ∞ with gradient 0, or 0 with `zero_infinity`."""
    x = np.zeros((3, 2, 3))
    x[1, :, 1] = -INF
    targets = np.array([[1, 1], [1, 2], [1, 2]])
    for zero_infinity, first in ((False, INF), (True, 0)):

        def loss(x, zero_infinity=zero_infinity):
            return jn.ctc(x, targets, zero_infinity=zero_infinity)

        y, ours, plain = jax.jit(
            lambda x, f=loss: (f(x), jn.grad(lambda x: jnp.sum(f(x)))(x), jax.grad(lambda x: jnp.sum(f(x)))(x))
        )(x)
        equal(y[:2], [first, first])
        near(y[2], np.log(9))
        equal(ours[:2], np.zeros((2, 2, 3)))
        near(ours[2], [[1 / 3, -2 / 3, 1 / 3], [1 / 3, 1 / 3, -2 / 3]])
        assert np.isfinite(plain[2]).all()


def test_a_label_that_cannot_be_elsewhere_leaves_the_others_alone():
    x = numbers((4, 3))
    x[2, 1] = -INF
    found = VALUE_AND_GRADIENTS(x[None], np.array([[1]]), np.array([4]), np.array([1]), 0)
    value, gradient = all_paths(x, [1], 0)
    near(found[0], [value])
    np.testing.assert_allclose(found[1][0], gradient, atol=1e-14)


def test_out_of_range_inside_jit():
    """NaN with gradient 0, for that example alone."""
    x, good = np.zeros((2, 3, 3)), np.array([[1, 2], [1, 2]])
    for targets, steps, count in (
        (np.array([[0, 1], [1, 2]]), [3, 3], [2, 2]), (np.array([[3, 1], [1, 2]]), [3, 3], [2, 2]),
        (np.array([[-1, 1], [1, 2]]), [3, 3], [2, 2]), (good, [4, 3], [2, 2]), (good, [3, 3], [3, 2]),
        (good, [-1, 3], [2, 2]),
    ):  # fmt: skip
        y, slope = VALUE_AND_GRADIENTS(x, targets, np.array(steps), np.array(count), 0)
        assert np.isnan(y[0]) and np.isfinite(y[1])
        equal(slope[0], np.zeros((3, 3)))
        assert np.abs(slope[1]).max() > 0.1


def test_log_probabilities_are_logits():
    x, targets = numbers((2, 5, 4)), np.array([[1, 2], [3, 3]])
    near(*jax.jit(lambda x: (jn.ctc(x, targets), jn.ctc(jn.log_softmax(x), targets)))(x))


@pytest.mark.parametrize("dtype, tolerance", [("float32", 4e-6), ("bfloat16", 1e-2)])
def test_gradient_of_a_long_sequence_in_low_precision(dtype, tolerance):
    """Of 300 steps, whose logarithms of probabilities add up to −440: that they are large costs no digits."""
    x, targets = numbers((300, 5)).astype(dtype), np.arange(1, 61) % 4 + 1
    gradient = jax.jit(jn.grad(lambda x: jn.ctc(x, targets)))
    found, exact = gradient(x), gradient(x.astype("float64"))
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, "float64"), exact, atol=tolerance)


def test_costs_of_the_gradient():
    """It takes about the FLOPs and the memory of the gradient of optax's loss; XLA counts the body of every loop once."""
    x, targets = jnp.zeros((4, 50, 20), "float32"), np.tile(np.arange(1, 11), (4, 1))

    def theirs(x):
        return jnp.sum(optax.ctc_loss(x, jnp.zeros((4, 50), "float32"), targets, jnp.zeros((4, 10), "float32")))

    counted = []
    for function in (jn.grad(lambda x: jnp.sum(jn.ctc(x, targets))), jax.grad(theirs)):
        program = jax.jit(function).lower(x).compile()
        counted.append((program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes))
    (flops, room), (most_flops, most_room) = counted
    assert flops <= 1.1 * most_flops
    assert room <= 1.5 * most_room
