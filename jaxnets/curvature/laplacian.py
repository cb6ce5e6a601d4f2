"""The Laplacian of a function of its input, and the divergence of a vector field.

With J = ∂u/∂x of a value u, the Laplacian of v = φ(u) is `Δv = φ'(u) Δu + Σ_i φ''(u)[J_i, J_i]`.  One pass through the graph
of the function carries (J, Δ) forward: the forward Laplacian of Li et al. 2023, with structured J.  If φ acts entry by entry
the sum is `φ'' · diag(J Jᵀ)`; if φ is affine it is 0; for any other φ the columns of J are pushed through its derivative.
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..algebra.factors import Opaque
from ..algebra.jacobian import Jacobian
from ..algebra.rules import diagonal, identity
from ..autodiff.nodes import LocalFunction, Node, summed_by_parent
from ..autodiff.transforms import jacobian_for, trace_graph
from ..errors import ShapeError
from .rows import quantity

ByParent = dict[Node, Jacobian]  # the local Jacobians of a node by its parents


@quantity
def laplacian(f: Callable, limit: float | None = None) -> Callable:
    """A function of `(x, *args)` that returns Δf = Σ_i ∂²f/∂x_i² over all entries of x, in f's shape.

    For a batched function, `[B, n]` to `[B, ...]`, it is the Laplacian of every example.  x and f's value may be trees.
    Raises JacobianTooLarge if the columns of an intermediate Jacobian exceed `limit` bytes (default: half of the free
    memory), and TypeError for a `jax.custom_vjp`, which has no second derivative in JAX.

    >>> jn.laplacian(lambda x: jnp.sum(x**2, axis=-1))(jnp.ones((4, 3)))
    Array([6., 6., 6., 6.], dtype=float32)
    """

    def run(x, *args):
        graph, _, out_tree, _, _ = trace_graph("laplacian", f, 0, (x, *args), {}, second_order=True)
        sweeps = [_Sweep({node: identity(node, node)}, limit) for node in graph.inputs]
        roots = _Roots()
        found: dict[Node, jax.Array] = {}  # Δ(node), for nodes where it is not 0 by structure
        for node in graph.topological_nodes():
            local = ((edge.parent, edge.jacobian()) for edge in node.edges)
            edges: ByParent = summed_by_parent((parent, j) for parent, j in local if j is not None)
            roots.add(node, edges)
            parts = [j @ found[parent] for parent, j in edges.items() if parent in found]
            if node.local and not _affine(node.local):
                parts += [part for sweep in sweeps if (part := sweep.second_order_part(node, edges, roots)) is not None]
            if parts:
                found[node] = functools.reduce(jnp.add, parts).astype(node.dtype)
            for sweep in sweeps:
                sweep.add(node, edges, roots)
        values = zip(graph.outputs, graph.values, strict=True)
        return jax.tree.unflatten(out_tree, [found.get(node, jnp.zeros_like(y)) for node, y in values])

    return run


class _Roots(dict[Node, tuple[Node, jax.Array]]):
    """For nodes that depend entry by entry on another one, their root: that root, and their derivative by it.

    Every other node is its own root.
    """

    def root_of(self, node: Node) -> tuple[Node, jax.Array]:
        return self.get(node) or (node, jnp.ones_like(jax.ShapeDtypeStruct(node.shape, node.dtype)))

    def add(self, node: Node, edges: ByParent):
        roots = {self.root_of(parent)[0] for parent in edges}
        if len(roots) == 1 and all(map(_entrywise, edges.values())):
            parts = [j @ self.root_of(parent)[1] for parent, j in edges.items()]
            self[node] = roots.pop(), functools.reduce(jnp.add, parts)


@dataclasses.dataclass
class _Sweep:
    """The Jacobians by one input of the nodes that are their own roots."""

    known: dict[Node, Jacobian]
    limit: float | None

    def add(self, node: Node, edges: ByParent, roots: _Roots):
        parts = [(j @ own).reduced() for parent, j in edges.items() if (own := self.by_input(parent, roots))]
        if parts and node not in roots:
            self.known[node] = functools.reduce(operator.add, parts).reduced()

    def by_input(self, node: Node, roots: _Roots) -> Jacobian | None:
        """∂(node)/∂(input); None if it is 0 by structure."""
        root, derivative = roots.root_of(node)
        if root is node or root not in self.known:
            return self.known.get(root)
        return diagonal(derivative)(node, root) @ self.known[root]

    def second_order_part(self, node: Node, edges: ByParent, roots: _Roots) -> jax.Array | None:
        """Σ_i φ''[J_i, J_i]; None if it is 0 by structure."""
        local = node.local
        assert local is not None
        if all(parent in edges and _entrywise(edges[parent]) for parent in local.parents):
            return self._entrywise_part(local, roots)
        by_input = [self.by_input(parent, roots) for parent in local.parents]
        if not any(by_input):
            return None
        whole = [j @ own for parent, j in edges.items() if (own := self.by_input(parent, roots))]
        independent = all(j.batched for j in [*by_input, *whole] if j)

        def columns(j: Jacobian | None):
            """The columns of J, in one array for all examples if these are independent."""
            if j is None:
                return None
            array = j.per_example(self.limit) if independent else j.dense(self.limit)
            return jnp.moveaxis(array.reshape(*j.out_shape, -1), -1, 0)

        def along(tangents):
            pairs = zip(tangents, local.point, strict=True)
            moving = [jnp.zeros_like(u) if t is None else t.astype(u.dtype) for t, u in pairs]
            return _second_derivative(local, moving, moving)

        return jnp.sum(jax.vmap(along)([columns(j) for j in by_input]), 0)

    def _entrywise_part(self, local: LocalFunction, roots: _Roots) -> jax.Array | None:
        """The same if φ acts entry by entry: a sum over pairs of the roots of its arguments."""
        found = [roots.root_of(parent) for parent in local.parents]
        parts = []
        known = [root for root in dict.fromkeys(root for root, _ in found) if root in self.known]
        for a, b in itertools.combinations_with_replacement(known, 2):
            ways = [[d if root is own else jnp.zeros_like(d) for root, d in found] for own in (a, b)]
            products = (self.known[a] @ self.known[b].T).diagonal()
            parts.append((1 if a is b else 2) * _second_derivative(local, *ways) * products)
        return functools.reduce(jnp.add, parts) if parts else None


def _second_derivative(local: LocalFunction, first, second) -> jax.Array:
    """φ''[first, second]."""
    return jax.jvp(lambda *point: local.push(point, first), tuple(local.point), tuple(second))[1]


def _entrywise(j: Jacobian) -> bool:
    """Whether entry i of the output depends on entry i of the input alone, by a rule."""
    by_rule = not any(isinstance(factor, Opaque) for term in j.terms for factor in term.factors)
    return by_rule and j.out_shape == j.in_shape and all(term.out == term.inp for term in j.terms)


def _affine(local: LocalFunction) -> bool:
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
    """A function of `(x, *args)` that returns Σ_i ∂f_i/∂x_i along the last axis, of shape `x.shape[:-1]`.

    f is a vector field, from x[..., n] to f[..., n]; leading axes are batch.  Raises ShapeError unless f keeps the shape.

    >>> jn.divergence(lambda x: 2 * x)(jnp.ones((4, 3)))
    Array([6., 6., 6., 6.], dtype=float32)
    """

    def run(x, *args):
        j = jacobian_for("divergence", f)(x, *args)
        if not isinstance(j, Jacobian) or j.out_shape != j.in_shape or not j.out_shape:
            shapes = (j.in_shape, j.out_shape) if isinstance(j, Jacobian) else "a tree"
            raise ShapeError(f"divergence: f must take [..., n] to the same shape, got {shapes}")
        return jnp.sum(j.diagonal(), -1)

    return run
