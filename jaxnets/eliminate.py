"""In which order the local Jacobians of a graph are multiplied.

Eliminating a node joins every edge into it with every edge out of it: J[v → w] · J[u → v] is added to J[u → w].  When
all inner nodes are gone, the edges that are left are the answer.  Eliminating backwards is reverse mode, forwards is
forward mode, widest node first meets at the narrowest one; all give the same sums of products at different costs.
"""

import math
import warnings

from .contraction import planning
from .errors import OpaqueError
from .factors import Opaque
from .graph import Graph, Node
from .jacobian import Jacobian, jacobian_of
from .rules import fresh_groups, from_groups

Edges = dict[Node, dict[Node, Jacobian]]  # edges[v][u] = ∂v/∂u


def eliminate(graph: Graph, on_opaque: str = "allow") -> list[list[Jacobian]]:
    """∂output/∂input for every output and every input of a graph."""
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
            groups = fresh_groups(sink.shape)
            edges[sink] = {source: from_groups(groups, groups)(sink, source)}
    reached = set(sinks)
    for node in [*sinks, *reversed(nodes)]:
        if node in reached:
            reached.update(edges.get(node, ()))
    edges = {node: row for node, row in edges.items() if node in reached}
    inner = [node for node in nodes if node in edges]
    order = choose(edges, inner, sinks)
    done = _run(edges, order)
    return [[done.get(sink, {}).get(x) or zero(sink, x) for x in graph.inputs] for sink in sinks]


def zero(y, x) -> Jacobian:
    return jacobian_of([], y.shape, x.shape, x.dtype)


def choose(edges: Edges, inner: list[Node], sinks: list[Node]) -> list[Node]:
    """The cheapest of a few orders, by multiplications counted on shapes alone."""
    backward = inner[::-1]
    if sum(math.prod(sink.shape) for sink in sinks) == 1:
        return backward
    widest = sorted(inner, key=lambda node: -math.prod(node.shape))
    orders = {"reverse": backward, "forward": inner, "widest first": widest}
    costs = {name: _cost(edges, order) for name, order in orders.items()}
    best = min(costs.values())
    return next(order for name, order in orders.items() if costs[name] <= 1.1 * best)


def _cost(edges: Edges, order: list[Node]) -> int:
    """Multiplications, the last sums of every edge that is left included."""
    with planning() as meter:
        for row in _run(edges, order).values():
            for jacobian in row.values():
                jacobian.reduced()
    return meter.multiplies


def _run(edges: Edges, order: list[Node]) -> Edges:
    edges = {v: dict(row) for v, row in edges.items()}
    products: set[tuple[Node, Node]] = set()  # a local Jacobian keeps its factors: the other side may be a vector
    users: dict[Node, list[Node]] = {}
    for v, row in edges.items():
        for u in row:
            users.setdefault(u, []).append(v)
    for v in order:
        incoming = edges.pop(v)
        if any(_has_factors(edges[w][v]) for w in users[v]):
            incoming = {u: j.reduced() if (v, u) in products else j for u, j in incoming.items()}
        for w in users[v]:
            outgoing = edges[w].pop(v)
            if (w, v) in products and any(map(_has_factors, incoming.values())):
                outgoing = outgoing.reduced()
            for u, jacobian in incoming.items():
                product = outgoing @ jacobian
                products.add((w, u))
                if u in edges[w]:
                    edges[w][u] = edges[w][u] + product
                else:
                    edges[w][u] = product
                    users[u].append(w)
        for u in incoming:
            users[u].remove(v)
    return edges


def _has_factors(jacobian: Jacobian) -> bool:
    return any(term.factors for term in jacobian.terms)


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
