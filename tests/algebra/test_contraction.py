"""An array times itself: the product is symmetric, and of two blocks that are each other's transposes one is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.algebra.contraction import contract
from jaxnets.algebra.factors import Label, Tensor

B, T = Label(0, 3), Label(1, 2)


def times_itself(x, sizes):
    """Σ_bt x[b, t, *i] x[b, t, *j]."""
    i, j = ([Label(2 + k * len(sizes) + a, n) for a, n in enumerate(sizes)] for k in (0, 1))
    first, second = (Tensor(x, ((B,), (T,), *((label,) for label in own))) for own in (i, j))
    return contract([first, second], [*i, *j]).broadcast_to([*i, *j])


@pytest.mark.parametrize("sizes", [(191,), (193,), (401,), (5, 80)])
def test_an_array_times_itself(sizes):
    x = np.random.default_rng(0).normal(size=(3, 2, *sizes))
    compiled = jax.jit(times_itself, static_argnums=1).lower(x, sizes).compile()
    found = np.asarray(compiled(x)).reshape(np.prod(sizes), -1)
    rows = x.reshape(6, -1)
    np.testing.assert_allclose(found, rows.T @ rows, rtol=0, atol=1e-13)
    blocks = max(1, min(4, len(found) // 96))
    share = compiled.cost_analysis()["flops"] / (2 * 6 * found.size)
    assert share == pytest.approx((blocks + 1) / (2 * blocks), rel=0.02)


def test_different_arrays_are_multiplied_wholly():
    x = jnp.ones((3, 2, 200))

    def product(x):
        i, j = Label(2, 200), Label(3, 200)
        return contract([Tensor(x, ((B,), (T,), (i,))), Tensor(2 * x, ((B,), (T,), (j,)))], [i, j]).value

    assert float(product(x)[0, 1]) == 12
