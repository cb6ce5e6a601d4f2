"""A graph in which every loop is one step: what people see of a function with loops.

The values of a step stand where the nodes for all steps stood.  What the carry is before the step is a node of its own, and
a loop says which value it becomes in the next step.  What comes in from outside is the node outside.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

from ..algebra.rules import identity
from ..autodiff.nodes import Edge, Node, Repetition


@dataclasses.dataclass(eq=False)
class ShownLoop:
    """A loop as it is shown: what it is called, how many steps it takes, and the loop that it is in.

    `rounds` has for the carry before a step what it is before the next one.
    """

    name: str
    length: int
    outer: "ShownLoop | None" = None
    rounds: dict[Node, Node] = dataclasses.field(default_factory=dict)

    def __str__(self):
        return f"{self.name} × {self.length}"

    @property
    def depth(self) -> int:
        """How many loops it is in."""
        return 0 if self.outer is None else 1 + self.outer.depth

    @property
    def path(self) -> tuple["ShownLoop", ...]:
        """It and the loops that it is in, the outermost first."""
        return (*(self.outer.path if self.outer else ()), self)


@dataclasses.dataclass(eq=False)
class OneStepGraph:
    """The nodes, every one after its parents, the outputs, and the innermost loop of every node that is in one."""

    nodes: list[Node]
    outputs: list[Node | None]
    loops: dict[Node, ShownLoop]

    def loop_path(self, node: Node) -> tuple[ShownLoop, ...]:
        """The loops that a node is in, the outermost first."""
        loop = self.loops.get(node)
        return loop.path if loop else ()


def one_step_graph(nodes: list[Node], outputs: list[Node | None]) -> OneStepGraph:
    """The graph of these nodes, every one after its parents, with one step for each loop."""
    graph = OneStepGraph([], [], {})
    if not any(node.loops for node in nodes):
        return OneStepGraph(nodes, outputs, {})
    known: dict[Node, Node] = {}
    _add(graph, {node: node.edges for node in nodes}, known, None, {node for node in outputs if node})
    graph.outputs = [known.get(node) if node else None for node in outputs]
    return graph


def _add(graph: OneStepGraph, rows: Mapping[Node, list[Edge]], known: dict[Node, Node], around: ShownLoop | None, wanted):
    """Add nodes with these edges to the graph, which lie in a loop; `known` has what is shown for each of them.

    `wanted` are those of the nodes that something else needs.
    """
    used = {edge.parent for row in rows.values() for edge in row} | set(wanted)
    done: set[Repetition] = set()
    waiting, count = list(rows), -1
    while len(waiting) != count:
        count = len(waiting)
        for node in waiting:
            loop = next(iter(node.loops), None)
            parents = loop.nodes_before() if loop else [edge.parent for edge in rows[node]]
            if node in known or loop in done or any(parent in rows and parent not in known for parent in parents):
                continue
            if loop:
                done.add(loop)
                _add_loop(graph, loop, known, around, used)
            else:
                edges = [Edge(known.get(edge.parent, edge.parent), edge.argument, edge.jacobian) for edge in rows[node]]
                known[node] = dataclasses.replace(node, edges=edges) if edges else node
                _note(graph, known[node], around)
        waiting = [node for node in waiting if node not in known and not done.intersection(node.loops[:1])]


def _note(graph: OneStepGraph, node: Node, around: ShownLoop | None):
    graph.nodes.append(node)
    if around:
        graph.loops[node] = around


def _add_loop(graph: OneStepGraph, loop: Repetition, known: dict[Node, Node], around: ShownLoop | None, used):
    """Add one step of a loop, of which something uses some results."""
    shown = ShownLoop(loop.name, loop.length, around)
    rows, results = loop.rows(), {node: v for node, v in loop.results.items() if node in used}
    needed = _needed(loop, rows, results.values())
    inside = {v: known.get(node, node) for v, node in loop.outside.items() if v in needed}
    rounds = [r for r in loop.rounds if r.before in needed]
    for i, (before, start, _) in enumerate(rounds, 1):
        edges = [Edge(known.get(start, start), "start", functools.partial(identity, before, start))] if start else []
        name = f"carry {i}" if len(rounds) > 1 else "carry"
        inside[before] = Node(name, before.shape, before.dtype, edges, loops=(loop,))
        _note(graph, inside[before], shown)
    _add(graph, {v: row for v, row in rows.items() if v in needed}, inside, shown, results.values())
    shown.rounds = {inside[before]: inside[after] for before, _, after in rounds if after in inside and after is not before}
    known |= {node: inside[v] for node, v in results.items() if v in inside}


def _needed(loop: Repetition, rows: Mapping[Node, list[Edge]], results: Iterable[Node]) -> set[Node]:
    """The values of a step that the results depend on, in this or in later steps."""
    after = {r.before: r.after for r in loop.rounds}
    waiting: list[Node | None] = list(results)
    found: set[Node] = set()
    while waiting:
        v = waiting.pop()
        if v is not None and v not in found:
            found.add(v)
            waiting += [edge.parent for edge in rows.get(v, ())]
            waiting.append(after.get(v))
    return found
