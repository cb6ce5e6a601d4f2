"""How many steps and seconds do optimizers take to the same loss: SGD, Adam, Muon, K-FAC, Gauss-Newton-CG?"""

import dataclasses
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
import optax

import jaxnets as jn

from .optimizer_tasks import Task, tasks

SEEDS = (1, 2, 3)
TUNING_SEED = 0
EXTENSIONS = 4  # numbers beyond a grid, at most
POINTS = 25  # of a curve
EVALUATED = 1000  # examples of the training set
PICTURE = Path(__file__).parent / "results" / "optimizers.png"
MARK = "Adam"  # the loss to reach is the one that this optimizer ends with
NOT_RUNNING = {"kfac-jax": "kfac-jax 0.0.8 does not run with jax 0.10: ValueError in eval_jaxpr_eqn"}


class Optimizer(NamedTuple):
    """`make(task, number)` is an optimizer of optax; `tuned` is what the number is, and `grid` what is tried."""

    make: Callable[[Task, Any], optax.GradientTransformation]
    tuned: str
    grid: tuple[float, ...]
    style: tuple[str, str]  # colour, by Okabe and Ito, and line


def by_kfac(task: Task, damping):
    """Learning rate and momentum come from the quadratic model."""
    return jn.kfac(task.f, task.loss, (task.x[:2], task.y[:2]), damping=damping, adapt_every=None)


def by_gauss_newton_cg(task: Task, damping):
    return jn.gauss_newton_cg(task.f, task.loss, damping=damping, min_damping=damping / 10, iterations=10)


OPTIMIZERS = {
    "jaxnets, K-FAC": Optimizer(by_kfac, "damping", (0.01, 0.03, 0.1, 0.3), ("#0072B2", "-")),
    "jaxnets, Gauss-Newton-CG": Optimizer(by_gauss_newton_cg, "damping", (0.3, 1.0, 3.0, 10.0), ("#009E73", "-")),
    "Adam": Optimizer(lambda task, rate: optax.adam(rate), "rate", (1e-3, 3e-3, 1e-2, 3e-2), ("#D55E00", "--")),
    "SGD, momentum": Optimizer(
        lambda task, rate: optax.sgd(rate, 0.9), "rate of SGD", (0.01, 0.03, 0.1, 0.3), ("#666666", ":")
    ),
    "Muon": Optimizer(lambda task, rate: optax.contrib.muon(rate), "rate", (3e-3, 1e-2, 3e-2, 0.1), ("#CC79A7", "-.")),
}


@dataclasses.dataclass(frozen=True)
class Race:
    """The curves of one task: for every optimizer the median over the seeds, at the steps in `at`."""

    question: str
    case: str
    target: float  # the loss to reach
    at: list[int]
    losses: dict[str, list[float]]
    seconds: dict[str, list[float]]
    finals: dict[str, list[float]]  # of every seed
    tuned: dict[str, str]  # the best of the grid
    compile_seconds: dict[str, float]
    missing: dict[str, str]

    COLUMNS: ClassVar[dict[str, Callable[[Any, str], float]]] = {
        "steps to loss": lambda r, name: r.reached(name, r.at),
        "seconds to loss": lambda r, name: r.reached(name, r.seconds[name]),
        "final loss": lambda r, name: r.losses[name][-1],
        "ms a step": lambda r, name: 1e3 * r.seconds[name][-1] / r.at[-1],
    }

    def reached(self, name: str, figures) -> float:
        """The figure where the curve first is at the loss to reach; KeyError if it never is."""
        found = first_below(self.losses[name], self.target)
        if found is None:
            raise KeyError(name)
        return figures[found]


def first_below(losses: list[float], target: float) -> int | None:
    return next((i for i, loss in enumerate(losses) if loss <= target), None)


class Runner:
    """Compiled steps of an optimizer on a task.  What is tuned and the seed are arguments, so all runs share a program."""

    def __init__(self, task: Task, optimizer: Optimizer):
        self.task, self.optimizer = task, optimizer
        points = min(POINTS, task.steps)
        self.at = [round(task.steps * (i + 1) / points) for i in range(points)]
        self.start = jax.jit(self._start)
        self.steps = jax.jit(self._steps, donate_argnums=0)
        self.step = jax.jit(self._step, donate_argnums=0)
        shown = np.random.default_rng(0).permutation(len(task.x))[:EVALUATED]
        x, y = task.x[shown], task.y[shown]
        self.evaluate = jax.jit(lambda params: task.value(params, x, y))
        begun = time.perf_counter()
        self.run(optimizer.grid[0], TUNING_SEED, self.at[:1])
        self.compile_seconds = time.perf_counter() - begun

    def _made(self, number):
        return optax.with_extra_args_support(self.optimizer.make(self.task, number))

    def _start(self, seed, number):
        params = self.task.make_params(jax.random.key(seed))
        return params, self._made(number).init(params)

    def _step(self, state, x, y, key, number):
        (params, memory), task = state, self.task
        drawn, own = jax.random.split(key)
        batch = jax.random.randint(drawn, (task.batch,), 0, len(x))
        x, y = x[batch], y[batch]
        gradient = jax.grad(task.value)(params, x, y)
        updates, memory = self._made(number).update(gradient, memory, params, x=x, targets=y, key=own)
        return optax.apply_updates(params, updates), memory

    def _steps(self, state, x, y, keys, number):
        return jax.lax.scan(lambda state, key: (self._step(state, x, y, key, number), None), state, keys)[0]

    def run(self, number: float, seed: int, at: list[int] | None = None) -> tuple[list[float], list[float]]:
        """The loss and the seconds of training, at the steps in `at`; a loss that is not finite counts as ∞."""
        task, at, losses, seconds, total = self.task, at or self.at, [], [], 0.0
        state, before = self.start(seed, number), 0
        for stop in at:
            every = jax.random.split(jax.random.key(seed + 100), task.steps)[before:stop]
            keys = [every] if task.loops else list(every)
            jax.block_until_ready((state, keys))
            begun = time.perf_counter()
            for key in keys:
                state = (self.steps if task.loops else self.step)(state, task.x, task.y, key, number)
            jax.block_until_ready(state)
            total += time.perf_counter() - begun
            before, loss = stop, float(self.evaluate(state[0]))
            losses.append(loss if np.isfinite(loss) else float("inf"))
            seconds.append(total)
        return losses, seconds


def searched(final: Callable[[float], float], grid: list[float]) -> dict[float, float]:
    """The final loss for every number of the grid, and beyond the edge for as long as it is the best there."""
    found = {number: final(number) for number in grid}
    for _ in range(EXTENSIONS):
        best = min(found, key=found.__getitem__)
        if best not in (min(found), max(found)):
            break
        number = best * grid[1] / grid[0] if best == max(found) else best * grid[0] / grid[1]
        found[number] = final(number)
    return found


def race(task: Task, seeds: tuple[int, ...]) -> Race:
    """Tune every optimizer on its grid with a seed of its own, then run all of them in turns with the other seeds."""
    runners, best, tuned = {}, {}, {}
    for name, optimizer in OPTIMIZERS.items():
        runners[name] = runner = Runner(task, optimizer)
        grid = [number * task.factors.get(optimizer.tuned, 1.0) for number in optimizer.grid]
        finals = searched(lambda number, runner=runner: runner.run(number, TUNING_SEED)[0][-1], grid)
        best[name] = min(finals, key=finals.__getitem__)
        edge = ", at the edge" if best[name] in (min(finals), max(finals)) else ""
        tuned[name] = f"{optimizer.tuned} {best[name]:.3g}{edge}"
        shown = {float(f"{number:.3g}"): round(finals[number], 4) for number in sorted(finals)}
        print(f"{task.name}, {name}: {shown}", file=sys.stderr)
    curves: dict[str, list] = {name: [] for name in runners}
    for seed in seeds:
        for name, runner in runners.items():
            curves[name].append(runner.run(best[name], seed))
    medians = {name: np.median(np.array(found), 0).tolist() for name, found in curves.items()}
    losses, seconds = ({name: found[i] for name, found in medians.items()} for i in (0, 1))
    return Race(
        "optimizers",
        task.name,
        losses[MARK][-1],
        runners[MARK].at,
        losses,
        seconds,
        {name: [run[0][-1] for run in found] for name, found in curves.items()},
        tuned,
        {name: runner.compile_seconds for name, runner in runners.items()},
        dict(NOT_RUNNING),
    )


def run(quick: bool, scale: int) -> Iterator[Race]:
    found = []
    for task in tasks(quick, scale):
        jax.clear_caches()
        found.append(race(task, SEEDS[:1] if quick else SEEDS))
        yield found[-1]
    try:
        plot(found, io.BytesIO() if quick else PICTURE)
    except ImportError:
        print("optimizers: no picture, matplotlib is missing: pip install 'jaxnets[plot]'", file=sys.stderr)


def plot(races: list[Race], target):
    """The loss against steps, above, and against seconds, below; a line at the loss to reach."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(races) + 0.6, 6.8), layout="constrained", facecolor="white")
    grid = figure.subplots(2, len(races), squeeze=False, sharey="col")
    for column, race in zip(grid.T, races, strict=True):
        column[0].set_title(race.case.replace(": ", "\n", 1), fontsize=9)
        for axes, label in zip(column, ("steps", "seconds"), strict=True):
            for name, (*_, (colour, line)) in OPTIMIZERS.items():
                across = race.at if label == "steps" else race.seconds[name]
                axes.plot(across, race.losses[name], color=colour, linestyle=line, linewidth=1.8, label=name)
            axes.axhline(race.target, color="black", linewidth=0.7, alpha=0.6)
            axes.set_xlabel(label)
            axes.set_yscale("log")
            if label == "seconds":
                axes.set_xscale("log")
            axes.grid(alpha=0.3)
        finite = [loss for losses in race.losses.values() for loss in losses if np.isfinite(loss)]
        column[0].set_ylim(0.8 * min(finite), 1.3 * max(losses[0] for losses in race.losses.values()))
    grid[0, 0].set_ylabel("loss of training examples")
    grid[1, 0].set_ylabel("loss of training examples")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(OPTIMIZERS), fontsize=10)
    figure.savefig(target, dpi=150)


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's table, and the picture."""
    columns = list(Race.COLUMNS)
    out = [
        f"Median of {len(SEEDS)} seeds. The loss to reach is that {MARK} ends with. What is tuned is the best of four "
        "numbers, and of more where an edge is best.",
        "",
        f"| task, loss to reach | optimizer | tuned | {' | '.join(columns)} | final loss, seeds |",
        f"|---|---|---|{'--:|' * len(columns)}---|",
    ]
    for result in results:
        race = Race(**result)
        for i, name in enumerate(race.losses):
            first = f"{race.case}, {race.target:.3g}" if i == 0 else ""
            cells = [figure_cell(race, column, name) for column in columns]
            spread = f"{min(race.finals[name]):.3g} to {max(race.finals[name]):.3g}"
            out.append(f"| {first} | {name} | {race.tuned[name]} | {' | '.join(cells)} | {spread} |")
    reasons = {reason for result in results for reason in result["missing"].values()}
    out += ["", *(f"Not measured: {reason}." for reason in sorted(reasons))]
    if PICTURE.exists():
        out += ["", "![loss against steps and against seconds](../../benchmarks/results/optimizers.png)"]
    return out


def figure_cell(race: Race, column: str, name: str) -> str:
    try:
        return f"{Race.COLUMNS[column](race, name):.3g}"
    except KeyError:
        return "not reached"
