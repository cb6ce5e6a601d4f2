"""Losses entry by entry: exact values at kinks and special points, tails in ULP, conventions.

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

from ..computing import equal
from ..sweeps import swept
from .comparisons import INF, NAN, TAILS, both, gradients, near

DTYPES = ["float32", "float64"]


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
    ("quantile", 2.0, 2.0, {"q": 0.25}, 0, 0),
    ("quantile", 4.0, 2.0, {"q": 0.25}, 1.5, 0.75),
    ("quantile", -2.0, 2.0, {"q": 0.25}, 1, -0.25),
    ("quantile", INF, 0.0, {"q": 1.0}, 0, 0),
    ("quantile", -INF, 0.0, {"q": 1}, INF, -1),
    ("perceptron", 0.75, -1.0, {}, 0.75, 1),
    ("perceptron", -2.0, 1.0, {}, 2, -1),
    ("perceptron", 0.75, 1.0, {}, 0, 0),
    ("perceptron", 0.0, 1.0, {}, 0, 0),
    ("perceptron", -INF, 1.0, {}, INF, -1),
    ("hinge_embedding", 0.75, 1.0, {}, 0.75, 1),
    ("hinge_embedding", 0.75, -1.0, {}, 0.25, -1),
    ("hinge_embedding", 1.0, -1.0, {}, 0, 0),
    ("hinge_embedding", INF, -1.0, {}, 0, 0),
    ("hinge_embedding", 2.0, -1.0, {"margin": 3.0}, 1, -1),
    ("focal", INF, 1.0, {}, 0, 0),
    ("focal", -INF, 0.0, {}, 0, 0),
    ("focal", -INF, 1.0, {}, INF, -1),
    ("focal", INF, 0.0, {"gamma": 0.5}, INF, 1),
    ("focal", 0.0, 1.0, {"gamma": 0.0}, np.log(2), -0.5),
    ("focal", INF, 0.0, {"alpha": 1.0}, 0, 0),
    ("poisson_nll", -INF, 0.0, {}, 0, 0),
    ("poisson_nll", 0.0, 1.0, {}, 1, 0),
    ("poisson_nll", 0.0, 0.0, {"log_input": False, "eps": 0.0}, 0, 1),
    ("poisson_nll", 2.0, 2.0, {"log_input": False, "eps": 0.0}, 2 - 2 * np.log(2), 0),
    ("poisson_nll", 0.0, 1.0, {"full": True}, 1, 0),
]


POINTS = list(dict.fromkeys((str(x), str(t)) for _, x, t, *_ in EXACT))  # as text, where 0.0 and -0.0 differ


@functools.cache
def at_special_points(dtype):
    """Values and derivatives of every loss and configuration of the table, at all its points, in one program."""
    losses = {name + str(config): functools.partial(jn.LAYERS[name], **config) for name, _, _, config, *_ in EXACT}

    def value_and_slope(loss, x, t):
        return loss(x, t), jn.grad(lambda x: jn.sum(loss(x, t)))(x)

    compute = jax.jit(lambda *args: {key: value_and_slope(loss, *args) for key, loss in losses.items()})
    return jax.tree.map(np.asarray, compute(*np.array(POINTS, dtype).T))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, x, t, config, value, slope", EXACT)
def test_special_values(name, x, t, config, value, slope, dtype):
    values, slopes = at_special_points(dtype)[name + str(config)]
    found, derivative = values[POINTS.index((str(x), str(t)))], slopes[POINTS.index((str(x), str(t)))]
    np.testing.assert_allclose(found, np.array(value, dtype), rtol=2 * np.finfo(dtype).eps)
    equal(derivative, np.array(slope, dtype))


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

    def compute(x, t):
        hessians = [jn.loss_hessian(loss, x, t, root=root) for root in (False, True) if loss.hessian_rule]
        results = [*both(loss, x, t), *(h.diagonal() for h in hessians)]
        if name in ("hinge", "soft_margin"):
            results += [jn.margin_ranking(x, 0 * x, t), both(jn.margin_ranking, x, 0 * x, t)[1]]
        return results, hessians

    x = np.array([0.0, 1.0, 0.25, 0.5], "float32")
    (found, hessians), (expected, _) = jax.jit(lambda x, *ts: [compute(x, t) for t in ts])(x, t, t.astype("float32"))
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

    def weighted(x, t, w):
        return loss(x, t, pos_weight=w)

    by_targets, by_weight = jn.grad(lambda t, w: jn.sum(weighted(x, t, w)), (0, 1))(t, w)
    return {
        "plain": loss(x, t),
        "weighted": weighted(x, t, jnp.stack([w, w])),
        "both": both(weighted, x, t, w),
        "both by hand": jn.value_and_grad(lambda x: jn.sum(loss(x, t) * pair))(x),
        "by targets": by_targets,
        "by weight": by_weight,
    }


def test_positive_weight_of_0():
    """The class 1 does not count, however wrong the logit is."""
    x, t = np.array([-INF, -INF, INF, 0.0]), np.array([1.0, 0.0, 1.0, 1.0])
    loss = jax.jit(lambda x, t, w: jn.binary_cross_entropy_with_logits(x, t, pos_weight=w))
    _, slopes = gradients(lambda x, t, w: jn.sum(loss(x, t, w)), x, t, 0.0)
    equal(loss(x, t, 0.0), np.zeros(4))
    equal(slopes[0], np.zeros(4))
    equal(slopes[1], [0, 0, -INF, -np.log(2)])
    equal(slopes[2], INF)


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_weight(name):
    """It multiplies the loss and its derivatives; an entry of weight 0 does not count, however wrong it is."""
    loss, w = jn.LAYERS[name], np.array([2.0, 0.5, 0.0, 0.0])
    worst = INF if name.endswith("logits") else 1.0
    x, t = np.array([0.3, 0.6, worst, 1 - worst]), np.array([1.0, 0.25, 0.0, 1.0])
    plain, by_hand = gradients(lambda x, t: jn.sum(loss(x, t)), x[:2], t[:2])
    found, slopes = gradients(lambda x, t, w: jn.sum(loss(x, t, weight=w)), x, t, w)
    each = np.asarray(loss(x, t))
    near(found, 2 * each[0] + each[1] / 2)
    near(slopes[0], [*(by_hand[0] * w[:2]), 0, 0])
    near(slopes[1][:2], by_hand[1] * w[:2])
    near(slopes[2], each)
    near(plain, each[:2].sum())
    h, root = (jn.loss_hessian(loss, x[:2], t[:2], weight=w[:2], root=root).diagonal() for root in (False, True))
    near(h, jn.loss_hessian(loss, x[:2], t[:2]).diagonal() * w[:2])
    near(root**2, h)


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


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("gamma, alpha", [(2.0, None), (0.5, 0.25), (0.0, 0.75)])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_focal_in_mpmath(target, gamma, alpha, dtype):
    x = np.array([-30, -8, -1, -1e-3, 0.0, 0.5, 3, 12, 25], dtype)
    t = np.full_like(x, target)
    found = jax.jit(lambda x: both(functools.partial(jn.focal, gamma=gamma, alpha=alpha), x, t))(x)
    slopes = jax.jit(jn.grad(lambda x: jn.sum(jn.focal(x, t, gamma=gamma, alpha=alpha))))(x)
    values = jax.jit(lambda x: jn.focal(x, t, gamma=gamma, alpha=alpha))(x)
    with mpmath.workdps(60):
        weight, side = (1 if alpha is None else alpha if target else 1 - alpha), (1 if target else -1)

        def loss(z):
            return weight * (1 / (1 + mpmath.exp(side * z))) ** gamma * mpmath.log1p(mpmath.exp(-side * z))

        points = [mpf(float(a)) for a in x]
        assert ulps(values, [loss(a) for a in points], dtype).max() <= 8
        assert ulps(slopes, [mpmath.diff(loss, a, h=mpf(10) ** -20) for a in points], dtype).max() <= 12
    np.testing.assert_allclose(found[0], np.sum(values), rtol=1e-6)


def test_margin_ranking_at_its_kink():
    x1, x2, targets = np.array([[2.0, 2.0, 0.0], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
    found, slopes = gradients(lambda *x: jn.sum(jn.margin_ranking(*x, margin=1.0)), x1, x2, targets)
    equal(found, 0 + 2 + 2)
    equal(slopes, [[0, 1, -1], [0, -1, 1], [0, -1, 1]])


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
