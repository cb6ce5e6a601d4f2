"""Reductions, masks, selections and products: exact values at special points, errors published for other libraries."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn
from benchmarks.oracles import ulps

from ..computing import equal
from ..sweeps import swept

INF, NAN = np.inf, np.nan


# Each of these is one program for arguments of one shape; the function comes first.
compiled = functools.partial(jax.jit, static_argnums=0)


@compiled
def value_and_slope(function, x):
    return jn.value_and_grad(function)(x)


@compiled
def value_and_jacobian(function, *args):
    return function(*args), jn.jacobian(function)(*args).dense()


@compiled
def slopes(function, *args):
    """The gradients by the first argument: by the rule, and of the forward function by JAX."""
    return jn.grad(function)(*args), jax.grad(function)(*args)


# --- logsumexp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x, value, slope", [
    ([-INF, -INF], -INF, [0, 0]),  # jax#6811
    ([-INF], -INF, [0]),
    ([-INF, 2.0], 2.0, [0, 1]),
    ([1e4, 0.0], 1e4, [1, 0]),
    ([700.0, 0.0], 700.0, [1, np.exp(-700.0)]),
    ([-1e4, -1e4], -1e4 + np.log(2), [0.5, 0.5]),
    ([0.0, -40.0], np.exp(-40.0), [1, np.exp(-40.0)]),
    ([7.0], 7.0, [1]),
])  # fmt: skip
def test_logsumexp(x, value, slope):
    found, gradient = value_and_slope(jn.logsumexp, np.array(x))
    np.testing.assert_allclose(found, value, rtol=1e-15)
    np.testing.assert_allclose(gradient, slope, rtol=1e-14)


@pytest.mark.parametrize("masked", [-1e9, -INF, INF, NAN, 1e30], ids=["jax23842", "jax17117", "jax19490", "nan", "jax16208"])
@pytest.mark.parametrize(
    "name", ["logsumexp", "softmax", "log_softmax", "softmin", "sum", "mean", "max", "min", "var", "std"]
)
def test_masked_entries_have_no_influence(name, masked):
    layer, x, where = jn.LAYERS[name], np.array([1.0, -2.0, masked]), np.array([True, True, False])
    single = name not in ("softmax", "log_softmax", "softmin")
    y, j = map(np.asarray, value_and_jacobian(layer, x, where))
    alone, j_alone = value_and_jacobian(layer, x[:2])
    equal(y if single else y[:2], alone)
    equal(j[..., :2] if single else j[:2, :2], j_alone)
    equal(j[..., 2], np.zeros(j.shape[:-1]))
    if not single:
        equal(y[2], -INF if name == "log_softmax" else 0)
        equal(j[2], [0, 0, 0])


@pytest.mark.parametrize("name, value", [
    ("logsumexp", -INF), ("sum", 0.0), ("mean", 0.0), ("max", -INF), ("min", INF), ("var", 0.0), ("std", 0.0),
    ("softmax", [0, 0]), ("log_softmax", [-INF, -INF]),
])  # fmt: skip
def test_everything_masked(name, value):
    y, j = value_and_jacobian(jn.LAYERS[name], np.array([NAN, 1.0]), np.zeros(2, bool))
    equal(y, value)
    equal(j, np.zeros(j.shape))


# --- numbers, and no numbers --------------------------------------------------------------------------------------

REDUCTIONS = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "var": np.var, "std": np.std,
    "logsumexp": lambda x, axis: np.log(np.sum(np.exp(x), axis)),
    "l2_norm": lambda x, axis: np.sqrt(np.sum(np.square(x), axis)),
    "vector_norm": lambda x, axis: np.sqrt(np.sum(np.square(x), axis)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # NumPy warns of means of nothing and of log 0
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("shape, axis", [((0,), None), ((0, 3), 0), ((0, 3), 1), ((2, 0), -1), ((), 0), ((), -1), ((), ())])
def test_of_nothing_as_numpy_and_along_the_axis_of_a_number(name, shape, axis):
    """NumPy itself takes an axis of a number for some reductions only."""
    x = np.full(shape, 3.0)
    try:
        expected = REDUCTIONS[name](x, axis=axis if shape else None)
    except ValueError:  # a maximum of nothing
        with pytest.raises(jn.ShapeError, match=f"{name}.*no entries"):
            jn.LAYERS[name](x, axis=axis)
        return
    layer = functools.partial(jn.LAYERS[name], axis=axis)
    y, j = value_and_jacobian(layer, x)
    np.testing.assert_allclose(y, expected, rtol=1e-15)
    assert j.shape == y.shape + shape
    if not shape:
        np.testing.assert_allclose(j, 0 if name in ("var", "std") else 1, rtol=1e-15)


# --- variances ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # NumPy warns of divisors that are not positive
@pytest.mark.parametrize("correction", [0, 1, 0.5, 4, 7])
@pytest.mark.parametrize("masked", [False, True])
def test_spread_against_numpy(correction, masked):
    x = np.random.default_rng(2).normal(size=(3, 4)) + 5
    where = (
        np.array([[True, True, False, True], [False, True, False, False], [True] * 4]) if masked else np.ones((3, 4), bool)
    )

    @jax.jit
    def compute(x):
        mask = where if masked else None
        return [f(x, mask, axis=1, correction=correction) for f in (jn.var, jn.std)]

    for found, of_numpy in zip(compute(x), (np.var, np.std), strict=True):
        np.testing.assert_allclose(found, of_numpy(x, 1, ddof=correction, where=where), rtol=1e-13)


def test_std_of_equal_entries_jax11716():
    for function in (jn.std, jn.var, lambda x: jn.std(x, np.array([True, False, True]), correction=1)):
        value, gradient = value_and_slope(function, np.full(3, 0.1))
        equal(value, 0)
        equal(gradient, np.zeros(3))
        assert np.isfinite(jax.jit(jax.grad(function))(np.full(3, 0.1))).all()


def test_spread_beside_a_large_mean_and_of_large_and_small_numbers():
    """The variance is no difference of averages, and no square overflows or vanishes."""
    where = np.array([True] * 8 + [False])
    x = np.append(np.arange(8), 1e9).astype("float32") + np.float32(1e4)
    for found in (value_and_slope(jn.var, x[:8])[0], value_and_slope(functools.partial(jn.var, where=where), x)[0]):
        np.testing.assert_allclose(found, 5.25, rtol=1e-6)
    for scale in (1e30, 1e-30):
        value, gradient = value_and_slope(jn.std, np.array([1, -1, 1, -1], "float32") * np.float32(scale))
        np.testing.assert_allclose(value, scale, rtol=1e-6)
        np.testing.assert_allclose(gradient, [0.25, -0.25, 0.25, -0.25], rtol=1e-6)


@pytest.mark.parametrize("dtype, digits", [("float32", 24), ("float64", 53)])
def test_spread_in_mpmath(dtype, digits):
    x = (np.random.default_rng(3).normal(size=7) * 3 + 20).astype(dtype)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(a)) for a in x]
        mean = mpmath.fsum(exact) / 7
        d = [a - mean for a in exact]
        squares = mpmath.fsum(a * a for a in d)
        expected = {"var": (squares / 6, [2 * a / 6 for a in d]), "std": (mpmath.sqrt(squares / 6), None)}
        expected["std"] = expected["std"][0], [a / 6 / expected["std"][0] for a in d]
    for name, (value, slope) in expected.items():
        found, gradient = value_and_slope(functools.partial(jn.LAYERS[name], correction=1), x)
        np.testing.assert_allclose(np.float64(found), float(value), rtol=8 * 2.0**-digits)
        np.testing.assert_allclose(np.float64(gradient), [float(a) for a in slope], atol=16 * 2.0**-digits)


# --- logaddexp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x1, x2, value, p1, p2", [
    (0.0, 0.0, np.log(2), 0.5, 0.5), (1e4, 0.0, 1e4, 1.0, 0.0), (-INF, 2.0, 2.0, 0.0, 1.0), (-INF, -INF, -INF, 0.0, 0.0),
    (INF, INF, INF, 0.5, 0.5), (INF, -INF, INF, 1.0, 0.0), (0.0, -40.0, np.exp(-40.0), 1.0, np.exp(-40.0)),
    (NAN, 1.0, NAN, NAN, NAN),
])  # fmt: skip
def test_logaddexp(x1, x2, value, p1, p2):
    y, (first, second) = jax.jit(jn.value_and_grad(jn.logaddexp, (0, 1)))(x1, x2)
    for found, expected in ((y, value), (first, p1), (second, p2)):
        np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert np.isnan(x1) or np.isinf(x1) or np.isfinite(jax.jit(jax.grad(jn.logaddexp))(x1, x2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logaddexp_in_ulp(dtype):
    d = np.concatenate([np.linspace(-30, 30, 61), [1e-6, -80, 80, -0.3]]).astype(dtype)
    y, by_x1, by_x2 = jax.jit(
        lambda a, b: (jn.logaddexp(a, b), *jn.grad(lambda a, b: jn.sum(jn.logaddexp(a, b)), (0, 1))(a, b))
    )(d, np.zeros_like(d))
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(a)) for a in d]
        assert ulps(y, [mpmath.log1p(mpmath.exp(a)) for a in exact], dtype).max() <= 4
        assert ulps(by_x1, [1 / (1 + mpmath.exp(-a)) for a in exact], dtype).max() <= 4
        assert ulps(by_x2, [1 / (1 + mpmath.exp(a)) for a in exact], dtype).max() <= 4


# --- max ----------------------------------------------------------------------------------------------------------


def test_ties_of_max_share_evenly():
    x = np.array([2.0, 1.0, 2.0, 2.0])
    for gradient in jax.jit(lambda x: (jn.grad(jn.max)(x), jax.grad(jnp.max)(x)))(x):
        equal(gradient, np.array([1, 0, 1, 1]) / 3)


def test_a_masked_tie_of_max_gets_nothing():
    equal(jax.jit(jn.grad(jn.max))(np.array([2.0, 2.0, 1.0]), np.array([True, False, True])), [1, 0, 0])


def test_ties_of_min_share_evenly():
    x = np.array([2.0, 1.0, 1.0, 2.0])
    for gradient in jax.jit(lambda x: (jn.grad(jn.min)(x), jax.grad(jnp.min)(x)))(x):
        equal(gradient, [0, 0.5, 0.5, 0])


def test_min_of_nan_and_infinities():
    assert np.isnan(value_and_slope(jn.min, np.array([1.0, NAN]))[0])
    equal(value_and_slope(jn.min, np.array([INF, INF]))[0], INF)
    equal(value_and_slope(jn.min, np.array([-INF, 1.0]))[1], [1, 0])


def test_max_of_nan_and_infinities():
    assert np.isnan(value_and_slope(jn.max, np.array([1.0, NAN]))[0])
    equal(value_and_slope(jn.max, np.array([-INF, -INF]))[0], -INF)
    equal(value_and_slope(jn.max, np.array([INF, 1.0]))[1], [1, 0])


@pytest.mark.parametrize("x1, x2, value, by_x1", [
    (1.0, 1.0, 1.0, 0.0), (0.0, -0.0, -0.0, 0.0), (INF, INF, INF, 0.0), (1.0, 2.0, 1.0, 1.0), (2.0, 1.0, 1.0, 0.0),
    (NAN, 1.0, NAN, 1.0), (1.0, NAN, NAN, 0.0), (0.0, 1e-30, 0.0, 1.0),
])  # fmt: skip
def test_minimum_selects_the_second_at_ties(x1, x2, value, by_x1):
    y, first, second = minimum_and_jacobians(np.array([x1]), np.array([x2]))
    equal(y, [value])
    equal(first, [[by_x1]])
    equal(second, [[1 - by_x1]])


@jax.jit
def minimum_and_jacobians(x1, x2):
    return jn.minimum(x1, x2), *(jn.jacobian(jn.minimum, i)(x1, x2).dense() for i in (0, 1))


# --- lengths ------------------------------------------------------------------------------------------------------


def test_norm_at_the_zero_vector_jax21723_jax39792():
    for function in (jn.l2_norm, lambda x: jn.sum(jn.l2_norm(x, axis=-1))):
        value, gradient = value_and_slope(function, np.zeros((2, 3)))
        equal(value, 0)
        equal(gradient, np.zeros((2, 3)))
        assert np.isfinite(jax.jit(jax.grad(function))(np.zeros((2, 3)))).all()


@pytest.mark.parametrize("dtype, size", [("float16", 300.0), ("float32", 1e30), ("float64", 1e300), ("float32", 1e-30)])
def test_norm_neither_overflows_nor_vanishes_jax39899(dtype, size):
    x = np.array([3, -4], dtype) * np.asarray(size, dtype)
    value, gradient = value_and_slope(jn.l2_norm, x)
    np.testing.assert_allclose(np.float64(value) / size, 5, rtol=1e-3 if dtype == "float16" else 1e-6)
    np.testing.assert_allclose(gradient, [0.6, -0.8], rtol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, 2.5, -1, -2, 0, INF, -INF])
def test_norms_of_any_order_against_numpy_and_mpmath(p):
    x = np.array([[3.0, -1.5, 0.25], [2.0, 2.0, -7.0]])

    @jax.jit
    def compute(x):
        return jn.vector_norm(x, p=p, axis=1), jn.grad(lambda x: jn.sum(jn.vector_norm(x, p=p, axis=1)))(x)

    y, slope = compute(x)
    np.testing.assert_allclose(y, np.linalg.norm(x, p, axis=1), rtol=1e-14)
    if np.isfinite(p) and p:
        expected = np.sign(x) * (np.abs(x) / np.asarray(y)[:, None]) ** (p - 1)
        np.testing.assert_allclose(slope, expected, rtol=1e-13)
        with mpmath.workdps(40):
            row = [abs(mpmath.mpf(a)) for a in x[0]]
            exact = mpmath.fsum(a ** mpmath.mpf(p) for a in row) ** (1 / mpmath.mpf(p))
        np.testing.assert_allclose(y[0], float(exact), rtol=4e-16)


@pytest.mark.parametrize("p, value, slope", [
    (1, 3, [1, 0, -1]), (2, 5**0.5, [1 / 5**0.5, 0, -2 / 5**0.5]), (0, 2, [0, 0, 0]), (INF, 2, [0, 0, -1]),
    (-INF, 0, [0, 0, 0]), (-1, 0, [0, 0, 0]), (0.5, 3 + 8**0.5, None),
])  # fmt: skip
def test_norms_of_any_order_beside_a_zero(p, value, slope):
    found, gradient = value_and_slope(functools.partial(jn.vector_norm, p=p), np.array([1.0, 0.0, -2.0]))
    np.testing.assert_allclose(found, value, rtol=1e-15)
    if slope is not None:
        np.testing.assert_allclose(gradient, slope, rtol=1e-15)
    assert np.isfinite(gradient).all()
    if p > 0:
        zero, nothing = value_and_slope(functools.partial(jn.vector_norm, p=p), np.zeros(3))
        equal(zero, 0)
        equal(nothing, np.zeros(3))


def test_norms_of_any_order_neither_overflow_nor_vanish():
    for p, scale in ((3, 1e30), (3, 1e-30), (-3, 1e30), (-3, 1e-30)):
        found = value_and_slope(functools.partial(jn.vector_norm, p=p), np.array([scale, scale], "float32"))[0]
        np.testing.assert_allclose(found, scale * 2 ** (1 / p), rtol=1e-6)


def test_normalize_with_any_norm():
    x = np.array([[3.0, -4.0], [0.0, 0.0], [1e-20, 0.0]])
    for p, length in ((1, 7.0), (INF, 4.0), (3, 91 ** (1 / 3))):
        y, j = value_and_jacobian(functools.partial(jn.normalize, p=p, axis=1), x)
        np.testing.assert_allclose(y, [x[0] / length, [0, 0], [1e-8, 0]], rtol=1e-14)
        np.testing.assert_allclose(j[1, :, 1], np.eye(2) * 1e12)
        np.testing.assert_allclose(j[2, :, 2], np.eye(2) * 1e12)


def test_pairwise_distance():
    a, b = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[4.0, -2.0], [0.0, 0.0]])
    np.testing.assert_allclose(jn.pairwise_distance(a, b, eps=0.0), [5, 0])
    np.testing.assert_allclose(jn.pairwise_distance(a, b, p=1, eps=0.5), [2.5 + 4.5, 1])
    by_a, by_b = jax.jit(jn.grad(lambda a, b: jn.sum(jn.pairwise_distance(a, b, eps=0.0)), (0, 1)))(a, b)
    np.testing.assert_allclose(by_a, [[-0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(by_b, [[0.6, -0.8], [0, 0]])


def test_norm_of_many_half_precision_entries():
    x = np.ones(2**17, np.float16)
    np.testing.assert_allclose(np.float64(jax.jit(jn.l2_norm)(x)), 2**8.5, rtol=1e-3)


@jax.jit
def cosine_and_slopes(a, b):
    """The value, the gradients by each vector, and those of the forward function by JAX."""
    return jn.cosine_similarity(a, b), *(grad(jn.cosine_similarity, (0, 1))(a, b) for grad in (jn.grad, jax.grad))


def test_cosine_of_a_zero_vector_optax946():
    zero, x = np.zeros(3), np.array([3.0, 0.0, 4.0])
    for a, b in ((zero, x), (x, zero), (zero, zero)):
        value, by_rule, by_jax = cosine_and_slopes(a, b)
        equal(value, 0)
        for gradient in (*by_rule, *by_jax):
            assert np.isfinite(gradient).all()
    _, (_, by_x), _ = cosine_and_slopes(zero, x)
    equal(by_x, [0, 0, 0])


def test_cosine_of_a_vector_shorter_than_eps():
    """Its length counts as the constant eps."""
    tiny, x = np.array([3e-9, -2e-9]), np.array([3.0, 4.0])
    value, (by_rule, _), (by_jax, _) = cosine_and_slopes(tiny, x)
    np.testing.assert_allclose(value, (3e-9 * 0.6 - 2e-9 * 0.8) / 1e-8, rtol=1e-14)
    np.testing.assert_allclose(by_rule, [0.6e8, 0.8e8], rtol=1e-14)
    np.testing.assert_allclose(by_jax, [0.6e8, 0.8e8], rtol=1e-14)


def test_cosine_does_not_depend_on_length():
    x1, x2 = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 2.0])
    with mpmath.workdps(40):
        exact = mpmath.mpf(6) / mpmath.sqrt(14) / mpmath.sqrt(mpmath.mpf("5.25"))
    for scale in (1e-3, 1.0, 1e200):
        np.testing.assert_allclose(cosine_and_slopes(scale * x1, x2)[0], float(exact), rtol=1e-15)


# --- products and selections --------------------------------------------------------------------------------------


def check_product(layer, of_jax, of_numpy, shapes):
    """The value against NumPy, the Jacobians by all arguments against JAX."""
    xs = [np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes)]
    wrt = tuple(range(len(xs)))

    @jax.jit
    def compute(*xs):
        return layer(*xs), [j.dense() for j in jn.jacobian(layer, wrt)(*xs)], jax.jacrev(of_jax, wrt)(*xs)

    value, found, expected = compute(*xs)
    np.testing.assert_allclose(value, of_numpy(*xs), rtol=1e-12)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("subscripts, shapes", swept([
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("...i,oi->...o", [(2, 5, 3), (4, 3)]),
    ("ii", [(3, 3)]), ("ii->i", [(3, 3)]), ("ijk->kji", [(2, 3, 4)]), ("i,j,k->", [(2,), (3,), (4,)]),
    ("bij,bjk,k->bi", [(2, 3, 4), (2, 4, 5), (5,)]), ("iij,j->i", [(3, 3, 2), (2,)]), ("...,...", [(2, 3), (2, 3)]),
    ("ab,ab,ab->b", [(2, 3)] * 3), ("i,i->i", [(1,), (1,)]),
], 2, several=True))  # fmt: skip
def test_einsum(subscripts, shapes):
    check_product(*(functools.partial(library.einsum, subscripts) for library in (jn, jnp, np)), shapes)


@pytest.mark.parametrize("shapes", swept([
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)), ((4, 1, 2, 3), (5, 3, 2)),
    ((3,), (2, 3, 4)), ((2, 4, 3), (3,)),
], 2), ids=str)  # fmt: skip
def test_matmul(shapes):
    check_product(jn.matmul, jnp.matmul, np.matmul, shapes)


@pytest.mark.parametrize("padding, widths", [
    (1, [(1, 1)] * 3), ((2,), [(0, 0), (0, 0), (2, 2)]), (((0, 1), (2, 0)), [(0, 0), (0, 1), (2, 0)]), (0, [(0, 0)] * 3),
])  # fmt: skip
def test_pad_as_numpy(padding, widths):
    x = np.arange(1.0, 13).reshape(2, 3, 2)
    for value in (0.0, -INF, 2.5):
        equal(jn.pad(x, padding=padding, value=value), np.pad(x, widths, constant_values=value))
    assert jn.pad(x.astype("bfloat16"), padding=1, value=1 / 3).dtype == jnp.bfloat16


def test_pixel_shuffle_entry_by_entry():
    x = np.arange(2.0 * 8 * 3 * 2).reshape(2, 8, 3, 2)
    y = np.asarray(jn.pixel_shuffle(x, factor=2))
    assert y.shape == (2, 2, 6, 4)
    for b, c, h, w in np.ndindex(y.shape):
        assert y[b, c, h, w] == x[b, c * 4 + h % 2 * 2 + w % 2, h // 2, w // 2]


def test_embedding_gathers_and_scatters():
    ids, table = np.array([[2, 0], [2, 2]]), np.arange(8.0).reshape(4, 2)

    @jax.jit
    def compute(table):
        j = jn.jacobian(lambda w: jn.embedding(ids, w))(table)
        return jn.embedding(ids, table), j, jn.grad(lambda w: jn.sum(jn.embedding(ids, w)))(table)

    y, j, gradient = compute(table)
    equal(y, table[ids])
    assert j.structure == "selection" and j.nbytes == ids.astype("int32").nbytes
    equal(gradient, [[1, 1], [0, 0], [3, 3], [0, 0]])
    programs = str(jax.make_jaxpr(lambda u: u @ j)(np.ones((2, 2, 2))))
    assert "scatter" in programs and "dot_general" not in programs


def test_padding_is_read_but_not_learnt():
    ids, table = np.array([1, 3, 1]), np.arange(8.0).reshape(4, 2)
    for index in (3, -1):

        def read(w, index=index):
            return jn.embedding(ids, w, padding_index=index)

        equal(np.asarray(jax.jit(read)(table))[1], table[3])
        for gradient in slopes(lambda w, read=read: jn.sum(read(w)), table):
            equal(gradient, [[0, 0], [2, 2], [0, 0], [0, 0]])


@pytest.mark.parametrize("wrong", [-1, 4, 100])
def test_index_out_of_range_jax5760(wrong):
    """ValueError outside of jit; NaN inside, and forward and reverse agree."""
    ids, table = jax.device_put(np.array([1, wrong])), np.ones((4, 2))
    with pytest.raises(ValueError, match=rf"embedding.*'indices' has {wrong}.*0 to 3"):
        jn.embedding(ids, table)
    y, dense, pushed, pulled = map(np.asarray, embedding_and_products(ids, table))
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    equal(dense[1], np.zeros((2, 4, 2)))
    equal(pushed, [[1, 1], [0, 0]])
    equal(pulled, [[0, 0], [1, 1], [0, 0], [0, 0]])


@jax.jit
def embedding_and_products(ids, table):
    j = jn.jacobian(lambda w: jn.embedding(ids, w))(table)
    return jn.embedding(ids, table), j.dense(), j @ table, jnp.ones((2, 2)) @ j


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_narrow_indices(dtype):
    """Outside of jit, where they are compared with the length of the table."""
    table = np.arange(600.0).reshape(300, 2)
    equal(jn.embedding(np.array([100, 5], dtype), table), table[[100, 5]])
