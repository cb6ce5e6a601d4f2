"""Faults that were here once, each with the smallest program that showed it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_sums_of_16_bit_products_do_not_overflow(dtype):
    x, w = jnp.full((2000, 4), 60, dtype), jnp.ones((1, 4), dtype)
    for f in (lambda w: jn.mean(jn.linear(x, w)), lambda w: jnp.mean(x @ w.T)):
        gradient = jn.grad(f)(w)
        assert gradient.dtype == dtype
        np.testing.assert_allclose(np.asarray(gradient, float), 60, rtol=1e-2)


def test_products_with_a_narrow_vector_are_formed_wide():
    j = jn.jacobian(lambda x: x * 1e4)(jnp.ones(3, jnp.float32))
    product = j @ jnp.full(3, 100, jnp.float16)
    assert product.dtype == jnp.float32
    np.testing.assert_allclose(product, 1e6)


def test_square_functions_compare_in_the_right_layout():
    w = jax.random.normal(jax.random.key(1), (5, 5))
    assert jn.compare(lambda x: w @ x, jnp.ones(5), timed=False).ok


def test_diagonal_where_an_index_occurs_three_times():
    a = jax.random.normal(jax.random.key(0), (3, 3, 3))

    def f(x):
        return jnp.einsum("abc,bc->ab", a, x.reshape(3, 3)).reshape(-1)

    x = jnp.ones(9)
    np.testing.assert_allclose(jn.jacobian(f)(x).diagonal(), jnp.diag(jax.jacrev(f)(x)), atol=1e-14)


def test_complex_intermediates_leave_jit():
    def f(w, x):
        return jnp.abs(jnp.fft.fft(x * w))

    w, x = jnp.arange(4.0), jnp.arange(1.0, 5.0)
    j = jax.jit(jn.jacobian(f, 1, on_opaque="allow"))(w, x)
    np.testing.assert_allclose(j.dense(), jax.jacrev(f, 1)(w, x), atol=1e-12)


def test_lists_are_not_stacked_silently():
    with pytest.raises(jn.DTypeError, match="concatenate: argument 'xs1' is a list"):
        jn.concatenate([jnp.ones(3), jnp.ones(3)])


def test_annotations_as_strings():
    scope = {}
    source = """
from __future__ import annotations
import jaxnets as jn
from jaxtyping import Array, Float

def twice(x: Float[Array, "... i"]) -> tuple[Float[Array, "... i"], ...]:
    return x, 2 * x
"""
    exec(source, scope)
    layer = jn.layer(scope["twice"])
    try:
        assert layer.many_outputs
        with pytest.raises(jn.ShapeError, match="argument 'x'"):
            layer(jnp.float64(1))
    finally:
        del jn.LAYERS["twice"]


def test_a_layer_may_be_defined_again_where_it_was():
    def define():
        @jn.layer
        def again(x):
            return x

        return again

    try:
        assert define() is not define()
    finally:
        del jn.LAYERS["again"]


def test_sums_and_quotients_of_jacobians():
    j = jn.jacobian(jn.tanh)(jnp.arange(3.0))
    np.testing.assert_allclose(sum([j, j]).dense(), 2 * j.dense())
    np.testing.assert_allclose((j / 4).dense(), j.dense() / 4)
    narrow = jn.jacobian(jn.tanh)(jnp.arange(3, dtype=jnp.float16))
    assert (narrow + j).dtype == (j + narrow).dtype == jnp.float64


@pytest.mark.parametrize("label", [-1, -128])
def test_narrow_labels_out_of_range_are_nan_under_jit(label):
    scores = jnp.log(jnp.full((1, 200), 1 / 200))
    assert jnp.isnan(jax.jit(jn.nll)(scores, jnp.array([label], jnp.int8))).all()


def test_the_entries_of_a_vector_are_no_batch():
    assert "no axis is batch" in jn.tabulate(jn.relu, jnp.ones(5)).batch


def test_gathers_are_selections():
    index = jnp.array([2, 1, 1])
    j = jn.jacobian(lambda x: x[index], on_opaque="error")(jnp.ones((3, 2)))
    assert j.structure == "selection"
    np.testing.assert_allclose(j @ jnp.arange(6.0).reshape(3, 2), [[4, 5], [2, 3], [2, 3]])
    np.testing.assert_allclose(jnp.ones((3, 2)) @ j, [[0, 0], [2, 2], [1, 1]])


def test_products_of_selections_are_not_stored_dense():
    j = jn.jacobian(lambda x: jnp.roll(jnp.roll(x, 1), 2))(jnp.ones(500))
    assert j.nbytes < 10_000
    np.testing.assert_allclose(j @ jnp.arange(500.0), np.roll(np.arange(500.0), 3))


def test_reshapes_that_share_an_index_between_axes_end():
    def f(x):
        return jnp.einsum("ii->i", (x.reshape(3, 4)[:, :, None] * jnp.ones((1, 1, 6))).reshape(12, 6).reshape(6, 12)[:, :6])

    x = jnp.arange(12.0)
    np.testing.assert_allclose(jn.jacobian(f, on_opaque="allow")(x).dense(), jax.jacrev(f)(x))


def test_reshape_that_permutes_first():
    """vmap of a convolution makes such a reshape; its order of axes was ignored."""
    x, order = jnp.arange(24.0).reshape(2, 3, 4), (1, 0, 2)
    f = jax.vmap(lambda a, b: jax.lax.conv_general_dilated(a, b, (1,), "VALID"))
    a, b = jax.random.normal(jax.random.key(0), (2, 2, 2, 5)), jax.random.normal(jax.random.key(1), (2, 3, 2, 2))
    for function, args in ((lambda x: jax.lax.reshape(x, (6, 4), order), (x,)), (f, (a, b))):
        j = jn.jacobian(function, on_opaque="allow")(*args)
        np.testing.assert_allclose(j.dense(), jax.jacrev(function)(*args), atol=1e-12)


ROWS = {"softmax": jn.softmax, "log_softmax": jn.log_softmax, "normalize": jn.normalize, "layer_norm": jn.layer_norm}


@pytest.mark.parametrize("name", ROWS)
def test_products_with_many_rows(name):
    """Σ p·x over many rows was wrong in compiled code of jaxlib 0.10.2: https://github.com/jax-ml/jax/issues/39103."""
    w, x = (jax.random.normal(jax.random.key(n), (n, 5), jnp.float32) for n in (8, 1000))
    others = (jnp.ones(8, jnp.float32), jnp.zeros(8, jnp.float32)) if name == "layer_norm" else ()

    def per_example(x):
        return jn.jacobian(lambda x: ROWS[name](x @ w.T, *others))(x).per_example()

    assert x.size * len(w) > 2 * 16384
    np.testing.assert_allclose(jax.jit(per_example)(x)[::99], per_example(x[::99]), atol=1e-5)
