"""The local Jacobians of a function as people see them: dimensions, formulae and structure, and which axis is batch."""

import dataclasses
import re

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path

from ..algebra.jacobian import Jacobian
from ..algebra.sizes import count_entries, show_sizes
from ..autodiff.graph import read_graph
from ..autodiff.nodes import Edge, Node
from ..autodiff.transforms import parameter_names
from .chains import Chain, Link, Way, longest_path, per_example, way_through
from .formats import subscript
from .one_step import ShownLoop, one_step_graph

NO_BATCH = "no axis is batch: every output may depend on every input"


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
    outline: Jacobian | None = dataclasses.field(metadata={"picture": True}, repr=False)

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
        self.graph = one_step_graph(nodes, outputs)
        self.nodes, self.outputs, self.weights = self.graph.nodes, self.graph.outputs, weights
        self.carried = {carry for loop in self.loops for carry in loop.rounds}
        self.made_of_weights: dict[Node, bool] = {}  # whether a node is made of weights alone
        self.pairs: dict[Node, list[tuple[Edge, Jacobian]]] = {}
        for node in self.nodes:
            if node.edges:
                of_weights = all(self.is_weight(edge.parent) for edge in node.edges)
                self.made_of_weights[node] = of_weights and node not in self.carried
            self.pairs[node] = [(edge, j) for edge in node.edges if (j := edge.jacobian()) is not None]
        self.states = {node: self.jacobians_by(node, weights=False) for node in self.nodes}
        constant = {node for node in self.carried if not self.pairs[node]}
        self.longest_path = longest_path(self.states, self.outputs, constant)
        self.batch_size = _batch_size(self.longest_path)
        self.batch_in = {loop: self._batch_size_in(loop) for loop in self.loops}

    @property
    def loops(self) -> list[ShownLoop]:
        """Every loop once, an outer one before those in it."""
        return list(dict.fromkeys(loop for node in self.nodes for loop in self.graph.loop_path(node)))

    @property
    def modules(self) -> list[Node]:
        """The nodes that are computed from other nodes."""
        return [node for node in self.nodes if node.edges and node not in self.carried]

    def _batch_size_in(self, loop: ShownLoop) -> int | None:
        """The size of axis 0 of the values of a step if it is batch."""
        if self.batch_size is not None:
            return self.batch_size
        found = [j for node, pairs in self.states.items() if loop in self.graph.loop_path(node) for _, j in pairs]
        sizes = {j.in_shape[0] if len(j.in_shape) > 1 else None for j in found}
        return sizes.pop() if len(sizes) == 1 and all(j.batched for j in found) else None

    def is_weight(self, node: Node) -> bool:
        return self.made_of_weights.get(node, node.name in self.weights)

    def jacobians_by(self, node: Node, weights: bool) -> list[tuple[Edge, Jacobian]]:
        """The Jacobians of a node by weights, or those by states."""
        return [(edge, j) for edge, j in self.pairs[node] if self.is_weight(edge.parent) == weights]

    def block(self, node: Node, edge: Edge, j: Jacobian) -> Block:
        """The Jacobian of a node by one of its arguments."""
        batch = self.batch_in[self.graph.loops[node]] if node in self.graph.loops else self.batch_size
        of_examples = j.batched or (not j.out_shape and not self.is_weight(edge.parent))  # or their average
        inp = per_example(j.in_shape, batch) if of_examples else j.in_shape
        dims = f"[{show_sizes(per_example(j.out_shape, batch))}×{show_sizes(inp)}]"
        named = dataclasses.replace(j, names=("y", edge.argument))
        return Block(edge.argument, dims, named.formula, named.legend, j.structure, j.nbytes, j.dense_nbytes, j.outline())

    def blocks_of_round(self, loop: ShownLoop, carry: Node) -> list[Block]:
        """The Jacobians of what an array of the carry is after a step by the arrays of the carry before it."""
        names = {node: "c" + subscript(i) * (len(loop.rounds) > 1) for i, node in enumerate(loop.rounds, 1)}
        found = []
        for before, x in names.items():
            way = way_through(self.graph, self.states, loop, loop.rounds[carry], before)
            if way.paths:
                found.append(self._block_of_round(carry, before, (names[carry], f"{x}⁻"), way, self.batch_in[loop]))
        return found

    def _block_of_round(self, carry: Node, before: Node, names: tuple[str, str], way: Way, batch: int | None) -> Block:
        sizes = (show_sizes(per_example(node.shape, batch)) for node in (carry, before))
        dims = f"[{'×'.join(sizes)}]"
        dense = count_entries(carry.shape + before.shape) * jnp.dtype(carry.dtype).itemsize  # type: ignore[call-overload]
        if way.product is None:
            what, words = ("sum", f"{way.paths} paths") if way.paths > 1 else ("product", f"a path through {way.through}")
            return Block(before.name, dims, f"∂{names[0]}/∂{names[1]} = the {what} along {words}", {}, words, 0, dense, None)
        j = dataclasses.replace(way.product, names=names)
        return Block(before.name, dims, j.formula, {}, j.structure, 0, dense, j.outline())

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
        return str(Chain(self.graph, self.states, self.longest_path, self.batch_size))

    @property
    def note(self) -> str:
        """A sentence that says which axis is batch."""
        if not self.longest_path:
            return ""
        sizes = set(self.batch_in.values())
        size, place = self.batch_size, ""
        if size is None and len(sizes) == 1:
            size, place = sizes.pop(), " inside of loops"
        if size is None:
            apart = [loop for loop in self.loops if not loop.rounds]
            return f"no step of {apart[0]} depends on another" if apart else NO_BATCH
        stored = "a step with the whole batch" if self.loops else "the whole batch"
        return (
            f"axis 0 is batch{place}, of size {size}: example b depends on example b alone, so dims are per example; "
            f"stored and dense are for {stored}"
        )


def module_place(name: str) -> str:
    """The place of a module, from the name of one of its weights: Block_0/up of `params['params']['Block_0']['up']['w']`."""
    found = re.findall(r"\.(\w+)|\['([^']*)'\]|\[(\d+)\]", name)
    steps = [f"[{number}]" if number else attribute or key for attribute, key, number in found]
    steps = [step.replace("/~", "") for step in steps if step not in ("params", "value")][:-1]
    return "/".join(steps).replace("/[", "[")


def _batch_size(links: list[Link]) -> int | None:
    """The size of axis 0 if it is batch: if example b depends on example b alone, up to a reduction to a scalar."""
    path = [link.jacobian for link in links]
    sizes = {j.in_shape[0] if j.in_shape else None for j in path}
    alone = all(not j.out_shape or j.batched for j in path) and not any(link.crosses_loop for link in links[:-1])
    vector = not path or len(path[-1].in_shape) < 2  # the entries of a single vector are features, not examples
    return sizes.pop() if len(sizes) == 1 and alone and not vector and any(j.out_shape for j in path) else None
