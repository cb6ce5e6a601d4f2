"""Determinants of Jacobians by the input, as normalizing flows need them."""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from ..algebra.factors import labels_of, size_of
from ..algebra.jacobian import Jacobian
from ..algebra.terms import Term
from ..autodiff.eliminate import local_jacobians
from ..autodiff.nodes import Node
from ..autodiff.plan import Edges, bottlenecks, remaining_edges
from ..autodiff.transforms import trace_graph
from ..errors import ShapeError
from .rows import quantity, with_float32_results


@quantity
def logdet(f: Callable) -> Callable:
    """A function of `(x, *args)` that returns log |det ∂f/∂x|: `[B]` if examples are independent, else one number.

    f keeps the number of entries.  If all paths run through values of that size, as in a normalizing flow, the determinants
    of the steps between these values are multiplied.  The cost of a step depends on its structure: a diagonal takes a sum; a
    matrix that examples or places share takes one determinant; `diagonal + rank k` takes one of k×k per example; any other
    takes one of n×n per example.  Raises ShapeError if f changes the number of entries.

    >>> jn.logdet(lambda x: jnp.exp(x))(jnp.array([[1.0, 2.0], [0.0, 3.0]]))
    Array([3., 3.], dtype=float32)
    """

    def run(x, *args):
        graph, _, out_tree, _, _ = trace_graph("logdet", f, 0, (x, *args), {})
        shapes = [node.shape for node in graph.inputs], [value.shape for value in graph.values]
        if len(shapes[0]) != 1 or len(shapes[1]) != 1 or math.prod(shapes[0][0]) != math.prod(shapes[1][0]):
            raise ShapeError(f"logdet: the Jacobian must be square, f takes {shapes[0]} to {shapes[1]}")
        edges, nodes, sinks = local_jacobians(graph)
        if sinks[0] not in edges:
            return jnp.array(-jnp.inf)
        steps = _square_steps(edges, nodes, sinks[0])
        whole = all(j.batched for j in steps)
        parts = [_log_det(j) for j in steps]
        return functools.reduce(operator.add, [part if whole else jnp.sum(part) for part in parts])

    return run


def _square_steps(edges: Edges, nodes: list[Node], sink: Node) -> list[Jacobian]:
    """The Jacobians between successive values of the input's size through which all paths run."""
    (source,) = [node for node in nodes if node not in edges]
    size = math.prod(source.shape)
    places = [i for i in bottlenecks(edges, nodes, [sink]) if math.prod(nodes[i].shape) == size]
    steps, before = [], source
    for start, stop in itertools.pairwise([0, *places, len(nodes)]):
        end = nodes[stop] if stop < len(nodes) else sink
        inner = [node for node in nodes[start + 1 : stop] if node in edges]
        left = remaining_edges({node: edges[node] for node in [*inner, end]}, inner[::-1])
        steps.append(left[end][before])
        before = end
    return steps


def _log_det(j: Jacobian) -> jax.Array:
    """log |det| of a square Jacobian; `[B]` if it is batched.

    There is one block for every index of the axes that all terms share.  If no factor depends on such an axis, the block
    is the same at all its indices.
    """
    out, batched = j.out_shape, j.batched
    if not j.terms:
        return jnp.full(out[:1] if batched else (), -jnp.inf, j.dtype)
    shared = [0] if batched else []
    if len(out) == len(j.in_shape):
        shared = [a for a in range(len(out)) if all(t.out[a] == t.inp[a] for t in j.terms)]
    if len(shared) == len(out) == len(j.in_shape):
        logs = jnp.log(jnp.abs(with_float32_results(j).diagonal()))
        return jnp.sum(logs, tuple(range(1, len(out))) if batched else None)
    idle = [a for a in shared if not any(set(t.out[a]) & f.labels for t in j.terms for f in t.factors)]
    kept = [a for a in shared if a not in idle]
    terms = [_without_idle_axes(term, kept, shared) for term in j.terms]
    logs = _log_det_of_blocks(terms, len(kept), jnp.promote_types(j.dtype, jnp.float32))
    first = batched and 0 in kept
    total = jnp.sum(logs, tuple(range(first, logs.ndim))) * math.prod(out[a] for a in idle if not (batched and a == 0))
    return total if first or not batched else jnp.broadcast_to(total, out[:1])


def _without_idle_axes(term: Term, kept, shared) -> Term:
    """The term whose shared axes are output axes alone, and only those that are kept."""
    own = [group for a, group in enumerate(term.out) if a not in shared]
    return replace(
        term,
        out=(*(term.out[a] for a in kept), *own),
        inp=tuple(group for a, group in enumerate(term.inp) if a not in shared),
    )


def _log_det_of_blocks(terms: list[Term], lead: int, dtype) -> jax.Array:
    """log |det| of the blocks `[*lead, *out, *in]`; from a small determinant if they are diagonal plus low rank."""

    def dense():
        total = functools.reduce(jnp.add, [term.dense() for term in terms]).astype(dtype)
        shape = total.shape[:lead]
        size = math.isqrt(total.size // math.prod(shape))
        return jnp.linalg.slogdet(total.reshape(*shape, size, size))[1]

    diagonals = [term for term in terms if term.out[lead:] == term.inp]
    pairs = [_low_rank(term, lead) for term in terms if term not in diagonals]
    size = size_of(labels_of(terms[0].inp))
    if not diagonals or None in pairs or 2 * sum(rank for _, _, rank in pairs) > size:  # type: ignore[misc]
        return dense()
    d = functools.reduce(jnp.add, [replace(term, inp=()).dense() for term in diagonals])
    shape = d.shape[:lead]
    d = d.reshape(*shape, size).astype(dtype)
    u, v = (
        jnp.concatenate([jnp.broadcast_to(pair[i], (*shape, size, pair[2])) for pair in pairs], -1).astype(dtype)  # type: ignore
        for i in (0, 1)
    )

    def lemma():
        capacitance = jnp.eye(u.shape[-1], dtype=dtype) + jnp.swapaxes(v, -1, -2) @ (u / d[..., None])
        return jnp.sum(jnp.log(jnp.abs(d)), -1) + jnp.linalg.slogdet(capacitance)[1]

    eps = jnp.finfo(dtype).eps
    return jax.lax.cond(jnp.all(jnp.abs(d) > jnp.sqrt(eps) * jnp.max(jnp.abs(u))), lemma, dense)


def _low_rank(term: Term, lead: int):
    """u and v `[*lead, n, rank]` with u vᵀ the blocks of the term, and the rank; None if its factors do not separate."""
    ours, theirs, lead_labels = set(labels_of(term.out[lead:])), set(labels_of(term.inp)), set(labels_of(term.out[:lead]))
    right = [factor for factor in term.factors if factor.labels & theirs]
    left = [factor for factor in term.factors if not factor.labels & theirs]
    if ours & theirs or any(factor.labels & ours for factor in right):
        return None
    inner = set().union(*(f.labels for f in left)) & set().union(*(f.labels for f in right)) - lead_labels
    between = tuple(sorted(inner))
    u, v = (
        Term((*term.out[:lead], *groups), (between,), tuple(factors), scale).dense()
        for groups, factors, scale in ((term.out[lead:], left, term.scale), (term.inp, right, 1.0))
    )
    rank = size_of(between)
    return tuple(a.reshape(*a.shape[:lead], -1, rank) for a in (u, v)) + (rank,)
