"""Norms of Jacobians by the input: of a whole function, and of every layer in it."""

from collections import OrderedDict
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..algebra.jacobian import Jacobian
from ..autodiff.eliminate import local_jacobians
from ..autodiff.transforms import jacobian_for, trace_graph
from ..checks import check_axes, check_integer
from .rows import quantity, squared_row_norms, with_float32_results

NORMS = ("frobenius", "spectral")


@quantity
def jacobian_norm(
    f: Callable,
    kind: str = "frobenius",
    *,
    layers: bool = False,
    keep: int | tuple[int, ...] | None = None,
    iterations: int = 100,
) -> Callable:
    """A function of `(x, *args)` that returns ‖∂f/∂x‖: `[B]` if examples are independent, else one number.

    "frobenius" is exact.  "spectral", the largest singular value, is approached from below by at most `iterations` steps of
    power iteration.  With `layers` the result has the norm of every layer's local Jacobian by its input, in the order of the
    layers: `{"linear": …, "tanh": …, "linear 2": …}`.

    `keep` is an axis of x, or several, that the result keeps: with `keep=1` and x [b, t, i] it has the Frobenius norms
    ‖∂f[b,...]/∂x[b,t,...]‖ as `[B, T]`, by every step of a sequence.  It goes neither with "spectral" nor with `layers`.
    Raises ValueError for that and for an unknown kind, and ShapeError where x has no such axis.

    >>> f = lambda x: jn.tanh(jn.relu(x))
    >>> jn.jacobian_norm(jn.relu)(jnp.ones((2, 4)))
    Array([2., 2.], dtype=float32)
    >>> list(jn.jacobian_norm(f, layers=True)(jnp.ones((2, 4))))
    ['relu', 'tanh']
    >>> jn.jacobian_norm(lambda x: jnp.cumsum(x, 1)[:, -1], keep=1)(jnp.ones((2, 3, 4))).shape
    (2, 3)
    """
    if kind not in NORMS:
        raise ValueError(f"jacobian_norm: kind must be one of {NORMS}, got {kind!r}")
    check_integer("jacobian_norm", "iterations", iterations, 1)
    if keep is not None and (layers or kind != "frobenius"):
        raise ValueError('jacobian_norm: keep goes neither with layers nor with kind="spectral"')

    def measure(j: Jacobian) -> jax.Array:
        if kind == "spectral":
            return _spectral(j, iterations)
        return _frobenius(j) if keep is None else _frobenius_along(j, keep)

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


def _frobenius_along(j: Jacobian, keep: int | tuple[int, ...]) -> jax.Array:
    """The norms of the parts of J by the places along some axes of the input, and by examples that are independent."""
    kept = {*check_axes("jacobian_norm", jax.ShapeDtypeStruct(j.in_shape, j.dtype), keep, "keep"), *range(j.batched)}
    squares = squared_row_norms(j.T)
    return jnp.sqrt(jnp.sum(squares, tuple(a for a in range(squares.ndim) if a not in kept))).astype(j.dtype)


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
