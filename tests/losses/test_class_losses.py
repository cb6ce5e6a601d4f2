"""Losses of classes against loops: labels and probabilities, weights, smoothing, what is ignored or out of range.

An issue number is that of a library that had, or has, the fault.
"""

import functools
import itertools

import jax
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal, largest
from .comparisons import INF, NAN, both, gradients, near


def loop_cross_entropy(x, targets, weight=None, ignore_index=None, label_smoothing=0.0):
    """One example after the other, one class after the other."""
    x = np.asarray(x, np.longdouble)
    losses, gradients = np.zeros(len(x)), np.zeros(x.shape)
    for b, row in enumerate(x):
        if np.ndim(targets) == 1 and targets[b] == ignore_index:
            continue
        p = np.exp(row - row.max())
        p /= p.sum()
        for k in range(len(row)):
            t = float(targets[b] == k) if np.ndim(targets) == 1 else targets[b, k]
            t = (t * (1 - label_smoothing) + label_smoothing / len(row)) * (1 if weight is None else weight[k])
            losses[b] -= t * np.log(p[k])
            gradients[b] -= t * ((np.arange(len(row)) == k) - p).astype(float)
    return losses, gradients


SMOOTHINGS = [0.0, 0.1, 1.0]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, -100, 1], ids=["all", "ignore -100", "ignore 1"])
def test_smoothing_ignored_labels_and_class_weights_torch73205_torch69339_torch72056(smoothing, weighted, ignored):
    x, labels = np.random.default_rng(1).normal(size=(6, 3)), np.array([0, 1, 2, 1, 0, 2])
    if ignored == -100:
        labels[[0, 3]] = -100
    weight = np.array([0.5, 2.0, 0.0]) if weighted else None
    found, gradient = map(np.asarray, cross_entropies_and_slopes(x, labels, weight, ignored)[smoothing])
    losses, slopes = loop_cross_entropy(x, labels, weight, ignored, smoothing)
    near(found, losses)
    near(gradient, slopes)
    if ignored is not None:
        equal(found[labels == ignored], 0)
        equal(gradient[labels == ignored], 0)


@functools.partial(jax.jit, static_argnames="ignored")
def cross_entropies_and_slopes(x, labels, weight, ignored):
    """For every smoothing, in one program."""

    def both_of(smoothing):
        def loss(x):
            return jn.cross_entropy(x, labels, weight, ignore_index=ignored, label_smoothing=smoothing)

        return loss(x), jn.grad(lambda x: jn.reduce(loss(x), "sum"))(x)

    return {smoothing: both_of(smoothing) for smoothing in SMOOTHINGS}


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_class_weights_with_probabilities(smoothing):
    rng = np.random.default_rng(2)
    x, t, weight = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(3), 4), np.array([0.5, 2.0, 1.5])
    losses, slopes = loop_cross_entropy(x, t, weight, label_smoothing=smoothing)
    labels = t.argmax(-1)  # a label is a probability of 1

    def loss(x, t):
        return jn.cross_entropy(x, t, weight, label_smoothing=smoothing)

    @jax.jit
    def compute(x, t):
        return loss(x, t), jn.grad(lambda x: loss(x, t).sum())(x), loss(x, labels), loss(x, np.eye(3)[labels])

    found, gradient, by_label, by_hot = compute(x, t)
    near(found, losses)
    near(gradient, slopes)
    near(by_label, by_hot)


@pytest.mark.parametrize("name", ["nll", "cross_entropy"])
def test_ignored_examples_may_hold_anything(name):
    loss, labels = jn.LAYERS[name], np.array([1, -1, 0])
    x, weight = np.array([[0.5, 1.5], [NAN, INF], [1.0, 2.0]]), np.array([2.0, 3.0])
    for more in [{}, {"label_smoothing": 0.2}] if name == "cross_entropy" else [{}]:
        found, slopes = gradients(lambda x, w, c=more: jn.sum(loss(x, labels, w, ignore_index=-1, **c)), x, weight)
        kept = gradients(lambda x, w, c=more: jn.sum(loss(x, labels[[0, 2]], w, **c)), x[::2], weight)
        equal(found, kept[0])
        equal(slopes[0], np.insert(np.asarray(kept[1][0]), 1, 0, 0))
        equal(slopes[1], kept[1][1])


@pytest.mark.parametrize("name", ["nll", "cross_entropy"])
def test_every_label_ignored_torch116349(name):
    loss, labels = jn.LAYERS[name], np.array([-100, -100])

    def mean(x):
        return jn.reduce(loss(x, labels, ignore_index=-100), where=labels != -100)

    found, (slope,) = gradients(mean, np.ones((2, 3)))
    equal(found, 0)
    equal(slope, np.zeros((2, 3)))


def test_torch_weighted_mean():
    """Of weighted losses, divided by the weights of the labels that count."""
    x, labels, weight = np.arange(8.0).reshape(4, 2) ** 0.5, np.array([0, 1, 1, -100]), np.array([0.25, 3.0])

    @jax.jit
    def mean(x, weight):
        losses = jn.cross_entropy(x, labels, ignore_index=-100)
        return jn.reduce(losses, weights=weight[labels], where=labels >= 0)

    found = mean(x, weight)
    losses, _ = loop_cross_entropy(x[:3], labels[:3], weight)
    near(found, losses.sum() / weight[labels[:3]].sum())


@pytest.mark.parametrize("name", ["nll", "cross_entropy", "multi_class_hinge"])
def test_label_out_of_range_inside_jit(name):
    """NaN, with Jacobian 0, also where it wraps around to a class in int32."""
    loss, x, weight = jn.LAYERS[name], np.arange(15.0).reshape(5, 3), np.array([1.0, 2.0, 3.0])
    for more in [{}, {"label_smoothing": 0.1}] if name == "cross_entropy" else [{}]:

        @jax.jit
        def compiled(labels, more=more):
            blocks = jn.jacobian(lambda x, w: loss(x, labels, w, **more), (0, 1))(x, weight)
            alone = jn.jacobian(lambda x: loss(x, labels, **more))(x)
            return loss(x, labels, weight, **more), [j.dense() for j in (*blocks, alone)]

        for label in (3, -1, 2**32, -(2**32) + 1):
            value, blocks = jax.tree.map(np.asarray, compiled(np.array([1, label, 0, 2, 1])))
            assert np.isfinite(value[0]) and np.isnan(value[1])
            for block in blocks:
                assert np.abs(block[0]).max() > 0
                equal(block[1], np.zeros(block.shape[1:]))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_label_dtypes_and_ignore_index(dtype):
    labels = np.array([2, 0], dtype)

    @jax.jit
    def compute(x, wide_x):
        kept = jn.nll(x, labels, ignore_index=-100), jn.nll(x, labels, ignore_index=2)
        return *kept, jn.cross_entropy(wide_x, labels, ignore_index=0)

    found = compute(np.array([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0]]), np.zeros((2, 1000)))
    equal(found[0], [-4, 0])
    equal(found[1], [0, 0])
    near(found[2], [np.log(1000), 0])


def test_class_of_no_weight_may_be_impossible():
    labels = np.array([0, 1])
    equal(jax.jit(lambda x, w: jn.nll(x, labels, w))(np.array([[-INF, 0.0]] * 2), np.array([0.0, 2.0])), [0, 0])
    logits, weight = np.array([[-INF, 1.0, 2.0]]), np.array([0.0, 1.0, 1.0])
    for targets, smoothing in ((np.array([1]), 0.3), (np.array([[0.25, 0.5, 0.25]]), 0.0)):
        found, slope = map(np.asarray, both(jn.cross_entropy, logits, targets, weight, label_smoothing=smoothing))
        assert np.isfinite(found) and np.isfinite(slope).all() and slope[0, 0] == 0
        assert np.isposinf(both(jn.cross_entropy, logits, targets, label_smoothing=smoothing)[0])
    t = np.array([[0.0, 0.5, 0.5]])
    _, (by_targets, by_weight) = gradients(lambda t, w: jn.sum(jn.cross_entropy(logits, t, w)), t, weight)
    log_p = np.asarray(jax.jit(jn.log_softmax)(logits[0, 1:]))
    near(by_targets[0], [0, *-log_p])
    near(by_weight, [0, *-log_p / 2])


@pytest.mark.parametrize("power", [1, 2])
def test_multi_class_hinge(power):
    """By hand; at the kink, the last class of the first example, the derivative is 0."""
    x, labels = np.array([[1.0, 1.0, 1.5, 0.0], [3.0, 0.0, 0.0, 0.0]]), np.array([1, 2])
    gaps = [[1, 0, 1.5, 0], [4, 1, 0, 1]]

    @jax.jit
    def compute(x):
        plain, weighted = (jn.multi_class_hinge(x, labels, *w, p=power) for w in ([], [np.array([0.0, 2, 3, 0])]))
        slopes = jn.grad(lambda x: jn.sum(jn.multi_class_hinge(x, labels, p=power)))(x)
        return plain, weighted, slopes, jn.multi_class_hinge(x[1], 2, p=power, margin=-2.0)

    plain, weighted, slopes, alone = map(np.asarray, compute(x))
    right = [sum(g**power for g in row) / 4 for row in gaps]
    near(plain, right)
    near(weighted, np.array([2, 3]) * right)
    expected = [power * g ** (power - 1) / 4 if g else 0 for g in gaps[0]]
    near(slopes[0], [expected[0], -sum(expected), *expected[2:]])
    near(alone, 1 / 4)


def test_kl_divergence_with_zeros_optax1786_optax473_torch89558():
    log_q, t = np.array([0.0, -700.0]), np.array([1.0, 0.0])
    for targets, config in ((t, {}), (np.array([0.0, -INF]), {"log_targets": True})):
        compute = jax.jit(jn.value_and_grad(lambda p, t, c=config: jn.kl_divergence(p, t, **c), (0, 1)))
        for predictions in (log_q, np.array([0.0, -INF])):
            found, slopes = compute(predictions, targets)
            equal(found, 0)
            equal(slopes, [[-1, 0], [1, 0]])
    loss = jax.jit(jn.kl_divergence)
    equal(loss(np.array([-INF, 0.0]), np.array([0.5, 0.5])), INF)
    assert np.isnan(loss(log_q, np.array([1.0, -1.0])))


def test_kl_divergence_of_equal_distributions_is_0_torch32520():
    log_p = jax.jit(jn.log_softmax)(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    equal(jax.jit(lambda p, q: jn.kl_divergence(p, q, log_targets=True))(log_p, log_p), [0, 0])


@pytest.mark.parametrize("axis", [0, 1, -3])
def test_classes_along_any_axis(axis):
    """Values, gradients, Hessians and roots are those with the classes last, at another place."""
    rng = np.random.default_rng(7)
    x, w = rng.normal(size=(2, 3, 4)), np.array([0.5, 2.0, 1.0])
    labels, t = rng.integers(0, 3, size=(2, 4)), np.abs(rng.normal(size=(2, 3, 4)))

    def moved(array):
        return np.moveaxis(array, 1, axis)

    def last(array):
        return np.moveaxis(array, 1, -1)

    for loss, targets, targets_last, config in [
        (jn.nll, labels, labels, {"weight": w}),
        (jn.cross_entropy, labels, labels, {"weight": w, "label_smoothing": 0.2}),
        (jn.cross_entropy, moved(t), last(t), {}),
        (jn.kl_divergence, moved(t), last(t), {}),
    ]:

        def both(x, targets, axis=-1, loss=loss, config=config):
            return jn.value_and_grad(lambda x: jn.sum(loss(x, targets, axis=axis, **config)))(x)

        found, expected = (
            jax.jit(functools.partial(both, axis=axis))(moved(x), targets),
            jax.jit(both)(last(x), targets_last),
        )
        near(found[0], expected[0])
        near(np.moveaxis(found[1], axis, -1), expected[1])
        for root in (False, True):
            h = jn.loss_hessian(loss, moved(x), targets, axis=axis, root=root, **config)
            right = jn.loss_hessian(loss, last(x), targets_last, root=root, **config).dense()
            near(np.moveaxis(np.asarray(h.dense()), (axis % 3, axis % 3 + 3), (2, 5)), right)


def test_multilabel_margin_as_torch():
    """torch's example: labels 3 and 0, ended by −1; the label 1 behind it does not count."""
    x, targets = np.array([0.1, 0.2, 0.4, 0.8]), np.array([3, 0, -1, 1])
    value, slope = jax.jit(jn.value_and_grad(jn.multilabel_margin))(x, targets)
    near(value, 0.25 * ((1 - (0.1 - 0.2)) + (1 - (0.1 - 0.4)) + (1 - (0.8 - 0.2)) + (1 - (0.8 - 0.4))))
    near(slope, [-0.5, 0.5, 0.5, -0.5])
    kink, at_kink = jax.jit(jn.value_and_grad(jn.multilabel_margin))(np.array([2.0, 1.0]), np.array([0, -1]))
    equal(kink, 0)
    equal(at_kink, [0, 0])
    equal(jn.multilabel_margin(x, np.array([-1, 0, 0, 0])), 0)
    wrong, nothing = jax.jit(jn.value_and_grad(jn.multilabel_margin))(x, np.array([4, -1, 0, 0]))
    assert np.isnan(wrong)
    equal(nothing, np.zeros(4))


def loop_multilabel_margin(x, targets):
    """One pair of a label and another class after the other."""
    listed = list(itertools.takewhile(lambda label: label >= 0, targets))
    value, slope = 0.0, np.zeros(len(x))
    for j in listed:
        for i in set(range(len(x))) - set(listed):
            gap = 1 - x[j] + x[i]
            if gap > 0:
                value += gap / len(x)
                slope += (np.eye(len(x))[i] - np.eye(len(x))[j]) / len(x)
    return value, slope


@pytest.mark.parametrize("k", [1, 4, 30])
def test_multilabel_margin_pair_by_pair(k):
    """Also of scores with ties and at kinks, far from 0, and of labels that are listed twice."""
    rng = np.random.default_rng(k)
    x = np.concatenate([rng.normal(size=(3, k)), rng.integers(0, 3, size=(3, k)), 1e6 + rng.integers(0, 9, size=(2, k)) / 4])
    targets = rng.integers(0, k, size=x.shape)
    targets[np.arange(8), rng.integers(0, k, size=8)] = -1
    found = jax.jit(jn.value_and_jacobian(lambda x: jn.multilabel_margin(x, targets)))(x)
    for b, slope in enumerate(np.asarray(found[1].per_example())):
        value, expected = loop_multilabel_margin(x[b], targets[b])
        near(found[0][b], value)
        np.testing.assert_allclose(slope, expected, atol=1e-14)
    equal(jn.multilabel_margin(np.array([INF, 0.0, -INF]), np.array([0, -1, -1])), 0)
    equal(jn.multilabel_margin(np.array([0.0, INF, -INF]), np.array([0, -1, -1])), INF)
    equal(jn.multilabel_margin(np.array([-INF, 0.0, 1.0]), np.array([0, -1, -1])), INF)
    assert np.isnan(jn.multilabel_margin(np.array([0.0, NAN, 1.0]), np.array([0, -1, -1])))


def test_multilabel_margin_of_many_classes_makes_no_pairs():
    def gradient(x, targets):
        return jn.grad(lambda x: jn.sum(jn.multilabel_margin(x, targets)))(x)

    assert largest(gradient, np.zeros((2, 500)), np.zeros((2, 500), int)) <= 2 * 501


def loop_sparsemax(row):
    """The threshold by bisection."""
    low, high = max(row) - 1, max(row)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(max(0, a - middle) for a in row) > 1 else (low, middle)
    return np.maximum(0, row - low), low


def test_sparsemax_and_its_loss():
    rng = np.random.default_rng(7)
    x, labels = 2 * rng.normal(size=(6, 5)), rng.integers(0, 5, size=6)
    value, slope = jax.jit(jn.value_and_grad(lambda x: jn.sum(jn.sparsemax_loss(x, labels))))(x)
    rows = [loop_sparsemax(row) for row in x]
    np.testing.assert_allclose(jn.sparsemax(x), [p for p, _ in rows], atol=1e-14)
    np.testing.assert_allclose(jn.sparsemax(x.T, axis=0).T, [p for p, _ in rows], atol=1e-14)
    losses = [(1 + (p**2).sum()) / 2 - row[t] + low for row, t, (p, low) in zip(x, labels, rows, strict=True)]
    np.testing.assert_allclose(value, sum(losses), rtol=1e-13)
    np.testing.assert_allclose(slope, [p - np.eye(5)[t] for t, (p, _) in zip(labels, rows, strict=True)], atol=1e-14)
    shifted = jn.sparsemax(np.array([1e8, 1e8 + 0.5, -INF, 0]))
    equal(shifted, [0.25, 0.75, 0, 0])
    equal(jn.sparsemax(np.zeros((2, 4))), np.full((2, 4), 0.25))
    equal(jn.grad(lambda x: jn.sparsemax(x)[1])(np.array([1.0, 0.0, -1.0])), [0, 0, 0])  # at the kink
    tiny = np.array([0.0, -1 + 2e-9, -3.0])
    value, slope = jax.jit(jn.value_and_grad(lambda x: jn.sparsemax_loss(x, np.array(0))))(tiny)
    np.testing.assert_allclose(value, 1e-18, rtol=1e-6)  # no difference from 1
    np.testing.assert_allclose(slope, [-1e-9, 1e-9, 0], rtol=1e-6)
    wrong, nothing = jax.jit(jn.value_and_grad(jn.sparsemax_loss))(tiny, np.array(3))
    assert np.isnan(wrong)
    equal(nothing, np.zeros(3))


def test_multilabel_soft_margin_is_a_mean_of_cross_entropies():
    rng = np.random.default_rng(3)
    x, t, w = rng.normal(size=(2, 5)), rng.uniform(size=(2, 5)), rng.uniform(size=5)
    found, slopes = gradients(lambda *args: jn.sum(jn.multilabel_soft_margin(*args)), x, t, w)
    whole, expected = gradients(lambda x, t, w: jn.sum(jn.binary_cross_entropy_with_logits(x, t, weight=w)) / 5, x, t, w)
    near(found, whole)
    for actual, right in zip(slopes, expected, strict=True):
        near(actual, right)
    equal(jn.multilabel_soft_margin(np.array([INF, -INF]), np.array([1, 0])), 0)


def test_dice():
    p, t = np.array([0.5, 1.0, 0.0]), np.array([1.0, 1.0, 0.0])
    near(jn.dice(p, t), 1 - (2 * 1.5 + 1) / (1.5 + 2 + 1))
    near(jn.dice(p, t, eps=0.0), 1 - 3 / 3.5)
    tiny = np.array([1.0, 1 - 1e-9])
    np.testing.assert_allclose(jn.dice(tiny, np.ones(2), eps=0.0), 1e-9 / 4, rtol=1e-6)  # no difference from 1
    value, slope = jax.jit(jn.value_and_grad(lambda p: jn.dice(p, np.zeros(3), eps=0.0)))(np.zeros(3))
    equal(value, 0)
    equal(slope, np.zeros(3))


def test_info_nce_is_a_cross_entropy_of_similarities():
    rng = np.random.default_rng(4)
    q, k = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    found, slopes = gradients(lambda q, k: jn.sum(jn.info_nce(q, k, temperature=0.5)), q, k)
    expected, right = gradients(lambda q, k: jn.sum(jn.cross_entropy(q @ k.T / 0.5, np.arange(4))), q, k)
    near(found, expected)
    for actual, by_hand in zip(slopes, right, strict=True):
        near(actual, by_hand, 1e-12)


def test_kl_divergence_unreduced_and_batchmean_as_torch():
    p, q = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([[0.3, 0.7], [0.9, 0.1]])
    each = jax.jit(lambda q: jn.kl_divergence(q, p, axis=None))(np.log(q))
    near(each, p * np.log(p / q))
    near(jn.reduce(each, "batchmean"), (p * np.log(p / q)).sum() / 2)


def test_kl_divergence_is_what_it_says():
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(5), (2, 3))
    expected = [sum(a * np.log(a / b) for a, b in zip(*pair, strict=True)) for pair in zip(p, q, strict=True)]
    near(jax.jit(jn.kl_divergence)(np.log(q), p), expected)
    near(jax.jit(lambda q, p: jn.kl_divergence(q, p, log_targets=True))(np.log(q), np.log(p)), expected)


@pytest.mark.parametrize("name", ["nll", "cross_entropy"])
def test_weighted_losses_of_ignored_labels_have_no_second_derivative(name):
    z, labels, weight = np.random.default_rng(0).normal(size=(3, 4)), np.array([0, 1, 3]), np.array([0.5, 2.0, 1.0, 3.0])

    @jax.jit
    def hessian(z, weight):
        return jn.dense(jn.hessian(lambda z: jn.LAYERS[name](z, labels, weight, ignore_index=1))(z))

    found = np.asarray(hessian(z, weight))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    expected = np.zeros((3, 3, 4, 3, 4))
    for b in (0, 2) if name == "cross_entropy" else ():
        expected[b, b, :, b] = weight[labels[b]] * (np.diag(p[b]) - np.outer(p[b], p[b]))
    near(found, expected)
