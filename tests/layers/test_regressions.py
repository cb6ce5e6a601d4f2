"""Faults that were here once, each with the smallest program that showed it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn


def at_once(function, *args):
    """All that a function computes, as one program, in arrays of NumPy."""
    return jax.device_get(jax.jit(function)(*args))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_sums_of_16_bit_products_do_not_overflow(dtype):
    x, w = np.full((2000, 4), 60, dtype), np.ones((1, 4), dtype)
    both = lambda w, x: jn.mean(jn.linear(x, w)), lambda w, x: jnp.mean(x @ w.T)
    for gradient in at_once(lambda *args: [jn.grad(f)(*args) for f in both], w, x):
        assert gradient.dtype == dtype
        np.testing.assert_allclose(np.asarray(gradient, float), 60, rtol=1e-2)


def test_products_with_a_narrow_vector_are_formed_wide():
    args = np.ones(3, "float32"), np.full(3, 100, "float16")
    product = at_once(lambda x, v: jn.jacobian(lambda x: x * 1e4)(x) @ v, *args)
    assert product.dtype == jnp.float32
    np.testing.assert_allclose(product, 1e6)


def test_square_functions_compare_in_the_right_layout():
    w = normal(5, 5)
    assert jn.compare(lambda x: w @ x, np.ones(5), timed=False).ok


def test_diagonal_where_an_index_occurs_three_times():
    a = normal(3, 3, 3)

    def f(x):
        return jnp.einsum("abc,bc->ab", a, x.reshape(3, 3)).reshape(-1)

    ours, theirs = at_once(lambda x: (jn.jacobian(f)(x).diagonal(), jax.jacrev(f)(x)), np.ones(9))
    np.testing.assert_allclose(ours, np.diag(theirs), atol=1e-14)


def test_complex_intermediates_leave_jit():
    def f(w, x):
        return jnp.abs(jnp.fft.fft(x * w))

    w, x = np.arange(4.0), np.arange(1.0, 5.0)
    j, theirs = jax.jit(lambda *args: (jn.jacobian(f, 1, on_opaque="allow")(*args), jax.jacrev(f, 1)(*args)))(w, x)
    np.testing.assert_allclose(at_once(lambda j: j.dense(), j), theirs, atol=1e-12)


def test_lists_are_not_stacked_silently():
    with pytest.raises(jn.DTypeError, match="concatenate: argument 'xs1' is a list"):
        jn.concatenate([np.ones(3), np.ones(3)])


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
    def compute(x, half):
        j, narrow = jn.jacobian(jn.tanh)(x), jn.jacobian(jn.tanh)(half)
        assert (narrow + j).dtype == (j + narrow).dtype == jnp.float64
        return j.dense(), sum([j, j]).dense(), (j / 4).dense()

    dense, twice, quarter = at_once(compute, np.arange(3.0), np.arange(3, dtype="float16"))
    np.testing.assert_allclose(twice, 2 * dense)
    np.testing.assert_allclose(quarter, dense / 4)


@pytest.mark.parametrize("label", [-1, -128])
def test_narrow_labels_out_of_range_are_nan_under_jit(label):
    scores = np.log(np.full((1, 200), 1 / 200))
    assert np.isnan(jax.jit(jn.nll)(scores, np.array([label], "int8"))).all()


def test_the_entries_of_a_vector_are_no_batch():
    assert "no axis is batch" in jn.tabulate(jn.relu, np.ones(5)).batch


def test_gathers_are_selections():
    index = np.array([2, 1, 1])

    def compute(x, v):
        j = jn.jacobian(lambda x: x[index], on_opaque="error")(x)
        assert j.structure == "selection"
        return j @ v, x @ j

    pushed, pulled = at_once(compute, np.ones((3, 2)), np.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(pushed, [[4, 5], [2, 3], [2, 3]])
    np.testing.assert_allclose(pulled, [[0, 0], [2, 2], [1, 1]])


def test_products_of_selections_are_not_stored_dense():
    def compute(x):
        j = jn.jacobian(lambda x: jnp.roll(jnp.roll(x, 1), 2))(x)
        assert j.nbytes < 10_000
        return j @ x

    x = np.arange(500.0)
    np.testing.assert_allclose(at_once(compute, x), np.roll(x, 3))


def test_reshapes_that_share_an_index_between_axes_end():
    def f(x):
        return jnp.einsum("ii->i", (x.reshape(3, 4)[:, :, None] * jnp.ones((1, 1, 6))).reshape(12, 6).reshape(6, 12)[:, :6])

    jacobian = jn.jacobian(f, on_opaque="allow")
    np.testing.assert_allclose(*at_once(lambda x: (jacobian(x).dense(), jax.jacrev(f)(x)), np.arange(12.0)))


def test_reshape_that_permutes_first():
    """vmap of a convolution makes such a reshape; its order of axes was ignored."""
    x, order = np.arange(24.0).reshape(2, 3, 4), (1, 0, 2)
    f = jax.vmap(lambda a, b: jax.lax.conv_general_dilated(a, b, (1,), "VALID"))
    a, b = normal(2, 2, 2, 5), normal(2, 3, 2, 2, seed=1)
    for function, args in ((lambda x: jax.lax.reshape(x, (6, 4), order), (x,)), (f, (a, b))):
        jacobian = jn.jacobian(function, on_opaque="allow")
        ours, theirs = at_once(lambda *args, f=function, j=jacobian: (j(*args).dense(), jax.jacrev(f)(*args)), *args)
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


ROWS = {"softmax": jn.softmax, "log_softmax": jn.log_softmax, "normalize": jn.normalize, "layer_norm": jn.layer_norm}


@pytest.mark.parametrize("name", ROWS)
def test_products_with_many_rows(name):
    """Σ p·x over many rows was wrong in compiled code of jaxlib 0.10.2: https://github.com/jax-ml/jax/issues/39103."""
    w, x = (normal(n, 5, seed=n).astype("float32") for n in (8, 1000))
    others = (np.ones(8, "float32"), np.zeros(8, "float32")) if name == "layer_norm" else ()

    def per_example(x):
        return jn.jacobian(lambda x: ROWS[name](x @ w.T, *others))(x).per_example()

    assert x.size * len(w) > 2 * 16384
    np.testing.assert_allclose(at_once(per_example, x)[::99], at_once(per_example, x[::99]), atol=1e-5)
