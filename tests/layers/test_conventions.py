"""What holds where the derivative does not exist and at special values, exactly; and published bugs.

Elementwise layers: test_elementwise_conventions.py.  An issue number in a test's name is that of a library that had, or has,
the fault.
"""

import functools

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
    """The dense Jacobians by all arguments, from one program."""
    return jax.jit(lambda *args: jaxnets.dense(jaxnets.jacobian(function, tuple(range(len(args))))(*args)))(*args)


# --- softmax and log-softmax --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16", *DTYPES], ["float32"]))
@pytest.mark.parametrize("n", swept([1, 2, 5], [1, 2]))
def test_fully_masked_row_of_softmax_jax21495(n, dtype):
    @jax.jit
    def compute(x, v):
        j = jaxnets.jacobian(jaxnets.softmax)(x)
        return jaxnets.softmax(x), j.diagonal(), j @ v, v @ j, j.per_example()

    x, v = np.array([[-INF] * n, [0.0] * n], dtype), np.array([[2.0] * n, [0.0] * n], dtype)
    *vectors, whole = map(np.asarray, compute(x, v))
    for found in vectors:
        array_equal(found[0], np.zeros(n))
    assert vectors[0].dtype == dtype
    array_equal(whole[0], np.zeros((n, n)))


def test_fully_masked_row_of_log_softmax_jax6811():
    @jax.jit
    def compute(x):
        j = jaxnets.jacobian(jaxnets.log_softmax)(x)
        return jaxnets.log_softmax(x), j.dense(), j.diagonal(), j @ jnp.ones(2), jnp.ones(2) @ j

    x = np.array([-INF, -INF])
    y, *derivatives = compute(x)
    array_equal(y, x)
    for value in derivatives:
        assert np.isfinite(value).all()


def test_one_masked_logit():
    for layer, value, derivative in (
        (jaxnets.softmax, [0.0, 1.0], np.zeros((2, 2))),
        (jaxnets.log_softmax, [-INF, 0.0], [[1.0, -1.0], [0.0, 0.0]]),
    ):
        y, dense = value_and_jacobian(layer, np.array([-INF, 0.0]))
        array_equal(y, value)
        array_equal(dense, derivative)


@pytest.mark.parametrize("mask", [-1e9, -1e30, -3e38, -INF])
@pytest.mark.parametrize("issue", ["jax23842", "jax17117", "jax19490", "jax16208"])
def test_masked_rows(mask, issue):
    """A masked entry changes nothing for the others, and has no influence."""
    x = np.array({"jax23842": [1, 2], "jax17117": [0, 0], "jax19490": [1e3, -1e3], "jax16208": [-5, 3]}[issue], "float32")
    masked = np.append(x, np.float32(mask))
    for layer in (jaxnets.softmax, jaxnets.log_softmax):
        (y, found), (alone, by_x) = (map(np.asarray, value_and_jacobian(layer, x)) for x in (masked, x))
        array_equal(y[:2], alone)
        array_equal(found[:2, :2], by_x)
        array_equal(found[:2, 2], [0, 0])


@functools.partial(jax.jit, static_argnums=0)
def value_and_jacobian(layer, x):
    return layer(x), jaxnets.jacobian(layer)(x).dense()


def test_mask_constant_of_float16_flax982():
    """−1e9 is −∞ in float16."""
    with np.errstate(over="ignore"):
        x = np.array([[-1e9, -1e9], [-1e9, 0.0]], "float16")
    array_equal(jax.jit(jaxnets.softmax)(x), [[0, 0], [0, 1]])


def test_log_softmax_of_large_equal_logits_jax985():
    for dtype in DTYPES:
        np.testing.assert_allclose(jax.jit(jaxnets.log_softmax)(np.array([1e8, 1e8], dtype)), [-np.log(2)] * 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tail_gradients_jax40344_jax40384_jax40386(dtype):
    x, tail = np.array([40.0, 0.0], dtype), np.exp(-40.0)
    np.testing.assert_allclose(value_and_jacobian(jaxnets.softmax, x)[1], np.array([[1, -1], [-1, 1]]) * tail, rtol=1e-5)
    np.testing.assert_allclose(value_and_jacobian(jaxnets.log_softmax, x)[1], [[tail, -tail], [-1, 1]], rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tail_value_torch113708(dtype):
    value, _ = value_and_jacobian(jaxnets.log_softmax, np.array([40, 0], dtype))
    np.testing.assert_allclose(value, [-np.exp(-40.0), -40], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_wide_rows_in_half_precision(dtype):
    @jax.jit
    def compute(x):
        return jaxnets.softmax(x), jaxnets.jacobian(jaxnets.softmax)(x) @ jnp.ones_like(x)

    p, product = compute(np.zeros(2**17, dtype))
    assert p.dtype == dtype
    np.testing.assert_allclose(np.asarray(p, np.float64).sum(), 1, atol=0.02)
    assert np.abs(np.asarray(product, np.float64)).max() < 1e-6


def test_wide_log_softmax_in_float16_jax40409():
    y = jax.jit(jaxnets.log_softmax)(np.zeros(2**16, "float16"))
    assert y.dtype == np.float16
    np.testing.assert_allclose(np.asarray(y, np.float64), -16 * np.log(2), rtol=1e-3)


def test_half_precision_products_do_not_overflow():
    """Sums and differences of vectors whose own entries are representable."""

    @jax.jit
    def products(x, v):
        j, k = jaxnets.jacobian(jaxnets.softmax)(x), jaxnets.jacobian(jaxnets.log_softmax)(x)
        return (j @ v, v @ j), k @ v, jnp.abs(v) @ k

    v = np.array([6e4, -6e4], "float16")
    by_softmax, pushed, pulled = products(np.zeros(2, "float16"), v)
    np.testing.assert_allclose(by_softmax, [[3e4, -3e4]] * 2, rtol=1e-3)
    np.testing.assert_allclose(pushed, v, rtol=1e-3)
    np.testing.assert_allclose(pulled, [0, 0], atol=60)  # an ulp of 6e4 is 32


# --- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, (0.0, 1.0, 0.0)], ids=["label", "one-hot"])
def test_infinite_logit_where_the_target_is_zero_optax896(targets):
    logits, targets = np.array([-INF, 1.0, 2.0]), np.array(targets)
    value, gradient = jax.jit(jaxnets.value_and_grad(lambda x: jaxnets.cross_entropy(x, targets)))(logits)
    p = 1 / (1 + np.e)
    np.testing.assert_allclose(value, -np.log(p), rtol=1e-14)
    np.testing.assert_allclose(gradient, [0, p - 1, 1 - p], rtol=1e-14)


def test_jvp_with_an_infinite_logit_optax1762():
    targets = np.array([0.0, 0.25, 0.75])
    push = jax.jit(lambda x, v: jaxnets.jacobian(lambda x: jaxnets.cross_entropy(x, targets))(x) @ v)
    np.testing.assert_allclose(push(np.array([-INF, 0.0, 0.0]), np.array([5.0, 1.0, 0.0])), 0.25, rtol=1e-14)


def test_probability_that_is_zero_or_one():
    logits, targets = np.array([[2.0, -1.0, 0.5]]), np.array([[0.0, 0.0, 1.0]])
    by_logits, by_targets = map(np.asarray, blocks(jaxnets.cross_entropy, logits, targets))

    @jax.jit
    def compute(x, t):
        losses = jaxnets.cross_entropy(x, t), jaxnets.cross_entropy(x, np.array([2]))
        return *losses, jaxnets.softmax(x) - t, jaxnets.log_softmax(x)

    hot, label, difference, log_p = map(np.asarray, compute(logits, targets))
    np.testing.assert_allclose(hot, label, rtol=1e-15)
    np.testing.assert_allclose(by_logits[0, 0], difference[0], rtol=1e-14)
    np.testing.assert_allclose(by_targets[0, 0], -log_p[0], rtol=1e-14)


def test_targets_that_are_no_distribution():
    """Σ t ≠ 1 is allowed, and zero targets give loss and gradient 0."""
    x, t = np.array([1.0, 2.0, 4.0]), np.array([0.5, 2.0, 0.25])

    @jax.jit
    def compute(x, t):
        by_jax = jax.grad(lambda x: -jnp.sum(t * jax.nn.log_softmax(x)))(x)
        return *jaxnets.value_and_grad(jaxnets.cross_entropy)(x, t), by_jax

    _, gradient, expected = compute(x, t)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    value, gradient, _ = compute(x, 0 * t)
    array_equal(value, 0)
    array_equal(gradient, [0, 0, 0])


@pytest.mark.parametrize("loss", [jaxnets.nll, jaxnets.cross_entropy])
@pytest.mark.parametrize("label", [3, -1, 100])
def test_label_out_of_range(loss, label):
    """ValueError outside of jit, NaN inside; forward and reverse agree (jax#5760)."""
    x, labels = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), np.array([1, label])
    with pytest.raises(ValueError, match=f"{loss.__name__}.*'targets'.*{label}.*0 to 2"):
        loss(x, labels)
    value, transposed, dense, pushed, pulled = map(np.asarray, loss_and_products(loss, x, labels))
    assert np.isfinite(value[0]) and np.isnan(value[1])
    array_equal(transposed, np.moveaxis(dense, 0, -1))
    array_equal(pushed[1], dense[1].sum())
    array_equal(pulled[1], dense[1, 1])
    if loss is jaxnets.nll:
        array_equal(dense[1], np.zeros((2, 3)))


@functools.partial(jax.jit, static_argnums=0)
def loss_and_products(loss, x, labels):
    j = jaxnets.jacobian(lambda x: loss(x, labels))(x)
    return loss(x, labels), j.T.dense(), j.dense(), j @ jnp.ones((2, 3)), jnp.ones(2) @ j


@pytest.mark.parametrize("loss", [jaxnets.nll, jaxnets.cross_entropy])
def test_label_that_is_a_python_number(loss):
    """Within `grad` as without."""
    x = np.array([1.0, 2.0, 4.0])
    value, gradient = jaxnets.value_and_grad(lambda x: loss(x, 1))(x)  # outside of jit, where labels are checked
    expected, by_x = jax.jit(lambda x: (loss(x, 1), jaxnets.grad(lambda x: loss(x, np.int32(1)))(x)))(x)
    array_equal(value, expected)
    array_equal(gradient, by_x)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint32"])
def test_label_dtypes(dtype):
    x, labels = np.array([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0]]), np.array([2, 0], dtype)
    values, by_x = map(np.asarray, value_and_jacobian(lambda x: jaxnets.nll(x, labels), x))
    array_equal(values, [-4.0, 0.0])
    array_equal(by_x[[0, 1], [0, 1]], [[0, 0, -1], [-1, 0, 0]])


def test_nll_of_a_masked_class():
    value, gradient = jax.jit(jaxnets.value_and_grad(jaxnets.nll))(np.array([-INF, -1.0]), np.int32(1))
    array_equal(value, 1.0)
    array_equal(gradient, [0, -1])


def primitives_of_products(function, x):
    """The names of the primitives that J v and u J run, of a Jacobian J that is known only by the shapes of its arrays."""
    j, y = jax.eval_shape(lambda x: (jaxnets.jacobian(function)(x), function(x)), x)
    programs = jax.make_jaxpr(lambda j, v: j @ v)(j, x), jax.make_jaxpr(lambda j, u: u @ j)(j, y)
    return [set(str(program).replace("[", " ").split()) for program in programs]


@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 2, 2)], ids=str)
def test_nll_products_gather_and_scatter(shape):
    """The one-hot array is never made."""
    x, batch = np.ones(shape), shape[: len(shape) > 1]
    pushed, pulled = primitives_of_products(lambda x: jaxnets.nll(x.reshape(*batch, 4), np.zeros(batch, int)), x)
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
    assert np.isnan(np.asarray(jax.jit(jaxnets.squared_error)(x, x))[1:]).all()


# --- combining ----------------------------------------------------------------------------------------------------


def test_cotangents_of_copies_add_up():
    gradient = jaxnets.grad(lambda x: sum(y * k for k, y in enumerate(jaxnets.duplicate(x, n=4))))
    array_equal(jax.jit(gradient)(1.0), 0 + 1 + 2 + 3)


@pytest.mark.parametrize("shape", [(3, 2), (2,)], ids=str)
def test_products_of_concatenate_slice_and_join(shape):
    pushed, pulled = primitives_of_products(lambda x: jaxnets.concatenate(2 * x, x, x), np.ones(shape))
    assert "concatenate" in pushed and "dot_general" not in pushed
    assert "slice" in pulled and "dot_general" not in pulled


def test_strided_slice():
    @jax.jit
    def compute(x, u):
        j = jaxnets.jacobian(lambda x: x[1:6:2])(x)
        return j.dense(), j @ x, u @ j

    dense, pushed, pulled = compute(np.arange(7.0), np.array([1.0, 2.0, 3.0]))
    array_equal(dense, np.eye(7)[1:6:2])
    array_equal(pushed, [1, 3, 5])
    array_equal(pulled, [0, 1, 0, 2, 0, 3, 0])


def test_products_of_selections():
    """Rows picked by an index array: products on both sides, and where output and input are the same axis."""

    def selection(index, columns, classes):
        b, k, i = (Label(n, size) for n, size in enumerate((len(index), classes, columns)))
        rule = from_groups([(b,), (i,)], [(k,), (i,)], Selection(jnp.array(index), ((b,), (k,))))
        return rule(np.empty((len(index), columns)), np.empty((classes, columns)))

    rng = np.random.default_rng(0)
    left, right, dense = rng.normal(size=(2, 6, 3)), rng.normal(size=(4, 3, 5)), np.zeros((6, 3, 4, 3))
    for row, source in (0, 3), (1, 1), (2, 1), (5, 0):  # −1 and 7 select nothing
        dense[row, range(3), source, range(3)] = 1

    @jax.jit
    def compute(left, right):
        j, square = selection([3, 1, 1, -1, 7, 0], 3, 4), selection([2, 1, 1], 1, 3)
        pulled = jaxnets.rules.einsum("a", "bi", (left, "abi"))(np.empty(2), np.empty((6, 3))) @ j
        pushed = j @ jaxnets.rules.einsum("ki", "z", (right, "kiz"))(np.empty((4, 3)), np.empty(5))
        products = j.dense(), pulled.dense(), pushed.dense(), (j @ j.T).dense()
        return products, square.diagonal(), (3 * square @ square).diagonal(), (square @ square).matrix(), square.matrix()

    (found, pulled, pushed, gram), diagonal, of_square, square, matrix = compute(left, right)
    array_equal(found, dense)
    np.testing.assert_allclose(pulled, np.einsum("abi,bikj->akj", left, dense), rtol=1e-12)
    np.testing.assert_allclose(pushed, np.einsum("bikj,kjz->biz", dense, right), rtol=1e-12)
    array_equal(gram, np.einsum("bikl,cjkl->bicj", dense, dense))
    array_equal(diagonal, [[0], [1], [0]])
    array_equal(of_square, [[0], [3], [0]])
    array_equal(square, np.asarray(matrix) @ np.asarray(matrix))


def test_mean_of_one_and_of_nothing():
    array_equal(blocks(jaxnets.mean, np.array([3.0]))[0], [1.0])
    assert blocks(jaxnets.mean, np.zeros(0))[0].shape == (0,)


def test_flatten_keeps_row_major_order():
    array_equal(jax.jit(jaxnets.flatten)(np.arange(12.0).reshape(2, 3, 2)), np.arange(12.0).reshape(2, 6))
    array_equal(np.asarray(blocks(jaxnets.flatten, np.zeros((1, 2, 2)))[0]).reshape(4, 4), np.eye(4))
