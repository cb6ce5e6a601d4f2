"""Orders of vertex elimination for graphs of scalars, in which every product of two edges is one multiplication.

The edges between the nodes that are left do not depend on the order in which the others were eliminated.  So what is
eliminated is a set, and 2ⁿ sets are all that there is to search.  Sets of nodes are the bits of integers here.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .skeleton import Skeleton

EXACT_NODES = 20  # of a graph whose best order is chosen; for more it is searched for when a plan is explained
MAX_STATES = 2000  # sets of eliminated nodes that this search looks at


class ScalarGraph:
    """A graph of scalars: for every node its neighbours, and those with an edge that holds a number, at either side."""

    def __init__(self, graph: Skeleton):
        count, ends = len(graph.sizes), (graph.incoming, graph.outgoing)
        rows = [[edges.get(v, {}) for v in range(count)] for edges in ends]
        numbers = [[[u for u, weight in row.items() if weight.holds_numbers] for row in side] for side in rows]
        self.before, self.after = ([_bits(row) for row in side] for side in rows)
        self.numbers_before, self.numbers_after = ([_bits(row) for row in side] for side in numbers)

    def copy(self) -> "ScalarGraph":
        """Another graph with the same edges."""
        other = ScalarGraph.__new__(ScalarGraph)
        for name, row in vars(self).items():
            setattr(other, name, list(row))
        return other

    def degree(self, v: int) -> int:
        """The multiplications that the elimination of a node takes now."""
        return self.numbers_before[v].bit_count() * self.numbers_after[v].bit_count()

    def eliminate(self, v: int):
        """Join every edge into a node with every edge out of it."""
        before, after = self.before[v], self.after[v]
        numbers_before, numbers_after = self.numbers_before[v], self.numbers_after[v]
        for u in _members(before):
            self.after[u] = self.after[u] & ~(1 << v) | after
            self.numbers_after[u] = self.numbers_after[u] & ~(1 << v) | (after if numbers_before >> u & 1 else numbers_after)
        for w in _members(after):
            self.before[w] = self.before[w] & ~(1 << v) | before
            self.numbers_before[w] = self.numbers_before[w] & ~(1 << v) | (
                before if numbers_after >> w & 1 else numbers_before
            )

    def adds_nothing(self, v: int) -> bool:
        """Whether every edge that the elimination of a node makes is there, and holds a number if the new one would."""
        return not any(
            self.after[v] & ~self.after[u]
            or (self.after[v] if self.numbers_before[v] >> u & 1 else self.numbers_after[v]) & ~self.numbers_after[u]
            for u in _members(self.before[v])
        )

    def multiplies_of(self, order: Iterable[int]) -> int:
        """The multiplications of an order."""
        left, total = self.copy(), 0
        for v in order:
            total += left.degree(v)
            left.eliminate(v)
        return total


def _bits(members: Iterable[int]) -> int:
    return sum(1 << v for v in members)


def _members(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def searched_order(graph: Skeleton, known: list[list[int]]) -> list[int]:
    """The best order of a small graph, for a larger one the cheapest of some, in which nodes change places."""
    scalars = ScalarGraph(graph)
    order = min((_sifted(scalars, order) for order in known), key=scalars.multiplies_of)
    return best_order(graph, order).order if len(order) <= EXACT_NODES else order


def _sifted(graph: ScalarGraph, order: list[int]) -> list[int]:
    """The order, in which every node once comes first or last where that takes fewer multiplications."""
    least = graph.multiplies_of(order)
    for v in order:
        rest = [other for other in order if other != v]
        for moved in ([v, *rest], [*rest, v]):
            if (count := graph.multiplies_of(moved)) < least:
                least, order = count, moved
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
    """For every inner node of a graph of scalars how many multiplications its elimination takes in any order, at least.

    Whenever it is eliminated, it has an edge from every path to it, of those that have no other node in common, and the same
    behind it.  An edge holds numbers if the last one of its path does.
    """

    def paths(v, edges):
        return disjoint_paths([u for u, weight in edges[v].items() if weight.holds_numbers], lambda u: edges[u])

    return {v: paths(v, graph.incoming) * paths(v, graph.outgoing) for v in graph.inner}


@dataclasses.dataclass(frozen=True)
class Best:
    """The best order that is known, and how many multiplications every order takes at least."""

    order: list[int]
    multiplies: int
    at_least: int


def best_order(graph: Skeleton, known: list[int], max_states: int = MAX_STATES) -> Best:
    """The best order for a graph of scalars; if the search is stopped, the known one and what was shown until then.

    Next comes the set of eliminated nodes with the lowest bound: what was multiplied so far, and the least that the
    elimination of every other node takes.  Counts are those of one entry of every node.
    """
    scalars, bounds = ScalarGraph(graph), lower_bounds(graph)
    least, ticket = scalars.multiplies_of(known), itertools.count()
    waiting: list[tuple[int, int, int, ScalarGraph, tuple[int, ...]]]
    waiting = [(sum(bounds.values()), len(graph.inner), next(ticket), scalars, ())]
    seen: set[int] = set()
    while waiting and waiting[0][0] < least:
        at_least, left, _, before, order = heapq.heappop(waiting)
        state = _bits(order)
        if not left:
            return Best(list(order), at_least, at_least)
        if len(seen) == max_states:
            return Best(known, least, at_least)
        if state in seen:
            continue
        seen.add(state)
        now = before.copy()
        for v in order[-1:]:
            now.eliminate(v)
        excess = {v: now.degree(v) - bounds[v] for v in graph.inner if not state >> v & 1}
        # The graph without a node has no more edges than the graph with it if its elimination adds none.
        free = next((v for v, more in excess.items() if not more and now.adds_nothing(v)), None)
        for v in excess if free is None else [free]:
            if at_least + excess[v] < least and state | 1 << v not in seen:
                heapq.heappush(waiting, (at_least + excess[v], left - 1, next(ticket), now, (*order, v)))
    return Best(known, least, least)
