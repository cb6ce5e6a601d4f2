"""Maps of every structure, and their Jacobians with dense twins by JAX."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets
from tests.autodiff.programs import clipped_gradient, r, spd

W, V, SQUARE, BLOCKS = r(2, 3), r(3, 2), spd(3), r(4, 2, 3)
IDS = np.array([3, 0, 0, 9])  # a repeated row, and one out of range

# name: function, input shape, the word for its structure (None where no single word is promised)
MAPS = {
    "identity": (lambda x: x, (4, 3), "identity"),
    "diagonal": (jnp.tanh, (4, 3), "diagonal"),
    "scaled": (lambda x: -2.5 * x, (4, 3), None),
    "Kronecker": (lambda x: x @ W.T, (4, 3), "Kronecker"),
    "Kronecker by W": (lambda w: jnp.asarray(r5x3) @ w.T, (2, 3), "Kronecker"),
    "dense": (lambda x: W @ x, (3,), "dense"),
    "block diagonal": (lambda x: jnp.einsum("bij,bj->bi", BLOCKS, x), (4, 3), "block diagonal"),
    "sum": (lambda x: x.sum(), (4, 3), "sum"),
    "sum of rows": (lambda x: x.sum(1), (4, 3), "sum"),
    "broadcast": (lambda x: jnp.broadcast_to(x, (4, 3)), (3,), "broadcast"),
    "permutation": (lambda x: x.T, (4, 3), "permutation"),
    "permutation of three": (lambda x: jnp.sin(x).transpose(2, 0, 1), (2, 3, 2), None),
    "slice": (lambda x: x[1:4:2], (4, 3), "selection"),
    "slices of both axes": (lambda x: x[1:3, ::2], (4, 3), None),
    "embedding": (lambda x: x.at[IDS].get(mode="fill", fill_value=0), (4, 3), None),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (jnp.asarray(1), 0), (2, 3)), (4, 3), "selection"),
    "two dynamic slices": (lambda x: lax.dynamic_slice(x, (jnp.asarray(1), jnp.asarray(1)), (2, 2)), (4, 3), None),
    "softmax": (jaxnets.softmax, (4, 3), None),
    "log-softmax": (jaxnets.log_softmax, (4, 3), None),
    "centred": (lambda x: x - x.mean(0), (4, 3), None),
    "x plus its transpose": (lambda x: x + 2 * x.T, (3, 3), None),
    "normalised": (lambda x: x / jnp.sqrt((x**2).sum(-1, keepdims=True)), (4, 3), None),
    "factored": (lambda w: jnp.tanh(jnp.asarray(r5x3) @ w.T) @ jnp.asarray(W), (2, 3), "factored"),
    "residual": (lambda x: x + jnp.tanh(x @ SQUARE), (4, 3), None),
    "opaque": (lambda x: jnp.cumsum(x.ravel()), (4, 3), "cumsum"),
    "opaque by row": (lambda x: jnp.cumsum(x, 1), (4, 3), "cumsum"),
    "opaque chain": (lambda x: jnp.sin(jnp.cumsum(jnp.sin(x))) @ V, (3,), None),
    "opaque, of two arguments": (lambda x: jnp.convolve(jnp.sin(x), x, mode="same"), (4,), None),
    "opaque scan": (lambda x: lax.scan(lambda c, a: (c * a.sum() + 1, c * a), 1.0, x)[1], (4, 3), None),
    "opaque pullback": (lambda x: clipped_gradient(jnp.sin(x)) * x, (4, 3), None),
    "complex inside": (lambda x: jnp.fft.fft(x).real, (4,), None),
    "linear solve": (lambda x: jnp.linalg.solve(SQUARE, x * jnp.sin(x)), (3,), None),
    "zero": (lambda x: jnp.ones((2, 2)), (4, 3), "zero"),
    "merge": (lambda x: x.reshape(12), (4, 3), "identity"),
    "split": (lambda x: x.reshape(2, 2, 3), (4, 3), "identity"),
    "shift a factor": (lambda x: jnp.sin(x).reshape(8, 3), (4, 6), "diagonal"),
    "no common refinement": (lambda x: x.reshape(6, 2), (4, 3), None),
    "scrambled": (lambda x: x.reshape(2, 2, 3).transpose(1, 0, 2).reshape(4, 3), (4, 3), "permutation"),
    "outer product": (lambda x: x[:, None] * x, (3,), None),
    "concatenate": (lambda x: jnp.concatenate([x, 2 * x], 1), (4, 3), None),
    "pad": (lambda x: lax.pad(x, 0.0, ((1, 1, 1), (0, 1, 0))), (4, 3), None),
    "empty input": (jnp.tanh, (0, 3), "zero"),
    "empty output": (lambda x: x[:, :0], (4, 3), "zero"),
    "sum over nothing": (lambda x: x.sum(0), (0, 3), "zero"),
    "size-1 axes": (lambda x: jnp.tanh(x), (1, 3, 1), "diagonal"),
    "size-1 broadcast": (lambda x: x * jnp.ones((4, 3)), (4, 1), None),
    "all axes of size 1": (lambda x: 2 * x, (1, 1), None),
    "scalar": (jnp.tanh, (), None),
    "scalar to array": (lambda x: x * jnp.asarray(W), (), None),
    "array to scalar": (lambda x: jnp.sin(x).sum() ** 2, (4, 3), None),
}  # fmt: skip
r5x3 = r(5, 3)


EAGER = ["diagonal", "softmax", "slice", "dynamic slice", "opaque", "scalar", "zero"]  # the others come out of jit


@functools.cache
def made(name):
    """The Jacobian, and its dense twin from JAX."""
    f, shape, _ = MAPS[name]
    x = np.random.default_rng(len(name)).normal(size=shape)
    jacobian = jaxnets.jacobian(f, on_opaque="allow")
    if name in EAGER:
        return jacobian(jnp.asarray(x)), np.asarray(jax.jit(jax.jacrev(f))(x))
    j, dense = jax.jit(lambda x: (jacobian(x), jax.jacrev(f)(x)))(x)
    return j, np.asarray(dense)


over_maps = pytest.mark.parametrize("name", MAPS)


def close(ours, theirs, tolerance=1e-10):
    assert ours.shape == theirs.shape
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max(initial=0)))


def flat(j, d):
    """The dense twin as a matrix."""
    return d.reshape(math.prod(j.out_shape), math.prod(j.in_shape))
