"""Norms of Jacobians by the input: of a whole function, and of every layer in it."""

import functools
from collections import OrderedDict
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..algebra.jacobian import Jacobian
from ..autodiff.eliminate import local_jacobians
from ..autodiff.transforms import jacobian_for, trace_graph
from ..checks import check_integer
from .rows import quantity, squared_row_norms, with_float32_results

NORMS = ("frobenius", "spectral")


@quantity
def jacobian_norm(f: Callable, kind: str = "frobenius", *, layers: bool = False, iterations: int = 100) -> Callable:
    """A function of `(x, *args)` that returns ‖∂f/∂x‖: `[B]` if examples are independent, else one number.

    "frobenius" is exact.  "spectral", the largest singular value, is approached from below by at most `iterations` steps of
    power iteration.  With `layers` the result has the norm of every layer's local Jacobian by its input, in the order of the
    layers: `{"linear": …, "tanh": …, "linear 2": …}`.  Raises ValueError for an unknown kind.

    >>> f = lambda x: jn.tanh(jn.relu(x))
    >>> jn.jacobian_norm(jn.relu)(jnp.ones((2, 4)))
    Array([2., 2.], dtype=float32)
    >>> list(jn.jacobian_norm(f, layers=True)(jnp.ones((2, 4))))
    ['relu', 'tanh']
    """
    if kind not in NORMS:
        raise ValueError(f"jacobian_norm: kind must be one of {NORMS}, got {kind!r}")
    check_integer("jacobian_norm", "iterations", iterations, 1)
    measure = _frobenius if kind == "frobenius" else functools.partial(_spectral, iterations=iterations)

    def run(x, *args):
        if not layers:
            return jax.tree.map(
                measure, jacobian_for("jacobian_norm", f)(x, *args), is_leaf=lambda j: isinstance(j, Jacobian)
            )
        graph, *_ = trace_graph("jacobian_norm", f, 0, (x, *args), {}, every_value=True)
        edges, nodes, _ = local_jacobians(graph)
        found: OrderedDict[str, jax.Array] = OrderedDict()
        for node in nodes:
            for j in edges.get(node, {}).values():
                number = 2 + sum(name.split(" ")[0] == node.name for name in found)
                found[f"{node.name} {number - 1}" if number > 2 else node.name] = measure(j)
        return found

    return run


def _frobenius(j: Jacobian) -> jax.Array:
    squares = squared_row_norms(j)
    return jnp.sqrt(jnp.sum(squares, tuple(range(1, squares.ndim)) if j.batched else None)).astype(j.dtype)


def _spectral(j: Jacobian, iterations: int) -> jax.Array:
    """The norm by power iteration on Jᵀ J, for all examples at once, until no norm grows by more than rounding."""
    if not j.terms:
        return jnp.zeros(j.in_shape[:1] if j.batched else (), j.dtype)
    j = with_float32_results(j)
    axes = tuple(range(1, len(j.in_shape))) if j.batched else None

    def unit(v):
        norm = jnp.sqrt(jnp.sum(v * v, axes, keepdims=True))
        return v / jnp.where(norm == 0, 1, norm), norm

    def step(state):
        i, v, norm, _ = state
        v, squared = unit((j @ v) @ j)
        found = jnp.sqrt(squared)
        return i + 1, v, found, jnp.any(found > norm * (1 + 2 * jnp.finfo(v.dtype).eps))

    start, norm = unit(jax.random.normal(jax.random.key(0), j.in_shape, j.dtype))
    state = jax.lax.while_loop(lambda s: (s[0] < iterations) & s[3], step, (0, start, 0 * norm, jnp.array(True)))
    return state[2].reshape(j.in_shape[:1] if j.batched else ())
