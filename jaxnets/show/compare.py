"""Every Jacobian block of a function, hand-written against autodiff and finite differences."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from rich.text import Text

from ..algebra.jacobian import Jacobian
from ..algebra.picture import code, lines
from ..algebra.sizes import show_bytes
from ..autodiff.transforms import dense, jacobian
from ..checks import checked
from ..learn.once import jit_once
from ..learn.progress import stage
from .columns import (
    FULL_COLUMNS,
    SAMPLED_COLUMNS,
    Differences,
    by_input,
    compared_columns,
    forward_columns,
    forward_columns_by,
)
from .formats import as_data, as_text, in_lines
from .html import THUMBNAIL, error_bar, html_table
from .local_jacobians import function_of_real_leaves

# Largest error that passes, relative to the largest entry of a row: against autodiff, and against finite differences.
TOLERANCE = {"float64": (1e-10, 1e-6), "float32": (5e-5, 1e-4), "bfloat16": (5e-2, 5e-2), "float16": (1e-2, 1e-2)}
AUTODIFF = ("jacrev", "jacfwd", "grad")
EXACT = (*AUTODIFF, "float64")  # methods that are right up to rounding errors, which are counted in ULP
WIDE = 130  # columns of text from which every method has its own
THREADS = 2  # that compile while the next method is traced


@dataclasses.dataclass(frozen=True)
class Error:
    """Largest difference of two arrays: absolute, relative to the largest entry of its row, and in ULP of that entry."""

    absolute: float
    relative: float
    ulp: float


@dataclasses.dataclass(frozen=True)
class BlockReport:
    """One block ∂(output)/∂(input): its structure, and its errors by method."""

    name: str
    output: tuple[int, ...]
    input: tuple[int, ...]
    structure: str
    stored: int
    dense: int
    errors: dict[str, Error]
    kinks: int
    columns: int  # how many columns jacfwd computed, 0 for all
    verdict: str  # empty while methods are missing
    outline: Jacobian = dataclasses.field(metadata={"picture": True}, repr=False)

    @property
    def ok(self) -> bool:
        return self.verdict.startswith("ok")

    def wide_cells(self, methods) -> list[str]:
        """The Jacobian, its structure, its bytes, the error to each method, and the verdict."""
        errors = ["\n".join(error_texts(m, self.errors[m])) if m in self.errors else "–" for m in methods]
        stored, dense = show_bytes(self.stored), show_bytes(self.dense)
        return [self._title(32), self.structure, f"{stored}\n{dense}", *errors, self.verdict]

    def narrow_cells(self) -> list[str]:
        """The Jacobian with structure and bytes below it, all errors, and the verdict."""
        size = f"{self.structure}, {show_bytes(self.stored)} of {show_bytes(self.dense)}"
        errors = "\n".join(f"{m} {', '.join(error_texts(m, e, 0))}" for m, e in self.errors.items())
        return [f"{self._title(40)}\n{size}", errors, self.verdict]

    def _title(self, width: int) -> str:
        return f"{in_lines(self.name, width)}\n{list(self.output)}×{list(self.input)}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found; `.ok` where every block agrees.  Prints as a table.

    `milliseconds`: how long each method takes for all blocks, in one compiled call that gives them as dense arrays.
    """

    title: str
    dtype: str
    blocks: tuple[BlockReport, ...]
    milliseconds: dict[str, float]

    @property
    def ok(self) -> bool:
        return all(block.ok for block in self.blocks)

    def __repr__(self):
        agreeing = sum(block.ok for block in self.blocks)
        return f"Comparison({self.title}: {agreeing} of {len(self.blocks)} Jacobians agree in {self.dtype})"

    def to_json(self) -> dict:
        return {"ok": self.ok, **as_data(self)}

    def _repr_html_(self):
        columns = ("", "Jacobian", "structure", "stored of dense", "error to", "", "verdict")
        rows = [
            [
                block.outline.picture(*THUMBNAIL),
                lines(code(block.name), code(f"{list(block.output)}×{list(block.input)}")),
                block.structure,
                f"{show_bytes(block.stored)} of {show_bytes(block.dense)}",
                "\n".join(f"{m} {', '.join(error_texts(m, e))}" for m, e in block.errors.items()),
                lines(*(error_bar(error.ulp) for method, error in block.errors.items() if method in EXACT)),
                block.verdict,
            ]
            for block in self.blocks
        ]
        return html_table(self.title, columns, rows, self._notes())

    def __rich_console__(self, console, options):
        grid = Table(title=Text(self.title), title_justify="left")
        methods = list(dict.fromkeys(name for block in self.blocks for name in block.errors))
        wide = options.max_width >= WIDE
        grid.add_column("Jacobian" if wide else "Jacobian, structure", overflow="fold")
        if wide:
            grid.add_column("structure\n", overflow="fold")
            grid.add_column("stored\ndense", justify="right", no_wrap=True)
        for name in [f"error to\n{method}" for method in methods] if wide else ["error"]:
            grid.add_column(name, justify="right" if wide else "left", no_wrap=True)
        grid.add_column("verdict", min_width=7, overflow="fold")
        for block in self.blocks:
            grid.add_row(*map(Text, block.wide_cells(methods) if wide else block.narrow_cells()), end_section=not wide)
        yield grid
        yield from map(Text, self._notes())

    def _notes(self):
        count = len(self.blocks)
        if all(block.verdict for block in self.blocks):
            yield (
                f"{sum(block.ok for block in self.blocks)} of {count} Jacobians agree in {self.dtype}.  Errors: absolute, "
                "and to autodiff in ULP of the largest entry of the row; finite differences are no more exact than "
                f"{TOLERANCE[self.dtype][1]:.0e} of it."
            )
        if self.milliseconds:
            times = ", ".join(f"{method} {_show_time(ms)} ms" for method, ms in self.milliseconds.items())
            yield f"One compiled call for {'all ' * (count > 1)}{count} Jacobian{'s' * (count > 1)}, dense: {times}."
        if any(block.columns for block in self.blocks):
            yield f"jacfwd: {SAMPLED_COLUMNS} columns of inputs with more than {FULL_COLUMNS} entries."

    def __str__(self):
        return as_text(self, 150)


def error_texts(method: str, error: Error, decimals: int = 1) -> list[str]:
    """An error as text, in ULP only to a method that is right up to rounding errors: finite differences are not."""
    return [f"{error.absolute:.{decimals}e}", *([f"{error.ulp:.2g} ULP"] if method in EXACT else [])]


def _show_time(milliseconds: float) -> str:
    return f"{milliseconds:.2g}" if milliseconds < 100 else f"{milliseconds:.0f}"


@checked
def compare(function: Callable, *args, title: str | None = None, timed: bool = True) -> Comparison:
    """Compare the hand-written Jacobian of `function(*args)` with autodiff and finite differences, block by block.

    A block is one output by one real input (every leaf of every argument).  Methods: `jax.jacrev`, `jax.grad` for scalar
    outputs, `jax.jacfwd` (a few columns at a time; a sample of wide inputs), and Richardson's central differences in
    float64 on up to 64 entries of every input.  Errors count relative to the largest entry of their row.  Each method is
    one compiled program that gives all blocks; the times, which `timed=False` leaves out, are those of one call of it.

    Where the function has a kink, one-sided differences bracket the derivative: such entries are counted and reported,
    not held against it.  Where a result differs from autodiff in less than double precision, autodiff in float64 decides.
    Raises ValueError where no argument holds a real array.

    >>> found = jn.compare(jn.softmax, jnp.array([[1.0, 2.0, 3.0]]))
    >>> found.ok, [block.structure for block in found.blocks]
    (True, ['rank-1 update'])
    """
    *_, found = comparing(function, *args, title=title, timed=timed)
    return found


def comparing(function: Callable, *args, title: str | None = None, timed: bool = True) -> Iterator[Comparison]:
    """What `compare` finds, each time that more of it is known; the last one is the whole.

    The first has shapes and structures alone; then come the errors to one method after the other, verdicts, and times.
    """
    call, leaves, names, _ = function_of_real_leaves(function, args)
    if not leaves:
        raise ValueError("compare: no argument holds a real array")

    def flat(*leaves):
        return jax.tree.leaves(call(leaves))

    every = tuple(range(len(leaves)))
    columns = [compared_columns(x.size) for x in leaves]
    structured = jax.eval_shape(jacobian(flat, every, on_opaque="allow"), *leaves)
    blocks = [
        _Block(f"∂y{o if len(structured) > 1 else ''}/∂{names[i]}", o, i, row[i], str(leaves[i].dtype), columns[i])
        for i in every
        for o, row in enumerate(structured)
    ]
    if not structured:
        raise TypeError("compare: function returns no array")
    name = title or str(getattr(function, "__name__", "function"))

    def so_far(**milliseconds):
        return Comparison(name, str(leaves[0].dtype), tuple(block.report() for block in blocks), milliseconds)

    methods = {
        "jaxnets": lambda *leaves: dense(jacobian(flat, every, on_opaque="allow")(*leaves)),
        "jacrev": jax.jacrev(flat, every),
        "jacfwd": lambda *leaves: forward_columns(flat, leaves, columns),
    }
    if all(row[0].out_shape == () for row in structured):
        outputs = [lambda *leaves, o=o: flat(*leaves)[o] for o in range(len(structured))]
        methods["grad"] = lambda *leaves: [jax.grad(output, every)(*leaves) for output in outputs]
    runs = {method: jax.jit(run) for method, run in methods.items()}
    count = f"{len(blocks)} Jacobian{'s' * (len(blocks) > 1)}"
    with stage(name, count) as told, ThreadPoolExecutor(THREADS) as pool:
        yield so_far()
        compiled = {method: pool.submit(run.lower(*leaves).compile) for method, run in runs.items()}
        differences = Differences(flat, leaves, columns, pool)
        for number, (method, run) in enumerate(runs.items(), 1):
            told.say(f"{count}, method {number} of {len(runs) + 1}: {method}")
            compiled[method].result()
            values = run(*leaves)
            if method == "jacfwd":
                values = [by_input(array, columns) for array in values]
            for block in blocks:
                block.compare(method, values[block.output][block.input])
            yield so_far()
        for i in {block.input for block in blocks if not math.isfinite(block.errors["jacfwd"].relative)}:
            told.say(f"{count}: jacfwd by one input alone")
            alone = forward_columns_by(i, flat, leaves, columns[i])
            for block in blocks:
                if block.input == i:
                    block.compare("jacfwd", alone[block.output])
        if any(block.lost_digits for block in blocks):
            told.say(f"{count}: autodiff in float64")
            exact = _in_float64(jax.jacrev(flat, every), leaves)
            for block in blocks:
                if block.lost_digits:
                    block.compare("float64", exact[block.output][block.input])
        told.say(f"{count}, method {len(runs) + 1} of {len(runs) + 1}: finite differences")
        differences.compute()
        for block in blocks:
            block.judge(differences)
        yield so_far()
    if timed:
        yield so_far(**{method: _milliseconds(run, leaves) for method, run in runs.items()})


@dataclasses.dataclass
class _Block:
    """A block while it is compared."""

    name: str
    output: int
    input: int
    jacobian: Jacobian
    dtype: str
    columns: np.ndarray
    errors: dict[str, Error] = dataclasses.field(default_factory=dict)
    kinks: int = 0
    verdict: str = ""

    def compare(self, method: str, array):
        """Note the error to an array of the whole Jacobian, or to one of its columns for jacfwd; "jaxnets" comes first."""
        j, array = self.jacobian, np.asarray(array, np.float64)
        rows = math.prod(j.out_shape)
        if method == "jacfwd":
            matrix = array.reshape(len(self.columns), rows).T
        else:
            matrix = array.reshape(rows, math.prod(j.in_shape))[:, self.columns]
        if method == "jaxnets":
            info = jnp.finfo(self.dtype)
            largest = np.abs(matrix).max(1, initial=0, keepdims=True)
            self.scale = np.maximum(largest, largest.max(initial=0) * float(info.eps) + float(info.tiny))
            self.matrix = matrix
        else:
            self.errors[method] = _error(self.matrix, matrix, self.scale, self.dtype)

    @property
    def lost_digits(self) -> bool:
        """Whether somebody lost digits, so that autodiff in float64 has to tell who."""
        return self.dtype != "float64" and bool(self._far_from())

    def _far_from(self) -> list[str]:
        """The methods of autodiff that it does not agree with, in its own dtype."""
        tolerance, _ = TOLERANCE[self.dtype]
        return [m for m, error in self.errors.items() if m in AUTODIFF and not error.relative <= tolerance]

    def judge(self, differences: Differences):
        """Compare with the last method, and say what follows from all of them."""
        tolerance, loose = TOLERANCE[self.dtype]
        wrong, worse = self._far_from(), list[str]()
        if "float64" in self.errors and self.errors["float64"].relative <= tolerance:
            wrong, worse = [], wrong
        if self.matrix.size:
            ours = self.matrix[:, differences.picked[self.input]]
            theirs, self.kinks = differences.estimates(self.output, self.input, ours, loose * self.scale)
            self.errors["differences"] = _error(ours, theirs, self.scale, self.dtype)
            wrong += ["differences"] if not self.errors["differences"].relative <= loose else []
        self.verdict = ", ".join(
            [f"differs from {', '.join(wrong)}" if wrong else "ok"]
            + [f"{self.kinks} at kinks"] * (self.kinks > 0)
            + [f"closer to float64 than {', '.join(worse)}"] * bool(worse)
        )

    def report(self) -> BlockReport:
        j, sampled = self.jacobian, len(self.columns) if len(self.columns) < math.prod(self.jacobian.in_shape) else 0
        return BlockReport(
            *(self.name, j.out_shape, j.in_shape, j.structure, j.nbytes, j.dense_nbytes),
            *(dict(self.errors), self.kinks, sampled, self.verdict, j.outline()),
        )


def _in_float64(function, leaves):
    with jax.enable_x64(True):
        return jit_once(lambda *leaves: function(*(x.astype(jnp.float64) for x in leaves)))(*leaves)


def _error(a, b, scale, dtype) -> Error:
    """Of two matrices; NaN in one alone is an infinite error."""
    if a.size == 0:
        return Error(0.0, 0.0, 0.0)
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
    gap = np.where(np.isnan(gap), np.inf, gap)
    relative = float(np.max(gap / scale))
    return Error(float(gap.max()), relative, relative / float(jnp.finfo(dtype).eps))


def _milliseconds(run, inputs, budget=0.05) -> float:
    """Median time of a compiled function, of at least one and at most 20 runs within about a twentieth of a second."""
    times: list[float] = []
    while not times or (sum(times) < budget and len(times) < 20):
        start = time.perf_counter()
        jax.block_until_ready(run(*inputs))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))
