"""The Jacobians of a graph's outputs by its inputs: local ones are multiplied in the order that plan.py chooses."""

import warnings
from dataclasses import replace

from ..algebra.factors import Opaque, Tensor, entries_over
from ..algebra.jacobian import Jacobian
from ..algebra.promotion import numbers_of
from ..algebra.rules import fresh_groups, from_groups, zero
from ..algebra.steps import every_factor
from ..errors import OpaqueError
from .chunks import remaining_edges_in_chunks
from .nodes import Edges, Graph, Node, summed_by_parent
from .numbering import with_numbered_symbols
from .plan import choose_plan, remaining_edges


def eliminate(
    graph: Graph,
    on_opaque: str = "allow",
    order: str = "auto",
    chunk_size: int | None = None,
    sum_where_smaller: bool = True,
) -> list[list[Jacobian]]:
    """∂output/∂input for every output and every input of a graph.

    The last sums are carried out when somebody asks for numbers, but with `sum_where_smaller` now if that leaves less to
    store.
    """
    with numbers_of(*(x.dtype for x in graph.inputs)):
        return _eliminated(graph, on_opaque, order, chunk_size, sum_where_smaller)


def _eliminated(graph, on_opaque, order, chunk_size, sum_where_smaller) -> list[list[Jacobian]]:
    edges, nodes, sinks = local_jacobians(graph, on_opaque)
    plan = choose_plan(edges, nodes, [sink for sink in sinks if sink in edges], order)
    done = remaining_edges_in_chunks(edges, plan, chunk_size) if chunk_size else remaining_edges(edges, plan.order)
    found = [[done.get(sink, {}).get(x) or zero(sink, x) for x in graph.inputs] for sink in sinks]
    return [list(map(_summed_where_smaller, row)) for row in found] if sum_where_smaller else found


def _summed_where_smaller(jacobian: Jacobian) -> Jacobian:
    """The Jacobian with last sums carried out if that leaves less to store, as for a bias of images."""

    def stores(term):
        return max((entries_over(f.labels) for f in term.factors if isinstance(f, Tensor)), default=0)

    terms = [term.reduced() if entries_over(term.external_labels) < stores(term) else term for term in jacobian.terms]
    return replace(jacobian, terms=tuple(terms))


def local_jacobians(graph: Graph, on_opaque: str = "allow") -> tuple[Edges, list[Node], list[Node]]:
    """The local Jacobians between inputs and outputs, the nodes that they connect, and a node for every output."""
    nodes = graph.topological_nodes()
    sinks = [Node("output", v.shape, v.dtype) for v in graph.values]
    wanted = set(graph.inputs)
    useful: set[Node] = set()
    edges: Edges = {}

    def incoming_jacobians(node):
        for edge in node.edges:
            if edge.parent in useful and (local := edge.jacobian()) is not None:
                _report_opaque(local, node, on_opaque)
                yield edge.parent, local

    for node in nodes:
        if node in wanted:
            useful.add(node)
            continue
        if incoming := summed_by_parent(incoming_jacobians(node)):
            edges[node] = incoming
            useful.add(node)
    for sink, source in zip(sinks, graph.outputs, strict=True):
        if source in useful:
            groups = fresh_groups(sink.shape)  # labels without names: formulae show the names that the layer before gave
            edges[sink] = {source: from_groups(groups, groups)(sink, source)}
    reached = set(sinks)
    for node in [*sinks, *reversed(nodes)]:
        if node in reached:
            reached.update(edges.get(node, ()))
    edges = {node: row for node, row in edges.items() if node in reached}
    return with_numbered_symbols(edges, [*nodes, *sinks]), [node for node in nodes if node in reached], sinks


_warned: dict = {}  # where Python remembers which lines it has warned about


def _report_opaque(jacobian: Jacobian, node: Node, on_opaque: str):
    if on_opaque == "allow":
        return
    if any(isinstance(f, Opaque) and not f.shared_rank for f in every_factor([jacobian])):
        text = f"{node.name} at {node.source} has no structured Jacobian rule: its derivative is opaque"
        if on_opaque == "error":
            raise OpaqueError(text)
        file, _, line = node.source.rpartition(":")
        warnings.warn_explicit(text, UserWarning, file or "unknown", int(line or 0), registry=_warned)
