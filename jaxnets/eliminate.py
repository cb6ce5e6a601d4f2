"""The Jacobians of a graph's outputs by its inputs: the local ones, multiplied in the order that plan.py chooses."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from .contraction import planning
from .errors import OpaqueError
from .factors import Label, Opaque, Selection, Tensor, flatten, size_of, tensor
from .graph import Graph, Node
from .jacobian import Jacobian, jacobian_of
from .plan import Edges, Plan, choose, steps
from .rules import fresh_groups, from_groups
from .terms import Term


def eliminate(
    graph: Graph, on_opaque: str = "allow", order: str = "auto", chunk_size: int | None = None
) -> list[list[Jacobian]]:
    """∂output/∂input for every output and every input of a graph."""
    edges, nodes, sinks = local_jacobians(graph, on_opaque)
    plan = choose(edges, nodes, [sink for sink in sinks if sink in edges], order)
    done = _in_chunks(edges, plan, chunk_size) if chunk_size else _run(edges, plan.order)
    return [[_small(done.get(sink, {}).get(x) or zero(sink, x)) for x in graph.inputs] for sink in sinks]


def _small(jacobian: Jacobian) -> Jacobian:
    """Last sums are left to whoever asks for numbers, but where they leave less to store, as with a bias of images."""

    def stores(term):
        return max((size_of(f.labels) for f in term.factors if isinstance(f, Tensor)), default=0)

    terms = [term.reduced() if size_of(term.external) < stores(term) else term for term in jacobian.terms]
    return replace(jacobian, terms=tuple(terms))


def local_jacobians(graph: Graph, on_opaque: str = "allow") -> tuple[Edges, list[Node], list[Node]]:
    """The local Jacobians between inputs and outputs, the nodes there, and a node for every output."""
    nodes = graph.between()
    sinks = [Node("output", v.shape, v.dtype) for v in graph.values]
    wanted = set(graph.inputs)
    useful: set[Node] = set()
    edges: Edges = {}
    for node in nodes:
        if node in wanted:
            useful.add(node)
            continue
        incoming: dict[Node, Jacobian] = {}
        for edge in node.edges:
            if edge.parent in useful and (local := edge.jacobian()) is not None:
                _report(local, node, edge, on_opaque)
                incoming[edge.parent] = incoming[edge.parent] + local if edge.parent in incoming else local
        if incoming:
            edges[node] = incoming
            useful.add(node)
    for sink, source in zip(sinks, graph.outputs, strict=True):
        if source in useful:
            groups = fresh_groups(sink.shape)  # without names: those of the layer before show in formulae
            edges[sink] = {source: from_groups(groups, groups)(sink, source)}
    reached = set(sinks)
    for node in [*sinks, *reversed(nodes)]:
        if node in reached:
            reached.update(edges.get(node, ()))
    edges = {node: row for node, row in edges.items() if node in reached}
    return edges, [node for node in nodes if node in reached], sinks


def _run(edges: Edges, order: list[Node]) -> Edges:
    *_, done = steps(edges, order)
    return done


def zero(y, x) -> Jacobian:
    return jacobian_of([], y.shape, x.shape, x.dtype)


# Some rows of an output, or some columns of an input, at a time: a loop whose products hold only those.


def _in_chunks(edges: Edges, plan: Plan, size: int) -> Edges:
    """As `_run`, that many rows at a time, or columns for a forward sweep: along the longest axis that is not shared."""
    forward, inner = plan.name == "forward", set(plan.order)
    with planning():
        structure = _run(edges, plan.order)
    result: Edges = {sink: {} for sink in structure}
    for end in {u: None for row in structure.values() for u in row} if forward else structure:
        if forward:
            kept = {v: {u: j for u, j in row.items() if u in inner or u is end} for v, row in edges.items()}
            axis = _own_axis([row[end].T for row in structure.values() if end in row], size)
        else:
            kept = {v: row for v, row in edges.items() if v in inner or v is end}
            axis = _own_axis(list(structure[end].values()), size)
        found = _run(kept, plan.order) if axis is None else _chunked(kept, plan.order, end, forward, axis, max(size, 2))
        for sink, row in found.items():
            result[sink] |= row
    return result


def _own_axis(blocks: list[Jacobian], size: int) -> int | None:
    """The longest output axis that no term shares with its input, if it is longer than a chunk."""
    shape = blocks[0].out_shape if blocks else ()
    free = [
        a
        for a, n in enumerate(shape)
        if n > max(size, 2) and not any(set(t.out[a]) & set(flatten(t.inp)) for j in blocks for t in j.terms)
    ]
    return max(free, key=lambda a: shape[a], default=None)


def _chunked(edges: Edges, order: list[Node], end: Node, forward: bool, axis: int, size: int) -> Edges:
    """The edges that are left, from a loop over chunks of one axis of an output or an input."""
    users = {v for v, row in edges.items() if end in row} if forward else set(edges[end])
    first = next((i for i, node in enumerate(order) if node in users), len(order))
    edges, order = _run(edges, order[:first]), order[first:]  # these products are the same for all chunks
    outside = {id(leaf) for row in edges.values() for leaf in jax.tree.leaves(list(row.values()))}
    whole = end.shape[axis]
    piece = Node("chunk", (*end.shape[:axis], size, *end.shape[axis + 1 :]), end.dtype)
    inp = fresh_groups(end.shape)
    out = (*inp[:axis], (Label(len(inp), size),), *inp[axis + 1 :])
    made: list[tuple[Node, Node, Jacobian]] = []

    def run(start):
        places = start + jnp.arange(size)  # those beyond the end select nothing
        chosen = from_groups(out, inp, Selection(places, (out[axis], inp[axis])))(piece, end)
        more = {end: {piece: chosen.T}} if forward else {piece: {end: chosen}}
        for v, row in _run({**edges, **more}, [end, *order]).items():
            made.extend((v, u, _flat(j.T if forward else j)) for u, j in row.items())
        return [[leaf for leaf in jax.tree.leaves(j) if id(leaf) not in outside] for _, _, j in made]

    chunks = jax.lax.map(run, size * jnp.arange(-(-whole // size)))
    result: Edges = {}
    for (v, u, j), arrays in zip(made, chunks, strict=True):
        stacked = iter(arrays)
        terms = [
            _joined(term, axis, whole, lambda leaf, new=stacked: None if id(leaf) in outside else next(new))
            for term in j.terms
        ]
        j = jacobian_of(terms, end.shape, j.in_shape, j.dtype)
        v, u, j = (v, end, j.T) if forward else (end, u, j)
        result.setdefault(v, {})[u] = j
    return result


def _flat(jacobian: Jacobian) -> Jacobian:
    """The Jacobian carried out, its arrays with one axis a label."""
    terms = [
        replace(term, factors=tuple(tensor(*f.flat(), f.name) if isinstance(f, Tensor) else f for f in term.factors))
        for term in jacobian.reduced().terms
    ]
    return replace(jacobian, terms=tuple(terms))


def _joined(term: Term, axis: int, whole: int, stacked: Callable) -> Term:
    """The term of all chunks: `stacked(leaf)` is an array of it from all of them, None where it is the same for all."""
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


_warned: dict = {}  # Python's memory of the places that were warned of


def _report(jacobian: Jacobian, node: Node, edge, on_opaque: str):
    if on_opaque == "allow":
        return
    if any(isinstance(f, Opaque) and not f.shared for term in jacobian.terms for f in term.factors):
        text = f"{node.name} at {node.source} has no structured Jacobian rule: its derivative is opaque"
        if on_opaque == "error":
            raise OpaqueError(text)
        file, _, line = node.source.rpartition(":")
        warnings.warn_explicit(text, UserWarning, file or "unknown", int(line or 0), registry=_warned)
