"""Indices of every integer dtype: sizes, sums and −1 do not fit into the narrow ones or the unsigned ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets

from .comparing import assert_same, both
from .programs import r

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_and_slices_at_an_index(dtype):
    x, places = r(1000), np.array([100, 7, 100], dtype)

    def picked(x):
        parts = [jnp.take(x, places, mode=mode) for mode in ("clip", "fill")]
        return jnp.concatenate([*parts, lax.dynamic_slice(x, places[:1], (950,))])

    expected = np.zeros(1000)  # not by JAX, whose own gradient XLA compiles wrongly for 8 bits
    np.add.at(expected, [100, 7, 100, 100, 7, 100, *range(50, 1000)], 1)
    found = jax.jit(jaxnets.grad(lambda x: jnp.sum(picked(x) ** 3)))(x)
    np.testing.assert_allclose(found, expected * 3 * x**2, rtol=1e-12)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype not in ("int8", "uint8")])  # JAX refuses these
def test_indexing_with_brackets(dtype):
    x, places = r(1000), np.array([999, 7, 7], dtype)

    def gradient(package):
        return package.grad(lambda x: jnp.sum(x[places] ** 3) + jnp.sum(x.at[places].set(2.0) ** 3))

    assert_same(*both(gradient(jaxnets), gradient(jax))(x))


@pytest.mark.parametrize("dtype", ["int64", "uint32", "uint64"])
def test_an_index_beyond_32_bits_is_out_of_range(dtype):
    """It does not become a small one by losing its upper bits."""
    largest = np.array([np.iinfo(dtype).max - 1, 2**31], dtype)

    def gradient(mode):
        return jaxnets.grad(lambda x: jnp.sum(jnp.take(x, largest, mode=mode) ** 3))

    clipped, filled = both(gradient("clip"), gradient("fill"))(np.arange(1.0, 6.0))
    np.testing.assert_array_equal(clipped, [0, 0, 0, 0, 2 * 75])
    np.testing.assert_array_equal(filled, np.zeros(5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding_index", [100, 290, None])
def test_rows_of_an_embedding(dtype, padding_index):
    indices, table = np.array([100, 7, 100], dtype), r(300, 2)
    j = jax.jit(lambda t: jaxnets.jacobian(lambda t: jaxnets.embedding(indices, t, padding_index=padding_index))(t).dense())(
        table
    )
    expected = np.einsum("bk,ij->bikj", indices[:, None] == np.arange(300), np.eye(2))
    expected[indices == padding_index] = 0
    np.testing.assert_array_equal(j, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["nll", "cross_entropy"])
def test_labels_of_a_loss(dtype, name):
    labels, z = np.array([100, 7], dtype), r(2, 300)
    loss = jaxnets.LAYERS[name]

    @jax.jit
    def run(z):
        return jaxnets.value_and_grad(lambda z: loss(z, labels, ignore_index=-100).sum())(z)

    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    hot = labels[:, None] == np.arange(300)
    value, gradient = (-z[hot].sum(), -hot.astype(float)) if name == "nll" else (-np.log(p[hot]).sum(), p - hot)
    np.testing.assert_allclose(run(z)[0], value, rtol=1e-12)
    np.testing.assert_allclose(run(z)[1], gradient, rtol=1e-12, atol=1e-15)


def test_a_third_of_a_selection_is_a_third_in_float64():
    """Entries 0 and 1 have no precision of their own: what multiplies them has that of the function."""
    places, table = jnp.array([[0, 1, 2], [1, 1, 2]]), jnp.arange(8.0).reshape(4, 2)

    def averages(table):
        return jaxnets.mean(table[places], axis=1)

    counts = np.zeros((2, 4))
    for row, chosen in enumerate(np.asarray(places)):
        np.add.at(counts[row], chosen, 1)
    expected = np.einsum("ri,jk->rjik", counts, np.eye(2)) / 3
    J = jaxnets.jacobian(averages)(table)
    np.testing.assert_allclose(J.dense(), expected, rtol=1e-15)
    np.testing.assert_allclose((J @ J.T).dense(), np.einsum("abij,cdij->abcd", expected, expected), rtol=1e-15)
    np.testing.assert_allclose(jaxnets.grad(lambda table: averages(table).sum())(table), expected.sum((0, 1)), rtol=1e-15)
    np.testing.assert_allclose(jaxnets.jacobian_norm(averages)(table), np.linalg.norm(expected), rtol=1e-15)
    single = jax.jit(lambda table: jaxnets.jacobian(averages)(table).dense()).lower(table.astype(jnp.float32))
    assert "f64" not in single.as_text()
