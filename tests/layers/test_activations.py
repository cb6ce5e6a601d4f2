"""Activations at kinks, at special values and in 16 bits; prelu and the gated ones; published bugs.

An issue number in a test's name or id is that of a library that had, or has, the fault.  How accurate values and derivatives
are elsewhere: test_accuracy.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets
from jaxnets.layers import elementwise, piecewise

from ..sweeps import swept

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]
LAMBDA, LAMBDA_ALPHA = 1.0507009873554805, 1.7580993408473768  # of selu
SINGLE = sorted({*elementwise.__all__, *piecewise.__all__} - {"prelu", "swish"})  # of one array
CONFIG = {"threshold": {"threshold": 0.5, "value": -2.0}}


def array_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def function(name, config=None):
    config = CONFIG.get(name, {}) if config is None else config
    return lambda x: jaxnets.LAYERS[name](x, **config)


def slope(f, x):
    """The derivative by the rule, entry by entry."""
    return jaxnets.jacobian(f)(x).diagonal()


def slope_by_jax(f, x):
    y, pull = jax.vjp(f, jnp.asarray(x))
    return pull(jnp.ones_like(y))[0]


# --- exact values and slopes --------------------------------------------------------------------------------------

# layer, configuration, x, value, slope
EXACT = [
    ("relu", {}, 5e-38, 5e-38, 1.0),
    ("relu6", {}, 0.0, 0.0, 0.0),
    ("relu6", {}, -0.0, 0.0, 0.0),
    ("relu6", {}, 1e-30, 1e-30, 1.0),
    ("relu6", {}, -1e-30, 0.0, 0.0),
    ("relu6", {}, 5.5, 5.5, 1.0),
    ("relu6", {}, 6.0, 6.0, 0.0),
    ("relu6", {}, INF, 6.0, 0.0),
    ("relu6", {}, -INF, 0.0, 0.0),
    ("leaky_relu", {}, 0.0, 0.0, 0.01),
    ("leaky_relu", {}, -0.0, -0.0, 0.01),
    ("leaky_relu", {}, 1e-30, 1e-30, 1.0),
    ("leaky_relu", {"negative_slope": 0.25}, -1e4, -2500.0, 0.25),
    ("leaky_relu", {"negative_slope": -0.5}, -4.0, 2.0, -0.5),
    ("leaky_relu", {}, INF, INF, 1.0),
    ("leaky_relu", {}, -INF, -INF, 0.01),
    ("hard_tanh", {}, 1.0, 1.0, 0.0),
    ("hard_tanh", {}, -1.0, -1.0, 0.0),
    ("hard_tanh", {}, 0.0, 0.0, 1.0),
    ("hard_tanh", {}, -0.75, -0.75, 1.0),
    ("hard_tanh", {}, INF, 1.0, 0.0),
    ("hard_tanh", {}, -INF, -1.0, 0.0),
    ("hard_tanh", {"min_val": 0, "max_val": 3}, 2.0, 2.0, 1.0),
    ("hard_tanh", {"min_val": 0, "max_val": 3}, 0.0, 0.0, 0.0),
    ("hard_tanh", {"min_val": 2.0, "max_val": 2.0}, 2.0, 2.0, 0.0),
    ("clip", {}, INF, INF, 1.0),
    ("clip", {}, -INF, -INF, 1.0),
    ("clip", {"min": -1.0, "max": 2.0}, -1.0, -1.0, 0.0),
    ("clip", {"min": -1.0, "max": 2.0}, 2.0, 2.0, 0.0),
    ("clip", {"min": -1.0, "max": 2.0}, 1.5, 1.5, 1.0),
    ("clip", {"min": -1.0}, INF, INF, 1.0),
    ("clip", {"min": -1.0}, -INF, -1.0, 0.0),
    ("clip", {"max": 0.5}, -INF, -INF, 1.0),
    ("clip", {"max": 0.5}, 0.5, 0.5, 0.0),
    ("hard_sigmoid", {}, -3.0, 0.0, 0.0),
    ("hard_sigmoid", {}, 3.0, 1.0, 0.0),
    ("hard_sigmoid", {}, 0.0, 0.5, 1 / 6),
    ("hard_sigmoid", {}, INF, 1.0, 0.0),
    ("hard_sigmoid", {}, -INF, 0.0, 0.0),
    ("hard_swish", {}, -3.0, 0.0, 0.0),
    ("hard_swish", {}, 3.0, 3.0, 1.0),
    ("hard_swish", {}, -1.5, -0.375, 0.0),
    ("hard_swish", {}, 0.0, 0.0, 0.5),
    ("hard_swish", {}, INF, INF, 1.0),
    ("hard_swish", {}, -INF, 0.0, 0.0),
    *((name, {}, x, 0.0, 0.0) for name in ("soft_shrink", "hard_shrink") for x in (0.5, -0.5, 0.0, 0.25)),
    ("soft_shrink", {}, 0.75, 0.25, 1.0),
    ("soft_shrink", {}, -0.75, -0.25, 1.0),
    ("hard_shrink", {}, -0.75, -0.75, 1.0),
    *((name, {}, x, x, 1.0) for name in ("soft_shrink", "hard_shrink") for x in (INF, -INF)),
    *((name, {"lambd": 0}, 1e-30, 1e-30, 1.0) for name in ("soft_shrink", "hard_shrink")),
    *((name, {"lambd": 0}, 0.0, 0.0, 0.0) for name in ("soft_shrink", "hard_shrink")),
    ("threshold", {"threshold": 0.5, "value": -2.0}, 0.5, -2.0, 0.0),
    ("threshold", {"threshold": 0.5, "value": -2.0}, 0.75, 0.75, 1.0),
    ("threshold", {"threshold": 0.5, "value": 20}, -INF, 20.0, 0.0),
    ("threshold", {"threshold": 0.5, "value": -2.0}, INF, INF, 1.0),
    ("elu", {}, 0.0, 0.0, 1.0),
    ("elu", {}, -0.0, -0.0, 1.0),
    ("elu", {"alpha": 0.5}, 0.0, 0.0, 0.5),
    ("elu", {"alpha": 0.5}, -1e4, -0.5, 0.0),
    ("celu", {"alpha": 2.0}, 0.0, 0.0, 1.0),
    ("celu", {"alpha": 2.0}, -INF, -2.0, 0.0),
    ("celu", {"alpha": -2.0}, 0.0, 0.0, 1.0),
    ("selu", {}, 0.0, 0.0, LAMBDA_ALPHA),
    ("selu", {}, 2.0, 2 * LAMBDA, LAMBDA),
    ("selu", {}, -INF, -LAMBDA_ALPHA, 0.0),
    ("selu", {}, INF, INF, LAMBDA),
    ("elu", {}, -INF, -1.0, 0.0),
    *((name, {}, x, x, 1.0) for name in ("elu", "celu") for x in (88.8, 710.0, 1e4, INF)),
    ("gelu", {}, 0.0, 0.0, 0.5),
    ("gelu", {"approximate": True}, 0.0, 0.0, 0.5),
    ("silu", {}, 0.0, 0.0, 0.5),
    ("silu", {}, -0.0, -0.0, 0.5),
    ("mish", {}, 0.0, 0.0, 0.6),
    *((name, {}, x, x, 1.0) for name in ("gelu", "silu", "mish") for x in (88.8, 710.0, 1e4, INF)),
    *((name, {}, x, -0.0, 0.0) for name in ("gelu", "silu", "mish") for x in (-1e4, -INF)),
    ("gelu", {"approximate": "tanh"}, INF, INF, 1.0),
    ("gelu", {"approximate": "tanh"}, -INF, -0.0, 0.0),
    ("gelu", {"approximate": "tanh"}, -1e4, -0.0, 0.0),
    ("softsign", {}, 0.0, 0.0, 1.0),
    ("softsign", {}, -0.0, -0.0, 1.0),
    ("softsign", {}, 3.0, 0.75, 0.0625),
    ("softsign", {}, INF, 1.0, 0.0),
    ("softsign", {}, -INF, -1.0, 0.0),
    ("log_sigmoid", {}, 0.0, -np.log(2), 0.5),
    ("log_sigmoid", {}, INF, 0.0, 0.0),
    ("log_sigmoid", {}, 1e4, 0.0, 0.0),
    *(("log_sigmoid", {}, x, x, 1.0) for x in (-88.8, -710.0, -1e4, -INF)),
    ("softplus", {"beta": 2.0}, -1e4, 0.0, 0.0),
    ("softplus", {"beta": 2.0, "threshold": 20.0}, 10.25, 10.25, 1.0),
    ("softplus", {"beta": -1.0}, -1e4, -1e4, 1.0),
    ("softplus", {"beta": 0.5}, INF, INF, 1.0),
    ("tanh_shrink", {}, 0.0, 0.0, 0.0),
    ("tanh_shrink", {}, -0.0, -0.0, 0.0),
    ("tanh_shrink", {}, 1e4, 9999.0, 1.0),
    ("tanh_shrink", {}, INF, INF, 1.0),
    ("tanh_shrink", {}, -INF, -INF, 1.0),
]


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name, config, x, value, derivative", EXACT)
def test_special_values(name, config, x, value, derivative, dtype):
    x, f = np.array([x], dtype), function(name, config)
    y = f(x)
    array_equal(y, np.array([value], dtype))
    assert np.signbit(y[0]) == np.signbit(value)
    array_equal(slope(f, x), np.array([derivative], dtype))


@pytest.mark.parametrize(
    "name, config, x, value, derivative", swept([row for row in EXACT if np.isfinite(row[2])], 3, several=True)
)
def test_autodiff_has_the_same_slopes(name, config, x, value, derivative):
    """At kinks too: with and without our rules a network learns the same."""
    np.testing.assert_allclose(
        jax.jit(slope_by_jax, static_argnums=0)(function(name, config), np.array([x])), [derivative], rtol=1e-14, atol=1e-16
    )


@pytest.mark.parametrize("name", SINGLE)
def test_nan_propagates(name):
    assert np.isnan(jax.jit(function(name))(np.array([NAN]))).all()


ORDINARY = [-1e4, -710, -100, -92, -88.8, -50, -30, -10, -1, -1e-30, -0.0, 0, 1e-30, 1, 10, 30, 50, 88.8, 92, 100, 710, 1e4]


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name", [*SINGLE, "gelu tanh"])
def test_nothing_is_nan(name, dtype):
    """Value and slope by the rule, also at ±∞; autodiff, and the derivative of the rule, at ordinary numbers."""
    f = function("gelu", {"approximate": "tanh"}) if name == "gelu tanh" else function(name)

    @jax.jit
    def compute(x):
        return jnp.stack([f(x), slope(f, x)]), jnp.stack([slope_by_jax(f, x), slope_by_jax(lambda x: slope(f, x), x)])

    with_infinity, _ = compute(np.array([*ORDINARY, INF, -INF], dtype))
    assert not np.isnan(with_infinity).any()
    _, by_autodiff = compute(np.array([*ORDINARY, 2.0, -2.0], dtype))
    assert np.isfinite(by_autodiff).all()


@pytest.mark.parametrize("name, expected", swept([
    ("sigmoid", 0), ("tanh", 0), ("tanh_shrink", 0), ("softplus", 1 / 4), ("log_sigmoid", -1 / 4), ("silu", 1 / 2),
    ("mish", 0.64), ("gelu", math.sqrt(2 / math.pi)), ("elu", 1),
], 3, several=True))  # fmt: skip
def test_second_derivative_at_zero(name, expected):
    """Where |x| is used, whose derivative at 0 is 0 to autodiff, it must not show."""
    layer, x = jaxnets.LAYERS[name], np.float64(0.0)
    for found in jax.jit(lambda x: (jaxnets.hessian(layer)(x).dense(), jax.hessian(layer)(x)))(x):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16"], ["float16"]))
@pytest.mark.parametrize("name", SINGLE)
def test_every_16_bit_number(name, dtype):
    """Value and slope are within one unit in the last place of the float64 ones."""
    f, info = function(name), jnp.finfo(dtype)
    x = np.arange(2**16, dtype="uint16").view(jnp.dtype(dtype))
    size = np.abs(x.astype("float32"))
    x = x[np.isfinite(size) & ((size == 0) | (size >= np.finfo("float32").tiny))]
    compute = jax.jit(lambda x: (f(x), slope(f, x)))
    for found, exact in zip(compute(x), map(np.asarray, compute(x.astype("float64"))), strict=True):
        assert found.dtype == dtype
        normal = (np.abs(exact) >= float(info.tiny)) & (np.abs(exact) <= float(info.max))
        found, exact = np.asarray(found, np.float64)[normal], exact[normal]
        assert normal.any()
        assert np.all(np.abs(found - exact) <= float(info.eps) * 2.0 ** np.floor(np.log2(np.abs(exact))))


# --- configuration ------------------------------------------------------------------------------------------------


def test_forms_of_gelu():
    x = np.linspace(-3, 3, 7)
    array_equal(jaxnets.gelu(x), jaxnets.gelu(x, approximate="none"))
    array_equal(jaxnets.gelu(x, approximate=True), jaxnets.gelu(x, approximate="tanh"))
    difference = np.abs(jaxnets.gelu(x) - jaxnets.gelu(x, approximate=True)).max()
    assert 1e-5 < difference < 1e-3


def test_swish_is_silu():
    assert jaxnets.layers.swish is jaxnets.silu


@pytest.mark.parametrize("name, config", [
    ("leaky_relu", {"negative_slope": np.float64(0.2)}), ("elu", {"alpha": np.float64(0.3)}), ("elu", {"alpha": 2}),
    ("celu", {"alpha": np.float64(0.7)}), ("softplus", {"beta": np.float64(2), "threshold": np.float64(20)}),
    ("threshold", {"threshold": np.float64(0), "value": np.float64(1)}), ("soft_shrink", {"lambd": np.float64(0.1)}),
    ("clip", {"min": np.float64(-1)}),
])  # fmt: skip
def test_configuration_does_not_widen(name, config):
    x = np.linspace(-2, 2, 50, dtype="float32")
    f = function(name, config)
    plain = function(name, {key: float(value) for key, value in config.items()})
    value, derivative, *expected = jax.jit(lambda x: (f(x), slope(f, x), plain(x), slope(plain, x)))(x)
    assert value.dtype == derivative.dtype == np.float32
    array_equal(value, expected[0])
    array_equal(derivative, expected[1])


def test_softplus_with_threshold_follows_torch():
    """Linear beyond it, where the accurate value still differs."""
    x = np.array([1.9, 2.0, 2.1])
    found, accurate = jaxnets.softplus(x, threshold=2.0), np.log1p(np.exp(x))
    np.testing.assert_allclose(found, [*accurate[:2], 2.1], rtol=1e-15)
    found = slope(lambda x: jaxnets.softplus(x, threshold=2.0), x)
    np.testing.assert_allclose(found, [*(1 / (1 + np.exp(-x[:2]))), 1], rtol=1e-15)


# --- prelu --------------------------------------------------------------------------------------------------------


def blocks(layer, x, w, **config):
    return jax.jit(lambda *args: jaxnets.dense(jaxnets.jacobian(lambda x, w: layer(x, w, **config), (0, 1))(*args)))(x, w)


def test_prelu_at_the_kink():
    by_x, by_w = blocks(jaxnets.prelu, np.array([0.0, -0.0, 2.0, -2.0]), np.float64(0.25))
    array_equal(by_x, np.diag([0.25, 0.25, 1, 0.25]))
    array_equal(by_w, [0, 0, 0, -2])


@pytest.mark.parametrize("shape, w_shape, config", swept([
    ((2, 3), (3,), {}), ((2, 3, 4), (3,), {}), ((2, 3, 4), (4,), {"axis": -1}), ((3, 2), (3,), {"axis": 0}),
    ((2, 3), (1,), {}), ((2, 3), (), {}), ((3,), (), {}), ((), (1,), {}), ((2, 1), (1,), {}), ((0, 3), (3,), {}),
], 2, several=True), ids=str)  # fmt: skip
def test_prelu_scales_channels(shape, w_shape, config):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=shape), rng.normal(size=w_shape)
    expected = np.array(x)
    for at in np.ndindex(shape):
        if x[at] < 0:
            expected[at] = x[at] * (w[at[config.get("axis", 1)]] if len(w_shape) == 1 and w_shape != (1,) else w.reshape(()))
    array_equal(jax.jit(lambda x, w: jaxnets.prelu(x, w, **config))(x, w), expected)
    by_x, by_w = map(np.asarray, blocks(jaxnets.prelu, x, w, **config))
    assert by_x.shape == shape + shape and by_w.shape == shape + w_shape
    np.testing.assert_allclose(by_w.sum(tuple(range(len(shape), by_w.ndim))), np.minimum(x, 0), rtol=1e-15)


# --- gated units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gated_units_against_numpy(axis):
    x = np.random.default_rng(0).normal(size=(4, 6))
    a, c = np.split(x, 2, axis)
    glu, swiglu = jax.jit(lambda x: (jaxnets.glu(x, axis=axis), jaxnets.swiglu(x, axis=axis)))(x)
    np.testing.assert_allclose(glu, a / (1 + np.exp(-c)), rtol=1e-14)
    np.testing.assert_allclose(swiglu, a / (1 + np.exp(-a)) * c, rtol=1e-14)


@pytest.mark.parametrize("name", ["glu", "swiglu"])
def test_gated_units_store_no_zeros(name):
    """Of 8 × 16 × 8 × 32 entries two for each of 8 × 16 outputs."""

    @jax.jit
    def compute(x):
        j = jaxnets.jacobian(jaxnets.LAYERS[name])(x)
        return j, j.dense()

    j, dense = compute(np.ones((8, 32)))
    assert j.nbytes == 2 * 8 * 16 * 8
    assert np.count_nonzero(dense) == 2 * 8 * 16


def test_gate_that_is_nearly_shut():
    """a·σ(c) is a normal number where σ(c) alone is not."""
    x = np.array([1e30, -100.0], "float32")
    y = 1e30 * np.exp(-100.0)
    np.testing.assert_allclose(jaxnets.glu(x), [y], rtol=1e-6)
    np.testing.assert_allclose(jaxnets.dense(jaxnets.jacobian(jaxnets.glu)(x)), [[0, y]], rtol=1e-6)


def test_gated_units_at_infinity():
    array_equal(jaxnets.glu(np.array([2.0, INF])), [2.0])
    array_equal(jaxnets.glu(np.array([2.0, -INF])), [0.0])
    array_equal(jaxnets.dense(jaxnets.jacobian(jaxnets.glu)(np.array([2.0, INF]))), [[1.0, 0.0]])
    array_equal(jaxnets.dense(jaxnets.jacobian(jaxnets.swiglu)(np.array([-INF, 3.0]))), [[0.0, 0.0]])


# --- published bugs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, scale", [("elu", 1.0), ("celu", 1.0), ("selu", LAMBDA_ALPHA)])
@pytest.mark.parametrize("x", [-40.0, -20.0])
def test_slope_of_exponential_units_in_the_tail_jax39795_jax39796(name, scale, x):
    for dtype, tolerance in (("float32", 3e-7), ("float64", 6e-16)):
        found = jax.jit(jaxnets.grad(jaxnets.LAYERS[name]))(np.asarray(x, dtype))
        np.testing.assert_allclose(found, scale * np.exp(x), rtol=tolerance)


@pytest.mark.parametrize("name", ["elu", "celu", "selu"])
@pytest.mark.parametrize("x", [88.8, 100.0, 1e3, 1e30])
def test_large_inputs_of_exponential_units_jax1538(name, x):
    """Autodiff's own gradient too: the branch that overflows is never evaluated."""
    expected = np.float32(LAMBDA if name == "selu" else 1)
    for grad in (jax.grad, jaxnets.grad):
        array_equal(grad(jaxnets.LAYERS[name])(jnp.float32(x)), expected)


@pytest.mark.parametrize("name", ["silu", "mish"])
@pytest.mark.parametrize(
    "dtype, x, tolerance", [("float64", -709.0, 2e-15), ("float64", -714.0, 2e-15), ("float32", -90.0, 1e-6)]
)
def test_product_with_a_subnormal_number_jax39798(name, dtype, x, tolerance):
    """x·exp(x) is a normal number, exp(x) alone is not."""
    layer = jaxnets.LAYERS[name]
    value, derivative = jaxnets.value_and_grad(layer)(jnp.asarray(x, dtype))
    half = np.exp(x / 2)
    np.testing.assert_allclose([value, derivative], [x * half * half, (1 + x) * half * half], rtol=tolerance)


@pytest.mark.parametrize("x, value, derivative", [(88.8, 88.8, 1.0), (1e3, 1e3, 1.0), (0.0, np.log(2), 0.5)])
def test_softplus_burn5373_jax2107(x, value, derivative):
    for grad in (jax.value_and_grad, jaxnets.value_and_grad):
        np.testing.assert_allclose(grad(jaxnets.softplus)(jnp.float32(x)), [value, derivative], rtol=1e-7)


def test_sigmoid_jax777():
    np.testing.assert_allclose(jaxnets.value_and_grad(jaxnets.sigmoid)(-200.0), [np.exp(-200)] * 2, rtol=1e-15)
    for grad in (jax.grad, jaxnets.grad):
        array_equal(grad(jaxnets.sigmoid)(jnp.float32(-200)), 0)


@pytest.mark.parametrize("x, value, derivative", [
    (0.0, 0.0, 0.0), (6.0, 6.0, 0.0), (1.2e-38, 1.2e-38, 1.0), (-1.2e-38, 0.0, 0.0), (6 - 2**-50, 6 - 2**-50, 1.0),
], ids=["jax#2342", "jax#14682", "jax#37821", "jax#37821 below", "next to the ceiling"])  # fmt: skip
def test_relu6_at_kinks_and_on_tiny_numbers(x, value, derivative):
    for grad in (jax.value_and_grad, jaxnets.value_and_grad):
        array_equal(grad(jaxnets.relu6)(jnp.float64(x)), [value, derivative])


def test_branch_of_where_that_is_nan_jax347_jax5798():
    """∞/∞ of softsign, exp(1000) of elu, 0·∞ of silu: not selected, and not in the gradient."""
    array_equal(jax.jit(jax.grad(lambda x: jaxnets.softsign(x)[0]))(np.array([1.0, INF])), [0.25, 0.0])
    by_silu = jax.jit(jaxnets.grad(lambda x: jnp.sum(jaxnets.silu(x))))(np.array([0.0, -INF, INF]))
    array_equal(by_silu, [0.5, 0.0, 1.0])


def test_leaky_relu_is_not_relu_stochman10():
    x = np.array([-3.0, 2.0])
    array_equal(jaxnets.leaky_relu(x, negative_slope=0.5), [-1.5, 2.0])
    array_equal(jaxnets.dense(jaxnets.jacobian(lambda x: jaxnets.leaky_relu(x, negative_slope=0.5))(x)), np.diag([0.5, 1.0]))
