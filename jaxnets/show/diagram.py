"""A function as a block diagram: where each block stands, and the dimensions of the Jacobian on every arrow."""

import dataclasses
import itertools
import math
from collections.abc import Callable

from ..autodiff.nodes import Node
from .formats import as_data
from .layout import Layout
from .local_jacobians import Block, LocalJacobians, read_local_jacobians, run_on_shapes
from .one_step import ShownLoop


@dataclasses.dataclass(frozen=True)
class Item:
    """A block of the diagram and its place.  Rows count from 0 downwards, and weights stand to the left of column 0.

    `kind` is "input", "weight", "carry" or "output" for variables, and "cost" or "function" for modules.  `module` is the
    number of a module among the modules.
    """

    kind: str
    label: str
    shape: tuple[int, ...]
    column: float
    row: int
    module: int | None


@dataclasses.dataclass(frozen=True)
class Arrow:
    """An arrow from a block to a block that is computed from it.

    `block` describes the Jacobian of the arrow, and is None for the arrow to an output.  `gradient` gives the dimensions on
    the way back, [1×inputs] = [1×outputs]·[outputs×inputs].  `way` has columns and rows of places between the two.
    """

    source: int
    target: int
    block: Block | None
    gradient: str
    way: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Frame:
    """The rectangle of a loop: its name with the number of steps, its columns and rows, and how many loops it is in.

    `rounds` has pairs of items: the value after a step, and the carry that it is before the next one.
    """

    label: str
    left: int
    top: int
    right: int
    bottom: int
    depth: int
    rounds: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Diagram:
    """The blocks, the arrows and the loops.  The graph of values and that of gradients put them at the same places."""

    items: tuple[Item, ...]
    arrows: tuple[Arrow, ...]
    note: str
    frames: tuple[Frame, ...] = ()

    def __repr__(self):
        return f"Diagram({len(self.items)} blocks, {len(self.arrows)} arrows)"

    @property
    def rows(self) -> int:
        return 1 + max(item.row for item in self.items)

    def to_json(self) -> dict:
        return as_data(self)


def diagram(function: Callable, *args, abstract: bool = True) -> Diagram:
    """The block diagram of `function(*args)`; it takes the arguments of `tabulate`."""
    found: list[Diagram] = []

    def run(*args):
        jacobians, values = read_local_jacobians(function, args)
        found.append(diagram_of(jacobians))
        return values

    run_on_shapes(run, *args) if abstract else run(*args)
    return found[0]


def diagram_of(jacobians: LocalJacobians) -> Diagram:
    """The diagram of a function whose graph was read."""
    nodes = jacobians.nodes
    ends = [(node, Node(_output_name(jacobians, o, node), node.shape, node.dtype)) for o, node in _outputs(jacobians)]
    layout = _layout(jacobians, ends)
    places = _with_weights(jacobians, layout)
    items: list[Item] = []
    index: dict[Node, int] = {}
    modules = {node: i for i, node in enumerate(jacobians.modules)}
    for node in sorted(nodes, key=lambda node: places[node][::-1]):
        index[node] = len(items)
        items.append(Item(_kind(node, jacobians), node.name, node.shape, *places[node], modules.get(node)))
    arrows = []
    for node in nodes:
        for edge, j in jacobians.pairs[node]:
            block = jacobians.block(node, edge, j)
            way = tuple(layout.ways.get((edge.parent, node), ()))
            arrows.append(Arrow(index[edge.parent], index[node], block, _gradient(block.dims), way))
    for node, end in ends:
        arrows.append(Arrow(index[node], len(items), None, "", tuple(layout.ways.get((node, end), ()))))
        items.append(Item("output", end.name, end.shape, *places[end], None))
    return Diagram(tuple(items), tuple(arrows), jacobians.note, _frames(jacobians, layout, index))


def _frames(jacobians: LocalJacobians, layout: Layout, index: dict[Node, int]) -> tuple[Frame, ...]:
    """The rectangles of those loops of which something is drawn, outer ones before those in them."""

    def frame(loop: ShownLoop) -> Frame:
        r = layout.rectangles[loop]
        drawn = ((carry, after) for carry, after in loop.rounds.items() if carry in index and after in index)
        rounds = tuple((index[after], index[carry]) for carry, after in drawn)
        return Frame(str(loop), r.left, r.top, r.right, r.bottom, loop.depth, rounds)

    return tuple(frame(loop) for loop in jacobians.loops if loop in layout.rectangles)


def _outputs(jacobians: LocalJacobians) -> list[tuple[int, Node]]:
    """The nodes that are outputs, with their numbers."""
    return [(o, node) for o, node in enumerate(jacobians.outputs) if node is not None]


def _output_name(jacobians: LocalJacobians, o: int, node: Node) -> str:
    """y or C; gradients are those of C, or of a C that follows."""
    alone = len(jacobians.outputs) == 1
    return ("y" if node.shape else "C") if alone else f"y{o}"


def _kind(node: Node, jacobians: LocalJacobians) -> str:
    if node in jacobians.carried:
        return "carry"
    if not node.edges:
        return "weight" if node.name in jacobians.weights else "input"
    module = getattr(getattr(node.layer, "forward", None), "__module__", "")
    return "cost" if module.startswith("jaxnets.losses") else "function"


def _gradient(dims: str) -> str:
    """[1×64] = [1×48]·[48×64] from [48×64]."""
    out, inp = (math.prod(map(int, side.split("·"))) for side in dims.strip("[]").split("×"))
    return f"[1×{inp}] = [1×{out}]·[{out}×{inp}]"


def _layout(jacobians: LocalJacobians, ends: list[tuple[Node, Node]]) -> Layout:
    """The places of all but the weights; outputs stand below the nodes that they are."""
    states = {
        node: [edge.parent for edge, _ in jacobians.jacobians_by(node, weights=False)]
        for node in jacobians.nodes
        if not jacobians.is_weight(node)
    }
    weighted = [node for node in states if jacobians.jacobians_by(node, weights=True)]
    return Layout(jacobians.graph, states | {end: [node] for node, end in ends}, weighted)


def _with_weights(jacobians: LocalJacobians, layout: Layout) -> dict[Node, tuple[int, int]]:
    """The column and the row of every node.

    Weights, and what is computed from weights alone, stand to the left of the first node that uses them.
    """
    users: dict[Node, list[Node]] = {}
    for node in jacobians.nodes:
        for edge, _ in jacobians.pairs[node]:
            users.setdefault(edge.parent, []).append(node)
    places = dict(layout.places)
    for node in reversed(jacobians.nodes):
        if jacobians.is_weight(node):
            row = min((places[user][1] for user in users.get(node, ()) if user in places), default=0)
            taken = set(places.values())
            column = next(c for c in itertools.count(-1, -1) if (c, row) not in taken)
            places[node] = column, row
    return places
