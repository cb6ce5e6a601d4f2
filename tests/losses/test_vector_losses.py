"""Losses of vectors: cosines and triplets against loops, where vectors are 0, parallel or alike, and at kinks."""

import jax
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparisons import INF, both, gradients, near


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.5, 1.5, np.pi - 1e-4])
@pytest.mark.parametrize("target", [1, -1])
def test_cosine_of_nearly_parallel_vectors(angle, target):
    """1 − cos and its derivative keep their digits."""
    x1, x2 = np.array([3.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])
    value, slope = both(jn.cosine_embedding, x1, x2, target, margin=-2.0)
    exact = 2 * np.sin(angle / 2) ** 2 if target == 1 else 2 + np.cos(angle)
    np.testing.assert_allclose(value, exact, rtol=1e-14)
    np.testing.assert_allclose(slope, [0, -target * np.sin(angle) / 3], rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("target, value", [(1, 1.0), (-1, 0.25)])
def test_cosine_with_a_zero_vector_optax946(target, value):
    zero, x = np.zeros(3), np.array([1.0, 2.0, 2.0])
    compute = jax.jit(jn.value_and_grad(lambda a, b: jn.cosine_embedding(a, b, target, margin=-0.25), (0, 1)))
    for a, b in ((zero, x), (x, zero), (zero, zero)):
        found, slopes = compute(a, b)
        equal(found, value)
        equal(slopes, np.zeros((2, 3)))


def test_cosine_embedding_at_its_kink_and_for_parallel_vectors():
    x = np.array([1.0, 0.0])
    equal(both(jn.cosine_embedding, x, np.array([0.0, 2.0]), -1)[1], [0, 0])
    for margin, slope in ((0.5, 0.8), (0.7, 0.0), (-0.7, 0.8)):
        near(both(jn.cosine_embedding, x, np.array([3.0, 4.0]), -1, margin=margin)[1], [0, slope])
    value, slope = both(jn.cosine_embedding, 3 * x, x, 1)
    equal(value, 0)
    equal(slope, [0, 0])
    compiled = jax.jit(jn.cosine_embedding)
    equal(compiled(1e200 * x, -1e-200 * x, 1), 2)
    assert np.isnan(compiled(x, x, 3))


def loop_norm(d, p):
    return np.max(np.abs(d)) if p == INF else sum(abs(a) ** p for a in d) ** (1 / p)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
def test_triplet_is_what_it_says(p, swap):
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 8, 4))
    found = np.asarray(jax.jit(lambda *v: jn.triplet(*v, p=p, swap=swap, margin=0.5))(a, b, c))
    for i in range(8):
        far = loop_norm(a[i] - c[i] + 1e-6, p)
        far = min(far, loop_norm(b[i] - c[i] + 1e-6, p)) if swap else far
        near(found[i], max(0, loop_norm(a[i] - b[i] + 1e-6, p) - far + 0.5), 1e-12)
    assert 0 < sum(found == 0) < 8


@pytest.mark.parametrize("p", [1, 1.5, 2, INF])
def test_triplet_of_equal_vectors(p):
    """The norm of 0 has gradient 0."""
    x = np.array([1.0, -2.0])
    value, slopes = gradients(lambda *v: jn.triplet(*v, p=p, eps=0.0), x, x, x)
    equal(value, 1)
    equal(slopes, np.zeros((3, 2)))


def test_triplet_at_its_kink_and_with_ties():
    a, b = np.array([0.0, 0.0]), np.array([1.0, 1.0])
    _, slopes = gradients(lambda *v: jn.triplet(*v, eps=0.0, margin=0.0), a, b, -b)
    equal(slopes, np.zeros((3, 2)))
    equal(both(jn.triplet, b, a, a + 9, p=INF, eps=0.0, margin=99.0)[1], [1.0, 1.0])  # 1/2 + 1/2 for each
    tie = np.array([2.0, 0.0]), np.array([0.0, 0.0]), np.array([1.0, 0.0])  # |a − n| = |p − n|
    equal(gradients(lambda *v: jn.triplet(*v, eps=0.0, swap=True), *tie)[1], [[0, 0], [-1, 0], [1, 0]])
