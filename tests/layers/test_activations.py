"""Activations at kinks, at special values and in 16 bits; published bugs.

An issue number in a test's name or id is that of a library that had, or has, the fault.  How accurate values and derivatives
are elsewhere: test_accuracy.py.  Prelu and the gated units: test_gated_units.py.
"""

import functools
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


def value_and_slope(f, x):
    return f(x), slope(f, x)


@functools.partial(jax.jit, static_argnums=0)
def by_jax_and_by_rule(f, x):
    """Value and derivative at a number, by JAX and by the rule, in one program."""
    return jax.value_and_grad(f)(x), jaxnets.value_and_grad(f)(x)


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
    ("selu", {"alpha": 2.0, "gamma": 3.0}, 0.0, 0.0, 6.0),
    ("selu", {"alpha": 2.0, "gamma": 3.0}, 2.0, 6.0, 3.0),
    ("selu", {"alpha": 2.0, "gamma": 3.0}, -INF, -6.0, 0.0),
    ("hard_sigmoid", {"slope": 0.25, "offset": 0.25}, -1.0, 0.0, 0.0),
    ("hard_sigmoid", {"slope": 0.25, "offset": 0.25}, 1.0, 0.5, 0.25),
    ("hard_sigmoid", {"slope": 0.25, "offset": 0.25}, 3.0, 1.0, 0.0),
    ("silu", {"alpha": 0.0}, 3.0, 1.5, 0.5),
    ("silu", {"alpha": 0}, INF, INF, 0.5),
    ("silu", {"alpha": 2.0}, INF, INF, 1.0),
    ("silu", {"alpha": 2.0}, -INF, -0.0, 0.0),
    ("silu", {"alpha": -2.0}, INF, 0.0, 0.0),
    ("silu", {"alpha": -2.0}, -INF, -INF, 1.0),
    ("silu", {"alpha": 1e-4}, -INF, -0.0, 0.0),
    ("squareplus", {}, 0.0, 1.0, 0.5),
    ("squareplus", {"b": 16.0}, 3.0, 4.0, 0.8),
    ("squareplus", {"b": 16.0}, -3.0, 1.0, 0.2),
    ("squareplus", {}, INF, INF, 1.0),
    ("squareplus", {}, -INF, 0.0, 0.0),
    ("squareplus", {}, 1e30, 1e30, 1.0),
    ("squareplus", {"b": 2.0**100}, -(2.0**100), 0.25, 2.0**-102),
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


POINTS = list(dict.fromkeys(str(row[2]) for row in EXACT))  # as text, where 0.0 and -0.0 differ


@functools.cache
def at_special_points(compute, dtype):
    """What `compute(layer, x)` gives for every layer and configuration of the table, at all its points, in one program."""
    layers = {name + str(config): function(name, config) for name, config, *_ in EXACT}
    compute_all = jax.jit(lambda x: {key: compute(layer, x) for key, layer in layers.items()})
    return jax.tree.map(np.asarray, compute_all(np.array(POINTS, dtype)))


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name, config, x, value, derivative", EXACT)
def test_special_values(name, config, x, value, derivative, dtype):
    values, slopes = at_special_points(value_and_slope, dtype)[name + str(config)]
    y, found = values[POINTS.index(str(x))], slopes[POINTS.index(str(x))]
    array_equal(y, np.array(value, dtype))
    assert np.signbit(y) == np.signbit(value)
    array_equal(found, np.array(derivative, dtype))


@pytest.mark.parametrize(
    "name, config, x, value, derivative", swept([row for row in EXACT if np.isfinite(row[2])], 3, several=True)
)
def test_autodiff_has_the_same_slopes(name, config, x, value, derivative):
    """At kinks too: with and without our rules a network learns the same."""
    slopes = at_special_points(slope_by_jax, "float64")[name + str(config)]
    np.testing.assert_allclose(slopes[POINTS.index(str(x))], derivative, rtol=1e-14, atol=1e-16)


@functools.cache
def of_nan():
    return jax.jit(lambda x: {name: function(name)(x) for name in SINGLE})(np.array([NAN]))


@pytest.mark.parametrize("name", SINGLE)
def test_nan_propagates(name):
    assert np.isnan(of_nan()[name]).all()


ORDINARY = [-1e4, -710, -100, -92, -88.8, -50, -30, -10, -1, -1e-30, -0.0, 0, 1e-30, 1, 10, 30, 50, 88.8, 92, 100, 710, 1e4]


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name", [*SINGLE, "gelu tanh"])
def test_nothing_is_nan(name, dtype):
    """Value and slope by the rule, also at ±∞; autodiff, and the derivative of the rule, at ordinary numbers."""
    by_rule, by_autodiff = at_ordinary_numbers(dtype)[name]
    assert not np.isnan(by_rule).any()
    assert np.isfinite(by_autodiff).all()


@functools.cache
def at_ordinary_numbers(dtype):
    """For every layer value and slope by the rule, and slope by autodiff and derivative of the rule, in one program."""
    functions = {name: function(name) for name in SINGLE} | {"gelu tanh": function("gelu", {"approximate": "tanh"})}

    @jax.jit
    def compute(with_infinity, x):
        return {
            name: (value_and_slope(f, with_infinity), (slope_by_jax(f, x), slope_by_jax(functools.partial(slope, f), x)))
            for name, f in functions.items()
        }

    return compute(np.array([*ORDINARY, INF, -INF], dtype), np.array([*ORDINARY, 2.0, -2.0], dtype))


@pytest.mark.parametrize("name, expected", swept([
    ("sigmoid", 0), ("tanh", 0), ("tanh_shrink", 0), ("softplus", 1 / 4), ("log_sigmoid", -1 / 4), ("silu", 1 / 2),
    ("mish", 0.64), ("gelu", math.sqrt(2 / math.pi)), ("elu", 1), ("squareplus", 1 / 4),
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
    info = jnp.finfo(dtype)
    for found, exact in zip(*at_16_bit_numbers(dtype)[name], strict=True):
        assert found.dtype == dtype
        normal = (np.abs(exact) >= float(info.tiny)) & (np.abs(exact) <= float(info.max))
        found, exact = np.asarray(found, np.float64)[normal], exact[normal]
        assert normal.any()
        assert np.all(np.abs(found - exact) <= float(info.eps) * 2.0 ** np.floor(np.log2(np.abs(exact))))


@functools.cache
def at_16_bit_numbers(dtype):
    """Value and slope of every layer at every number, first in 16 bits, then in 64, in one program."""
    x = np.arange(2**16, dtype="uint16").view(jnp.dtype(dtype))
    size = np.abs(x.astype("float32"))
    x = x[np.isfinite(size) & ((size == 0) | (size >= np.finfo("float32").tiny))]

    @jax.jit
    def compute(*xs):
        return {name: [value_and_slope(function(name), x) for x in xs] for name in SINGLE}

    return jax.tree.map(np.asarray, compute(x, x.astype("float64")))


# --- configuration ------------------------------------------------------------------------------------------------


def test_forms_of_gelu():
    x = np.linspace(-3, 3, 7)
    forms = False, "none", True, "tanh"
    plain, none, true, tanh = map(np.asarray, jax.jit(lambda x: [jaxnets.gelu(x, approximate=form) for form in forms])(x))
    array_equal(plain, none)
    array_equal(true, tanh)
    difference = np.abs(plain - true).max()
    assert 1e-5 < difference < 1e-3


def test_swish_is_silu():
    assert jaxnets.layers.swish is jaxnets.silu


@pytest.mark.parametrize("name, config", [
    ("leaky_relu", {"negative_slope": np.float64(0.2)}), ("elu", {"alpha": np.float64(0.3)}), ("elu", {"alpha": 2}),
    ("celu", {"alpha": np.float64(0.7)}), ("softplus", {"beta": np.float64(2), "threshold": np.float64(20)}),
    ("threshold", {"threshold": np.float64(0), "value": np.float64(1)}), ("soft_shrink", {"lambd": np.float64(0.1)}),
    ("clip", {"min": np.float64(-1)}), ("selu", {"alpha": np.float64(0.3), "gamma": 2}), ("silu", {"alpha": np.float64(3)}),
    ("squareplus", {"b": np.float64(0.3)}), ("hard_sigmoid", {"slope": np.float64(0.3), "offset": np.float64(0.1)}),
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
    y, found = jax.jit(lambda x: value_and_slope(lambda x: jaxnets.softplus(x, threshold=2.0), x))(x)
    accurate = np.log1p(np.exp(x))
    np.testing.assert_allclose(y, [*accurate[:2], 2.1], rtol=1e-15)
    np.testing.assert_allclose(found, [*(1 / (1 + np.exp(-x[:2]))), 1], rtol=1e-15)


# --- published bugs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, scale", [("elu", 1.0), ("celu", 1.0), ("selu", LAMBDA_ALPHA)])
@pytest.mark.parametrize("x", [-40.0, -20.0])
def test_slope_of_exponential_units_in_the_tail_jax39795_jax39796(name, scale, x):
    for dtype, tolerance in (("float32", 3e-7), ("float64", 6e-16)):
        _, (_, found) = by_jax_and_by_rule(jaxnets.LAYERS[name], np.asarray(x, dtype))
        np.testing.assert_allclose(found, scale * np.exp(x), rtol=tolerance)


@pytest.mark.parametrize("name", ["elu", "celu", "selu"])
@pytest.mark.parametrize("x", [88.8, 100.0, 1e3, 1e30])
def test_large_inputs_of_exponential_units_jax1538(name, x):
    """Autodiff's own gradient too: the branch that overflows is never evaluated."""
    expected = np.float32(LAMBDA if name == "selu" else 1)
    for _, derivative in by_jax_and_by_rule(jaxnets.LAYERS[name], np.float32(x)):
        array_equal(derivative, expected)


@pytest.mark.parametrize("name", ["silu", "mish"])
@pytest.mark.parametrize(
    "dtype, x, tolerance", [("float64", -709.0, 2e-15), ("float64", -714.0, 2e-15), ("float32", -90.0, 1e-6)]
)
def test_product_with_a_subnormal_number_jax39798(name, dtype, x, tolerance):
    """x·exp(x) is a normal number, exp(x) alone is not."""
    _, (value, derivative) = by_jax_and_by_rule(jaxnets.LAYERS[name], np.asarray(x, dtype))
    half = np.exp(x / 2)
    np.testing.assert_allclose([value, derivative], [x * half * half, (1 + x) * half * half], rtol=tolerance)


@pytest.mark.parametrize("x, value, derivative", [(88.8, 88.8, 1.0), (1e3, 1e3, 1.0), (0.0, np.log(2), 0.5)])
def test_softplus_burn5373_jax2107(x, value, derivative):
    for found in by_jax_and_by_rule(jaxnets.softplus, np.float32(x)):
        np.testing.assert_allclose(found, [value, derivative], rtol=1e-7)


def test_sigmoid_jax777():
    _, by_rule = by_jax_and_by_rule(jaxnets.sigmoid, -200.0)
    np.testing.assert_allclose(by_rule, [np.exp(-200)] * 2, rtol=1e-15)
    for _, derivative in by_jax_and_by_rule(jaxnets.sigmoid, np.float32(-200)):
        array_equal(derivative, 0)


@pytest.mark.parametrize("x, value, derivative", [
    (0.0, 0.0, 0.0), (6.0, 6.0, 0.0), (1.2e-38, 1.2e-38, 1.0), (-1.2e-38, 0.0, 0.0), (6 - 2**-50, 6 - 2**-50, 1.0),
], ids=["jax#2342", "jax#14682", "jax#37821", "jax#37821 below", "next to the ceiling"])  # fmt: skip
def test_relu6_at_kinks_and_on_tiny_numbers(x, value, derivative):
    for found in by_jax_and_by_rule(jaxnets.relu6, np.float64(x)):
        array_equal(found, [value, derivative])


def test_branch_of_where_that_is_nan_jax347_jax5798():
    """∞/∞ of softsign, exp(1000) of elu, 0·∞ of silu: not selected, and not in the gradient."""
    array_equal(jax.jit(jax.grad(lambda x: jaxnets.softsign(x)[0]))(np.array([1.0, INF])), [0.25, 0.0])
    by_silu = jax.jit(jaxnets.grad(lambda x: jnp.sum(jaxnets.silu(x))))(np.array([0.0, -INF, INF]))
    array_equal(by_silu, [0.5, 0.0, 1.0])


def test_leaky_relu_is_not_relu_stochman10():
    x = np.array([-3.0, 2.0])
    f = function("leaky_relu", {"negative_slope": 0.5})
    y, dense = jax.jit(lambda x: (f(x), jaxnets.dense(jaxnets.jacobian(f)(x))))(x)
    array_equal(y, [-1.5, 2.0])
    array_equal(dense, np.diag([0.5, 1.0]))
