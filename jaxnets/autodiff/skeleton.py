"""A graph of local Jacobians as numbers, which suffice to compare orders of elimination.

Eliminating a node multiplies every edge into it with every edge out of it.  A product of edges with a and b entries at a
node of n entries takes a·b/n multiplications: one where all nodes are scalars, and none if an edge holds no numbers, as that
of a sum.
"""

import dataclasses
from collections.abc import Iterable

from ..algebra.factors import Operator, entries_over, labels_of
from ..algebra.jacobian import Jacobian
from ..algebra.selections import Selection, Slice
from ..algebra.sizes import count_entries
from ..algebra.terms import Term
from .nodes import Edges, Node


@dataclasses.dataclass(frozen=True)
class Weight:
    """How many entries an edge has, and whether it holds numbers, so that products with it are multiplications."""

    entries: int
    holds_numbers: bool


Weights = dict[int, dict[int, Weight]]


@dataclasses.dataclass(eq=False)
class Skeleton:
    """The nodes between sources and sinks with the edges among all of them, as numbers.

    `renaming` are nodes next to inputs or outputs that only select or place entries.  They are eliminated last, because
    until then every entry has its own edges.
    """

    nodes: list[Node]  # every one after its parents
    inner: list[int]
    renaming: list[Node]
    sizes: list[int]  # of the nodes, and of the pieces of outputs that follow them
    incoming: Weights
    outgoing: Weights
    cheapest: tuple[str, list[int]] | None = None  # the order that a search found, once somebody asked for it

    def scalar_size(self) -> int | None:
        """The number of entries of all nodes and edges, if it is the same, as in a function of scalars; else None."""
        found = {self.sizes[v] for row in (self.incoming, self.outgoing) for v in row if row[v]}
        found |= {weight.entries for row in self.incoming.values() for weight in row.values()}
        return found.pop() if len(found) == 1 else None


def skeleton(edges: Edges, nodes: list[Node], sinks: list[Node]) -> Skeleton:
    """The graph as numbers.  Every piece that an inner node is of an output is a node of its own."""
    order = [*nodes, *sinks]
    users = _users(edges)
    renaming = dict.fromkeys([*_renamed_inputs(edges, nodes, users), *_renamed_outputs(edges, nodes, sinks, users)])
    inner = [i for i, node in enumerate(nodes) if node in edges and node not in renaming]
    place, within = {node: i for i, node in enumerate(order)}, set(inner)
    sizes = [count_entries(node.shape) for node in order]
    incoming: Weights = {i: {} for i in range(len(order))}
    outgoing: Weights = {i: {} for i in range(len(order))}

    def connect(u, v, weight):
        incoming.setdefault(v, {})[u] = outgoing[u][v] = weight

    for v, row in edges.items():
        for u, jacobian in row.items():
            if place[v] not in within and all(map(is_slice, jacobian.terms)):
                for weight in (weight_of([term]) for term in jacobian.terms if place[u] in within):
                    sizes.append(weight.entries)
                    outgoing[len(sizes) - 1] = {}
                    connect(place[u], len(sizes) - 1, weight)
            elif {place[u], place[v]} & within:
                connect(place[u], place[v], weight_of(jacobian.terms))
    return Skeleton(order, inner, list(renaming), sizes, incoming, outgoing)


def weight_of(terms: Iterable[Term]) -> Weight:
    """The entries of a Jacobian with these terms that its structure does not make zero, and whether it holds numbers."""
    terms = list(terms)
    entries = 0
    for term in terms:
        selected = {label for f in term.factors if isinstance(f, (Selection, Slice)) for label in labels_of(f.axes[-1:])}
        whole = entries_over(set(term.external_labels) - selected)
        own = [f.multiplies_per_vector for f in term.factors if isinstance(f, Operator)]
        entries = max(entries, min([whole, *own]))
    return Weight(entries, holds_numbers(terms))


def holds_numbers(terms: Iterable[Term]) -> bool:
    """Whether a Jacobian with these terms multiplies; else it only selects, places, adds or subtracts entries."""
    return any(not isinstance(f, (Selection, Slice)) for term in terms for f in term.factors)


def _users(edges: Edges) -> dict[Node, list[Node]]:
    users: dict[Node, list[Node]] = {}
    for v, row in edges.items():
        for u in row:
            users.setdefault(u, []).append(v)
    return users


def _only_renames(jacobian: Jacobian) -> bool:
    """Whether it only selects or places entries, and multiplies none."""
    return len(jacobian.terms) == 1 and all(isinstance(f, Slice) for f in jacobian.terms[0].factors)


def is_slice(term: Term) -> bool:
    """Whether it only selects or places a part of an array."""
    return bool(term.factors) and all(isinstance(f, Slice) for f in term.factors)


def _renamed_inputs(edges: Edges, nodes: list[Node], users) -> list[Node]:
    """The nodes that are parts of an input, every one after its parents."""
    found = {node: None for node in nodes if node not in edges}
    for node in nodes:
        if len(edges.get(node, {})) == 1:
            ((parent, jacobian),) = edges[node].items()
            if parent in found and _only_renames(jacobian) and (is_slice(jacobian.terms[0]) or len(users[parent]) == 1):
                found[node] = None
    return [node for node in found if node in edges]


def _renamed_outputs(edges: Edges, nodes: list[Node], sinks: list[Node], users) -> list[Node]:
    """The nodes that are parts of an output, every one before its parents."""
    found = dict.fromkeys(sinks)
    for node in reversed(nodes):
        if node in edges and len(users[node]) == 1:
            (user,) = users[node]
            jacobian = edges[user][node]
            if user in found and _only_renames(jacobian) and (is_slice(jacobian.terms[0]) or len(edges[user]) == 1):
                found[node] = None
    return [node for node in found if node not in set(sinks)]
