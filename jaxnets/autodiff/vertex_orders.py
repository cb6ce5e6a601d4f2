"""Orders of vertex elimination that follow from degrees, for graphs in which paths branch and join again.

Eliminating a node multiplies every edge into it with every edge out of it: Griewank and Walther, Evaluating Derivatives,
chapter 10.  Here a graph is only numbers: how many entries its nodes and its edges have.  A product of edges with a and b
entries at a node of n entries takes a·b/n multiplications, so it takes one where all nodes are scalars, and none if an edge
holds no numbers, as that of a sum.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from ..algebra.factors import Operator, entries_over, labels_of
from ..algebra.jacobian import Jacobian
from ..algebra.selections import Selection, Slice
from ..algebra.sizes import count_entries
from ..algebra.terms import Term
from .nodes import Edges, Node

MAX_NODES = 200  # of a graph whose nodes are tried in the order of their degrees
EXACT_NODES = 20  # of a graph of scalars whose best order is searched for
MAX_STATES = 1000  # sets of eliminated nodes that this search looks at


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


class Elimination:
    """A skeleton from which nodes are eliminated one by one, and the multiplications that this takes."""

    def __init__(self, graph: "Skeleton | Elimination"):
        self.sizes: list[int] = graph.sizes
        self.incoming: Weights = {v: dict(row) for v, row in graph.incoming.items()}
        self.outgoing: Weights = {v: dict(row) for v, row in graph.outgoing.items()}
        self.multiplies = 0

    def adds_nothing(self, v: int) -> bool:
        """Whether every edge that the elimination of a node makes is there, and holds numbers if the new one would."""
        return all(
            (old := self.outgoing[u].get(w)) and (old.holds_numbers or not (left.holds_numbers or right.holds_numbers))
            for u, right in self.incoming[v].items()
            for w, left in self.outgoing[v].items()
        )

    def degree(self, v: int) -> int:
        """The multiplications that the elimination of a node takes now, its Markowitz degree."""
        after = sum(weight.entries for weight in self.outgoing[v].values() if weight.holds_numbers)
        return sum(w.entries for w in self.incoming[v].values() if w.holds_numbers) * after // max(self.sizes[v], 1)

    def eliminate(self, v: int) -> set[int]:
        """Join every edge into a node with every edge out of it; returns the nodes whose degrees may change."""
        self.multiplies += self.degree(v)
        before, after = self.incoming.pop(v), self.outgoing.pop(v)
        for u, right in before.items():
            del self.outgoing[u][v]
            for w, left in after.items():
                entries = min(left.entries * right.entries // max(self.sizes[v], 1), self.sizes[u] * self.sizes[w])
                old = self.outgoing[u].get(w, Weight(0, False))
                numbers = old.holds_numbers or left.holds_numbers or right.holds_numbers
                self.outgoing[u][w] = self.incoming[w][u] = Weight(max(old.entries, entries), numbers)
        for w in after:
            del self.incoming[w][v]
        return {*before, *after}


def multiplies_of(graph: Skeleton, order: Iterable[int]) -> int:
    """The multiplications of an order."""
    run = Elimination(graph)
    for v in order:
        run.eliminate(v)
    return run.multiplies


def least_degree_order(graph: Skeleton) -> list[int]:
    """The inner nodes, always one next whose elimination takes the fewest multiplications, of these the latest."""
    run, order = Elimination(graph), []
    degrees = {v: run.degree(v) for v in graph.inner}
    while degrees:
        v = min(degrees, key=lambda v: (degrees[v], -v))
        order.append(v)
        del degrees[v]
        degrees.update({w: run.degree(w) for w in run.eliminate(v) if w in degrees})
    return order


def disjoint_paths(starts: Iterable[int], after: Callable[[int], Iterable[int]]) -> int:
    """How many paths begin at one of these nodes each, end where nothing follows, and have no node in common."""
    residual: dict[Any, set] = {"start": {(v, "in") for v in starts}}
    found = [v for v, _ in residual["start"]]
    while found:
        v = found.pop()
        if (v, "in") not in residual:
            follow = list(after(v))
            residual[v, "in"], residual[v, "out"] = {(v, "out")}, {(w, "in") for w in follow} or {"end"}
            found += follow
    count = 0
    while path := _path(residual):
        count += 1
        for a, b in itertools.pairwise(path):  # what flows along an edge can be taken back
            residual[a].remove(b)
            residual.setdefault(b, set()).add(a)
    return count


def _path(residual: dict[Any, set]) -> list:
    """A path from "start" to "end", or nothing."""
    before: dict[Any, Any] = {"start": None}
    waiting = ["start"]
    while waiting and "end" not in before:
        place = waiting.pop()
        for other in residual.get(place, ()):
            if other not in before:
                before[other] = place
                waiting.append(other)
    path: list[Any] = []
    place: Any = "end" if "end" in before else None
    while place is not None:
        path.append(place)
        place = before[place]
    return path[::-1]


def lower_bounds(graph: Skeleton) -> dict[int, int]:
    """For every inner node of a graph of scalars multiplications that its elimination takes in any order, at least.

    Whenever it is eliminated, it has an edge from every path to it, of those that have no other node in common, and the same
    behind it.  An edge holds numbers if the last one of its path does.
    """

    def paths(v, edges):
        return disjoint_paths([u for u, weight in edges[v].items() if weight.holds_numbers], lambda u: edges[u])

    return {v: graph.sizes[v] * paths(v, graph.incoming) * paths(v, graph.outgoing) for v in graph.inner}


@dataclasses.dataclass(frozen=True)
class Best:
    """The best order that is known for a graph of scalars, and how many multiplications every order takes at least."""

    order: list[int]
    multiplies: int
    at_least: int


def best_order(graph: Skeleton, known: list[int], max_states: int = MAX_STATES) -> Best:
    """The best order for a graph of scalars; if the search is stopped, the known one and what was shown until then.

    The edges between the nodes that are left do not depend on the order in which the others were eliminated.  So a state of
    the search is a set of eliminated nodes.  Next comes the state with the lowest bound: what was multiplied so far, and
    the least that the elimination of every other node takes.
    """
    bounds, least = lower_bounds(graph), multiplies_of(graph, known)
    ticket = itertools.count()
    waiting: list[tuple[int, int, int, Elimination, tuple[int, ...]]]
    waiting = [(sum(bounds.values()), len(graph.inner), next(ticket), Elimination(graph), ())]
    seen: set[frozenset[int]] = set()
    while waiting and waiting[0][0] < least:
        at_least, left, _, before, order = heapq.heappop(waiting)
        state = frozenset(order)
        if not left:
            return Best(list(order), at_least, at_least)
        if len(seen) == max_states:
            return Best(known, least, at_least)
        if state in seen:
            continue
        seen.add(state)
        run = Elimination(before)
        for v in order[-1:]:
            run.eliminate(v)
        excess = {v: run.degree(v) - bounds[v] for v in graph.inner if v not in state}
        # The graph without a node has no more edges than the graph with it if its elimination adds none.
        free = next((v for v, more in excess.items() if not more and run.adds_nothing(v)), None)
        for v in excess if free is None else [free]:
            if at_least + excess[v] < least and state | {v} not in seen:
                heapq.heappush(waiting, (at_least + excess[v], left - 1, next(ticket), run, (*order, v)))
    return Best(known, least, least)


def cheapest_order(graph: Skeleton) -> tuple[str, list[int]]:
    """The best order of a small graph of scalars, else the cheapest of reverse, forward and least degree; with its name."""
    found = {"reverse": graph.inner[::-1], "forward": list(graph.inner), "least Markowitz degree": least_degree_order(graph)}
    name = min(found, key=lambda name: multiplies_of(graph, found[name]))
    if len(graph.inner) <= EXACT_NODES and graph.scalar_size() is not None:
        best = best_order(graph, found[name])
        if best.order != found[name]:
            return "best vertex elimination", best.order
    return name, found[name]
