"""Rows of tables that are shortened, bags of rows, and one-hot rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparing import near, normal
from .test_attention import at_once

TABLE = np.array([[3.0, 4.0], [0.3, -0.4], [0.0, 0.0], [-8.0, 6.0], [0.6, 0.8]])
IDS = np.array([[0, 3, 1], [2, 0, 4]])


# --- rows of a limited norm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [1, 2, 3.5, np.inf])
def test_rows_are_no_longer_than_allowed(norm_type):
    y, ours, theirs = compute(lambda w: jn.embedding(IDS, w, max_norm=1.0, norm_type=norm_type), TABLE)
    norms = np.linalg.norm(TABLE, norm_type, 1)
    short = TABLE / np.maximum(1, norms)[:, None]
    near(y, short[IDS], 1e-14)
    near(ours, theirs, 1e-12, 1e-14)
    for row in np.flatnonzero(norms <= 1):  # these are read as they are, also at the limit
        equal(ours[row == IDS][..., row, :], np.broadcast_to(np.eye(2), ((row == IDS).sum(), 2, 2)))


def compute(function, table):
    return at_once(lambda w: (function(w), jn.jacobian(function)(w).dense(), jax.jacrev(function)(w)), table)


def test_a_shortened_row_keeps_its_direction_so_its_jacobian_is_a_projection():
    """(3, 4) of length 5: (δ − x̂ x̂ᵀ) / 5 with x̂ = (3, 4) / 5."""
    j = jn.jacobian(lambda w: jn.embedding(np.array([0]), w, max_norm=1.0))(TABLE)
    near(np.asarray(j)[0, :, 0], (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) / 5, 1e-14, 1e-16)
    near(np.asarray(j)[0, :, 0] @ [3.0, 4.0], [0, 0], 0, 1e-15)
    assert j.nbytes < 100


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_norms_of_16_bit_rows(dtype):
    """300² + 400² is ∞ in float16."""
    y = jn.embedding(np.array([0]), jnp.array([[300.0, 400.0]], dtype), max_norm=1.0)
    assert y.dtype == dtype
    equal(y, np.asarray([[0.6, 0.8]]).astype(dtype))


def test_padding_and_indices_out_of_range_with_a_norm():
    """Nothing is learned of either; a row that does not exist is NaN inside jit."""

    def read(w, ids):
        return jn.embedding(ids, w, max_norm=1.0, padding_index=3)

    ids = np.array([3, 0, 7, -1])

    def run(w, ids):
        j = jn.jacobian(read)(w, ids)
        return read(w, ids), j.dense(), (jnp.ones((4, 2)) @ j, j @ w)

    y, dense, products = at_once(run, TABLE, ids)
    near(y[:2], [[-0.8, 0.6], [0.6, 0.8]], 1e-14)
    assert np.isnan(y[2:]).all()
    assert not dense[[0, 2, 3]].any() and dense[1, :, 0].any()
    assert all(np.isfinite(product).all() for product in products)
    equal(products[1][[0, 2, 3]], np.zeros((3, 2)))


# --- bags ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
@pytest.mark.parametrize("padding_index", [None, 1, -3])
def test_bags(mode, padding_index):
    table, ids = normal(4, 3), np.array([[0, 1, 2], [1, 1, 1], [3, 1, 3]])
    reduced = {"mean": np.mean, "sum": np.sum, "max": np.max}[mode]
    kept = [[k for k in row if padding_index is None or k != padding_index % 4] for row in ids]
    expected = [reduced(table[row], axis=0) if row else np.zeros(3) for row in kept]

    def bag(w):
        return jn.embedding_bag(ids, w, mode=mode, padding_index=padding_index)

    @jax.jit
    def run(w):
        j = jn.jacobian(bag, on_opaque="error")(w)
        assert "δ(k, indices[b,t])" in j.formula
        return bag(w), j.dense(), jax.jacrev(bag)(w)

    y, ours, theirs = run(table)
    near(y, expected, 1e-14)
    near(ours, theirs, 1e-13, 1e-15)
    if padding_index is not None:
        assert not np.asarray(ours)[..., 1, :].any()


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
def test_bags_of_nothing(mode):
    equal(jn.embedding_bag(np.zeros((2, 0), int), np.ones((4, 3)), mode=mode), np.zeros((2, 3)))
    equal(jn.embedding_bag(np.full((2, 2), 3, np.uint8), np.ones((4, 3)), mode=mode, padding_index=-1), np.zeros((2, 3)))


def test_weights_of_a_bag():
    table, ids, weights = normal(4, 3), np.array([[0, 1, 2], [1, 3, 1]]), normal(2, 3, seed=1)

    def bag(w, weights):
        return jn.embedding_bag(ids, w, weights, mode="sum", max_norm=1.0)

    js = jax.jit(lambda *x: (bag(*x), jn.dense(jn.jacobian(bag, (0, 1))(*x)), jax.jacrev(bag, (0, 1))(*x)))
    y, ours, theirs = js(table, weights)
    short = table / np.maximum(1, np.linalg.norm(table, axis=1))[:, None]
    near(y, (short[ids] * weights[..., None]).sum(1), 1e-13)
    for a, b in zip(ours, theirs, strict=True):
        near(a, b, 1e-12, 1e-14)


@pytest.mark.parametrize("change, error, words", [
    ({"mode": "median"}, ValueError, "mode .*'median'"),
    ({"weights": np.ones((2, 3))}, ValueError, "weights .*'sum'.*'mean'"),
    ({"weights": np.ones((2, 2)), "mode": "sum"}, jn.ShapeError, r"'weights' .*\(2, 2\).*\(2, 3\)"),
    ({"indices": np.array(3)}, jn.ShapeError, r"'indices' .*\(\)"),
    ({"indices": np.array([[5, 9]])}, ValueError, "'indices' has 5"),
    ({"padding_index": 5}, ValueError, "padding_index 5"),
], ids=str)  # fmt: skip
def test_bags_that_do_not_fit(change, error, words):
    with pytest.raises(error, match=f"embedding.*{words}"):
        jn.embedding_bag(**{"indices": np.array([[0, 1, 2], [1, 1, 3]]), "table": np.ones((5, 2))} | change)


# --- one-hot rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, axis", [((), -1), ((4,), -1), ((4,), 0), ((2, 3), 1), ((2, 3), -2), ((0,), -1)], ids=str)
def test_one_hot(shape, axis):
    labels = np.random.default_rng(0).integers(0, 5, shape)
    found = jn.one_hot(labels, 5, axis=axis, dtype="int8")
    expected = np.zeros((*shape, 5), "int8")
    for at in np.ndindex(shape):
        expected[(*at, labels[at])] = 1
    equal(found, np.moveaxis(expected, -1, axis))
    assert found.dtype == "int8"


def test_one_hot_of_labels_out_of_range_and_of_narrow_integers():
    with pytest.raises(ValueError, match=r"one_hot: argument 'labels' has 3, expected 0 to 2"):
        jn.one_hot(np.array([0, 3]), 3)
    equal(jax.jit(lambda k: jn.one_hot(k, 3))(np.array([-1, 1, 3])), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    equal(jn.one_hot(np.array([1], np.uint8), 300)[0, :3], [0, 1, 0])
    equal(jn.one_hot(np.array([2, 0]), 3), jn.data.one_hot([2, 0], 3))
    assert jn.one_hot(1, 3).dtype == jnp.result_type(float)
