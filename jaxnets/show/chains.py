"""The Jacobians along the longest path from an output to an input, as a product of dimensions in which loops are powers."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ..algebra.jacobian import Jacobian
from ..autodiff.nodes import Edge, Node
from .formats import superscript
from .one_step import OneStepGraph, ShownLoop

States = Mapping[Node, Sequence[tuple[Edge, Jacobian]]]  # the Jacobians of every node by states


class Link(NamedTuple):
    """∂node/∂parent on a path."""

    node: Node
    parent: Node
    jacobian: Jacobian

    @property
    def crosses_loop(self) -> bool:
        """Whether one of the two holds all steps of a loop and the other one step."""
        return self.jacobian.in_shape != self.parent.shape


def longest_path(states: States, outputs: Sequence[Node | None], constant: Collection[Node]) -> list[Link]:
    """The longest path from an output back to an input.  It ends at `constant` nodes only if there is no other one."""
    depth: dict[Node, float] = {}
    for node, pairs in states.items():
        none = -math.inf if node in constant else 0
        depth[node] = 1 + max((depth.get(edge.parent, 0) for edge, _ in pairs), default=none)
    ends = [node for node in outputs if node in depth]
    return _path(states, max(ends, key=lambda node: depth[node]), depth) if ends else []


def _path(states: States, node: Node, depth: Mapping[Node, float]) -> list[Link]:
    """The path from a node back along the greatest depths."""
    path = []
    while states.get(node):
        edge, j = max(states[node], key=lambda pair: depth.get(pair[0].parent, 0))
        path.append(Link(node, edge.parent, j))
        node = edge.parent
    return path


class Chain:
    """The path as text: `[1×3]·([3×3]·[3×3])⁴·[3×2]`.  Inner dimensions that stand next to each other cancel."""

    def __init__(self, graph: OneStepGraph, states: States, path: list[Link], batch: int | None):
        self.graph, self.states, self.path, self.batch = graph, states, path, batch

    def __str__(self):
        return "·".join(self._texts(self.path, 0))

    def _texts(self, links: list[Link], depth: int) -> list[str]:
        texts, at = [], 0
        while at < len(links):
            loop = self._loop(links[at].node, depth)
            stop = at + 1
            if loop is None:
                texts += self._dimensions(links[at])
            else:
                while stop < len(links) and self._loop(links[stop].node, depth) is loop:
                    stop += 1
                texts += self._through(loop, links[at:stop], depth + 1)
            at = stop
        return texts

    def _loop(self, node: Node, depth: int) -> ShownLoop | None:
        path = self.graph.loop_path(node)
        return path[depth] if len(path) > depth else None

    def _through(self, loop: ShownLoop, links: list[Link], depth: int) -> list[str]:
        """The way through a loop: what the carry is after the last step goes back through all steps before."""
        to_start = links[-1].node in loop.rounds
        carry = next((c for c, after in loop.rounds.items() if after in (link.node for link in links)), None)
        if to_start:  # the last link is that to the carry at the start, of which nothing is to be seen
            carry, links = links[-1].node, links[:-1]
        around = self._round(loop, carry) if carry else []
        place = next((i for i, link in enumerate(links) if around and link.node is around[0].node), None)
        before, rest = (links, []) if place is None else (links[:place], links[place:])
        texts = self._texts(before, depth)
        count = loop.length if to_start and place is not None else loop.length - 1
        if around and (place is not None or to_start):
            texts += _power("·".join(self._texts(around, depth)), count)
        return texts + ([] if to_start else self._texts(rest, depth))

    def _round(self, loop: ShownLoop, carry: Node) -> list[Link]:
        """The longest path from what an array of the carry is after a step to what it was before it, if there is one."""
        depth: dict[Node, float] = {carry: 1}
        for node, pairs in self.states.items():
            known = [depth[edge.parent] for edge, _ in pairs if edge.parent in depth]
            if known and node is not carry and loop in self.graph.loop_path(node):
                depth[node] = 1 + max(known)
        after = loop.rounds.get(carry)
        if after not in depth:
            return []
        path = _path(self.states, after, depth)
        return path[: next(i for i, link in enumerate(path) if link.parent is carry) + 1]

    def _dimensions(self, link: Link) -> list[str]:
        j = link.jacobian
        texts = [self._one(j.out_shape, j.in_shape)]
        if link.crosses_loop and link is not self.path[-1]:
            texts.append(self._one(j.in_shape, link.parent.shape))
        return texts

    def _one(self, out, inp) -> str:
        return f"[{math.prod(per_example(out, self.batch))}×{math.prod(per_example(inp, self.batch))}]"


class Way(NamedTuple):
    """How a value of a step depends on one before it: the number of paths, and for one path alone what is known of it.

    That is its product, or the inner loop through which it goes.
    """

    paths: int
    product: Jacobian | None = None
    through: ShownLoop | None = None


def way_through(graph: OneStepGraph, states: States, loop: ShownLoop, after: Node, before: Node) -> Way:
    """How a value of one step of a loop depends on a value before it."""
    paths: dict[Node, int] = {before: 1}
    links: dict[Node, Link] = {}
    for node, pairs in states.items():
        if node is not before and loop in graph.loop_path(node):
            known = [Link(node, edge.parent, j) for edge, j in pairs if edge.parent in paths]
            if known:
                paths[node] = sum(paths[link.parent] for link in known)
                links[node] = known[0]
    count = paths.get(after, 0)
    if count != 1:
        return Way(count)
    product, node = None, after
    while node is not before:
        if graph.loops[node] is not loop:
            return Way(count, through=graph.loops[node])
        j = links[node].jacobian
        product, node = j if product is None else product @ j, links[node].parent
    return Way(count, product)


def _power(text: str, count: int) -> list[str]:
    return [] if count == 0 or not text else [text] if count == 1 else [f"({text}){superscript(count)}"]


def per_example(shape: tuple[int, ...], batch: int | None) -> tuple[int, ...]:
    """The shape of one example, if axis 0 is a batch of this size."""
    return shape[1:] if batch is not None and shape and shape[0] == batch else shape
