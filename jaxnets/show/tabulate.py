"""A table of a function's layers: dimensions, formulae and structure of every local Jacobian, from shapes alone."""

import dataclasses
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..algebra.picture import code, lines
from ..algebra.sizes import show_bytes
from ..autodiff.nodes import Node
from ..checks import checked
from .formats import as_data, as_text, in_lines
from .html import THUMBNAIL, html_table
from .local_jacobians import (
    Block,
    LocalJacobians,
    function_of_real_leaves,
    parameter_count,
    read_local_jacobians,
    run_on_shapes,
)
from .one_step import ShownLoop

WIDE = 130  # columns of text; from this width on ∂y/∂x and ∂y/∂w stand side by side


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer: the shape of its output, and its Jacobians by states and by weights.

    A loop has a row with the number of its `steps`; below it come those of one step, with a greater `depth`.  The first of
    them is the carry by the carry before it, which has no bytes of its own.  `becomes` says what of the carry a value is in
    the next step.
    """

    layer: str
    module: str  # what Flax, Equinox or Haiku call the module that it belongs to
    output: tuple[int, ...]
    states: tuple[Block, ...]
    weights: tuple[Block, ...]
    depth: int = 0
    steps: int = 0  # 0 for all rows but those of loops
    becomes: str = ""
    is_carry: bool = False

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.states + self.weights

    def wide_cells(self) -> list[str]:
        """The name, the shape, the Jacobians by states, those by weights, and the structures."""
        name = _indented("\n".join(in_lines(text) for text in (self.title, self.module) if text), self.depth)
        sides = ("\n".join(line for b in side for line in _block_lines(b)) for side in (self.states, self.weights))
        return [name, self.shape, *sides, "\n".join(f"{b.argument}: {b.structure}" for b in self.blocks)]

    def narrow_cell(self) -> str:
        """All of it, one below the other."""
        title = " ".join(filter(None, [self.layer, self.shape, self.arrow]))
        modules = in_lines(self.module, 44).splitlines()
        lines = [title, *modules, *(f"  {line}" for b in self.blocks for line in _block_lines(b, b.structure))]
        return _indented("\n".join(lines), self.depth)

    def html_cells(self) -> list[list]:
        """The cells of the lines of a table in HTML: one for every Jacobian, and one for a row without any."""
        pad = "\u2003" * self.depth
        name = lines(*(f"{pad}{text}" for text in (self.title, self.module) if text)), self.shape
        found: list[list] = [
            [
                *(name if i == 0 else ("", "")),
                block.outline.picture(*THUMBNAIL) if block.outline else "",
                lines(code(block.dims), *map(code, block.formula_lines())),
                block.structure,
                *(("", "") if self.is_carry else map(show_bytes, (block.stored, block.dense))),
            ]
            for i, block in enumerate(self.blocks)
        ]
        return found or [[*name, *[""] * 5]]

    def size_cells(self) -> list[str]:
        """The bytes that are stored, and those of dense arrays; nothing for what consists of other rows."""
        if self.steps or self.is_carry:
            return ["", ""]
        return [show_bytes(sum(b.stored for b in self.blocks)), show_bytes(sum(b.dense for b in self.blocks))]

    @property
    def title(self) -> str:
        """The name of the layer, and where its value goes round a loop."""
        return f"{self.layer} {self.arrow}".strip()

    @property
    def arrow(self) -> str:
        return f"↺ {self.becomes}" if self.becomes else ""

    @property
    def shape(self) -> str:
        return "" if self.steps else f"[{', '.join(map(str, self.output))}]"


@dataclasses.dataclass(frozen=True)
class Tabulation:
    """What `tabulate` returns.  It prints as a table."""

    rows: tuple[Row, ...]
    chain: str
    batch: str
    parameters: int = 0  # how many numbers the first of several arguments holds

    def __rich_console__(self, console, options):
        grid = Table(title="∂(output y of a layer) / ∂(its input x, its weights w)", title_justify="left")
        wide = options.max_width >= WIDE
        for column in ("layer", "output", "∂y/∂x", "∂y/∂w", "structure") if wide else ("layer, its ∂y/∂x and ∂y/∂w",):
            grid.add_column(column, overflow="fold")
        for column in ("stored", "dense"):
            grid.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            grid.add_row(*map(Text, [*(row.wide_cells() if wide else [row.narrow_cell()]), *row.size_cells()]))
        yield grid
        yield from map(Text, self._notes())

    def _notes(self):
        found = {"chain": self.chain, "parameters": f"{self.parameters:,}" if self.parameters else ""}
        return [*(f"{name}: {text}" for name, text in found.items() if text), *([self.batch] if self.batch else [])]

    def __repr__(self):
        return f"Tabulation({len(self.rows)} layers, {self.chain or 'no chain'})"

    def __str__(self):
        return as_text(self, 140)

    def _repr_html_(self):
        columns = ("layer", "output", "Jacobian", "dimensions and formula", "structure", "stored", "dense")
        rows = [cells for row in self.rows for cells in row.html_cells()]
        return html_table("∂(output y of a layer) / ∂(its input x, its weights w)", columns, rows, self._notes())

    def to_json(self) -> dict:
        return as_data(self)


@checked
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
        count = parameter_count(function, args)
        try:
            jacobians, values = read_local_jacobians(function, args, nodes_so_far.append)
        except Exception:
            *_, weights = function_of_real_leaves(function, args)
            found.append(_tabulation(LocalJacobians(nodes_so_far, nodes_so_far, weights), count))
            raise
        found.append(_tabulation(jacobians, count))
        return values

    try:
        run_on_shapes(run, *args) if abstract else run(*args)
    except Exception:
        for table in found:
            Console().print(table)
        raise
    return found[0]


def _block_lines(block: Block, *more: str) -> list[str]:
    """The dimensions of a Jacobian, and indented its formula with the legend."""
    return [" ".join([block.dims, *more]), *(f"  {line}" for line in block.formula_lines())]


def _indented(text: str, depth: int) -> str:
    return "\n".join("  " * depth + line for line in text.splitlines())


def _tabulation(jacobians: LocalJacobians, parameters: int) -> Tabulation:
    return Tabulation(tuple(_rows(jacobians)), jacobians.chain, jacobians.note, parameters)


def _rows(jacobians: LocalJacobians) -> Iterator[Row]:
    """A row for every module, and one for every loop before those of its step."""

    def blocks(node, by_weights):
        return tuple(jacobians.block(node, *pair) for pair in jacobians.jacobians_by(node, weights=by_weights))

    becomes = {after: carry.name for loop in jacobians.loops for carry, after in loop.rounds.items()}
    seen: set[ShownLoop] = set()
    for node in jacobians.nodes:
        path = jacobians.graph.loop_path(node)
        for loop in path:
            if loop not in seen:
                seen.add(loop)
                yield Row(str(loop), "", (), (), (), loop.depth, loop.length)
        if node in jacobians.carried:
            blocks_of_round = tuple(jacobians.blocks_of_round(path[-1], node))
            yield Row(node.name, "", node.shape, blocks_of_round, (), len(path), is_carry=True)
        elif node.edges:
            by_states, by_weights = blocks(node, False), blocks(node, True)
            module, arrow = jacobians.module_of(node), becomes.get(node, "")
            yield Row(node.name, module, node.shape, by_states, by_weights, len(path), 0, arrow)
