"""Errors in units of the last place (ULP), with mpmath at 60 digits as the only oracle.

Results that are subnormal or overflow are left out: XLA flushes them on CPU.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf

import jaxnets
from benchmarks.oracles import ORACLES, exact_results, layer_of, mp_complement, mp_softmax, rows, ulps
from benchmarks.oracles import sigmoid as mp_sigmoid
from jaxnets.layers import elementwise, piecewise

from ..sweeps import swept

DTYPES = ["float32", "float64"]


@pytest.fixture(autouse=True)
def sixty_digits():
    with mpmath.workdps(60):
        yield


def rule(function, x, **config):
    return jaxnets.jacobian(lambda x: function(x, **config))(x)


# --- elementwise --------------------------------------------------------------------------------------------------


def limits(name, x):
    """The errors allowed to value and derivative at these points."""
    return [np.array([float(limit(mpf(float(a)))) for a in x]) for limit in ORACLES[name].allowed]


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name", ORACLES)
def test_elementwise(name, dtype):
    layer = layer_of(name)
    x, values, derivatives = exact_results(name, dtype)

    def both(x):
        return layer(x), rule(layer, x).diagonal()

    for compute in (both, jax.jit(both)):  # XLA reorders what it compiles
        for found, right, limit in zip(compute(x), (values, derivatives), limits(name, x), strict=True):
            errors = ulps(found, right, dtype)
            worst = np.argmax(errors / limit)
            assert errors[worst] <= limit[worst], f"{errors[worst]:.3g} ULP at {x[worst]}"


def test_every_activation_has_an_oracle():
    single = {*elementwise.__all__, *piecewise.__all__} - {"prelu", "swish"}  # one takes weights, the other is silu
    assert single <= {name.split()[0] for name in ORACLES}


@pytest.mark.parametrize("name", ORACLES)
def test_oracles_agree(name):
    """The derivative that they state is that of the value that they state."""
    oracle = ORACLES[name]
    for x in map(mpf, ("-60.1", "-7.3", "-1.4", "-0.6", "-0.2", "0.1", "0.7", "2.2", "9.9", "55.5")):
        right = mpmath.diff(oracle.value, x, h=mpf(10) ** -20)
        assert abs(oracle.derivative(x) - right) <= abs(right) * mpf(10) ** -10 + mpf(10) ** -30


# --- softmax and log-softmax --------------------------------------------------------------------------------------


def random_like(x, seed):
    return np.random.default_rng(seed).normal(size=x.shape).astype(x.dtype)


def unit_like(x, k):
    """The row with a 1 at k, counted around, and else 0."""
    return np.eye(len(x), dtype=x.dtype)[k % len(x)]


def results_of(layer, x, k):
    """The value at the k-th row, and all that the Jacobian J by the rule gives, in one program for rows of one length."""
    return compiled_results(layer, x, random_like(x, k), unit_like(x, k))


@functools.partial(jax.jit, static_argnums=0)
def compiled_results(layer, x, v, one):
    j = rule(layer, x)
    return {"y": layer(x), "J v": j @ v, "v J": v @ j, "one J": one @ j, "diagonal": j.diagonal(), "dense": j.dense()}


def differences(p, v):
    """Σ_j p_j (v_i − v_j) for every i, and the condition number of each sum: by how much its terms cancel."""
    v = [mpf(float(a)) for a in v]
    terms = [[p[j] * (v[i] - v[j]) for j in range(len(p))] for i in range(len(p))]
    totals = [mpmath.fsum(row) for row in terms]
    return totals, [float(mpmath.fsum(map(abs, row)) / abs(total)) for row, total in zip(terms, totals, strict=True)]


def errors_of(compute, dtype):
    """Errors in ULP over all rows; `compute` gives result, exact result and, where sums cancel, condition numbers."""
    found = []
    for k, x in enumerate(rows(dtype)):
        for actual, exact, *condition in compute(x, k):
            errors = ulps(actual, exact, dtype)
            assert not condition or len(condition[0]) == len(errors)
            found.append(errors / condition[0] if condition else errors)
    return np.concatenate(found)


def within(errors, p99=32, most=64):
    assert np.quantile(errors, 0.99) <= p99, f"99 % within {np.quantile(errors, 0.99):.3g} ULP"
    assert errors.max() <= most, f"largest error {errors.max():.3g} ULP"


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
def test_softmax_value(dtype):
    within(errors_of(lambda x, k: [(results_of(jaxnets.softmax, x, k)["y"], mp_softmax(x))], dtype))


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
def test_softmax_products(dtype):
    def compute(x, k):
        found, p = results_of(jaxnets.softmax, x, k), mp_softmax(x)
        sums, condition = differences(p, random_like(x, k))
        exact = [a * b for a, b in zip(p, sums, strict=True)]
        return [(found["v J"], exact, condition), (found["J v"], exact, condition)]

    within(errors_of(compute, dtype))


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
def test_softmax_entries(dtype):
    def compute(x, k):
        found, p = results_of(jaxnets.softmax, x, k), mp_softmax(x)
        n = range(len(p))
        diagonal = [p[i] * mp_complement(p, i) for i in n]
        dense = [diagonal[a] if a == b else -p[a] * p[b] for a in n for b in n]
        return [(found["diagonal"], diagonal), (found["dense"], dense)]

    within(errors_of(compute, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_value(dtype):
    def compute(x, k):
        p = mp_softmax(x)
        exact = [mpmath.log1p(-mp_complement(p, i)) if a > 0.5 else mpmath.log(a) for i, a in enumerate(p)]
        return [(results_of(jaxnets.log_softmax, x, k)["y"], exact)]

    within(errors_of(compute, dtype), 16, 16)


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
def test_log_softmax_entries(dtype):
    def compute(x, k):
        found, p = results_of(jaxnets.log_softmax, x, k), mp_softmax(x)
        n = range(len(p))
        diagonal = [mp_complement(p, i) for i in n]
        dense = [diagonal[a] if a == b else -p[b] for a in n for b in n]
        return [(found["diagonal"], diagonal), (found["dense"], dense)]

    within(errors_of(compute, dtype))


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
def test_log_softmax_products(dtype):
    def compute(x, k):
        found, p, n = results_of(jaxnets.log_softmax, x, k), mp_softmax(x), range(len(x))
        yield found["J v"], *differences(p, random_like(x, k))
        hot = k % len(x)
        yield found["one J"], [mp_complement(p, hot) if i == hot else -p[i] for i in n]

    within(errors_of(compute, dtype))


# --- cross-entropy ------------------------------------------------------------------------------------------------


cross_entropy_and_slope = jax.jit(jaxnets.value_and_grad(jaxnets.cross_entropy))


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("hot", [False, True], ids=["label", "one-hot"])
@pytest.mark.parametrize("logits", [[40, 0], [-40, 0], [0, 25, -25], [3, 1, 2]], ids=str)
def test_cross_entropy_in_the_tail(logits, hot, dtype):
    p = mp_softmax(logits)
    x = np.array(logits, dtype)
    n = range(len(p))
    for label in n:
        targets = np.eye(len(p), dtype=dtype)[label] if hot else np.int32(label)
        complement = mp_complement(p, label)
        exact = -mpmath.log1p(-complement) if p[label] > 0.5 else -mpmath.log(p[label])
        value, gradient = cross_entropy_and_slope(x, targets)
        assert ulps([value, value], [exact, exact], dtype).max() <= 16
        assert ulps(gradient, [-complement if i == label else p[i] for i in n], dtype).max() <= 32


# --- the claim that this is better than autodiff ------------------------------------------------------------------


def sech2(x):
    return mpmath.sech(mpf(x)) ** 2


TAILS = {
    "sigmoid": (jaxnets.sigmoid, 30.0, [mp_sigmoid(mpf(30)) * mp_sigmoid(mpf(-30))] * 2),
    "tanh": (jaxnets.tanh, 15.0, [sech2(15)] * 2, jnp.tanh),  # ours keeps its digits under autodiff too
    "softmax": (lambda x: jaxnets.softmax(x)[0], [40.0, 0.0], None),
    "log_softmax": (lambda x: jaxnets.log_softmax(x)[0], [40.0, 0.0], None),
    "cross_entropy": (lambda x: -jaxnets.cross_entropy(x, np.int32(0)), [40.0, 0.0], None),
}


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name", TAILS)
def test_better_than_autodiff_in_the_tail(name, dtype):
    """The first entry of the gradient: within 64 ULP by the rule, off by more than 1000 by jax.grad of the same forward."""
    function, x, exact, *plain = TAILS[name]
    if exact is None:
        p = mp_softmax([40, 0])
        exact = [p[0] * p[1] if name == "softmax" else p[1]] * 2
    ours, theirs = jax.jit(lambda x: (jaxnets.grad(function)(x), jax.grad(*plain or [function])(x)))(np.array(x, dtype))
    assert ulps(np.ravel(ours)[[0, 0]], exact, dtype).max() <= 64
    assert ulps(np.ravel(theirs)[[0, 0]], exact, dtype).max() > 1000
