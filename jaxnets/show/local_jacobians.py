"""The local Jacobians of a function as people see them: dimensions, formulae and structure, and which axis is batch."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path

from ..algebra.jacobian import Jacobian
from ..algebra.sizes import show_sizes
from ..autodiff.graph import read_graph
from ..autodiff.nodes import Edge, Node
from ..autodiff.transforms import parameter_names


@dataclasses.dataclass(frozen=True)
class Block:
    """One local Jacobian: of a layer's output by one of its arguments."""

    argument: str
    dims: str
    formula: str
    legend: dict[str, str]  # what the symbols of the formula stand for
    structure: str
    stored: int
    dense: int
    outline: Jacobian = dataclasses.field(metadata={"picture": True}, repr=False)

    def formula_lines(self) -> list[str]:
        """The formula, and under it what its symbols stand for."""
        return [self.formula, *(f"  {symbol} = {meaning}" for symbol, meaning in self.legend.items())]


def function_of_real_leaves(function, args):
    """The function as one of the real leaves of its arguments, these leaves, their names, and the names of the weights."""
    names = parameter_names(function, args, range(len(args)))
    paths, tree = tree_flatten_with_path(args)
    real = [i for i, (_, leaf) in enumerate(paths) if _is_real(leaf)]
    leaves = [jnp.asarray(paths[i][1]) for i in real]
    labels = [names[paths[i][0][0].idx] + keystr(paths[i][0][1:]) for i in real]
    weights = {label for i, label in zip(real, labels, strict=True) if len(args) > 1 and paths[i][0][0].idx == 0}

    def call(leaves):
        flat = [leaf for _, leaf in paths]
        for i, leaf in zip(real, leaves, strict=True):
            flat[i] = leaf
        return function(*jax.tree.unflatten(tree, flat))

    return call, leaves, labels, weights


def parameter_count(function, args) -> int:
    """How many numbers the weights hold, without the statistics of Flax, which no gradient changes."""
    _, leaves, labels, weights = function_of_real_leaves(function, args)
    pairs = zip(leaves, labels, strict=True)
    return sum(leaf.size for leaf, label in pairs if label in weights and "['batch_stats']" not in label)


def run_on_shapes(run, *args):
    """Call `run(*args)` on shapes, so that nothing is computed; leaves that are no arrays stay as they are."""
    leaves, tree = jax.tree.flatten(args)
    places = [i for i, leaf in enumerate(leaves) if _holds_numbers(leaf)]

    def run_on(arrays):
        known = dict(zip(places, arrays, strict=True))
        return run(*jax.tree.unflatten(tree, [known.get(i, leaf) for i, leaf in enumerate(leaves)]))

    jax.eval_shape(run_on, [leaves[i] for i in places])


def _holds_numbers(leaf) -> bool:
    """Whether a leaf is an array, a shape or a number; a model of Equinox also has functions."""
    return hasattr(leaf, "dtype") or isinstance(leaf, (bool, int, float, complex))


def _is_real(leaf) -> bool:
    return _holds_numbers(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def read_local_jacobians(function, args, on_node=None, second_order=False) -> tuple["LocalJacobians", list]:
    """The local Jacobians of `function(*args)` and its outputs; `on_node` and `second_order` are those of `read_graph`."""
    call, leaves, names, weights = function_of_real_leaves(function, args)
    graph = read_graph(lambda *leaves: jax.tree.leaves(call(leaves)), leaves, names, on_node, second_order, every_value=True)
    return LocalJacobians(graph.topological_nodes(), graph.outputs, weights), graph.values


class LocalJacobians:
    """The local Jacobians of the nodes of a graph, which ones are by weights, and which axis is batch.

    `nodes` has parents before children.  `weights` holds the names of the inputs that are weights.
    """

    def __init__(self, nodes: list[Node], outputs, weights: set[str]):
        self.nodes, self.outputs, self.weights = nodes, outputs, weights
        self.made_of_weights: dict[Node, bool] = {}  # whether a node is made of weights alone
        self.pairs: dict[Node, list[tuple[Edge, Jacobian]]] = {}
        for node in nodes:
            if node.edges:
                self.made_of_weights[node] = all(self.is_weight(edge.parent) for edge in node.edges)
            self.pairs[node] = [(edge, j) for edge in node.edges if (j := edge.jacobian()) is not None]
        self.longest_path = _longest_path({node: self.jacobians_by(node, weights=False) for node in nodes}, outputs)
        self.batch_size = _batch_size(self.longest_path)

    @property
    def modules(self) -> list[Node]:
        """The nodes that are computed from other nodes."""
        return [node for node in self.nodes if node.edges]

    def is_weight(self, node: Node) -> bool:
        return self.made_of_weights.get(node, node.name in self.weights)

    def jacobians_by(self, node: Node, weights: bool) -> list[tuple[Edge, Jacobian]]:
        """The Jacobians of a node by weights, or those by states."""
        return [(edge, j) for edge, j in self.pairs[node] if self.is_weight(edge.parent) == weights]

    def block(self, edge: Edge, j: Jacobian) -> Block:
        of_examples = j.batched or (not j.out_shape and not self.is_weight(edge.parent))  # or their average
        inp = _per_example(j.in_shape, self.batch_size) if of_examples else j.in_shape
        dims = f"[{show_sizes(_per_example(j.out_shape, self.batch_size))}×{show_sizes(inp)}]"
        named = dataclasses.replace(j, names=("y", edge.argument))
        return Block(edge.argument, dims, named.formula, named.legend, j.structure, j.nbytes, j.dense_nbytes, j.outline())

    def module_of(self, node: Node) -> str:
        """What its library calls the module that made a node: from the scope, else from the place of its weights."""
        weights = [self._input_of(edge.parent) for edge, _ in self.jacobians_by(node, weights=True)]
        place = "" if node.layer or not weights else module_place(weights[0].name)
        classes = node.module.count(".")  # Equinox names classes, of which there may be many
        return f"{node.module}, {place}" if classes and place else node.module or place

    def _input_of(self, node: Node) -> Node:
        """The first input that a node of weights is made of."""
        while node.edges:
            node = node.edges[0].parent
        return node

    @property
    def chain(self) -> str:
        """The dimensions of the Jacobians along the longest path; inner dimensions that stand next to each other cancel."""
        return "·".join(
            f"[{_size(j.out_shape, self.batch_size)}×{_size(j.in_shape, self.batch_size)}]" for j in self.longest_path
        )

    @property
    def note(self) -> str:
        """A sentence that says which axis is batch."""
        if not self.longest_path:
            return ""
        if self.batch_size is None:
            return "no axis is batch: every output may depend on every input"
        return (
            f"axis 0 is batch, of size {self.batch_size}: example b depends on example b alone, so dims are per example; "
            "stored and dense are for the whole batch"
        )


def module_place(name: str) -> str:
    """The place of a module, from the name of one of its weights: Block_0/up of `params['params']['Block_0']['up']['w']`."""
    found = re.findall(r"\.(\w+)|\['([^']*)'\]|\[(\d+)\]", name)
    steps = [f"[{number}]" if number else attribute or key for attribute, key, number in found]
    steps = [step.replace("/~", "") for step in steps if step not in ("params", "value")][:-1]
    return "/".join(steps).replace("/[", "[")


def _longest_path(states, outputs) -> list[Jacobian]:
    """The Jacobians along the longest path from an output back to an input."""
    depth: dict[Node, int] = {}
    for node, pairs in states.items():
        depth[node] = 1 + max((depth.get(edge.parent, 0) for edge, _ in pairs), default=0)
    node = max((node for node in outputs if node in depth), key=lambda node: depth[node], default=None)
    path = []
    while states.get(node):
        edge, j = max(states[node], key=lambda pair: depth.get(pair[0].parent, 0))
        path.append(j)
        node = edge.parent
    return path


def _batch_size(path: list[Jacobian]) -> int | None:
    """The size of axis 0 if it is batch: if example b depends on example b alone, up to a reduction to a scalar."""
    sizes = {j.in_shape[0] if j.in_shape else None for j in path}
    alone = all(not j.out_shape or j.batched for j in path)
    vector = not path or len(path[-1].in_shape) < 2  # the entries of a single vector are features, not examples
    return sizes.pop() if len(sizes) == 1 and alone and not vector and any(j.out_shape for j in path) else None


def _per_example(shape, batch):
    return shape[1:] if batch is not None and shape and shape[0] == batch else shape


def _size(shape, batch) -> int:
    return math.prod(_per_example(shape, batch))
