"""Losses: exact values at kinks and special points, tails in ULP, conventions, reduction, regularisers.

An issue number is that of a library that had, or has, the fault.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf

import jaxnets as jn
from benchmarks.oracles import ulps

from ..sweeps import swept

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]


def equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def near(actual, expected, rtol=1e-13):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=1e-15)


def both(loss, *args, **config):
    """Value and derivative by the first argument of an elementwise loss, in one program."""
    return compiled_both(loss, tuple(config.items()))(*args)


@functools.cache
def compiled_both(loss, config):
    return jax.jit(jn.value_and_grad(lambda *args: jn.sum(loss(*args, **dict(config)))))


def gradients(function, *args):
    """Value and derivatives by all arguments, in one program."""
    return jax.jit(jn.value_and_grad(function, tuple(range(len(args)))))(*args)


# --- special points -----------------------------------------------------------------------------------------------

# loss, predictions, targets, configuration, value, derivative by predictions
EXACT = [
    ("absolute_error", 2.0, 2.0, {}, 0, 0),
    ("absolute_error", -0.0, 0.0, {}, 0, 0),
    ("absolute_error", 1e-30, 0.0, {}, 1e-30, 1),
    ("absolute_error", -INF, 0.0, {}, INF, -1),
    ("squared_error", 1e4, 0.0, {}, 1e8, 2e4),
    ("huber", 1.0, 0.0, {}, 0.5, 1),
    ("huber", -1.0, 0.0, {}, 0.5, -1),
    ("huber", 0.0, 0.0, {}, 0, 0),
    ("huber", -3.0, 0.0, {}, 2.5, -1),  # attorch#13: the signed difference is below any threshold
    ("huber", 3.0, 0.0, {"delta": 2.0}, 4, 2),
    ("huber", -1e4, 0.0, {"delta": 0.5}, 4999.875, -0.5),
    ("huber", INF, 0.0, {}, INF, 1),
    ("smooth_l1", 0.5, 0.0, {}, 0.125, 0.5),
    ("smooth_l1", -1.0, 0.0, {}, 0.5, -1),
    ("smooth_l1", 3.0, 0.0, {"beta": 2.0}, 2, 1),
    ("smooth_l1", 0.0, 0.0, {"beta": 0}, 0, 0),  # torch#96813
    ("smooth_l1", -3.0, 0.0, {"beta": 0.0}, 3, -1),
    ("smooth_l1", 3.0, 0.0, {"beta": 1e-320}, 3, 1),
    ("smooth_l1", 0.0, 0.0, {"beta": 1e-320}, 0, 0),
    ("smooth_l1", -INF, 0.0, {}, INF, -1),
    ("log_cosh", 0.0, 0.0, {}, 0, 0),
    ("log_cosh", 1e4, 0.0, {}, 1e4 - np.log(2), 1),
    ("log_cosh", -INF, 0.0, {}, INF, -1),
    ("binary_cross_entropy", 0.0, 0.0, {}, 0, 1),
    ("binary_cross_entropy", 1.0, 1.0, {}, 0, -1),
    ("binary_cross_entropy", 0.0, 1.0, {}, INF, -INF),
    ("binary_cross_entropy", 1.0, 0.0, {}, INF, INF),
    ("binary_cross_entropy", 0.0, 0.5, {}, INF, -INF),
    ("binary_cross_entropy", 0.5, 0.5, {}, np.log(2), 0),
    ("binary_cross_entropy_with_logits", 0.0, 0.0, {}, np.log(2), 0.5),  # torch#1792
    ("binary_cross_entropy_with_logits", 0.0, 1.0, {}, np.log(2), -0.5),
    ("binary_cross_entropy_with_logits", INF, 1.0, {}, 0, 0),  # optax#431, torch#135359
    ("binary_cross_entropy_with_logits", -INF, 0.0, {}, 0, 0),
    ("binary_cross_entropy_with_logits", INF, 0.0, {}, INF, 1),
    ("binary_cross_entropy_with_logits", -INF, 1.0, {}, INF, -1),
    ("binary_cross_entropy_with_logits", -INF, 0.875, {}, INF, -0.875),
    ("binary_cross_entropy_with_logits", 1e4, 0.0, {}, 1e4, 1),  # candle#2561
    ("binary_cross_entropy_with_logits", -1e4, 1.0, {}, 1e4, -1),
    ("binary_cross_entropy_with_logits", 710.0, 0.0, {}, 710, 1),
    ("binary_cross_entropy_with_logits", -88.8125, 1.0, {}, 88.8125, -1),
    ("hinge", 1.0, 1.0, {}, 0, 0),
    ("hinge", -1.0, -1.0, {}, 0, 0),
    ("hinge", 0.5, 1.0, {}, 0.5, -1),
    ("hinge", 0.0, -1.0, {}, 1, 1),
    ("hinge", INF, 1.0, {}, 0, 0),
    ("hinge", -INF, 1.0, {}, INF, -1),
    ("soft_margin", 0.0, 1.0, {}, np.log(2), -0.5),
    ("soft_margin", 1e4, -1.0, {}, 1e4, 1),
    ("soft_margin", INF, 1.0, {}, 0, 0),
    ("soft_margin", -INF, 1.0, {}, INF, -1),
    ("poisson_nll", -INF, 0.0, {}, 0, 0),
    ("poisson_nll", 0.0, 1.0, {}, 1, 0),
    ("poisson_nll", 0.0, 0.0, {"log_input": False, "eps": 0.0}, 0, 1),
    ("poisson_nll", 2.0, 2.0, {"log_input": False, "eps": 0.0}, 2 - 2 * np.log(2), 0),
    ("poisson_nll", 0.0, 1.0, {"full": True}, 1, 0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, x, t, config, value, slope", EXACT)
def test_special_values(name, x, t, config, value, slope, dtype):
    found, derivative = both(jn.LAYERS[name], np.array([x], dtype), np.array([t], dtype), **config)
    np.testing.assert_allclose(found, np.array(value, dtype), rtol=2 * np.finfo(dtype).eps)
    equal(derivative, np.array([slope], dtype))


@pytest.mark.parametrize("name", sorted({row[0] for row in EXACT}))
def test_nan_propagates(name):
    loss = jn.LAYERS[name]
    assert np.isnan(jax.jit(loss)(np.array([NAN, 0.5]), np.array([1.0, NAN]))).all()


@pytest.mark.parametrize("name, dtype, targets", [
    ("binary_cross_entropy", "uint8", [0, 1, 1, 0]),
    ("binary_cross_entropy", "int64", [0, 1, 0, 1]),
    ("binary_cross_entropy_with_logits", "uint8", [0, 1, 0, 1]),
    ("hinge", "uint8", [1, 1, 1, 1]),
    ("hinge", "int8", [1, -1, 1, -1]),
    ("soft_margin", "uint16", [1, 2, 1, 1]),
    ("soft_margin", "int8", [-1, 100, 1, 1]),
    ("poisson_nll", "uint8", [0, 200, 7, 1]),
])  # fmt: skip
def test_integer_targets_are_as_good_as_real_ones(name, dtype, targets):
    """Also those without a sign, or too small for their square; the Hessian has the dtype of the predictions."""
    loss, t = jn.LAYERS[name], np.array(targets, dtype)

    @jax.jit
    def compute(x, t):
        hessians = [jn.loss_hessian(loss, x, t, root=root) for root in (False, True) if loss.hessian_rule]
        results = [*both(loss, x, t), *(h.diagonal() for h in hessians)]
        if name in ("hinge", "soft_margin"):
            results += [jn.margin_ranking(x, 0 * x, t), both(jn.margin_ranking, x, 0 * x, t)[1]]
        return results, hessians

    x = np.array([0.0, 1.0, 0.25, 0.5], "float32")
    (found, hessians), (expected, _) = compute(x, t), compute(x, t.astype("float32"))
    for actual, right in zip(found, expected, strict=True):
        equal(actual, right)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(hessians))


@pytest.mark.parametrize("name, kinds, config", [
    ("huber", "xx", {"delta": 0.5}),
    ("smooth_l1", "xx", {"beta": 0.5}),
    ("cross_entropy", "xp", {"label_smoothing": 0.5}),
    ("cross_entropy", "xkw", {"label_smoothing": 0.5}),
    ("multi_class_hinge", "xk", {"margin": 0.5}),
    ("poisson_nll", "xx", {"eps": 0.5, "log_input": False}),
    ("gaussian_nll", "xxp", {"eps": 0.5}),
    ("cosine_embedding", "xxs", {"margin": 0.5}),
    ("triplet", "xxx", {"margin": 0.5, "eps": 0.5, "p": 3.5}),
    ("triplet", "xxx", {"margin": 0.5, "eps": 0.5, "p": 3, "swap": True}),
    ("margin_ranking", "xxx", {"margin": 0.5}),
])  # fmt: skip
def test_numbers_of_numpy_as_configuration(name, kinds, config):
    """They are strong float64 for JAX, and must not widen float32."""
    normal = np.random.default_rng(6).normal(size=(4, 3, 3)).astype("float32")
    known = {"p": np.exp(normal[0]), "k": np.array([0, 2, 1]), "s": np.array([1, -1, 1]), "w": np.exp(normal[0, 0])}
    args = [known.get(kind, normal[i]) for i, kind in enumerate(kinds)]
    strong = {key: np.float64(value) if isinstance(value, float) else value for key, value in config.items()}
    loss, real = jn.LAYERS[name], [i for i, kind in enumerate(kinds) if kind not in "ks"]

    def everything(reals, config):
        def merged(*reals):
            every = dict(zip(real, reals, strict=True))
            return [every.get(i, a) for i, a in enumerate(args)]

        def function(*reals):
            return loss(*merged(*reals), **config)

        blocks = jn.jacobian(function, tuple(range(len(real))))(*reals)
        roots = (False, True) if loss.hessian_rule else ()
        hessians = [jn.loss_hessian(loss, *merged(*reals), root=root, **config) for root in roots]
        return [function(*reals), *blocks, *hessians]

    found = jax.jit(lambda *reals: [everything(reals, c) for c in (config, strong)])(*(args[i] for i in real))
    for plain, same in zip(*map(jax.tree.leaves, found), strict=True):
        equal(plain, same)
        assert same.dtype in (np.float32, np.int32)


def test_probabilities_outside_of_0_and_1_give_nan():
    assert np.isnan(jax.jit(jn.binary_cross_entropy)(np.array([-0.25, 1.25]), np.array([0.5, 0.5]))).all()


def test_second_derivative_of_binary_cross_entropy_at_0_and_1():
    curvature = jax.jit(lambda p: jn.hessian(lambda x: jn.binary_cross_entropy(x, p))(p).dense())
    for p in (0.0, 1.0):
        equal(curvature(p), 1)


def test_derivative_of_the_logistic_loss_by_targets():
    x, t = np.array([INF, -INF, 0.0]), np.array([1.0, -1.0, 1.0])
    equal(both(lambda t, x: jn.soft_margin(x, t), t, x)[1], [0, 0, 0])


def test_derivative_of_binary_cross_entropy_by_targets():
    p = np.array([0.0, 1e-3, 0.3, 0.5 - 2**-40, 0.5, 0.62, 0.9, 1.0])
    _, found = both(lambda t, p: jn.binary_cross_entropy(p, t), np.full(8, 0.5), p)
    with mpmath.workdps(40):
        exact = [float(mpmath.log((1 - mpf(float(a))) / mpf(float(a)))) if 0 < a < 1 else INF * (1 - 2 * a) for a in p]
    np.testing.assert_allclose(found, exact, rtol=1e-15)


@pytest.mark.parametrize("x", [-INF, -800.0, -1e-12, 0.0, 1e-12, 3.0, INF])
@pytest.mark.parametrize("w", [1e-3, 1.0, 5.0])
def test_positive_weight(x, w):
    """It multiplies the loss of the class 1 alone; torch#13773: with weight 1 it changes nothing."""
    x = np.array([x, x])
    found = positive_weight(x, np.array([1.0, 0.0]), w)
    near(found["weighted"], found["plain"] * np.array([w, 1.0]))
    for actual, expected in zip(found["both"], found["both by hand"], strict=True):
        near(actual, expected)
    near(found["by weight"], found["plain"][0])
    if w == 1:
        equal(found["by targets"], -x)
    assert not np.isnan(found["by targets"]).any()


@jax.jit
def positive_weight(x, t, w):
    loss, pair = jn.binary_cross_entropy_with_logits, jnp.stack([w, 1.0])
    by_targets, by_weight = jn.grad(lambda t, w: jn.sum(loss(x, t, w)), (0, 1))(t, w)
    return {
        "plain": loss(x, t),
        "weighted": loss(x, t, jnp.stack([w, w])),
        "both": both(loss, x, t, w),
        "both by hand": jn.value_and_grad(lambda x: jn.sum(loss(x, t) * pair))(x),
        "by targets": by_targets,
        "by weight": by_weight,
    }


def test_positive_weight_of_0():
    """The class 1 does not count, however wrong the logit is."""
    x, t = np.array([-INF, -INF, INF, 0.0]), np.array([1.0, 0.0, 1.0, 1.0])
    loss = jax.jit(jn.binary_cross_entropy_with_logits)
    _, slopes = gradients(lambda x, t, w: jn.sum(loss(x, t, w)), x, t, 0.0)
    equal(loss(x, t, 0.0), np.zeros(4))
    equal(slopes[0], np.zeros(4))
    equal(slopes[1], [0, 0, -INF, -np.log(2)])
    equal(slopes[2], INF)


# --- tails --------------------------------------------------------------------------------------------------------


def sigma(x):
    return 1 / (1 + mpmath.exp(-x))


def softplus(x):
    return mpmath.log1p(mpmath.exp(x))


LOGITS = [-700, -80, -40, -5, -1, -1e-3, 1e-3, 0.5, 3, 20, 60, 87]
CHANCES = [1e-30, 1e-6, 0.1, 0.4, 0.6, 0.9, 1 - 2**-20]

# loss, predictions, target, and by mpmath the value, the derivative and the second derivative
TAILS = [
    ("binary_cross_entropy_with_logits", LOGITS, 1, lambda x: (softplus(-x), -sigma(-x), sigma(x) * sigma(-x))),
    ("binary_cross_entropy_with_logits", LOGITS, 0, lambda x: (softplus(x), sigma(x), sigma(x) * sigma(-x))),
    ("soft_margin", LOGITS, 1, lambda x: (softplus(-x), -sigma(-x), sigma(x) * sigma(-x))),
    ("soft_margin", LOGITS, -1, lambda x: (softplus(x), sigma(x), sigma(x) * sigma(-x))),
    ("log_cosh", [1e-5, 0.05, 0.89, -0.91, -3, 10, 40], 0,
     lambda x: (mpmath.log(mpmath.cosh(x)), mpmath.tanh(x), mpmath.sech(x) ** 2)),
    ("binary_cross_entropy", CHANCES, 1, lambda p: (-mpmath.log(p), -1 / p, 1 / p**2)),
    ("binary_cross_entropy", CHANCES, 0, lambda p: (-mpmath.log1p(-p), 1 / (1 - p), 1 / (1 - p) ** 2)),
    ("poisson_nll", [-80, -10, -0.5, 1, 30], 0, lambda x: (mpmath.exp(x),) * 3),
]  # fmt: skip


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name, points, target, oracle", TAILS)
def test_tails(name, points, target, oracle, dtype):
    loss, x = jn.LAYERS[name], np.array(points, dtype)
    t = np.full(x.shape, target, dtype)
    with mpmath.workdps(60):
        exact = list(zip(*(oracle(mpf(float(a))) for a in x), strict=True))
        found = jax.jit(lambda x: (loss(x, t), jn.jacobian(lambda x: loss(x, t))(x).diagonal()))(x)
        for what, actual, right in zip(("value", "derivative"), found, exact[:2], strict=True):
            errors = ulps(actual, right, dtype)
            assert errors.max() <= 6, f"{what}: {errors.max():.3g} ULP at {x[np.argmax(errors)]}"


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.5, 1.5, np.pi - 1e-4])
@pytest.mark.parametrize("target", [1, -1])
def test_cosine_of_nearly_parallel_vectors(angle, target):
    """1 − cos and its derivative keep their digits."""
    x1, x2 = np.array([3.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])
    value, slope = both(jn.cosine_embedding, x1, x2, target, margin=-2.0)
    exact = 2 * np.sin(angle / 2) ** 2 if target == 1 else 2 + np.cos(angle)
    np.testing.assert_allclose(value, exact, rtol=1e-14)
    np.testing.assert_allclose(slope, [0, -target * np.sin(angle) / 3], rtol=1e-14, atol=1e-16)


# --- vectors ------------------------------------------------------------------------------------------------------


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
    found = jax.jit(lambda *v: jn.triplet(*v, p=p, swap=swap, margin=0.5))(a, b, c)
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


def test_margin_ranking_at_its_kink():
    x1, x2, targets = np.array([[2.0, 2.0, 0.0], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
    found, slopes = gradients(lambda *x: jn.sum(jn.margin_ranking(*x, margin=1.0)), x1, x2, targets)
    equal(found, 0 + 2 + 2)
    equal(slopes, [[0, 1, -1], [0, -1, 1], [0, -1, 1]])


# --- classes ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, -100, 1], ids=["all", "ignore -100", "ignore 1"])
def test_smoothing_ignored_labels_and_class_weights_torch73205_torch69339_torch72056(smoothing, weighted, ignored):
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(6, 3)), np.array([0, 1, 2, 1, 0, 2])
    if ignored == -100:
        labels[[0, 3]] = -100
    weight = np.array([0.5, 2.0, 0.0]) if weighted else None
    config = {"ignore_index": ignored, "label_smoothing": smoothing}

    def loss(x):
        return jn.cross_entropy(x, labels, weight, **config)

    found, gradient = jax.jit(lambda x: (loss(x), jn.grad(lambda x: jn.reduce(loss(x), "sum"))(x)))(x)
    losses, slopes = loop_cross_entropy(x, labels, weight, **config)
    near(found, losses)
    near(gradient, slopes)
    if ignored is not None:
        equal(np.asarray(found)[labels == ignored], 0)
        equal(np.asarray(gradient)[labels == ignored], 0)


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
            value, blocks = compiled(np.array([1, label, 0, 2, 1]))
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
        found, slope = both(jn.cross_entropy, logits, targets, weight, label_smoothing=smoothing)
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

    plain, weighted, slopes, alone = compute(x)
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


def test_kl_divergence_is_what_it_says():
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(5), (2, 3))
    expected = [sum(a * np.log(a / b) for a, b in zip(*pair, strict=True)) for pair in zip(p, q, strict=True)]
    near(jax.jit(jn.kl_divergence)(np.log(q), p), expected)
    near(jax.jit(lambda q, p: jn.kl_divergence(q, p, log_targets=True))(np.log(q), np.log(p)), expected)


# --- counts and normal numbers ------------------------------------------------------------------------------------


def test_likelihoods_are_what_they_say():
    x, t = np.array([0.3, -1.2, 2.0]), np.array([0.0, 1.0, 7.0])
    stirling = [0, 0, 7 * np.log(7) - 7 + 0.5 * np.log(14 * np.pi)]
    near(
        jax.jit(lambda x, t: jn.poisson_nll(x, t, full=True))(x, t),
        [np.exp(a) - a * b + c for a, b, c in zip(x, t, stirling, strict=True)],
    )
    assert abs(stirling[2] - np.log(5040)) < 0.02
    near(jax.jit(lambda x, t: jn.poisson_nll(x, t, log_input=False))(np.exp(x), t), np.exp(x) - t * np.log(np.exp(x) + 1e-8))
    v = np.array([0.5, 2.0, 1e-9])
    kept = np.array([0.5, 2.0, 1e-6])
    density = -0.5 * (x - t) ** 2 / kept - np.log(np.sqrt(2 * np.pi * kept))
    full, short = jax.jit(lambda *args: (jn.gaussian_nll(*args, full=True), jn.gaussian_nll(*args)))(x, t, v)
    near(full, -density)
    near(short, -density - 0.5 * np.log(2 * np.pi))


def test_variance_at_its_limit():
    """What counts as constant has derivative 0; a negative variance is NaN."""
    var = np.array([0.0, 1e-3, 2e-3, -1.0])
    y, slope = jax.jit(jax.vmap(jn.value_and_grad(lambda v: jn.gaussian_nll(1.0, 0.0, v, eps=1e-3))))(var)
    y, slope = np.asarray(y), np.asarray(slope)
    near(y[:2], [0.5 * np.log(1e-3) + 500] * 2)
    near(slope[:3], [0, 0, 0.5 * (2e-3 - 1) / 4e-6])
    assert np.isnan(y[3])
    assert np.isnan(both(jn.gaussian_nll, 1.0, 0.0, -1.0)[1])


@pytest.mark.parametrize("t, slope", [(0.0, 0), (0.5, 0), (1.0, 0), (2.0, np.log(2) + 0.25)])
def test_approximation_of_factorials_sets_in_above_1(t, slope):
    by_t, curvature = factorial_slopes(t)
    equal(by_t, slope - 1.5)
    near(curvature, 1 / t - 0.5 / t**2 if t > 1 else 0)


@jax.jit
def factorial_slopes(t):
    def loss(t):
        return jn.poisson_nll(1.5, t, full=True)

    return jn.grad(loss)(t), jn.hessian(loss)(t).dense()


# --- reduction ----------------------------------------------------------------------------------------------------


def test_reduce_is_what_it_says():
    loss, w = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]), np.array([[0.5], [2.0]])
    where = np.array([True, False, True])
    equal(jn.reduce(loss), loss.mean())
    equal(jn.reduce(loss, "sum"), 63)
    equal(jn.reduce(loss, "none"), loss)
    equal(jn.reduce(loss, weights=w), (0.5 * 7 + 2 * 56) / 7.5)
    equal(jn.reduce(loss, "sum", weights=w), 0.5 * 7 + 2 * 56)
    equal(jn.reduce(loss, "none", weights=w), loss * w)
    equal(jn.reduce(loss, where=where), 45 / 4)
    equal(jn.reduce(loss, "sum", where=where), 45)
    equal(jn.reduce(loss, "none", where=where), loss * where)
    equal(jn.reduce(loss, weights=w, where=where), (0.5 * 5 + 2 * 40) / 5)
    equal(jn.reduce(jnp.float64(3.0)), 3)


@pytest.mark.parametrize("weights", [None, np.array([2.0, 1.0, 1.0, NAN])])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("gradient", [jax.grad, jn.grad], ids=["jax", "jaxnets"])
def test_what_is_masked_has_no_influence(reduction, weights, gradient):
    where = np.array([True, True, False, False])

    def total(x):
        return jnp.sum(jn.reduce(x, reduction, weights=weights, where=where))

    def alone(x):
        return jnp.sum(jn.reduce(x, reduction, weights=None if weights is None else weights[:2]))

    compute = jax.jit(lambda x: (total(x), alone(x[:2]), gradient(total)(x), jax.grad(alone)(x[:2])))
    for bad in (NAN, INF, -INF, 1e308):
        found, expected, slope, slope_alone = compute(np.array([1.0, 3.0, bad, bad]))
        equal(found, expected)
        near(slope[:2], slope_alone)
        equal(slope[2:], [0, 0])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("gradient", [jax.grad, jn.grad], ids=["jax", "jaxnets"])
def test_nothing_left(reduction, gradient):
    def total(x, w=None, where=None):
        return jnp.sum(jn.reduce(x, reduction, weights=w, where=where))

    x, w, nothing, second = np.array([NAN, 2.0]), np.array([0.5, 0.5]), np.zeros(2, bool), np.array([False, True])
    found = jax.jit(lambda x: (total(x, where=nothing), gradient(total)(x, where=nothing)))(x)
    equal(found[0], 0)
    equal(found[1], [0, 0])
    compute = jax.jit(lambda x, w, m: (total(x, w, m), *(gradient(total, i)(x, w, m) for i in (0, 1))))
    for weights, where in ((w, nothing), (0 * w, second)):
        found, by_x, by_weights = compute(x, weights, where)
        equal(found, 0)
        equal(by_x, [0, 0])
        equal(by_weights[~where], np.zeros(2)[~where])
        assert reduction != "mean" or not by_weights.any()
    equal(jax.jit(lambda x, y: (total(x), total(y, y)))(np.zeros((0, 3)), np.zeros(0)), [0, 0])


def test_derivative_of_a_weighted_mean_by_its_weights():
    x, w = np.array([1.0, 4.0, 7.0]), np.array([1.0, 2.0, 3.0])
    near(both(lambda w, x: jn.reduce(x, weights=w), w, x)[1], (x - 30 / 6) / 6)


def test_reduce_keeps_the_structure_of_the_loss():
    """No opaque edge, and the mean of a batch stays without numbers."""

    def structures(x, w):
        assert jn.jacobian(jn.reduce, on_opaque="error")(x).structure == "sum"
        assert jn.jacobian(lambda x: jn.reduce(x, "none"), on_opaque="error")(x).structure == "identity"
        where = np.ones((4, 1), bool)
        return jn.jacobian(lambda x, w: jn.reduce(x, weights=w, where=where), (0, 1), on_opaque="error")(x, w)

    jax.eval_shape(structures, np.ones((4, 3)), np.ones(3))


def test_reduce_adds_up_in_float32():
    @jax.jit
    def compute(ones):
        slope = jn.grad(lambda x: jn.reduce(x, weights=ones))(ones)
        weighted = [jn.reduce(x * ones, weights=w * ones) for x, w in ((1, 1), (1, 3), (2048, 32))]
        return jn.reduce(ones), slope, *weighted

    mean, slope, *weighted = compute(np.ones(2**16, "float16"))
    assert mean.dtype == slope.dtype == np.float16
    equal([mean, *weighted], [1, 1, 1, 2048])


@pytest.mark.parametrize("args, more, error, words", [
    ([np.ones(3), "max"], {}, ValueError, "reduction.*max"),
    ([np.arange(3)], {}, jn.DTypeError, "'loss'.*int64"),
    ([np.ones(3, complex)], {}, jn.DTypeError, "'loss'.*complex128"),
    ([object()], {}, jn.DTypeError, "'loss'.*object"),
    ([np.ones(3)], {"weights": np.ones(2)}, jn.ShapeError, r"'weights'.*\(2,\).*\(3,\)"),
    ([np.ones(3)], {"weights": np.ones((3, 1))}, jn.ShapeError, r"'weights'.*\(3, 1\).*\(3,\)"),
    ([np.ones(3)], {"weights": np.arange(3)}, jn.DTypeError, "'weights'.*int64"),
    ([np.ones((2, 3))], {"where": np.ones(2, bool)}, jn.ShapeError, r"'where'.*\(2,\).*\(2, 3\)"),
    ([np.ones(3)], {"where": np.ones(3)}, jn.DTypeError, "'where'.*float64.*bool"),
])  # fmt: skip
def test_bad_arguments_of_reduce(args, more, error, words):
    with pytest.raises(error, match="reduce.*" + words):
        jn.reduce(*args, **more)


# --- regularisers -------------------------------------------------------------------------------------------------

l1, l2 = jn.regularizers.l1, jn.regularizers.l2
PARAMS = {"w": np.array([[1.0, -2.0], [0.0, 4.0]]), "steps": np.array(7), "b": [np.array(-0.5)], "none": None}


def test_penalties():
    for penalty, value in ((l1, 7.5), (l2, (1 + 4 + 16 + 0.25) / 2)):
        assert penalty(PARAMS) == value
        equal(jax.jit(penalty)(np.zeros(0)), 0)
    equal(jax.jit(l1)(np.array([-INF])), INF)


@pytest.mark.parametrize("gradient", [jax.grad, jn.grad], ids=["jax", "jaxnets"])
def test_slopes_of_penalties(gradient):
    """torch's weight decay, and 0 at 0."""
    real = {"w": PARAMS["w"], "b": PARAMS["b"]}
    by_l1, by_l2 = jax.jit(lambda params: (gradient(l1)(params), gradient(l2)(params)))(real)
    equal(by_l1["w"], [[1, -1], [0, 1]])
    equal(by_l2["w"], real["w"])
    equal(by_l2["b"][0], -0.5)


def test_penalties_have_no_opaque_edges():
    @jax.jit
    def compute(w):
        jacobians = [jn.jacobian(penalty, on_opaque="error")(w) for penalty in (l1, l2)]
        return jacobians, jn.hessian(l1)(w).dense(), jn.hessian(l2, on_opaque="error")(w).dense()

    _, by_l1, by_l2 = compute(PARAMS["w"])
    equal(by_l1, np.zeros((2, 2, 2, 2)))
    near(by_l2, np.eye(4).reshape(2, 2, 2, 2))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_penalties_of_half_precision(dtype):
    for penalty, value, slope in ((l1, 2**17, 1), (l2, 2**17, 2)):
        found, (gradient,) = gradients(penalty, np.full(2**16, 2.0, dtype))
        assert (found.dtype, gradient.dtype) == (np.float32, dtype)
        equal(found, value)
        equal(gradient, np.full(2**16, slope, dtype))


@pytest.mark.parametrize("penalty", [l1, l2])
def test_bad_parameters(penalty):
    for params in ({}, [], None, {"n": jnp.arange(3)}):
        with pytest.raises(ValueError, match=f"{penalty.__name__}.*no floating"):
            penalty(params)
    with pytest.raises(jn.DTypeError, match=rf"{penalty.__name__}.*\['name'\].*str"):
        penalty({"w": jnp.ones(2), "name": "conv"})
