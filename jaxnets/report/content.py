"""What the page says about a model, as data for JSON.  The library computes every number when the page is made."""

import inspect
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra.jacobian import Jacobian, unit_array
from ..autodiff.nodes import Edge, LocalFunction, Node
from ..layers.layer import Layer
from ..learn.presets import Problem
from ..show.compare import compare
from ..show.diagram import diagram_of
from ..show.explain import explain_plan
from ..show.formats import as_data
from ..show.local_jacobians import Block, LocalJacobians, read_local_jacobians
from .backward import backward_pass

MAX_CELLS = 12_000  # of all heat maps of a page together
MAX_ROWS, MAX_COLUMNS = 24, 32  # of one heat map
DIGITS = 6  # of a number in a heat map


def describe(problem: Problem) -> dict[str, Any]:
    """The model's diagram, its modules with their Jacobians, and the orders of multiplication."""
    description: dict[str, Any] = {}

    def run(params, x):
        """All numbers come from one compiled program.  The words are found while JAX traces it."""
        jacobians, _ = read_local_jacobians(problem.loss, (params, x), second_order=True)
        size = _heat_map_size(sum(len(pairs) for pairs in jacobians.pairs.values()))
        description["diagram"] = diagram_of(jacobians).to_json()
        description["chain"], description["note"] = jacobians.chain, jacobians.note
        description["modules"] = [_module(node, jacobians) for node in jacobians.modules]
        corners = [[_shown_corner(node, edge, j, *size) for edge, j in jacobians.pairs[node]] for node in jacobians.modules]
        return corners, backward_pass(jacobians, problem)

    corners, backward = jax.device_get(jax.jit(run)(problem.params, problem.x))
    for module, found in zip(description["modules"], corners, strict=True):
        for block, corner in zip(module["jacobians"], found, strict=True):
            block.update(_heat_map_data(**corner))
    description["backward"] = jax.tree.map(
        lambda numbers: [*map(_rounded, numbers)] if numbers.ndim else _rounded(numbers), backward
    )
    return {"title": problem.title, "about": description_of(problem), **description, "plans": _plans(problem)}


def comparisons(problem: Problem, timed: bool = True) -> list[dict]:
    """Every Jacobian of the network and of its loss, hand-written and by autodiff.  `timed` also measures their times."""
    functions = {"the network": problem.network, "its average loss": problem.loss}
    return [compare(f, problem.params, problem.x, title=title, timed=timed).to_json() for title, f in functions.items()]


def description_of(problem: Problem) -> dict[str, str]:
    """What was computed, and on which device."""
    device = jax.devices()[0]
    count = sum(leaf.size for leaf in jax.tree.leaves(problem.params))
    return {
        "model": problem.model.name,
        "parameters": f"{count:,}",
        "input": f"{list(problem.x.shape)}, {problem.source}",
        "dtype": str(problem.x.dtype),
        "device": f"{device.device_kind} ({device.platform})",
        "versions": f"Python {platform.python_version()}, jax {jax.__version__}",
    }


def _heat_map_size(jacobians: int) -> tuple[int, int]:
    """The rows and columns of a heat map that give so many Jacobians an equal share of the cells."""
    rows = int(min(MAX_ROWS, max(4, (MAX_CELLS / max(1, jacobians) * MAX_ROWS / MAX_COLUMNS) ** 0.5)))
    return rows, rows * MAX_COLUMNS // MAX_ROWS


def _plans(problem: Problem) -> list[dict]:
    """The orders of multiplication for the Jacobian by the input, of the network and of its loss."""
    questions = {"the network by its input": problem.network, "the average loss by its input": problem.loss}
    return [
        {"title": title, **explain_plan(f, problem.params, problem.x, argnums=1).to_json()} for title, f in questions.items()
    ]


def _module(node: Node, jacobians: LocalJacobians) -> dict[str, Any]:
    layer = node.layer
    return {
        "name": node.name,
        "output": list(node.shape),
        "documentation": inspect.getdoc(layer) or "" if layer else "",
        "forward": _source(layer.forward) if layer else "",
        "rule": _source(layer.rule) if layer else "",
        "file": _file(layer) if layer else "",
        "jacobians": [_block_data(jacobians.block(node, edge, j), j) for edge, j in jacobians.pairs[node]],
    }


def _source(function: Callable | None) -> str:
    """The code of a function as it stands in its file, or "" if it has no file."""
    try:
        return inspect.getsource(inspect.unwrap(function)) if function else ""
    except (OSError, TypeError):  # the function was defined interactively
        return ""


def _file(layer: Layer) -> str:
    code = getattr(inspect.unwrap(layer.forward), "__code__", None)
    if code is None:
        return ""
    path = Path(code.co_filename)
    return f"{'/'.join(path.parts[-3:])}:{code.co_firstlineno}"


def _block_data(block: Block, j: Jacobian) -> dict[str, Any]:
    out, inp = j.block_shape
    return {**as_data(block), "output": list(out), "input": list(inp), "example": j.examples_are_independent}


def _shown_corner(node: Node, edge: Edge, j: Jacobian, rows: int, columns: int) -> dict[str, jax.Array]:
    """The corner of a local Jacobian that is shown: by hand, by autodiff, and where its structure allows numbers at all."""
    found = {"values": j.corner(rows, columns), "possible": j.possible(rows, columns)}
    if node.local is not None and node.local.forward is not None:
        found["autodiff"] = _corner_by_autodiff(
            node.local, node.local.forward, node.edges.index(edge), *found["values"].shape
        )
    return found


def _corner_by_autodiff(local: LocalFunction, forward: Callable, place: int, rows: int, columns: int) -> jax.Array:
    """The corner from `jax.vjp` of the forward function, by the argument with this index."""

    def along(x):
        return forward(*local.point[:place], x, *local.point[place + 1 :])

    y, pull = jax.vjp(along, local.point[place])

    def row(r):
        return pull(unit_array(y.shape, r, y.dtype))[0].reshape(-1)[:columns]

    return jax.lax.map(row, jnp.arange(rows))


def _heat_map_data(values: np.ndarray, possible: np.ndarray, autodiff: np.ndarray | None = None) -> dict[str, Any]:
    """The numbers of a heat map, rounded.  Those of autodiff are listed as [row, column, number] where they differ, and so
    are the differences."""
    shown = [[_rounded(x) for x in row] for row in values]
    found: dict[str, Any] = {"values": shown, "possible": ["".join("01"[int(x)] for x in row) for row in possible]}
    if autodiff is not None:
        cells, gap = list(np.ndindex(values.shape)), values - autodiff
        found["autodiff"] = [[r, c, x] for r, c in cells if (x := _rounded(autodiff[r, c])) != shown[r][c]]
        found["difference"] = [[r, c, _rounded(gap[r, c])] for r, c in cells if gap[r, c] != 0]
    return found


def _rounded(x) -> float | int:
    """A number rounded to a few digits, which takes few characters in JSON."""
    value = float(f"{float(x):.{DIGITS}g}")
    return int(value) if value.is_integer() and abs(value) < 1e6 else value
