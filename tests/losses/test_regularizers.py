"""Penalties on parameters: values, slopes, structure, half precision, bad parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparisons import INF, gradients, near

l1, l2 = jn.regularizers.l1, jn.regularizers.l2
PARAMS = {"w": np.array([[1.0, -2.0], [0.0, 4.0]]), "steps": np.array(7), "b": [np.array(-0.5)], "none": None}


def test_penalties():
    for penalty, value in ((l1, 7.5), (l2, (1 + 4 + 16 + 0.25) / 2)):
        found, of_nothing = jax.jit(lambda *args: [penalty(params) for params in args])(PARAMS, np.zeros(0))  # noqa: B023
        assert found == value
        equal(of_nothing, 0)
    equal(jax.jit(l1)(np.array([-INF])), INF)


@pytest.mark.parametrize("gradient", [jax.grad, jn.grad], ids=["jax", "jaxnets"])
def test_slopes_of_penalties(gradient):
    """torch's weight decay, and 0 at 0."""
    real = {"w": PARAMS["w"], "b": PARAMS["b"]}
    by_l1, by_l2 = jax.jit(lambda params: (gradient(l1)(params), gradient(l2)(params)))(real)
    equal(by_l1["w"], [[1, -1], [0, 1]])
    equal(by_l2["w"], real["w"])
    equal(by_l2["b"][0], -0.5)


def test_penalties_have_no_opaque_edges():
    @jax.jit
    def compute(w):
        jacobians = [jn.jacobian(penalty, on_opaque="error")(w) for penalty in (l1, l2)]
        return jacobians, jn.hessian(l1)(w).dense(), jn.hessian(l2, on_opaque="error")(w).dense()

    _, by_l1, by_l2 = compute(PARAMS["w"])
    equal(by_l1, np.zeros((2, 2, 2, 2)))
    near(by_l2, np.eye(4).reshape(2, 2, 2, 2))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_penalties_of_half_precision(dtype):
    for penalty, value, slope in ((l1, 2**17, 1), (l2, 2**17, 2)):
        found, (gradient,) = gradients(penalty, np.full(2**16, 2.0, dtype))
        assert (found.dtype, gradient.dtype) == (np.float32, dtype)
        equal(found, value)
        equal(gradient, np.full(2**16, slope, dtype))


@pytest.mark.parametrize("penalty", [l1, l2])
def test_bad_parameters(penalty):
    for params in ({}, [], None, {"n": jnp.arange(3)}):
        with pytest.raises(ValueError, match=f"{penalty.__name__}.*no floating"):
            penalty(params)
    with pytest.raises(jn.DTypeError, match=rf"{penalty.__name__}.*\['name'\].*str"):
        penalty({"w": jnp.ones(2), "name": "conv"})
