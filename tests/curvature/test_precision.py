"""Curvature in float32 and 16 bits: within some units of the last place, and without overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from .nets import Draws, mlp, same

r = Draws(5)


def narrow_quantities(params, x):
    """Of a network in the dtype of its parameters: norms, kernel, Gauss-Newton diagonal and variance."""

    def losses(params):
        return jnp.sum(mlp(params, x) ** 2, 1)

    zeros = jnp.zeros((len(x), 2), x.dtype)
    return (
        jn.per_example_grad_norms(losses)(params),
        jn.ntk(mlp)(params, x),
        jn.ggn_diagonal(mlp, jn.squared_error)(params, x, zeros),
        jn.gradient_variance(losses)(params),
    )


@pytest.mark.parametrize("dtype, units", [("float32", 24), ("bfloat16", 8)])
def test_precision(dtype, units):
    """Within some units of the last place of the largest entry, in float32 at least, of what float64 makes of it."""
    params, x = jax.tree.map(lambda a: jnp.asarray(a, dtype), (r.weights(5, 6, 2), r(7, 5)))
    wide = jax.tree.map(lambda a: a.astype("float64"), (params, x))
    found, exact = jax.jit(lambda *both: [narrow_quantities(*one) for one in both])((params, x), wide)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert one.dtype == jnp.float32
        same(one, other, dtype, units * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_squares_of_16_bits_do_not_overflow(dtype):
    """Gradients of 300 in every entry: their squares exceed 65504."""
    w, x, ones = jnp.ones((1, 4), dtype), jnp.full((3, 4), 300, dtype), jnp.zeros((3, 1), dtype)

    def f(w, x):
        return jn.linear(x, w)

    def losses(w, x):
        return f(w, x)[:, 0]

    def table(w):
        summed, norms = jn.clip_per_example(losses, 1.0)(w, x)
        return {
            "norms": (jn.per_example_grad_norms(losses)(w, x), np.full(3, 600.0)),
            "ntk": (jn.ntk(f)(w, x), np.full((3, 1, 3, 1), 4 * 300.0**2)),
            "trace": (jn.ntk(f, "trace")(w, x), np.full((3, 3), 4 * 300.0**2)),
            "ggn_diagonal": (jn.ggn_diagonal(f, jn.squared_error)(w, x, ones), np.full((1, 4), 2 * 3 * 300.0**2)),
            "clip_per_example": ((summed, norms), (np.full((1, 4), 1.5), np.full(3, 600.0))),
            "gradient_variance": (jn.gradient_variance(losses)(w, x), np.zeros((1, 4))),
        }

    found = jax.jit(table)(w)
    for what, pair in found.items():
        same(*pair, what, 4 * float(jnp.finfo(dtype).eps))
    assert {leaf.dtype.name for what in ("norms", "ntk", "trace") for leaf in jax.tree.leaves(found[what][0])} == {"float32"}


def test_variance_is_off_by_the_rounding_of_the_mean_square():
    """Gradients 1000 ± 1 in float32, and some that are all alike."""
    run, ones = jax.jit(jn.gradient_variance(lambda w, x: x @ w)), np.ones(3, "float32")
    x = (1000 + r(50, 3)).astype("float32")
    wide = x.astype("float64")
    assert np.all(np.abs(run(ones, x) - wide.var(0, ddof=1)) <= 8 * np.finfo("float32").eps * (wide**2).mean(0))
    assert np.all(run(ones, np.full_like(x, 0.1)) >= 0)
