"""Reductions, masks, selections and products: exact values at special points, errors published for other libraries."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn

from ..sweeps import swept

INF, NAN = np.inf, np.nan


def equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def value_and_slope(function, x):
    return jn.value_and_grad(function)(jnp.asarray(x))


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
    found, gradient = value_and_slope(jn.logsumexp, x)
    np.testing.assert_allclose(found, value, rtol=1e-15)
    np.testing.assert_allclose(gradient, slope, rtol=1e-14)


@pytest.mark.parametrize("masked", [-1e9, -INF, INF, NAN, 1e30], ids=["jax23842", "jax17117", "jax19490", "nan", "jax16208"])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "softmin", "sum", "mean", "max"])
def test_masked_entries_have_no_influence(name, masked):
    layer, x, where = jn.LAYERS[name], jnp.array([1.0, -2.0, masked]), jnp.array([True, True, False])
    single = name not in ("softmax", "log_softmax", "softmin")
    y, alone = layer(x, where), layer(x[:2])
    equal(y if single else y[:2], alone)
    j, j_alone = jn.jacobian(lambda x: layer(x, where))(x).dense(), jn.jacobian(layer)(x[:2]).dense()
    equal(j[..., :2] if single else j[:2, :2], j_alone)
    equal(j[..., 2], np.zeros(j.shape[:-1]))
    if not single:
        equal(y[2], -INF if name == "log_softmax" else 0)
        equal(j[2], [0, 0, 0])


@pytest.mark.parametrize("name, value", [
    ("logsumexp", -INF), ("sum", 0.0), ("mean", 0.0), ("max", -INF), ("softmax", [0, 0]), ("log_softmax", [-INF, -INF]),
])  # fmt: skip
def test_everything_masked(name, value):
    layer, x, where = jn.LAYERS[name], jnp.array([NAN, 1.0]), jnp.zeros(2, bool)
    equal(layer(x, where), value)
    j = jn.jacobian(lambda x: layer(x, where))(x).dense()
    equal(j, np.zeros(j.shape))


# --- max ----------------------------------------------------------------------------------------------------------


def test_ties_of_max_share_evenly():
    equal(jn.grad(jn.max)(jnp.array([2.0, 1.0, 2.0, 2.0])), np.array([1, 0, 1, 1]) / 3)
    equal(jax.grad(jnp.max)(jnp.array([2.0, 1.0, 2.0, 2.0])), np.array([1, 0, 1, 1]) / 3)


def test_a_masked_tie_of_max_gets_nothing():
    equal(jn.grad(lambda x: jn.max(x, jnp.array([True, False, True])))(jnp.array([2.0, 2.0, 1.0])), [1, 0, 0])


def test_max_of_nan_and_infinities():
    assert np.isnan(jn.max(jnp.array([1.0, NAN])))
    equal(jn.max(jnp.array([-INF, -INF])), -INF)
    equal(jn.grad(jn.max)(jnp.array([INF, 1.0])), [1, 0])


@pytest.mark.parametrize("x1, x2, value, by_x1", [
    (1.0, 1.0, 1.0, 0.0), (0.0, -0.0, -0.0, 0.0), (INF, INF, INF, 0.0), (1.0, 2.0, 1.0, 1.0), (2.0, 1.0, 1.0, 0.0),
    (NAN, 1.0, NAN, 1.0), (1.0, NAN, NAN, 0.0), (0.0, 1e-30, 0.0, 1.0),
])  # fmt: skip
def test_minimum_selects_the_second_at_ties(x1, x2, value, by_x1):
    first, second = (jn.jacobian(jn.minimum, i)(jnp.array([x1]), jnp.array([x2])).dense() for i in (0, 1))
    equal(jn.minimum(jnp.array([x1]), jnp.array([x2])), [value])
    equal(first, [[by_x1]])
    equal(second, [[1 - by_x1]])


# --- lengths ------------------------------------------------------------------------------------------------------


def test_norm_at_the_zero_vector_jax21723_jax39792():
    for function in (jn.l2_norm, lambda x: jn.sum(jn.l2_norm(x, axis=-1))):
        value, gradient = value_and_slope(function, np.zeros((2, 3)))
        equal(value, 0)
        equal(gradient, np.zeros((2, 3)))
        assert np.isfinite(jax.grad(function)(jnp.zeros((2, 3)))).all()


@pytest.mark.parametrize("dtype, size", [("float16", 300.0), ("float32", 1e30), ("float64", 1e300), ("float32", 1e-30)])
def test_norm_neither_overflows_nor_vanishes_jax39899(dtype, size):
    x = jnp.array([3, -4], dtype) * jnp.asarray(size, dtype)
    value, gradient = value_and_slope(jn.l2_norm, x)
    np.testing.assert_allclose(np.float64(value) / size, 5, rtol=1e-3 if dtype == "float16" else 1e-6)
    np.testing.assert_allclose(gradient, [0.6, -0.8], rtol=1e-3 if dtype == "float16" else 1e-6)


def test_norm_of_many_half_precision_entries():
    x = jnp.ones(2**17, jnp.float16)
    np.testing.assert_allclose(np.float64(jn.l2_norm(x)), 2**8.5, rtol=1e-3)


def test_cosine_of_a_zero_vector_optax946():
    zero, x = jnp.zeros(3), jnp.array([3.0, 0.0, 4.0])
    for a, b in ((zero, x), (x, zero), (zero, zero)):
        equal(jn.cosine_similarity(a, b), 0)
        for i in (0, 1):
            for gradient in (jn.grad(jn.cosine_similarity, i)(a, b), jax.grad(jn.cosine_similarity, i)(a, b)):
                assert np.isfinite(gradient).all()
    equal(jn.grad(jn.cosine_similarity, 1)(zero, x), [0, 0, 0])


def test_cosine_of_a_vector_shorter_than_eps():
    """Its length counts as the constant eps."""
    tiny, x = jnp.array([3e-9, -2e-9]), jnp.array([3.0, 4.0])
    np.testing.assert_allclose(jn.cosine_similarity(tiny, x), (3e-9 * 0.6 - 2e-9 * 0.8) / 1e-8, rtol=1e-14)
    np.testing.assert_allclose(jn.grad(jn.cosine_similarity)(tiny, x), [0.6e8, 0.8e8], rtol=1e-14)
    np.testing.assert_allclose(jax.grad(jn.cosine_similarity)(tiny, x), [0.6e8, 0.8e8], rtol=1e-14)


def test_cosine_does_not_depend_on_length():
    x1, x2 = jnp.array([1.0, 2.0, 3.0]), jnp.array([-1.0, 0.5, 2.0])
    with mpmath.workdps(40):
        exact = mpmath.mpf(6) / mpmath.sqrt(14) / mpmath.sqrt(mpmath.mpf("5.25"))
    for scale in (1e-3, 1.0, 1e200):
        np.testing.assert_allclose(jn.cosine_similarity(scale * x1, x2), float(exact), rtol=1e-15)


# --- products and selections --------------------------------------------------------------------------------------


@pytest.mark.parametrize("subscripts, shapes", swept([
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("...i,oi->...o", [(2, 5, 3), (4, 3)]),
    ("ii", [(3, 3)]), ("ii->i", [(3, 3)]), ("ijk->kji", [(2, 3, 4)]), ("i,j,k->", [(2,), (3,), (4,)]),
    ("bij,bjk,k->bi", [(2, 3, 4), (2, 4, 5), (5,)]), ("iij,j->i", [(3, 3, 2), (2,)]), ("...,...", [(2, 3), (2, 3)]),
    ("ab,ab,ab->b", [(2, 3)] * 3), ("i,i->i", [(1,), (1,)]),
], 2, several=True))  # fmt: skip
def test_einsum(subscripts, shapes):
    xs = [jnp.asarray(np.random.default_rng(i).normal(size=shape)) for i, shape in enumerate(shapes)]
    np.testing.assert_allclose(jn.einsum(subscripts, *xs), np.einsum(subscripts, *xs), rtol=1e-12)
    wrt = tuple(range(len(xs)))
    found = jn.jacobian(lambda *xs: jn.einsum(subscripts, *xs), wrt)(*xs)
    expected = jax.jacrev(lambda *xs: jnp.einsum(subscripts, *xs), wrt)(*xs)
    for j, whole in zip(found, expected, strict=True):
        np.testing.assert_allclose(j.dense(), whole, atol=1e-12)


@pytest.mark.parametrize("shapes", swept([
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)), ((4, 1, 2, 3), (5, 3, 2)),
    ((3,), (2, 3, 4)), ((2, 4, 3), (3,)),
], 2), ids=str)  # fmt: skip
def test_matmul(shapes):
    x1, x2 = (jnp.asarray(np.random.default_rng(i).normal(size=shape)) for i, shape in enumerate(shapes))
    np.testing.assert_allclose(jn.matmul(x1, x2), np.matmul(x1, x2), rtol=1e-12)
    for j, whole in zip(jn.jacobian(jn.matmul, (0, 1))(x1, x2), jax.jacrev(jnp.matmul, (0, 1))(x1, x2), strict=True):
        np.testing.assert_allclose(j.dense(), whole, atol=1e-12)


def test_embedding_gathers_and_scatters():
    ids, table = jnp.array([[2, 0], [2, 2]]), jnp.arange(8.0).reshape(4, 2)
    equal(jn.embedding(ids, table), np.asarray(table)[np.asarray(ids)])
    j = jn.jacobian(lambda w: jn.embedding(ids, w))(table)
    assert j.structure == "selection" and j.nbytes == ids.nbytes
    equal(jn.grad(lambda w: jn.sum(jn.embedding(ids, w)))(table), [[1, 1], [0, 0], [3, 3], [0, 0]])
    programs = str(jax.make_jaxpr(lambda u: u @ j)(jnp.ones((2, 2, 2))))
    assert "scatter" in programs and "dot_general" not in programs


def test_padding_is_read_but_not_learnt():
    ids, table = jnp.array([1, 3, 1]), jnp.arange(8.0).reshape(4, 2)
    for index in (3, -1):

        def read(w, index=index):
            return jn.embedding(ids, w, padding_index=index)

        equal(read(table)[1], table[3])
        equal(jn.grad(lambda w: jn.sum(read(w)))(table), [[0, 0], [2, 2], [0, 0], [0, 0]])
        equal(jax.grad(lambda w: jn.sum(read(w)))(table), [[0, 0], [2, 2], [0, 0], [0, 0]])


@pytest.mark.parametrize("wrong", [-1, 4, 100])
def test_index_out_of_range_jax5760(wrong):
    """ValueError outside of jit; NaN inside, and forward and reverse agree."""
    ids, table = jnp.array([1, wrong]), jnp.ones((4, 2))
    with pytest.raises(ValueError, match=rf"embedding.*'indices' has {wrong}.*0 to 3"):
        jn.embedding(ids, table)
    y = jax.jit(jn.embedding)(ids, table)
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    j = jax.jit(lambda ids, w: jn.jacobian(lambda w: jn.embedding(ids, w))(w))(ids, table)
    equal(j.dense()[1], np.zeros((2, 4, 2)))
    equal(j @ table, [[1, 1], [0, 0]])
    equal(jnp.ones((2, 2)) @ j, [[0, 0], [1, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_narrow_indices(dtype):
    table = jnp.arange(600.0).reshape(300, 2)
    equal(jn.embedding(jnp.array([100, 5], dtype), table), table[jnp.array([100, 5])])
