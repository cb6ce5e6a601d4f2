"""Orders of vertex elimination that follow from degrees, for graphs in which paths branch and join again.

Griewank and Walther, Evaluating Derivatives, chapter 10, describe them for graphs of scalars.
"""

from collections.abc import Iterable

from .scalar_orders import EXACT_NODES, searched_order
from .skeleton import Skeleton, Weight, Weights

MAX_NODES = 200  # of a graph whose nodes are tried in the order of their degrees
NEARLY = 0.9  # what a searched order of a large graph must take at most, of the multiplications of the others


class Elimination:
    """A skeleton from which nodes are eliminated one by one, and the multiplications that this takes."""

    def __init__(self, graph: Skeleton):
        self.sizes: list[int] = graph.sizes
        self.incoming: Weights = {v: dict(row) for v, row in graph.incoming.items()}
        self.outgoing: Weights = {v: dict(row) for v, row in graph.outgoing.items()}
        self.multiplies = 0

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


def cheapest_order(graph: Skeleton) -> tuple[str, list[int]]:
    """The cheapest of reverse, forward and least degree, or what a search finds in a graph of scalars; with its name.

    In a large graph a sweep that is nearly as cheap is preferred to what the search finds: its products use fewer results
    of functions at a time, which XLA computes again for each array that it makes of them.
    """
    graph.cheapest = graph.cheapest or _searched(graph)
    return graph.cheapest


def _searched(graph: Skeleton) -> tuple[str, list[int]]:
    found = {"reverse": graph.inner[::-1], "forward": list(graph.inner), "least Markowitz degree": least_degree_order(graph)}
    counts = {name: multiplies_of(graph, order) for name, order in found.items()}
    name = min(counts, key=lambda name: counts[name])
    if graph.scalar_size() is not None:
        searched = searched_order(graph, list(found.values()))
        if multiplies_of(graph, searched) < counts[name] * (1 if len(searched) <= EXACT_NODES else NEARLY):
            return "searched vertex elimination", searched
    return name, found[name]
