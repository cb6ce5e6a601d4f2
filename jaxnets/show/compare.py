"""Every Jacobian block of a function, hand-written against autodiff and finite differences."""

import dataclasses
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from rich.text import Text

from ..algebra.jacobian import Jacobian, unit_array
from ..algebra.picture import code, lines
from ..algebra.sizes import show_bytes
from ..autodiff.transforms import dense, jacobian
from .formats import as_data, as_text
from .html import THUMBNAIL, error_bar, html_table
from .local_jacobians import function_of_real_leaves

# Largest error that passes, relative to the largest entry of a row: against autodiff, and against finite differences.
TOLERANCE = {"float64": (1e-10, 1e-6), "float32": (5e-5, 1e-4), "bfloat16": (5e-2, 5e-2), "float16": (1e-2, 1e-2)}
DIFFERENCED_COLUMNS = 64
WIDE = 150  # columns of text from which every method has its own
FULL_COLUMNS, SAMPLED_COLUMNS = 4096, 512  # jacfwd of wider inputs is compared on a sample
CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Error:
    """Largest difference of two arrays: absolute, relative to the largest entry of its row, and in ULP of that entry."""

    absolute: float
    relative: float
    ulp: float


@dataclasses.dataclass(frozen=True)
class BlockReport:
    """One block ∂(output)/∂(input): errors and times (milliseconds) by method."""

    name: str
    output: tuple[int, ...]
    input: tuple[int, ...]
    structure: str
    stored: int
    dense: int
    errors: dict[str, Error]
    kinks: int
    columns: int  # how many columns jacfwd computed, 0 for all
    milliseconds: dict[str, float]
    verdict: str
    outline: Jacobian = dataclasses.field(metadata={"picture": True}, repr=False)

    @property
    def ok(self) -> bool:
        return self.verdict.startswith("ok")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found; `.ok` where every block agrees.  Prints as a table."""

    title: str
    dtype: str
    blocks: tuple[BlockReport, ...]

    @property
    def ok(self) -> bool:
        return all(block.ok for block in self.blocks)

    def to_json(self) -> dict:
        return {"ok": self.ok, **as_data(self)}

    def _repr_html_(self):
        columns = ("", "Jacobian", "structure", "stored of dense", "error to", "", "ms", "verdict")
        rows = [
            [
                block.outline.picture(*THUMBNAIL),
                lines(code(block.name), code(f"{list(block.output)}×{list(block.input)}")),
                block.structure,
                f"{show_bytes(block.stored)} of {show_bytes(block.dense)}",
                "\n".join(f"{m} {e.absolute:.1e}, {e.ulp:.2g} ULP" for m, e in block.errors.items()),
                lines(*(error_bar(error.ulp) for error in block.errors.values())),
                "\n".join(f"{m} {_show_time(ms)}" for m, ms in block.milliseconds.items()),
                block.verdict,
            ]
            for block in self.blocks
        ]
        return html_table(self.title, columns, rows, self._notes())

    def __rich_console__(self, console, options):
        grid = Table(title=Text(self.title), title_justify="left")
        methods = list(dict.fromkeys(name for block in self.blocks for name in block.errors))
        timed = list(dict.fromkeys(name for block in self.blocks for name in block.milliseconds))
        narrow = options.max_width < WIDE
        grid.add_column("Jacobian", overflow="fold")
        grid.add_column("structure" if narrow else "structure\n", overflow="fold")
        if narrow:
            grid.add_column("error", overflow="fold")
            grid.add_column("ms", overflow="fold")
        else:
            grid.add_column("stored\ndense", justify="right", no_wrap=True)
            for name in methods:
                grid.add_column(f"error to\n{name}", justify="right", no_wrap=True)
            for name in timed:
                grid.add_column(f"ms of\n{name}", justify="right", no_wrap=True)
        grid.add_column("verdict", min_width=7, overflow="fold")
        for block in self.blocks:
            cells = [f"{block.name}\n{list(block.output)}×{list(block.input)}", block.structure]
            stored, dense = show_bytes(block.stored), show_bytes(block.dense)
            if narrow:
                cells[1] += f"\n{stored}\nof {dense}"
                cells.append("\n".join(f"{m} {e.absolute:.0e}, {e.ulp:.2g} ULP" for m, e in block.errors.items()))
                cells.append("\n".join(f"{m} {_show_time(ms)}" for m, ms in block.milliseconds.items()))
            else:
                cells.append(f"{stored}\n{dense}")
                cells += [_show_error(block.errors.get(name)) for name in methods]
                cells += [_show_time(block.milliseconds.get(name)) for name in timed]
            grid.add_row(*map(Text, [*cells, block.verdict]), end_section=narrow)
        yield grid
        yield from map(Text, self._notes())

    def _notes(self):
        agree = sum(block.ok for block in self.blocks)
        yield (
            f"{agree} of {len(self.blocks)} Jacobians agree in {self.dtype}.  Errors: absolute, and in ULP of the "
            "largest entry of the row.  Times: dense result, compiled."
        )
        if any(block.columns for block in self.blocks):
            yield f"jacfwd: {SAMPLED_COLUMNS} columns of inputs with more than {FULL_COLUMNS} entries."

    def __str__(self):
        return as_text(self, 150)


def _show_error(error: Error | None) -> str:
    return "–" if error is None else f"{error.absolute:.1e}\n{error.ulp:.2g} ULP"


def _show_time(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:.2g}" if milliseconds < 100 else f"{milliseconds:.0f}"


def compare(function: Callable, *args, title: str | None = None, timed: bool = True) -> Comparison:
    """Compare the hand-written Jacobian of `function(*args)` with autodiff and finite differences, block by block.

    A block is one output by one real input (every leaf of every argument).  Methods: `jax.jacrev`, `jax.jacfwd` (a few
    columns at a time; a sample of wide inputs), `jax.grad` for scalar outputs, and Richardson's central differences in
    float64 on up to 64 entries of the input.  Errors count relative to the largest entry of their row.

    Where the function has a kink, one-sided differences bracket the derivative: such entries are counted and reported,
    not held against it.  Where a result differs from autodiff in less than double precision, autodiff in float64 decides.
    Raises ValueError where no argument holds a real array.

    >>> found = jn.compare(jn.softmax, jnp.array([[1.0, 2.0, 3.0]]))
    >>> found.ok, [block.structure for block in found.blocks]
    (True, ['rank-1 update'])
    """
    call, leaves, names, _ = function_of_real_leaves(function, args)
    if not leaves:
        raise ValueError("compare: no argument holds a real array")
    blocks: list[BlockReport] = []
    for i, name in enumerate(names):

        def one(x, i=i, leaves=leaves):
            return jax.tree.leaves(call([*leaves[:i], x, *leaves[i + 1 :]]))

        def wide(x, i=i, one=one):
            return one(x, i, [leaf.astype(jnp.float64) for leaf in leaves])

        blocks += _compare_leaf(one, wide, leaves[i], name, timed)
    return Comparison(title or str(getattr(function, "__name__", "function")), str(leaves[0].dtype), tuple(blocks))


def _compare_leaf(function, wide, x, name, timed) -> list[BlockReport]:
    """The blocks of all outputs by one input; `wide` is the function with all other inputs in float64."""
    structured = jax.eval_shape(jacobian(function, on_opaque="allow"), x)
    chosen = np.arange(x.size)
    if x.size > FULL_COLUMNS:
        chosen = np.sort(np.random.default_rng(0).choice(x.size, SAMPLED_COLUMNS, replace=False))
    methods = {
        "jaxnets": jax.jit(lambda x: dense(jacobian(function, on_opaque="allow")(x))),
        "jacrev": jax.jit(jax.jacrev(function)),
        "jacfwd": jax.jit(lambda x: _columns(function, x, chosen)),
    }
    if all(j.out_shape == () for j in structured):
        methods["grad"] = jax.jit(lambda x: [jax.grad(lambda x, o=o: function(x)[o])(x) for o in range(len(structured))])
    found = {method: jax.block_until_ready(run(x)) for method, run in methods.items()}
    times = {method: _milliseconds(run, x) for method, run in methods.items()} if timed else {}
    tolerance, loose = TOLERANCE[str(x.dtype)]
    reports = []
    for o, j in enumerate(structured):
        matrices = {method: _matrix(values[o], j, chosen) for method, values in found.items() if method != "jacfwd"}
        matrices["jacfwd"] = np.asarray(found["jacfwd"][o], np.float64).reshape(len(chosen), math.prod(j.out_shape)).T
        ours = matrices["jaxnets"]
        largest = np.abs(ours).max(1, initial=0, keepdims=True)
        scale = np.maximum(largest, largest.max(initial=0) * float(jnp.finfo(x.dtype).eps) + float(jnp.finfo(x.dtype).tiny))
        errors = {m: _error(ours, theirs, scale, x.dtype) for m, theirs in matrices.items() if m != "jaxnets"}
        wrong = [method for method, error in errors.items() if not error.relative <= tolerance]
        worse = []
        if wrong and x.dtype != jnp.float64:  # somebody lost digits: who?
            exact = _matrix(_in_float64(jax.jacrev(wide), x)[o], j, chosen)
            errors["float64"] = _error(ours, exact, scale, x.dtype)
            if errors["float64"].relative <= tolerance:
                wrong, worse = [], wrong
        kinks = 0
        if ours.size:
            errors["differences"], kinks = _differences(wide, o, x, matrices["jaxnets"], chosen, scale, loose)
            wrong += ["differences"] if not errors["differences"].relative <= loose else []
        verdict = ", ".join(
            [f"differs from {', '.join(wrong)}" if wrong else "ok"]
            + [f"{kinks} at kinks"] * (kinks > 0)
            + [f"closer to float64 than {', '.join(worse)}"] * bool(worse)
        )
        label = f"∂y{o if len(structured) > 1 else ''}/∂{name}"
        sizes = (j.structure, j.nbytes, j.dense_nbytes)
        sampled = len(chosen) if len(chosen) < x.size else 0
        reports.append(
            BlockReport(label, j.out_shape, j.in_shape, *sizes, errors, kinks, sampled, times, verdict, j.outline())
        )
    return reports


def _in_float64(function, x):
    with jax.enable_x64(True):
        return jax.jit(function)(x.astype(jnp.float64))


def _columns(function, x, chosen):
    """These columns of `jax.jacfwd`, a few at a time: its basis of x.size² numbers is never made."""

    def column(i):
        return jax.jvp(function, (x,), (unit_array(x.shape, i, x.dtype),))[1]

    if not len(chosen):
        return [jnp.zeros((0, *y.shape), y.dtype) for y in jax.eval_shape(function, x)]
    return jax.lax.map(column, jnp.asarray(chosen), batch_size=CHUNK)


def _matrix(array, j, columns=slice(None)) -> np.ndarray:
    """Some columns of a whole Jacobian, as a matrix."""
    return np.asarray(array, np.float64).reshape(math.prod(j.out_shape), math.prod(j.in_shape))[:, columns]


def _error(a, b, scale, dtype) -> Error:
    """Of two matrices; NaN in one alone is an infinite error."""
    if a.size == 0:
        return Error(0.0, 0.0, 0.0)
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
    gap = np.where(np.isnan(gap), np.inf, gap)
    relative = float(np.max(gap / scale))
    return Error(float(gap.max()), relative, relative / float(jnp.finfo(dtype).eps))


def _differences(wide, output, x, ours, known, scale, loose) -> tuple[Error, int]:
    """Error to central differences over some of the known columns, without entries at kinks, and how many these are.

    Taken in float64 whatever the dtype of x, where a step can be short and still tell values apart.
    """
    picked = np.random.default_rng(0).permutation(len(known))[:DIFFERENCED_COLUMNS]
    chosen, ours, margin = known[picked], ours[:, picked], loose * scale
    step = 0.5 * float(np.finfo(np.float64).eps) ** 0.2

    with jax.enable_x64(True):
        centre = x.astype(jnp.float64)

        @jax.jit
        def shifted(h):
            return jax.lax.map(
                lambda i: wide(centre + h * unit_array(centre.shape, i, centre.dtype))[output],
                jnp.asarray(chosen),
                batch_size=CHUNK,
            )

        def values(h):
            return np.asarray(shifted(jnp.asarray(h)), np.float64).reshape(len(chosen), -1).T

        slope = {h: (values(h) - values(-h)) / (2 * h) for h in (step, step / 2)}
        near, at = step / 128, values(0.0)
        left, right = (at - values(-near)) / near, (values(near) - at) / near
    # A kink closer than the step spoils Richardson's estimate; one closer than `near` leaves a jump between the slopes of
    # both sides, and the derivative is one of them or between.
    richardson, middle = (4 * slope[step / 2] - slope[step]) / 3, (left + right) / 2
    central = np.where(np.abs(middle - ours) < np.abs(richardson - ours), middle, richardson)
    between = (ours >= np.minimum(left, right) - margin) & (ours <= np.maximum(left, right) + margin)
    kink = (np.abs(central - ours) > margin) & (np.abs(right - left) > margin) & between
    return _error(ours, np.where(kink, ours, central), scale, x.dtype), int(kink.sum())


def _milliseconds(run, x, budget=0.05) -> float:
    """Median time of a compiled function, of at least one and at most 20 runs within about a twentieth of a second."""
    times: list[float] = []
    while not times or (sum(times) < budget and len(times) < 20):
        start = time.perf_counter()
        jax.block_until_ready(run(x))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))
