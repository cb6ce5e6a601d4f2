"""The dtypes of Jacobians and gradients are those of JAX: each has the dtype of the argument, whatever the others have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets

from ..cases import FIRST

WITH_SEVERAL = [case for case in FIRST.values() if len(case.real) > 1]


@pytest.mark.parametrize("case", WITH_SEVERAL, ids=lambda case: case.name)
@pytest.mark.parametrize("narrow", [0, 1])
def test_jacobians_by_arguments_of_different_dtypes(case, narrow):
    args = case.values()
    dtypes = ["float16" if k == narrow else "float64" for k in range(len(case.real))]
    real = [jax.ShapeDtypeStruct(args[i].shape, dtype) for i, dtype in zip(case.real, dtypes, strict=True)]
    function, wrt = case.function(args), tuple(range(len(real)))
    ours = jax.eval_shape(lambda *real: jaxnets.dense(jaxnets.jacobian(function, wrt)(*real)), *real)
    theirs = jax.eval_shape(jax.jacrev(function, wrt), *real)
    assert jax.tree.map(lambda j: j.dtype, ours) == jax.tree.map(lambda j: j.dtype, theirs)


@pytest.mark.parametrize("jitted", [False, True])
def test_the_gradient_of_a_python_number_is_as_weakly_typed_as_that_number(jitted):
    def loss(p):
        return p["scale"] * jnp.sum(p["x"]) + p["array"] ** 2

    params = {"scale": 1.5, "x": jnp.ones(2, jnp.bfloat16), "array": np.float32(2)}
    for package in (jaxnets, jax):
        grad = jax.jit(package.grad(loss)) if jitted else package.grad(loss)
        found = jax.tree.map(lambda g: (g.dtype.name, g.weak_type), grad(params))
        assert found == {"scale": ("float64", True), "x": ("bfloat16", False), "array": ("float32", False)}
    step = functools.partial(jnp.multiply, jaxnets.grad(loss)(params)["scale"])
    assert step(params["x"]).dtype == jnp.bfloat16
    assert jax.grad(lambda x: jaxnets.grad(jnp.sin)(x))(0.5) == pytest.approx(-np.sin(0.5))
