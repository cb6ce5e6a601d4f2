"""The Laplacian of a function of its input, and the divergence of a vector field.

With J = ∂u/∂x of a value u, the Laplacian of v = φ(u) is `Δv = φ'(u) Δu + Σ_i φ''(u)[J_i, J_i]`: one pass through the graph of
the function carries (J, Δ) forward (the forward Laplacian of Li et al. 2023, with structured J).  Where φ works entry by entry
the sum is `φ'' · diag(J Jᵀ)`, of affine φ there is none, and any other φ pushes the columns of J through its derivative.
"""

import functools
import itertools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..errors import ShapeError
from ..graph import Local, Node
from ..jacobian import Jacobian
from ..rules import identity
from ..transforms import jacobian, trace
from .rows import quantity

State = dict[Node, Jacobian]  # ∂(node)/∂x of one input x


@quantity
def laplacian(f: Callable, limit: float | None = None) -> Callable:
    """A function of `(x, *args)` that gives Δf = Σ_i ∂²f/∂x_i² over all entries of x, of f's shape.

    Of a batched function, `[B, n]` to `[B, ...]`, it is the Laplacian of every example.  x may be a tree, and f's value, too.
    Raises JacobianTooLarge where the columns of a Jacobian on the way exceed `limit` bytes (default: half of the free memory);
    functions with a `jax.custom_vjp` have no second derivatives in JAX: TypeError.
    """

    def run(x, *args):
        graph, _, out_tree, _, _ = trace("laplacian", f, 0, (x, *args), {}, curved=True)
        states: list[State] = [{node: identity(node, node)} for node in graph.inputs]
        found: dict[Node, jax.Array] = {}  # Δ(node), of those where it is not 0 by structure
        for node in graph.between():
            if node in graph.inputs:
                continue
            local = {edge.parent: [] for edge in node.edges}
            for edge in node.edges:
                if (j := edge.jacobian()) is not None:
                    local[edge.parent].append(j)
            edges = {parent: functools.reduce(operator.add, parts) for parent, parts in local.items() if parts}
            parts = [j @ found[parent] for parent, j in edges.items() if parent in found]
            for state in states:
                moved = [(j @ state[parent]).reduced() for parent, j in edges.items() if parent in state]
                if moved:
                    state[node] = functools.reduce(operator.add, moved).reduced()
                if node.local and (second := _second(node, node.local, edges, state, limit)) is not None:
                    parts.append(second)
            if parts:
                found[node] = functools.reduce(jnp.add, parts).astype(node.dtype)
        values = zip(graph.outputs, graph.values, strict=True)
        return jax.tree.unflatten(out_tree, [found.get(node, jnp.zeros_like(y)) for node, y in values])

    return run


def _second(node: Node, local: Local, edges: dict[Node, Jacobian], state: State, limit) -> jax.Array | None:
    """Σ_i φ''[J_i, J_i], or None where φ is affine."""
    parents = [parent for parent in local.parents if parent in state]
    if node not in state or not parents or _affine(local):
        return None
    if all(parent in edges and _entrywise(edges[parent]) for parent in local.parents):
        return _of_entries(local, state)
    apart = state[node].batched and all(state[parent].batched for parent in parents)

    def columns(parent):
        """The columns of J, of all examples at once where these are apart."""
        if parent not in state:
            return None
        j = state[parent]
        whole = j.per_example(limit) if apart else j.dense(limit)
        return jnp.moveaxis(whole.reshape(*parent.shape, -1), -1, 0)

    def along(tangents):
        moving = [jnp.zeros_like(u) if t is None else t.astype(u.dtype) for t, u in zip(tangents, local.point, strict=True)]
        return _twice(local, moving, moving)

    return jnp.sum(jax.vmap(along)([columns(parent) for parent in local.parents]), 0)


def _twice(local: Local, first, second) -> jax.Array:
    """φ''[first, second]."""
    return jax.jvp(lambda *point: local.push(point, first), tuple(local.point), tuple(second))[1]


def _entrywise(j: Jacobian) -> bool:
    """Whether entry i of the output depends on entry i of the input alone."""
    return j.out_shape == j.in_shape and all(term.out == term.inp for term in j.terms)


def _of_entries(local: Local, state: State) -> jax.Array:
    total = 0.0
    for (p, a), (q, b) in itertools.combinations_with_replacement(enumerate(local.parents), 2):
        if a in state and b in state:
            ones = [[jnp.ones_like(u) if i == k else jnp.zeros_like(u) for i, u in enumerate(local.point)] for k in (p, q)]
            products = (state[a] @ state[b].T).diagonal()
            total += (1 if p == q else 2) * _twice(local, *ones) * products
    return total


def _affine(local: Local) -> bool:
    """Whether the derivative at a point does not depend on the point."""
    point = list(local.point)
    jaxpr = jax.make_jaxpr(local.push)(point, point).jaxpr
    reached = set(jaxpr.invars[: len(point)])
    for equation in jaxpr.eqns:
        if any(not hasattr(x, "val") and x in reached for x in equation.invars):
            reached.update(equation.outvars)
    return not any(not hasattr(y, "val") and y in reached for y in jaxpr.outvars)


@quantity
def divergence(f: Callable) -> Callable:
    """A function of `(x, *args)` that gives Σ_i ∂f_i/∂x_i along the last axis, of shape `x.shape[:-1]`.

    For a vector field, x[..., n] to f[..., n]; leading axes are a batch.  Raises ShapeError where f's shape is not that of x.
    """

    def run(x, *args):
        j = jacobian(f, on_opaque="allow")(x, *args)
        if not isinstance(j, Jacobian) or j.out_shape != j.in_shape or not j.out_shape:
            shapes = (j.in_shape, j.out_shape) if isinstance(j, Jacobian) else "a tree"
            raise ShapeError(f"divergence: f must take [..., n] to the same shape, got {shapes}")
        return jnp.sum(j.diagonal(), -1)

    return run
