"""A table of a function's layers: dimensions, formulae and structure of every local Jacobian, from shapes alone."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..algebra.jacobian import Jacobian
from ..algebra.picture import code, lines
from ..algebra.sizes import show_bytes, show_sizes
from ..autodiff.graph import read_graph
from ..autodiff.nodes import Edge, Node
from ..autodiff.transforms import parameter_names
from .formats import as_data, as_text
from .html import THUMBNAIL, html_table

WIDE = 130  # columns of text; from this width on ∂y/∂x and ∂y/∂w stand side by side


@dataclasses.dataclass(frozen=True)
class Block:
    """One local Jacobian: of a layer's output by one of its arguments."""

    argument: str
    dims: str
    formula: str
    structure: str
    stored: int
    dense: int
    outline: Jacobian = dataclasses.field(metadata={"picture": True}, repr=False)


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer: the shape of its output, and its Jacobians by states and by weights."""

    layer: str
    output: tuple[int, ...]
    states: tuple[Block, ...]
    weights: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Tabulation:
    """What `tabulate` returns.  It prints as a table."""

    rows: tuple[Row, ...]
    chain: str
    batch: str

    def __rich_console__(self, console, options):
        grid = Table(title="∂(output y of a layer) / ∂(its input x, its weights w)", title_justify="left")
        narrow = options.max_width < WIDE
        for name in ("layer", "∂y/∂x, ∂y/∂w") if narrow else ("layer", "output", "∂y/∂x", "∂y/∂w", "structure"):
            grid.add_column(name, overflow="fold")
        grid.add_column("stored", justify="right", no_wrap=True)
        grid.add_column("dense", justify="right", no_wrap=True)
        for row in self.rows:
            blocks = row.states + row.weights
            output = f"[{', '.join(map(str, row.output))}]"
            if narrow:
                cells = [f"{row.layer}\n{output}", "\n".join(f"{b.dims} {b.structure}\n  {b.formula}" for b in blocks)]
            else:
                sides = ("\n".join(f"{b.dims}\n  {b.formula}" for b in side) for side in (row.states, row.weights))
                cells = [row.layer, output, *sides, "\n".join(f"{b.argument}: {b.structure}" for b in blocks)]
            cells += [show_bytes(sum(b.stored for b in blocks)), show_bytes(sum(b.dense for b in blocks))]
            grid.add_row(*map(Text, cells))
        yield grid
        yield from map(Text, self._notes())

    def _notes(self):
        return [*([f"chain: {self.chain}"] if self.chain else []), *([self.batch] if self.batch else [])]

    def __str__(self):
        return as_text(self, 140)

    def _repr_html_(self):
        columns = ("layer", "output", "Jacobian", "dimensions and formula", "structure", "stored", "dense")
        rows = [
            [
                *((row.layer, list(row.output)) if i == 0 else ("", "")),
                block.outline.picture(*THUMBNAIL),
                lines(code(block.dims), code(block.formula)),
                block.structure,
                *map(show_bytes, (block.stored, block.dense)),
            ]
            for row in self.rows
            for i, block in enumerate(row.states + row.weights)
        ]
        return html_table("∂(output y of a layer) / ∂(its input x, its weights w)", columns, rows, self._notes())

    def to_json(self) -> dict:
        return as_data(self)


def tabulate(function: Callable, *args, abstract: bool = True) -> Tabulation:
    """Every layer of `function(*args)` with the dimensions, formulae and structure of its local Jacobians.

    Of several arguments the first holds the weights, as in `f(params, x)`.  `args` may be arrays or
    `jax.ShapeDtypeStruct`s.  Nothing is computed unless `abstract=False`, which is for functions whose Python control flow
    depends on values.  Where the shapes of a layer do not fit, the table of the layers before it is printed, and its error
    is raised.

    >>> params = [{"w": jnp.ones((10, 60)), "b": jnp.ones(10)}, {}]
    >>> table = jn.tabulate(jn.models.mlp(10).apply, params, jnp.ones((4, 60)))
    >>> table.chain, [row.layer for row in table.rows]
    ('[10×10]·[10×60]', ['linear', 'log_softmax'])
    """
    nodes_so_far: list[Node] = []
    found: list[Tabulation] = []

    def run(*args):
        call, leaves, names, weights = function_of_real_leaves(function, args)
        try:
            graph = read_graph(lambda *leaves: jax.tree.leaves(call(leaves)), leaves, names, nodes_so_far.append)
        except Exception:
            found.append(_describe(nodes_so_far, nodes_so_far, weights))
            raise
        found.append(_describe(graph.topological_nodes(), graph.outputs, weights))
        return graph.values

    try:
        jax.eval_shape(run, *args) if abstract else run(*args)
    except Exception:
        for table in found:
            Console().print(table)
        raise
    return found[0]


def function_of_real_leaves(function, args):
    """The function as one of the real leaves of its arguments, these leaves, their names, and the names of the weights."""
    names = parameter_names(function, args, range(len(args)))
    paths, tree = tree_flatten_with_path(args)
    real = [i for i, (_, leaf) in enumerate(paths) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    leaves = [jnp.asarray(paths[i][1]) for i in real]
    labels = [names[paths[i][0][0].idx] + keystr(paths[i][0][1:]) for i in real]
    weights = {label for i, label in zip(real, labels, strict=True) if len(args) > 1 and paths[i][0][0].idx == 0}

    def call(leaves):
        flat = [leaf for _, leaf in paths]
        for i, leaf in zip(real, leaves, strict=True):
            flat[i] = leaf
        return function(*jax.tree.unflatten(tree, flat))

    return call, leaves, labels, weights


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

    def is_weight(self, node: Node) -> bool:
        return self.made_of_weights.get(node, node.name in self.weights)

    def jacobians_by(self, node: Node, weights: bool) -> list[tuple[Edge, Jacobian]]:
        """The Jacobians of a node by weights, or those by states."""
        return [(edge, j) for edge, j in self.pairs[node] if self.is_weight(edge.parent) == weights]

    def block(self, edge: Edge, j: Jacobian) -> Block:
        inp = _per_example(j.in_shape, self.batch_size) if j.batched else j.in_shape
        dims = f"[{show_sizes(_per_example(j.out_shape, self.batch_size))}×{show_sizes(inp)}]"
        formula = dataclasses.replace(j, names=("y", edge.argument)).formula
        return Block(edge.argument, dims, formula, j.structure, j.nbytes, j.dense_nbytes, j.outline())

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


def _describe(nodes, outputs, weights) -> Tabulation:
    jacobians = LocalJacobians(nodes, outputs, weights)

    def blocks(node, weights):
        return tuple(jacobians.block(*pair) for pair in jacobians.jacobians_by(node, weights))

    rows = tuple(Row(node.name, node.shape, blocks(node, False), blocks(node, True)) for node in nodes if node.edges)
    return Tabulation(rows, jacobians.chain, jacobians.note)


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
