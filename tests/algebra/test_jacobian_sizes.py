"""What a Jacobian tells of itself: the bytes that it stores, its formula and its line; what is too large is refused."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets

from .maps import MAPS, W, close, made

# --- size guard -----------------------------------------------------------------------------------------------------


def big():
    """8 TB dense, 8 MB stored."""
    return jax.jit(jaxnets.jacobian(jnp.tanh))(np.zeros(1_000_000))


@pytest.mark.parametrize("method", ["dense", "matrix"])
def test_too_large_is_refused_before_allocation(method):
    j = big()
    with pytest.raises(jaxnets.JacobianTooLarge) as caught:
        getattr(j, method)()
    message = str(caught.value)
    assert re.search(r"8e\+03 GB|8000 GB|8 TB", message)
    assert "8 MB" in message
    for alternative in ("J @ v", "u @ J", "diagonal()", "limit="):
        assert alternative in message
    assert issubclass(jaxnets.JacobianTooLarge, MemoryError)
    close(j @ jnp.ones(1_000_000), jnp.ones(1_000_000))
    close(j.diagonal(), jnp.ones(1_000_000))


def test_limit():
    j, d = made("diagonal")
    close(j.dense(limit=math.inf), d)
    close(j.dense(limit=d.nbytes), d)
    close(j.matrix(limit=math.inf), d.reshape(12, 12))
    for method in (j.dense, j.matrix, j.per_example):
        with pytest.raises(jaxnets.JacobianTooLarge, match="limit is 10 B"):
            method(limit=10)
    with pytest.raises(jaxnets.JacobianTooLarge, match="limit is 10 B"):
        jaxnets.dense({"a": j}, limit=10)
    close(j.per_example(limit=4 * 3 * 3 * 8), np.einsum("biaj,ab->bij", d, np.eye(4)))


def test_limit_under_jit():
    """Shapes are known while tracing, so the guard works there."""
    with pytest.raises(jaxnets.JacobianTooLarge):
        jax.jit(lambda x: jaxnets.jacobian(jnp.tanh)(x).dense())(jnp.zeros(1_000_000))


def test_default_limit_lets_small_things_pass():
    assert jaxnets.jacobian(jnp.tanh)(jnp.zeros(1000)).dense().shape == (1000, 1000)


# --- stated sizes and formulae --------------------------------------------------------------------------------------

BYTES = {  # of float64: what must be stored and no more
    "identity": 0, "diagonal": 8 * 12, "Kronecker": 8 * 6, "Kronecker by W": 8 * 15, "dense": 8 * 6, "sum": 0,
    "broadcast": 0, "permutation": 0, "slice": 0, "softmax": 8 * 12, "log-softmax": 8 * 12, "zero": 0, "merge": 0,
    "scrambled": 0, "block diagonal": 8 * 24, "factored": 8 * (6 + 10 + 15), "shift a factor": 8 * 24, "empty input": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_stored_bytes(name):
    f, shape, _ = MAPS[name]
    sizes = []
    jax.eval_shape(lambda x: sizes.append(jaxnets.jacobian(f, on_opaque="allow")(x).nbytes), np.zeros(shape))
    assert sizes == [BYTES[name]]


def test_array_used_twice_counts_once():
    j = made("diagonal")[0]
    assert (j + j).nbytes == j.nbytes
    assert (2 * j).nbytes == j.nbytes


X, B = np.ones((4, 3)), np.ones(2)
FORMULAE = {
    "∂y[b,o]/∂x[b,i] = w[o,i]": lambda: jax.eval_shape(jaxnets.jacobian(jaxnets.linear, 0), X, W, B),
    "∂y[b,o]/∂w[o,i] = x[b,i]": lambda: jax.eval_shape(jaxnets.jacobian(jaxnets.linear, 1), X, W, B),
    "∂y[b,o]/∂b[o] = 1": lambda: jax.eval_shape(jaxnets.jacobian(jaxnets.linear, 2), X, W, B),
    "∂y/∂x[b,i] = 1": lambda: made("sum")[0],
    "∂y/∂x = 0": lambda: made("zero")[0],
    "∂y[b,i]/∂x[b,i] = tanh'[b,i]": lambda: made("diagonal")[0],
    "∂y[b,i]/∂x[b,i] = −tanh'[b,i]": lambda: -made("diagonal")[0],
    "∂y[b,i]/∂x[b,i] = 2·tanh'[b,i]": lambda: 2 * made("diagonal")[0],
    "∂y[b,i]/∂x[b,j] = p[b,i]·(δ(i,j) − p[b,j])": lambda: made("softmax")[0],
}


@pytest.mark.parametrize("formula", FORMULAE)
def test_formula(formula):
    assert FORMULAE[formula]().formula == formula


def test_repr_is_one_line_with_sizes():
    text = repr(made("diagonal")[0])
    assert text == "Jacobian(∂y[b,i]/∂x[b,i] = tanh'[b,i], [4, 3]×[4, 3], diagonal, 96 B of 1.15 kB)"
