"""Normalisations to the last digits against mpmath, in 16 bits, and errors published for other libraries."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn

from ..sweeps import swept
from .comparing import near, normal
from .normalizations import at_once, trained


def mp_row(row, eps, centred):
    """x̂ and the root, at 50 digits."""
    row = [mpmath.mpf(float(a)) for a in row]
    mean = mpmath.fsum(row) / len(row) if centred else 0
    row = [a - mean for a in row]
    root = mpmath.sqrt(mpmath.fsum(a * a for a in row) / len(row) + mpmath.mpf(eps))
    return [a / root for a in row], root


ROWS = {
    "random": normal(7),
    "mean 1e4": 1e4 + np.arange(8.0),
    "mean -1e6": -1e6 + np.array([0.5, 1.25, -3.0, 8.0, 2.0]),
    "small": 1e-3 * normal(6, seed=3),
    "outlier": np.array([3e3, 0.1, -0.2, 0.3, 0.05]),
}


@pytest.mark.parametrize("dtype", swept(["float32", "float64"], ["float32"]))
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("row", ROWS)
def test_error_in_units_of_the_largest_entry(row, name, dtype):
    """Within 4 units of the last place of the largest x̂, and 8 of the largest entry of the Jacobian, also far from 0."""
    x, layer, unit = np.asarray(ROWS[row], dtype), jn.LAYERS[name], float(np.finfo(dtype).eps)
    n, centred = len(x), name == "layer_norm"
    with mpmath.workdps(50):
        hat, root = mp_row(x, 1e-5, centred)
        exact = [[((a == b) - mpmath.mpf(centred) / n - hat[a] * hat[b] / n) / root for b in range(n)] for a in range(n)]
        hat, exact = np.array(hat, float), np.array(exact, float)

    @jax.jit
    def compute(x):
        y, j = jn.value_and_jacobian(lambda x: layer(x, eps=1e-5))(x)
        return y, j.dense(), j.diagonal(), jnp.stack([j @ unit for unit in jnp.eye(n, dtype=dtype)], 1)

    y, dense, diagonal, columns = compute(x)
    near(y, hat, 0, 4 * unit * np.abs(hat).max())
    limit = 8 * unit * max(float(1 / root), np.abs(exact).max())
    near(dense, exact, 0, limit)
    near(diagonal, np.diag(exact), 0, limit)
    near(columns, exact, 0, limit)


def test_two_passes_jax_standardize():
    """jax.nn.standardize gives −1107 for the first of these, in float32."""
    x = 1e4 + np.arange(8, dtype="float32")
    expected = (np.arange(8) - 3.5) / np.arange(8).std()
    layers = jn.standardize, lambda x: jn.layer_norm(x, eps=0.0), lambda x: trained(x[:, None], eps=0.0)[:, 0]
    for y in at_once(lambda x: [layer(x) for layer in layers])(x):
        near(y, expected, 3e-7)


statistics = at_once(lambda x: jn.batch_norm(x, training=True))


@pytest.mark.parametrize("seed", range(5))
def test_variance_is_never_negative_flax1491(seed):
    x = (1e3 + 1e-4 * normal(64, 2, seed=seed)).astype("float32")
    y, mean, var = statistics(x)
    assert np.isfinite(y).all() and (np.asarray(var) >= 0).all()
    near(mean, x.astype("float64").mean(0), 1e-6)
    near(var, x.astype("float64").var(0, ddof=1), 1e-5)


def units(actual, exact, dtype):
    """Errors in units of the last place of `exact`, above those of the largest entry or 1."""
    exact = np.asarray(exact, np.float64)
    eps = float(jnp.finfo(dtype).eps)
    size = np.maximum(np.abs(exact), float(jnp.finfo(dtype).tiny))
    error = np.abs(np.asarray(actual, np.float64) - exact) - eps * max(1, np.abs(exact).max())
    return np.max(error / (eps * 2.0 ** np.floor(np.log2(size))))


LONG = {
    "layer_norm": jn.layer_norm,
    "rms_norm": jn.rms_norm,
    "normalize": jn.normalize,
    "standardize": lambda x: jn.standardize(x, axis=-1),
    "group_norm": lambda x: jn.group_norm(x[:, :, None], groups=1)[..., 0],
    "instance_norm": lambda x: jn.instance_norm(x[None])[0],
    "batch_norm": lambda x: trained(x.T).T,
}


@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16"], ["float16"]))
@pytest.mark.parametrize("name", LONG)
def test_rows_of_16_bit_numbers(name, dtype):
    """131072 entries a row, the squares of which sum to more than float16 holds: jax#39899."""
    x, v = (normal(2, 2**17) * 20 + 30).astype(dtype), normal(2, 2**17, seed=1).astype(dtype)

    @jax.jit
    def compute(x, v):
        y, j = jn.value_and_jacobian(LONG[name])(x)
        return y, j @ v, v @ j

    found, exact = compute(x, v), compute(x.astype("float64"), v.astype("float64"))
    for actual, expected in zip(found, exact, strict=True):
        assert actual.dtype == dtype
        assert units(actual, expected, dtype) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_length_neither_overflows_nor_vanishes(dtype):
    largest, smallest = float(jnp.finfo(dtype).max) / 64, float(jnp.finfo(dtype).tiny) * 64
    rows = np.array([[3 * c, -4 * c] for c in (largest, smallest)], dtype), np.array([3e4, -4e4], "float16")
    *found, half = at_once(lambda x, half: [*(jn.normalize(row, eps=0.0) for row in x), jn.normalize(half)])(*rows)
    for y in found:
        near(y, [0.6, -0.8], 1e-2 if dtype == "bfloat16" else 1e-6)
    near(half, [0.6, -0.8], 1e-3)
