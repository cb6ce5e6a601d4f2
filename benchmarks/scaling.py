"""How do the time and the temporary memory of the input Jacobian grow with width, depth, batch and outputs?"""

import dataclasses
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .harness import measure
from .input_jacobian import jacobians
from .networks import deep, mlp

AXES = {  # what grows: its unit, sizes, network and batch
    "width": ("units", (64, 128, 256, 512, 1024), lambda n: mlp(n, n, n, 10), lambda n: 64),
    "depth": ("layers", (2, 4, 8, 16, 32), lambda n: deep(n, 128), lambda n: 16),
    "batch": ("examples", (16, 64, 256, 1024), lambda n: mlp(256, 256, 256, 10), lambda n: n),
    "outputs": ("numbers", (8, 32, 128, 512), lambda n: mlp(64, 256, 256, n), lambda n: 16),
}
QUICK = {"outputs": ("numbers", (2, 4), lambda n: mlp(4, 8, n), lambda n: 2)}
NAMES = ("jaxnets, batched", "vmap(jacrev)")
STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"))  # Okabe and Ito's blue and vermilion
PICTURE = Path(__file__).parent / "results" / "scaling.png"


@dataclasses.dataclass(frozen=True)
class Scaling:
    """The figures by contender at every size, and the slopes of their logarithms."""

    question: str
    case: str
    unit: str
    sizes: list[int]
    time_slope: dict[str, float]
    memory_slope: dict[str, float]
    milliseconds: dict[str, list[float]]
    temporary_bytes: dict[str, list[int]]
    missing: dict[str, str] = dataclasses.field(default_factory=dict)

    COLUMNS: ClassVar[dict[str, Callable[[Any, str], float]]] = {
        "slope of time": lambda r, name: r.time_slope[name],
        "slope of memory": lambda r, name: r.memory_slope[name],
        "ms at the largest": lambda r, name: r.milliseconds[name][-1],
        "MB at the largest": lambda r, name: r.temporary_bytes[name][-1] / 1e6,
    }


def log_slope(sizes, figures) -> float:
    """d log(figure) / d log(size) over the upper half of the sizes, where overheads count least."""
    upper = slice(-(len(sizes) // 2 + 1), None)
    found = np.polyfit(np.log(sizes[upper]), np.log(np.maximum(figures[upper], 1e-9)), 1)[0]
    return round(float(found), 3) + 0.0  # not -0


def measure_growth(axis: str, unit: str, sizes, network: Callable, batch: Callable, quick: bool, scale: int) -> Scaling:
    found = []
    for n in sizes:
        made = network(n)
        contenders = {name: function for name, function in jacobians(made).items() if name in NAMES}
        args = (made.params, made.inputs(batch(n) * scale))
        found.append(measure("scaling", f"{axis} {n}", contenders, args, quick))
    fields = ("milliseconds", "temporary_bytes")
    ms, memory = ({name: [getattr(r, field)[name] for r in found] for name in NAMES} for field in fields)
    slopes = ({name: log_slope(sizes, figures[name]) for name in NAMES} for figures in (ms, memory))
    return Scaling("scaling", axis, unit, list(sizes), *slopes, ms, memory)


def run(quick: bool, scale: int) -> Iterator[Scaling]:
    results = [measure_growth(axis, *rest, quick, scale) for axis, rest in (QUICK if quick else AXES).items()]
    yield from results
    try:
        plot(results, io.BytesIO() if quick else PICTURE)
    except ImportError:
        print("scaling: no picture, matplotlib is missing: pip install 'jaxnets[plot]'", file=sys.stderr)


def plot(results: list[Scaling], target):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(results) + 0.8, 6.4), layout="constrained")
    grid = figure.subplots(2, len(results), squeeze=False, sharex="col")
    for column, result in zip(grid.T, results, strict=True):
        rows = (("time (ms)", result.milliseconds, 1, result.time_slope),)
        rows += (("temporary memory (MB)", result.temporary_bytes, 1e6, result.memory_slope),)
        for axes, (label, figures, unit, slopes) in zip(column, rows, strict=True):
            for name, (colour, marker, line) in zip(NAMES, STYLES, strict=True):
                text = f"{name}: slope {slopes[name]:.2f}"
                axes.loglog(
                    result.sizes, np.divide(figures[name], unit), color=colour, marker=marker, linestyle=line, label=text
                )
            axes.set_ylabel(label)
            axes.set_xticks(result.sizes, map(str, result.sizes))
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=9)
        column[-1].set_xlabel(f"{result.case} ({result.unit})")
    figure.savefig(target, dpi=150)


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's table, and the picture."""
    out = ["| what grows | sizes | contender | time ~ size to the power of | temporary memory ~ | at the largest |"]
    out.append("|---|---|---|--:|--:|---|")
    for r in results:
        for name in r["time_slope"]:
            last = f"{r['milliseconds'][name][-1]:.3g} ms, {r['temporary_bytes'][name][-1] / 1e6:.3g} MB"
            slopes = f"{r['time_slope'][name]:.2f} | {r['memory_slope'][name]:.2f}"
            out.append(f"| {r['case']} | {r['sizes'][0]} … {r['sizes'][-1]} {r['unit']} | {name} | {slopes} | {last} |")
    if PICTURE.exists():
        out += ["", "![time and memory against size, on logarithmic axes](../../benchmarks/results/scaling.png)"]
    return out
