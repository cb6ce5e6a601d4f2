"""A function as a block diagram: where each block stands, and the dimensions of the Jacobian on every arrow."""

import dataclasses
import math
from collections.abc import Callable

from ..autodiff.nodes import Node
from .formats import as_data
from .local_jacobians import Block, LocalJacobians, read_local_jacobians, run_on_shapes


@dataclasses.dataclass(frozen=True)
class Item:
    """A block of the diagram and its place.  Rows count from 0 downwards, and weights stand to the left of column 0.

    `kind` is "input", "weight" or "output" for variables, and "cost" or "function" for modules.  `module` is the number of a
    module among the modules.
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
    the way back, [1×inputs] = [1×outputs]·[outputs×inputs].
    """

    source: int
    target: int
    block: Block | None
    gradient: str


@dataclasses.dataclass(frozen=True)
class Diagram:
    """The blocks and the arrows.  The graph of values and the graph of gradients put them at the same places."""

    items: tuple[Item, ...]
    arrows: tuple[Arrow, ...]
    note: str

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
    places = _places(jacobians)
    items: list[Item] = []
    index: dict[Node, int] = {}
    modules = {node: i for i, node in enumerate(jacobians.modules)}
    for node in sorted(nodes, key=lambda node: places[node][::-1]):
        index[node] = len(items)
        items.append(Item(_kind(node, jacobians.weights), node.name, node.shape, *places[node], modules.get(node)))
    arrows = []
    for node in nodes:
        for edge, j in jacobians.pairs[node]:
            block = jacobians.block(node, edge, j)
            arrows.append(Arrow(index[edge.parent], index[node], block, _gradient(block.dims)))
    last = max((row for _, row in places.values()), default=0)
    for o, end in enumerate(jacobians.outputs):
        if end is not None:
            alone = len(jacobians.outputs) == 1
            label = ("y" if end.shape else "C") if alone else f"y{o}"  # gradients are those of C, or of a C that follows
            items.append(Item("output", label, end.shape, o, last + 1, None))
            arrows.append(Arrow(index[end], len(items) - 1, None, ""))
    return Diagram(tuple(items), tuple(arrows), jacobians.note)


def _kind(node: Node, weights) -> str:
    if not node.edges:
        return "weight" if node.name in weights else "input"
    module = getattr(getattr(node.layer, "forward", None), "__module__", "")
    return "cost" if module.startswith("jaxnets.losses") else "function"


def _gradient(dims: str) -> str:
    """[1×64] = [1×48]·[48×64] from [48×64]."""
    out, inp = (math.prod(map(int, side.split("·"))) for side in dims.strip("[]").split("×"))
    return f"[1×{inp}] = [1×{out}]·[{out}×{inp}]"


def _places(jacobians: LocalJacobians) -> dict[Node, tuple[float, int]]:
    """The column and the row of every node.

    A node stands below all nodes that it is computed from, in the column of the first of them if that place is free.
    Weights, and what is computed from weights alone, stand to the left of the first node that uses them.
    """
    nodes = jacobians.nodes
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for edge, _ in jacobians.pairs[node]:
            users.setdefault(edge.parent, []).append(node)
    row: dict[Node, int] = {}
    for node in nodes:
        parents = [edge.parent for edge, _ in jacobians.pairs[node] if not jacobians.is_weight(edge.parent)]
        row[node] = 1 + max((row[parent] for parent in parents), default=-1)
    taken: set[tuple[float, int]] = set()
    places: dict[Node, tuple[float, int]] = {}

    def put(node, column, row, step):
        while (column, row) in taken:
            column += step
        taken.add((column, row))
        places[node] = (column, row)

    for node in nodes:
        if not jacobians.is_weight(node):
            parents = [edge.parent for edge, _ in jacobians.pairs[node] if edge.parent in places]
            put(node, places[parents[0]][0] if parents else 0, row[node], 1)
    for node in reversed(nodes):
        if jacobians.is_weight(node):
            put(node, -1, min((places[user][1] for user in users.get(node, ()) if user in places), default=0), -1)
    return places
