"""Elimination in chunks: a loop over some rows of an output, or some columns of an input, whose products hold only these."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from ..algebra.factors import Label, Tensor, labels_of, tensor
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.planning import planning
from ..algebra.rules import fresh_groups, from_groups
from ..algebra.selections import Selection
from ..algebra.terms import Term
from .nodes import Edges, Node
from .plan import Plan, remaining_edges


def remaining_edges_in_chunks(edges: Edges, plan: Plan, size: int) -> Edges:
    """The same as `remaining_edges`, computed for `size` rows at a time, or for `size` columns if the sweep is forward.

    Chunks are taken along the longest axis that output and input do not share.
    """
    forward, inner = plan.name == "forward", set(plan.order)
    with planning():
        structure = remaining_edges(edges, plan.order)
    result: Edges = {sink: {} for sink in structure}
    for end in {u: None for row in structure.values() for u in row} if forward else structure:
        if forward:
            kept = {v: {u: j for u, j in row.items() if u in inner or u is end} for v, row in edges.items()}
            axis = _longest_unshared_axis([row[end].T for row in structure.values() if end in row], size)
        else:
            kept = {v: row for v, row in edges.items() if v in inner or v is end}
            axis = _longest_unshared_axis(list(structure[end].values()), size)
        if axis is None:
            found = remaining_edges(kept, plan.order)
        else:
            found = _loop_over_chunks(kept, plan.order, end, forward, axis, max(size, 2))
        for sink, row in found.items():
            result[sink] |= row
    return result


def _longest_unshared_axis(blocks: list[Jacobian], size: int) -> int | None:
    """The longest output axis that no term shares with its input; None if all of these fit into one chunk."""
    shape = blocks[0].out_shape if blocks else ()
    free = [
        a
        for a, n in enumerate(shape)
        if n > max(size, 2) and not any(set(t.out[a]) & set(labels_of(t.inp)) for j in blocks for t in j.terms)
    ]
    return max(free, key=lambda a: shape[a], default=None)


def _loop_over_chunks(edges: Edges, order: list[Node], end: Node, forward: bool, axis: int, size: int) -> Edges:
    """The remaining edges, from a loop over chunks along one axis of an output, or of an input if the sweep is forward."""
    users = {v for v, row in edges.items() if end in row} if forward else set(edges[end])
    first = next((i for i, node in enumerate(order) if node in users), len(order))
    edges, order = remaining_edges(edges, order[:first]), order[first:]  # these products are the same in all chunks
    outside = {id(leaf) for row in edges.values() for leaf in jax.tree.leaves(list(row.values()))}
    whole = end.shape[axis]
    piece = Node("chunk", (*end.shape[:axis], size, *end.shape[axis + 1 :]), end.dtype)
    inp = fresh_groups(end.shape)
    out = (*inp[:axis], (Label(len(inp), size),), *inp[axis + 1 :])
    made: list[tuple[Node, Node, Jacobian]] = []

    def run(start):
        made.clear()
        places = start + jnp.arange(size)  # places past the end select nothing
        chosen = from_groups(out, inp, Selection(places, (out[axis], inp[axis])))(piece, end)
        more = {end: {piece: chosen.T}} if forward else {piece: {end: chosen}}
        for v, row in remaining_edges({**edges, **more}, [end, *order]).items():
            made.extend((v, u, _with_axis_per_label(j.T if forward else j)) for u, j in row.items())
        return [[leaf for leaf in jax.tree.leaves(j) if id(leaf) not in outside] for _, _, j in made]

    chunks = jax.lax.map(run, size * jnp.arange(-(-whole // size)))
    result: Edges = {}
    for (v, u, j), arrays in zip(made, chunks, strict=True):
        stacked = iter(arrays)
        terms = [
            _term_of_all_chunks(term, axis, whole, lambda leaf, new=stacked: None if id(leaf) in outside else next(new))
            for term in j.terms
        ]
        j = jacobian_of(terms, end.shape, j.in_shape, j.dtype)
        v, u, j = (v, end, j.T) if forward else (end, u, j)
        result.setdefault(v, {})[u] = j
    return result


def _with_axis_per_label(jacobian: Jacobian) -> Jacobian:
    """The Jacobian with inner sums carried out; its arrays have one axis for each label."""

    def flat(factor):
        return tensor(*factor.array_and_labels()).named_as(factor) if isinstance(factor, Tensor) else factor

    terms = tuple(replace(term, factors=tuple(map(flat, term.factors))) for term in jacobian.reduced().terms)
    return replace(jacobian, terms=terms)


def _term_of_all_chunks(term: Term, axis: int, whole: int, stacked: Callable) -> Term:
    """The term for all chunks together.  `stacked(leaf)` has an array of it from every chunk; None if they all share it."""
    (label,) = term.out[axis]

    def joined(factor):
        def of_all(leaf):
            if (array := stacked(leaf)) is None:
                return leaf
            if label not in factor.labels:
                return array[0]
            place = next(i for i, group in enumerate(factor.axes) if label in group)
            array = jnp.moveaxis(array, 0, place)
            array = array.reshape(*array.shape[:place], -1, *array.shape[place + 2 :])
            return jax.lax.slice_in_dim(array, 0, whole, axis=place)

        return jax.tree.map(of_all, factor).relabel(longer)

    def longer(group):
        return tuple(label._replace(size=whole) if other == label else other for other in group)

    return replace(term, out=tuple(map(longer, term.out)), factors=tuple(map(joined, term.factors)))
