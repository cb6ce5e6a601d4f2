"""Rotary position embedding: turns of complex numbers, accuracy at large positions, what is stored."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparing import near, normal


def by_complex_numbers(x, positions, base, interleaved):
    """Pairs of features as complex numbers, times e^(ia)."""
    d = x.shape[-1]
    pairs = x[..., ::2] + 1j * x[..., 1::2] if interleaved else x[..., : d // 2] + 1j * x[..., d // 2 :]
    y = pairs * np.exp(1j * np.asarray(positions)[..., None] * base ** (-2 * np.arange(d // 2) / d))
    return np.stack([y.real, y.imag], -1).reshape(x.shape) if interleaved else np.concatenate([y.real, y.imag], -1)


@pytest.mark.parametrize("interleaved", [False, True])
def test_values(interleaved):
    x, given = normal(2, 3, 4, 6), np.array([[[7, 0, -5, 100]], [[1, 2, 3, 4]]])
    run = functools.partial(jn.rotary, interleaved=interleaved)
    usual, placed, part = jax.jit(lambda x: (run(x), run(x, given, base=500.0), run(x, dim=4)))(x)
    near(usual, by_complex_numbers(x, np.arange(4), 1e4, interleaved), 1e-12, 1e-15)
    near(placed, by_complex_numbers(x, given, 500.0, interleaved), 1e-12, 1e-13)
    near(part[..., :4], by_complex_numbers(x[..., :4], np.arange(4), 1e4, interleaved), 1e-12, 1e-15)
    equal(part[..., 4:], x[..., 4:])


def test_no_features_are_turned():
    x = normal(3, 5)
    y, j = jn.value_and_jacobian(lambda x: jn.rotary(x, dim=0))(x)
    equal(y, x)
    equal(j.dense().reshape(15, 15), np.eye(15))
    assert jn.rotary(np.ones((2, 0, 4))).shape == (2, 0, 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("base", [1e4, 5e5, 1.5])
def test_accurate_at_every_position(dtype, base):
    """Also without float64 in JAX; the usual product of position and frequency is off by far more."""
    positions, d = np.array([1, 3, 1000, 999_983, -999_983, 2**31 - 1, -(2**31)]), 8
    with jax.enable_x64(dtype == "float64"):
        x = jnp.broadcast_to(jnp.asarray([1.0] * 4 + [0.0] * 4, dtype), (7, d))
        y = np.asarray(jn.rotary(x, jnp.asarray(positions, jnp.int32), base=base))
        products = jnp.asarray(positions[:, None], dtype) * jnp.asarray(base, dtype) ** (-jnp.arange(0, d, 2) / d)
        usual = np.asarray(jnp.sin(products))
    assert y.dtype == dtype
    with mpmath.workdps(60):
        angles = [[int(p) * mpmath.mpf(base) ** (-mpmath.mpf(2 * i) / d) for i in range(4)] for p in positions]
        cos, sin = ([[float(f(a)) for a in row] for row in angles] for f in (mpmath.cos, mpmath.sin))
    for found, exact in ((y[:, :4], cos), (y[:, 4:], sin)):
        error = np.abs(np.asarray(found, np.float64) - exact).max(1)
        assert (error <= 5e-7 if dtype == "float32" else error <= 2**-52 * (8 + np.abs(positions))).all(), error
    near(y[0, 4:], sin[0], 4 * float(np.finfo(dtype).eps))  # small angles keep their digits
    if dtype == "float32" and base == 1e4:
        assert np.abs(usual - sin)[3].max() > 5e-4


def test_positions_beyond_32_bits_and_of_narrow_integers():
    x = normal(2, 4)
    equal(jn.rotary(x, np.array([5, 2**40])), jn.rotary(x, np.array([5, 2**31 - 1])))
    equal(jn.rotary(x, np.array([5, 200], np.uint8)), jn.rotary(x, np.array([5, 200])))


def test_products_of_queries_and_keys_tell_only_their_distance():
    q, k = normal(1, 8), normal(1, 8, seed=1)

    def score(m, n):
        return (jn.rotary(q, m) @ jn.rotary(k, n).T)[0, 0]

    found = jax.jit(jax.vmap(score))(np.array([5, 1005, -3]), np.array([2, 1002, -6]))
    near(found, np.full(3, found[0]), 1e-11)


def test_jacobian_is_orthogonal_and_small():
    x = normal(2, 30, 16)
    for config in ({}, {"interleaved": True}, {"dim": 6}):
        call = functools.partial(jn.rotary, **config)
        j = jax.eval_shape(jn.jacobian(call), x)
        assert j.nbytes <= 8 * 2 * 30 * 16 and j.batched
        back = jax.jit(lambda x, call=call: jn.jacobian(call)(x).T @ call(x))(x)
        near(back, x, 1e-12, 1e-14)


def test_inside_attention():
    """Queries and keys are turned, and examples stay apart."""
    x, w = normal(2, 4, 6), [normal(6, 6, seed=i) for i in range(1, 4)]

    def layer(x):
        q, k, v = (jn.linear(x, m) for m in w)
        return jn.attention(jn.rotary(q), jn.rotary(k, interleaved=False), v, causal=True)

    j = jn.jacobian(layer, on_opaque="error")
    ours, theirs = jax.jit(lambda x: (j(x).dense(), jax.jacrev(layer)(x)))(x[:, None])
    near(ours, theirs, 1e-10, 1e-12)
    assert jax.eval_shape(j, x[:, None]).batched
