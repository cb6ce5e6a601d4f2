"""What holds where the derivative does not exist and at special values, in exact tables; and published bugs.

An issue number in a test's name is that of a library that had, or has, the fault.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets
from jaxnets.algebra.factors import Label
from jaxnets.algebra.rules import from_groups
from jaxnets.algebra.selections import Selection

from ..sweeps import swept

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]


def array_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def blocks(function, *args):
    """The dense Jacobians by all arguments."""
    return jaxnets.dense(jaxnets.jacobian(function, tuple(range(len(args))))(*args))


# --- elementwise --------------------------------------------------------------------------------------------------

# layer, x, value, derivative
EXACT = [
    ("relu", 0.0, 0.0, 0.0),
    ("relu", -0.0, 0.0, 0.0),
    ("relu", 1e-30, 1e-30, 1.0),
    ("relu", -1e-30, 0.0, 0.0),
    ("relu", INF, INF, 1.0),
    ("relu", -INF, 0.0, 0.0),
    ("relu", 1e4, 1e4, 1.0),
    ("relu", -1e4, 0.0, 0.0),
    ("tanh", 0.0, 0.0, 1.0),
    ("tanh", -0.0, -0.0, 1.0),
    ("tanh", INF, 1.0, 0.0),
    ("tanh", -INF, -1.0, 0.0),
    ("tanh", 1e4, 1.0, 0.0),
    ("tanh", -1e4, -1.0, 0.0),
    ("tanh", 710.0, 1.0, 0.0),
    ("sigmoid", 0.0, 0.5, 0.25),
    ("sigmoid", -0.0, 0.5, 0.25),
    ("sigmoid", INF, 1.0, 0.0),
    ("sigmoid", -INF, 0.0, 0.0),
    ("sigmoid", 1e4, 1.0, 0.0),
    ("sigmoid", -1e4, 0.0, 0.0),
    ("softplus", 0.0, np.log(2), 0.5),
    ("softplus", -0.0, np.log(2), 0.5),
    ("softplus", INF, INF, 1.0),
    ("softplus", -INF, 0.0, 0.0),
    ("softplus", 1e4, 1e4, 1.0),
    ("softplus", -1e4, 0.0, 0.0),
    ("softplus", 88.8, 88.8, 1.0),
    ("softplus", 710.0, 710.0, 1.0),
    ("identity", INF, INF, 1.0),
    ("identity", -0.0, -0.0, 1.0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, x, value, derivative", EXACT)
def test_special_values(name, x, value, derivative, dtype):
    x, layer = np.array([x], dtype), jaxnets.LAYERS[name]
    y = layer(x)
    array_equal(y, np.array([value], dtype))
    assert np.signbit(y[0]) == np.signbit(value)
    array_equal(jaxnets.jacobian(layer)(x).diagonal(), np.array([derivative], dtype))


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softplus", "identity"])
def test_nan_propagates(name):
    assert np.isnan(jaxnets.LAYERS[name](np.array([NAN]))).all()


@pytest.mark.parametrize("x1, x2, value, by_x1", [
    (1.0, 1.0, 1.0, 0.0), (0.0, -0.0, -0.0, 0.0), (-0.0, 0.0, 0.0, 0.0), (INF, INF, INF, 0.0), (-INF, -INF, -INF, 0.0),
    (2.0, 1.0, 2.0, 1.0), (1.0, 2.0, 2.0, 0.0), (NAN, 1.0, NAN, 1.0), (1.0, NAN, NAN, 0.0), (1e-30, 0.0, 1e-30, 1.0),
])  # fmt: skip
def test_maximum_selects_the_second_at_ties(x1, x2, value, by_x1):
    x1, x2 = np.array([x1]), np.array([x2])
    y = jaxnets.maximum(x1, x2)
    array_equal(y, [value])
    assert np.signbit(y[0]) == np.signbit(value) or np.isnan(value)
    first, second = blocks(jaxnets.maximum, x1, x2)
    array_equal(first, [[by_x1]])
    array_equal(second, [[1 - by_x1]])


@pytest.mark.parametrize("name, x, value, derivative", [
    ("softplus", 89.0, 89.0, 1.0), ("softplus", 0.0, np.log(2), 0.5), ("sigmoid", -200.0, np.exp(-200.0), np.exp(-200.0)),
    ("relu", 1.2e-38, 1.2e-38, 1.0), ("relu", 0.0, 0.0, 0.0),
], ids=["burn#5373", "jax#2107", "jax#777", "jax#37821", "jax#2342 #14682"])  # fmt: skip
def test_published_bugs_of_elementwise_layers(name, x, value, derivative):
    layer = jaxnets.LAYERS[name]
    found, slope = jaxnets.value_and_grad(layer)(jnp.float64(x))
    np.testing.assert_allclose([found, slope], [value, derivative], rtol=1e-14)


# --- softmax and log-softmax --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16", *DTYPES], ["float32"]))
@pytest.mark.parametrize("n", swept([1, 2, 5], [1, 2]))
def test_fully_masked_row_of_softmax_jax21495(n, dtype):
    x = jnp.array([[-INF] * n, [0.0] * n], dtype)
    array_equal(jaxnets.softmax(x)[0], np.zeros(n, dtype))
    j = jaxnets.jacobian(jaxnets.softmax)(x)
    array_equal(j.per_example()[0], np.zeros((n, n)))
    array_equal(j.diagonal()[0], np.zeros(n))
    array_equal((j @ x.at[0].set(2.0))[0], np.zeros(n))
    array_equal((x.at[0].set(2.0) @ j)[0], np.zeros(n))


def test_fully_masked_row_of_log_softmax_jax6811():
    x = jnp.array([-INF, -INF])
    array_equal(jaxnets.log_softmax(x), x)
    j = jaxnets.jacobian(jaxnets.log_softmax)(x)
    for value in (j.dense(), j.diagonal(), j @ jnp.ones(2), jnp.ones(2) @ j):
        assert np.isfinite(value).all()


def test_one_masked_logit():
    x = jnp.array([-INF, 0.0])
    array_equal(jaxnets.softmax(x), [0.0, 1.0])
    array_equal(jaxnets.log_softmax(x), [-INF, 0.0])
    array_equal(blocks(jaxnets.softmax, x)[0], np.zeros((2, 2)))
    array_equal(blocks(jaxnets.log_softmax, x)[0], [[1.0, -1.0], [0.0, 0.0]])


@pytest.mark.parametrize("mask", [-1e9, -1e30, -3e38, -INF])
@pytest.mark.parametrize("issue", ["jax23842", "jax17117", "jax19490", "jax16208"])
def test_masked_rows(mask, issue):
    """A masked entry changes nothing for the others, and has no influence."""
    x = jnp.array({"jax23842": [1, 2], "jax17117": [0, 0], "jax19490": [1e3, -1e3], "jax16208": [-5, 3]}[issue], "float32")
    masked = jnp.append(x, jnp.float32(mask))
    for layer in (jaxnets.softmax, jaxnets.log_softmax):
        array_equal(layer(masked)[:2], layer(x))
        found = blocks(layer, masked)[0]
        array_equal(found[:2, :2], blocks(layer, x)[0])
        array_equal(found[:2, 2], [0, 0])


def test_mask_constant_of_float16_flax982():
    """−1e9 is −∞ in float16."""
    with np.errstate(over="ignore"):
        x = jnp.array([[-1e9, -1e9], [-1e9, 0.0]], "float16")
    array_equal(jaxnets.softmax(x), [[0, 0], [0, 1]])


def test_log_softmax_of_large_equal_logits_jax985():
    for dtype in DTYPES:
        np.testing.assert_allclose(jaxnets.log_softmax(np.array([1e8, 1e8], dtype)), [-np.log(2)] * 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tail_gradients_jax40344_jax40384_jax40386(dtype):
    x, tail = jnp.array([40.0, 0.0], dtype), np.exp(-40.0)
    np.testing.assert_allclose(blocks(jaxnets.softmax, x)[0], np.array([[1, -1], [-1, 1]]) * tail, rtol=1e-5)
    np.testing.assert_allclose(blocks(jaxnets.log_softmax, x)[0], [[tail, -tail], [-1, 1]], rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tail_value_torch113708(dtype):
    np.testing.assert_allclose(jaxnets.log_softmax(np.array([40, 0], dtype)), [-np.exp(-40.0), -40], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_wide_rows_in_half_precision(dtype):
    p = jaxnets.softmax(jnp.zeros(2**17, dtype))
    assert p.dtype == dtype
    np.testing.assert_allclose(np.asarray(p, np.float64).sum(), 1, atol=0.02)
    j = jaxnets.jacobian(jaxnets.softmax)(jnp.zeros(2**17, dtype))
    assert np.abs(np.asarray(j @ jnp.ones(2**17, dtype), np.float64)).max() < 1e-6


def test_wide_log_softmax_in_float16_jax40409():
    y = jaxnets.log_softmax(jnp.zeros(2**16, "float16"))
    assert y.dtype == np.float16
    np.testing.assert_allclose(np.asarray(y, np.float64), -16 * np.log(2), rtol=1e-3)


def test_half_precision_products_do_not_overflow():
    """Sums and differences of vectors whose own entries are representable."""
    v, x = jnp.array([6e4, -6e4], "float16"), jnp.zeros(2, "float16")
    j = jaxnets.jacobian(jaxnets.softmax)(x)
    np.testing.assert_allclose([j @ v, v @ j], [[3e4, -3e4]] * 2, rtol=1e-3)
    j = jaxnets.jacobian(jaxnets.log_softmax)(x)
    np.testing.assert_allclose(j @ v, v, rtol=1e-3)
    np.testing.assert_allclose(jnp.abs(v) @ j, [0, 0], atol=60)  # an ulp of 6e4 is 32


# --- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, (0.0, 1.0, 0.0)], ids=["label", "one-hot"])
def test_infinite_logit_where_the_target_is_zero_optax896(targets):
    logits, targets = jnp.array([-INF, 1.0, 2.0]), np.array(targets)
    value, gradient = jaxnets.value_and_grad(lambda x: jaxnets.cross_entropy(x, targets))(logits)
    p = 1 / (1 + np.e)
    np.testing.assert_allclose(value, -np.log(p), rtol=1e-14)
    np.testing.assert_allclose(gradient, [0, p - 1, 1 - p], rtol=1e-14)


def test_jvp_with_an_infinite_logit_optax1762():
    targets = np.array([0.0, 0.25, 0.75])
    j = jaxnets.jacobian(lambda x: jaxnets.cross_entropy(x, targets))(jnp.array([-INF, 0.0, 0.0]))
    np.testing.assert_allclose(j @ np.array([5.0, 1.0, 0.0]), 0.25, rtol=1e-14)


def test_probability_that_is_zero_or_one():
    logits, targets = np.array([[2.0, -1.0, 0.5]]), np.array([[0.0, 0.0, 1.0]])
    by_logits, by_targets = blocks(jaxnets.cross_entropy, logits, targets)
    label = jaxnets.cross_entropy(logits, np.array([2]))
    np.testing.assert_allclose(jaxnets.cross_entropy(logits, targets), label, rtol=1e-15)
    np.testing.assert_allclose(by_logits[0, 0], np.asarray(jaxnets.softmax(logits) - targets)[0], rtol=1e-14)
    np.testing.assert_allclose(by_targets[0, 0], -np.asarray(jaxnets.log_softmax(logits))[0], rtol=1e-14)


def test_targets_that_are_no_distribution():
    """Σ t ≠ 1 is allowed, and zero targets give loss and gradient 0."""
    x, t = np.array([1.0, 2.0, 4.0]), np.array([0.5, 2.0, 0.25])
    expected = jax.grad(lambda x: -jnp.sum(t * jax.nn.log_softmax(x)))(x)
    np.testing.assert_allclose(jaxnets.grad(jaxnets.cross_entropy)(x, t), expected, rtol=1e-12)
    array_equal(jaxnets.cross_entropy(x, 0 * t), 0)
    array_equal(jaxnets.grad(jaxnets.cross_entropy)(x, 0 * t), [0, 0, 0])


@pytest.mark.parametrize("loss", [jaxnets.nll, jaxnets.cross_entropy])
@pytest.mark.parametrize("label", [3, -1, 100])
def test_label_out_of_range(loss, label):
    """ValueError outside of jit, NaN inside; forward and reverse agree (jax#5760)."""
    x, labels = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), jnp.array([1, label])
    with pytest.raises(ValueError, match=f"{loss.__name__}.*'targets'.*{label}.*0 to 2"):
        loss(x, labels)
    value = jax.jit(loss)(x, labels)
    assert np.isfinite(value[0]) and np.isnan(value[1])
    j = jax.jit(lambda x, labels: jaxnets.jacobian(lambda x: loss(x, labels))(x))(x, labels)
    array_equal(j.T.dense(), np.moveaxis(np.asarray(j.dense()), 0, -1))
    array_equal((j @ jnp.ones((2, 3)))[1], j.dense()[1].sum())
    array_equal((jnp.ones(2) @ j)[1], j.dense()[1, 1])
    if loss is jaxnets.nll:
        array_equal(j.dense()[1], np.zeros((2, 3)))


@pytest.mark.parametrize("loss", [jaxnets.nll, jaxnets.cross_entropy])
def test_label_that_is_a_python_number(loss):
    """Within `grad` as without."""
    x = jnp.array([1.0, 2.0, 4.0])
    value, gradient = jaxnets.value_and_grad(lambda x: loss(x, 1))(x)
    array_equal(value, loss(x, 1))
    array_equal(gradient, jaxnets.grad(lambda x: loss(x, jnp.int32(1)))(x))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint32"])
def test_label_dtypes(dtype):
    x, labels = jnp.array([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0]]), np.array([2, 0], dtype)
    array_equal(jaxnets.nll(x, labels), [-4.0, 0.0])
    array_equal(blocks(lambda x: jaxnets.nll(x, labels), x)[0][[0, 1], [0, 1]], [[0, 0, -1], [-1, 0, 0]])


def test_nll_of_a_masked_class():
    x = jnp.array([-INF, -1.0])
    array_equal(jaxnets.nll(x, np.int32(1)), 1.0)
    array_equal(jaxnets.grad(lambda x: jaxnets.nll(x, np.int32(1)))(x), [0, -1])


def primitives(function, *args):
    """The names of the primitives that a function runs."""
    return {word for line in str(jax.make_jaxpr(function)(*args)).splitlines() for word in line.replace("[", " ").split()}


@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 2, 2)], ids=str)
def test_nll_products_gather_and_scatter(shape):
    """The one-hot array is never made."""
    x, batch = jnp.ones(shape), shape[: len(shape) > 1]
    j = jaxnets.jacobian(lambda x: jaxnets.nll(x.reshape(*batch, 4), jnp.zeros(batch, int)))(x)
    pushed, pulled = primitives(lambda v: j @ v, x), primitives(lambda u: u @ j, jnp.ones(batch))
    assert "gather" in pushed and "dot_general" not in pushed
    assert "scatter-add" in pulled and "dot_general" not in pulled


@pytest.mark.parametrize("shapes", [((3, 1), (3,)), ((3,), (3, 1)), ((3,), ()), ((1,), (3,)), ((2, 3), (3,))], ids=str)
def test_squared_error_refuses_to_broadcast(shapes):
    a, b = map(np.ones, shapes)
    with pytest.raises(jaxnets.ShapeError, match="squared_error.*'targets'.*expected"):
        jaxnets.squared_error(a, b)


def test_squared_error_at_its_minimum_and_beyond():
    x = np.array([1.0, INF, NAN])
    by_predictions, by_targets = blocks(jaxnets.squared_error, x[:1], x[:1])
    array_equal([by_predictions, by_targets], np.zeros((2, 1, 1)))
    assert np.isnan(jaxnets.squared_error(x, x)[1:]).all()


# --- combining ----------------------------------------------------------------------------------------------------


def test_cotangents_of_copies_add_up():
    array_equal(jaxnets.grad(lambda x: sum(y * k for k, y in enumerate(jaxnets.duplicate(x, n=4))))(1.0), 0 + 1 + 2 + 3)


@pytest.mark.parametrize("shape", [(3, 2), (2,)], ids=str)
def test_concatenate_products_slice_and_pad(shape):
    x = jnp.ones(shape)
    j = jaxnets.jacobian(lambda x: jaxnets.concatenate(2 * x, x, x))(x)
    pushed, pulled = primitives(lambda v: j @ v, x), primitives(lambda u: u @ j, jnp.ones((*shape[:-1], 6)))
    assert "pad" in pushed and "dot_general" not in pushed
    assert "slice" in pulled and "dot_general" not in pulled


def test_strided_slice():
    j = jaxnets.jacobian(lambda x: x[1:6:2])(jnp.ones(7))
    array_equal(j.dense(), np.eye(7)[1:6:2])
    array_equal(j @ jnp.arange(7.0), [1, 3, 5])
    array_equal(jnp.array([1.0, 2.0, 3.0]) @ j, [0, 1, 0, 2, 0, 3, 0])


def test_products_of_selections():
    """Rows picked by an index array: products on both sides, and where output and input are the same axis."""

    def selection(index, columns, classes):
        b, k, i = (Label(n, size) for n, size in enumerate((len(index), classes, columns)))
        rule = from_groups([(b,), (i,)], [(k,), (i,)], Selection(jnp.array(index), ((b,), (k,))))
        return rule(np.empty((len(index), columns)), np.empty((classes, columns)))

    rng = np.random.default_rng(0)
    j, dense = selection([3, 1, 1, -1, 7, 0], 3, 4), np.zeros((6, 3, 4, 3))
    for row, source in (0, 3), (1, 1), (2, 1), (5, 0):  # −1 and 7 select nothing
        dense[row, range(3), source, range(3)] = 1
    array_equal(j.dense(), dense)
    left, right = rng.normal(size=(2, 6, 3)), rng.normal(size=(4, 3, 5))
    pulled = jaxnets.rules.einsum("a", "bi", (left, "abi"))(np.empty(2), np.empty((6, 3))) @ j
    np.testing.assert_allclose(pulled.dense(), np.einsum("abi,bikj->akj", left, dense), rtol=1e-12)
    pushed = j @ jaxnets.rules.einsum("ki", "z", (right, "kiz"))(np.empty((4, 3)), np.empty(5))
    np.testing.assert_allclose(pushed.dense(), np.einsum("bikj,kjz->biz", dense, right), rtol=1e-12)
    array_equal((j @ j.T).dense(), np.einsum("bikl,cjkl->bicj", dense, dense))
    square = selection([2, 1, 1], 1, 3)
    array_equal(square.diagonal(), [[0], [1], [0]])
    array_equal((3 * square @ square).diagonal(), [[0], [3], [0]])
    array_equal((square @ square).matrix(), square.matrix() @ square.matrix())


def test_mean_of_one_and_of_nothing():
    array_equal(blocks(jaxnets.mean, np.array([3.0]))[0], [1.0])
    assert blocks(jaxnets.mean, np.zeros(0))[0].shape == (0,)


def test_flatten_keeps_row_major_order():
    array_equal(jaxnets.flatten(np.arange(12.0).reshape(2, 3, 2)), np.arange(12.0).reshape(2, 6))
    array_equal(blocks(jaxnets.flatten, np.zeros((1, 2, 2)))[0].reshape(4, 4), np.eye(4))
