"""What a layer's rule and JAX compute on a line of cases.py, kept for the tests that look at it; comparing the two."""

import contextlib
import gc
import math
from functools import lru_cache

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

TIGHT = 1e-10


def equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def close(actual, expected, tolerance=TIGHT, what="", least=0.0):
    """Equal shapes, and values within `tolerance` times the largest expected one (or `least`)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if expected.size:
        actual, expected = actual.astype(np.float64), expected.astype(np.float64)
        scale = max(np.abs(expected).max(), least) or 1.0
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def largest(function, *args, branches=True):
    """The number of entries of the largest array that a function makes."""

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (math.prod(y.aval.shape) for y in equation.outvars)
            if branches or equation.primitive.name != "cond":
                for inner in jax.extend.core.jaxprs_in_params(equation.params):
                    yield from sizes(inner)

    return max(sizes(jax.make_jaxpr(function)(*args).jaxpr))


def flops_and_bytes(function, *args) -> tuple[float, int]:
    """The multiplications and additions of the compiled function, and the bytes that it takes beside inputs and outputs."""
    program = jax.jit(function).lower(*args).compile()
    return program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes


@contextlib.contextmanager
def leaks_looked_for():
    """With this flag JAX looks for garbage after every trace: here only among what is made inside."""
    gc.freeze()
    try:
        with jax.checking_leaks():
            yield
    finally:
        gc.unfreeze()


def blocks(case, args):
    """{(output, argument): Jacobian} straight from the layer's rule."""
    table = case.layer.jacobians(list(case.call(*args)), args, case.full_config)
    return {(o, i): j for o, row in enumerate(table) for i, j in enumerate(row) if j is not None}


@lru_cache(8)
def compiled(case, compute, dtype="float64"):
    """compute(case, args) under one jit, which compiles far less than as many operations one by one."""
    args = case.values(dtype)
    return jax.jit(lambda *real: compute(case, case.whole(args, real)))(*reals(case, args))


def same_blocks(actual, expected, tolerance=TIGHT):
    assert actual.keys() == expected.keys(), f"Jacobians for {sorted(actual)}, expected {sorted(expected)}"
    for key, value in expected.items():
        close(actual[key], value, tolerance, f"∂y{key[0]}/∂(argument {key[1]})")


def dense(table):
    return {key: j.dense() for key, j in table.items()}


def whole_blocks(case, args):
    """Outputs, blocks, the dense form of these, and that of each example where examples are apart."""
    table = blocks(case, args)
    apart = {(o, i): j.per_example() for (o, i), j in table.items() if i in case.batch}
    return case.call(*args), table, dense(table), apart


def nested(case, rows):
    """{(output, argument): leaf} of what jax.jacrev returns."""
    return {(o, i): leaf for o, row in enumerate(rows) for i, leaf in zip(case.real, row, strict=True)}


def reals(case, args):
    return [args[i] for i in case.real]


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def by_autodiff(case, args, transform=jax.jacrev):
    """A function from the real arguments to the outputs and JAX's own dense Jacobians in one mode."""
    function, real = case.function(args), reals(case, args)
    full = [k for k, x in enumerate(real) if x.size]  # jacrev and jacfwd refuse empty arrays
    outputs = jax.eval_shape(function, *real)

    def jacobians(*real):
        rows = [[jnp.zeros(y.shape + x.shape) for x in real] for y in outputs]
        if full and all(y.size for y in outputs):
            for row, found in zip(rows, transform(function, full)(*real), strict=True):
                for k, value in zip(full, found, strict=True):
                    row[k] = value
        return rows

    return lambda *real: (function(*real), jacobians(*real))


@lru_cache(8)
def _program(case, transform):
    """What `by_autodiff` computes, compiled: by jacrev together with `whole_blocks`, since that makes one program of two."""
    args = case.values()
    by_jax = by_autodiff(case, args, transform)
    if transform is not jax.jacrev:
        return jax.jit(lambda *real: (None, by_jax(*real)))
    return jax.jit(lambda *real: (whole_blocks(case, case.whole(args, real)), by_jax(*real)))


@lru_cache(16)
def _computed(case, dtype, draw, transform):
    real = [np.asarray(x).astype("float64") for x in reals(case, case.values(dtype, draw))]
    ours, (outputs, rows) = _program(case, transform)(*real)
    return ours, (outputs, {key: np.asarray(value) for key, value in nested(case, rows).items()})


def forget():
    """Nothing is kept of what was computed, for the tests that alter a rule."""
    for kept in (compiled, _program, _computed):
        kept.cache_clear()


def by_rule(case):
    """`whole_blocks` in double precision, with numbers in place of what is traced."""
    return _computed(case, "float64", 0, jax.jacrev)[0]


def references(case, dtype="float64", draw=0, transform=jax.jacrev):
    """By JAX alone, from the real arguments rounded to `dtype`, in float64: outputs and Jacobians."""
    return _computed(case, dtype, draw, transform)[1]


def reference(case, dtype="float64", draw=0):
    """The Jacobians by jacrev."""
    return references(case, dtype, draw)[1]
