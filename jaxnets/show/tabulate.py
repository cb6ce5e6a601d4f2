"""A table of a function's layers: dimensions, formulae and structure of every local Jacobian, from shapes alone."""

import dataclasses
from collections.abc import Callable

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..algebra.picture import code, lines
from ..algebra.sizes import show_bytes
from ..autodiff.nodes import Node
from .formats import as_data, as_text
from .html import THUMBNAIL, html_table
from .local_jacobians import Block, LocalJacobians, function_of_real_leaves, read_local_jacobians

WIDE = 130  # columns of text; from this width on ∂y/∂x and ∂y/∂w stand side by side


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

    def __repr__(self):
        return f"Tabulation({len(self.rows)} layers, {self.chain or 'no chain'})"

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
        try:
            jacobians, values = read_local_jacobians(function, args, nodes_so_far.append)
        except Exception:
            *_, weights = function_of_real_leaves(function, args)
            found.append(_tabulation(LocalJacobians(nodes_so_far, nodes_so_far, weights)))
            raise
        found.append(_tabulation(jacobians))
        return values

    try:
        jax.eval_shape(run, *args) if abstract else run(*args)
    except Exception:
        for table in found:
            Console().print(table)
        raise
    return found[0]


def _tabulation(jacobians: LocalJacobians) -> Tabulation:
    def blocks(node, by_weights):
        return tuple(jacobians.block(*pair) for pair in jacobians.jacobians_by(node, weights=by_weights))

    rows = (Row(node.name, node.shape, blocks(node, False), blocks(node, True)) for node in jacobians.modules)
    return Tabulation(tuple(rows), jacobians.chain, jacobians.note)
