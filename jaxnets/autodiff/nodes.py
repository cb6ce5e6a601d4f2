"""What a function is read into: a graph whose nodes are values, and whose edges are local Jacobians."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax

from ..algebra.jacobian import Jacobian
from ..layers.layer import Layer


@dataclass(eq=False, repr=False)
class Edge:
    """∂(node)/∂(parent), computed when `jacobian` is called; `argument` is the parent's name in the node's layer."""

    parent: "Node"
    argument: str
    jacobian: Callable[[], Jacobian | None]

    def __repr__(self):
        return f"Edge({self.argument}: {self.parent.name})"


@dataclass(eq=False, repr=False)
class LocalFunction:
    """The function that made a node, for second derivatives: `push(point, tangents)` is its JVP at a point.

    `point` and the tangents belong to `parents`, those arguments that depend on the inputs.  `forward(*point)` computes the
    node again, with JAX's own derivative; it is None if the author gave a derivative without a function.
    """

    push: Callable
    forward: Callable | None
    parents: list["Node"]
    point: list[jax.Array]

    def __repr__(self):
        return f"LocalFunction(of {[parent.name for parent in self.parents]})"


@dataclass(eq=False, repr=False)
class Node:
    """A value that depends on the inputs: what made it, and an edge to every value that it was made of."""

    name: str
    shape: tuple[int, ...]
    dtype: object
    edges: list[Edge] = field(default_factory=list)
    source: str = ""
    local: LocalFunction | None = None  # in graphs that are read with `second_order`
    layer: Layer | None = None  # None for a primitive of JAX
    module: str = ""  # the scope in which it was made, which Flax, Equinox and Haiku name after their modules
    loops: tuple["Repetition", ...] = ()  # those of which it holds a value at all steps, the outermost first

    def __repr__(self):
        return f"Node({self.name}, {list(self.shape)}, of {[edge.parent.name for edge in self.edges]})"


class Round(NamedTuple):
    """An array of the carry of a loop: before a step, at the start, and after a step; None where nothing is tracked."""

    before: Node
    start: Node | None
    after: Node | None


@dataclass(eq=False, repr=False)
class Repetition:
    """A loop, as its nodes know it: how often it takes its step, and the graph of one step.

    `rows` gives every value of the step, after its parents, with edges whose Jacobians are those of one step, on shapes
    alone.  `outside` has for values of the step that are operands the nodes of these, and `results` for nodes that the loop
    gave, the carry at the end or a value at all steps, the value of the step; `ends` are those of the carry at the end.
    """

    name: str
    length: int
    rows: Callable[[], dict[Node, list[Edge]]]
    outside: dict[Node, Node]
    rounds: list[Round]
    results: dict[Node, Node] = field(default_factory=dict)
    ends: set[Node] = field(default_factory=set)

    def __repr__(self):
        return f"Repetition({self.name} × {self.length})"

    def nodes_before(self) -> list[Node]:
        """The nodes of its operands."""
        return [*self.outside.values(), *(r.start for r in self.rounds if r.start is not None)]


@dataclass(eq=False, repr=False)
class Graph:
    """The inputs and outputs of a traced function; the node of an output that depends on no input is None.

    `weakly_typed` tells of every input whether its dtype gives way to that of other arrays, as a Python number's does.
    """

    inputs: list[Node]
    outputs: list[Node | None]
    values: list[jax.Array]
    weakly_typed: list[bool]

    def __repr__(self):
        return f"Graph({[node.name for node in self.inputs]} → {[node and node.name for node in self.outputs]})"

    def topological_nodes(self) -> list[Node]:
        """The nodes on paths to the outputs, every node after its parents."""
        order: list[Node] = []
        seen: set[Node] = set()
        stack = [(node, False) for node in self.outputs if node is not None]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(edge.parent, False) for edge in reversed(node.edges)]
        return order


def summed_by_parent(pairs: Iterable[tuple[Node, Jacobian]]) -> dict[Node, Jacobian]:
    """One Jacobian for every parent: the sum of all Jacobians by it."""
    found: dict[Node, Jacobian] = {}
    for parent, jacobian in pairs:
        found[parent] = found[parent] + jacobian if parent in found else jacobian
    return found


Edges = dict[Node, dict[Node, Jacobian]]  # edges[v][u] = ∂v/∂u
