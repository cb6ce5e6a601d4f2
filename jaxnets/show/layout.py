"""Where the blocks of a diagram stand: in rows from parents to children, with a rectangle of its own for every loop.

Every place has one block at most.  An arrow over several rows has a place in each row between, so nothing stands in its way.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from ..autodiff.nodes import Node
from .one_step import OneStepGraph, ShownLoop

Place = tuple[int, int]  # column and row
Unit = Node | ShownLoop


@dataclasses.dataclass
class Rectangle:
    """The places of a loop, the first row of which has its name, and the last column of which what goes round."""

    left: int
    top: int
    right: int
    bottom: int


@dataclasses.dataclass
class Way:
    """Places between the ends of an arrow, all in one loop or outside of all."""

    ends: tuple[Node, Node]
    loop: ShownLoop | None
    places: list[Place]


class Layout:
    """The places of nodes, the rectangles of loops, and the places between the ends of arrows.

    `states` has for every node, parents first, those that it is computed from; weights are no part of it.  `weighted` are
    the nodes that weights lead to.  Each has a row of its own, so that arrows from the left meet no block, and so has every
    array of a carry, to which an arrow comes from the right.
    """

    def __init__(self, graph: OneStepGraph, states: Mapping[Node, Sequence[Node]], weighted: Iterable[Node]):
        self.graph, self.states, self.weighted = graph, states, set(weighted)
        self.users: dict[Node, list[Node]] = {}
        for node, parents in states.items():
            for parent in parents:
                self.users.setdefault(parent, []).append(node)
        self.segments: list[Way] = []
        self.rectangles: dict[ShownLoop, Rectangle] = {}
        self.places = _Group(self, None, list(states)).places
        self.ways: dict[tuple[Node, Node], list[Place]] = {}
        for way in self.segments:
            self.ways.setdefault(way.ends, []).extend(way.places)
        for places in self.ways.values():
            places.sort(key=lambda place: place[1])

    def move(self, loop: ShownLoop, column: int, row: int):
        """Put what was laid out from (0, 0) on where it belongs."""
        for inner, r in self.rectangles.items():
            if loop in inner.path:
                self.rectangles[inner] = Rectangle(r.left + column, r.top + row, r.right + column, r.bottom + row)
        for way in self.segments:
            if way.loop is not None and loop in way.loop.path:
                way.places = [(c + column, k + row) for c, k in way.places]


class _Group:
    """The members of a loop, or of everything: the places of their nodes from (0, 0) on, and all places that are taken."""

    def __init__(self, layout: Layout, loop: ShownLoop | None, nodes: list[Node]):
        self.layout, self.loop = layout, loop
        self.carried = [] if loop is None else list(loop.rounds)
        self.first = 0 if loop is None else 1  # the row below the name of the loop
        self.free = self.first + len(self.carried)  # the first row without a carry
        self.places: dict[Node, Place] = {}
        self.taken: set[Place] = set()
        self.bottoms: dict[Unit, int] = {}
        self.rows: set[int] = set()  # of single nodes, and of those that weights lead to
        self.weight_rows: set[int] = set()
        depth = 0 if loop is None else loop.depth + 1
        paths = {node: layout.graph.loop_path(node) for node in nodes}
        self.unit: dict[Node, Unit] = {node: path[depth] if len(path) > depth else node for node, path in paths.items()}
        members: dict[Unit, list[Node]] = {}
        for node, unit in self.unit.items():
            members.setdefault(unit, []).append(node)
        for unit, own in members.items():
            self._add(unit, own)
        if loop is not None:
            self._finish(loop)

    def _add(self, unit: Unit, nodes: list[Node]):
        pairs = [(p, node) for node in nodes for p in self.layout.states[node] if self.unit.get(p) is not unit]
        inside = [(p, node) for p, node in pairs if p in self.unit]
        row = max((self.bottoms[self.unit[p]] + 1 for p, _ in inside), default=self.free)
        row = self.first + self.carried.index(unit) if unit in self.carried else max(row, self.free)
        if isinstance(unit, ShownLoop):
            inner = _Group(self.layout, unit, nodes)
            places, block = inner.places, inner.taken
        else:
            places, block = {unit: (0, 0)}, {(0, 0)}
            row = self._row_of(unit, row)
        entering = {places[node][0] for p, node in pairs if p not in self.unit}  # the columns of arrows from outside
        column = self.carried.index(unit) if unit in self.carried else 0
        if inside:
            column = max(0, self.places[inside[0][0]][0] - places[inside[0][1]][0])
        column = next(c for c in itertools.count(column) if not self.taken & self._cells(block, entering, c, row))
        self.taken |= self._cells(block, entering, column, row)
        self.places |= {node: (c + column, k + row) for node, (c, k) in places.items()}
        self.bottoms[unit] = row + max(k for _, k in block)
        if isinstance(unit, ShownLoop):
            self.layout.move(unit, column, row)
        for p, node in pairs:
            if p in self.unit:
                self._reserve((p, node), (self.places[p][0], self.places[node][0]), self.bottoms[self.unit[p]] + 1, row)
            elif self.loop is not None:
                way = [(self.places[node][0], k) for k in range(row)]
                self.layout.segments.append(Way((p, node), self.loop, way))

    def _row_of(self, node: Node, row: int) -> int:
        """The first row from this one on where no arrow of weights meets a block."""
        is_weighted = node in self.layout.weighted
        row = next(k for k in itertools.count(row) if k not in (self.rows if is_weighted else self.weight_rows))
        self.rows.add(row)
        if is_weighted:
            self.weight_rows.add(row)
        return row

    @staticmethod
    def _cells(block: set[Place], entering: set[int], column: int, row: int) -> set[Place]:
        """What a block takes: its own places, and those above it through which arrows come in from outside."""
        return {(c + column, k + row) for c, k in block} | {(c + column, k) for c in entering for k in range(row)}

    def _reserve(self, ends: tuple[Node, Node], columns: tuple[int, int], top: int, stop: int):
        """Take a place in every row from `top` on between two nodes, in one column, which is one of theirs if it can be."""
        rows = range(top, stop)
        near = sorted(range(max(*columns, *(c for c, _ in self.taken)) + 2), key=lambda c: abs(c - columns[0]))
        column = next(c for c in [*columns, *near] if not any((c, k) in self.taken for k in rows))
        way = [(column, k) for k in rows]
        self.taken |= set(way)
        self.layout.segments.append(Way(ends, self.loop, way))

    def _finish(self, loop: ShownLoop):
        """Lead arrows out of the loop, and take all places of its rectangle."""
        bottom = max(k for _, k in self.taken)
        for node, (column, _) in list(self.places.items()):
            for user in self.layout.users.get(node, ()):
                if user not in self.unit:
                    self._reserve((node, user), (column, column), self.bottoms[self.unit[node]] + 1, bottom + 1)
        right = max(c for c, _ in self.taken) + 1
        self.taken |= {(c, k) for c in range(right + 1) for k in range(bottom + 1)}
        self.layout.rectangles[loop] = Rectangle(0, 0, right, bottom)
