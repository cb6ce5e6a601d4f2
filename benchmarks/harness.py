"""Compares contenders: their answers must agree, then they take turns, and the medians of their times are compared."""

import dataclasses
import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from rich.table import Table

import jaxnets as jn

PEERS = ("asdex", "backpack-for-pytorch", "curvlinops-for-pytorch", "flax", "folx", "jax-privacy", "sparsejac", "torch")

MAX_SECONDS = 30  # that all rounds together may take if nothing else is said; there are at least two


class Missing(str):
    """Stands in place of a contender and says why it cannot take part."""


class Disagreement(AssertionError):
    """Two contenders give different answers."""


class Program(NamedTuple):
    """What is timed: a function that returns when the answer is ready, and for JAX the executable, which knows its costs."""

    run: Callable[[], Any]
    compiled: Any = None
    rest_seconds: float = 0.0  # seconds until its threads are idle and do not slow the next one


def is_jacobian(x) -> bool:
    return isinstance(x, jn.Jacobian)


def dense(answer):
    """An answer in which every structured Jacobian is replaced by its array."""
    return jax.tree.map(lambda a: a.dense() if is_jacobian(a) else a, answer, is_leaf=is_jacobian)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to answer a question.

    `prepare(*args)` does everything that need not be repeated, and `as_numpy(answer)` returns arrays that can be compared.
    A `reference` answers another question: it is timed, but its answer is not compared, and it is no rival.  The first
    reference of a framework is the unit for all contenders of that framework.
    """

    prepare: Callable[..., Program]
    as_numpy: Callable[[Any], Any] = dense
    framework: str = "JAX"
    reference: bool = False


def jitted(function: Callable, as_numpy: Callable[[Any], Any] = dense) -> Contender:
    """A JAX function as a contender."""

    def prepare(*args):
        compiled = jax.jit(function).lower(*args).compile()
        return Program(lambda: jax.block_until_ready(compiled(*args)), compiled)

    return Contender(prepare, as_numpy)


def reference(contender: Callable | Contender | Missing) -> Contender | Missing:
    """The same contender as a reference."""
    if isinstance(contender, Missing):
        return contender
    return dataclasses.replace(contender if isinstance(contender, Contender) else jitted(contender), reference=True)


@dataclasses.dataclass(frozen=True)
class Result:
    """The answer to one question at one size: figures by contender, and the reasons why contenders are missing."""

    question: str
    case: str
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)  # the median of all runs
    first_call: dict[str, float] = dataclasses.field(default_factory=dict)  # seconds to prepare, trace, compile and run
    temporary_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    answer_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    flops: dict[str, float] = dataclasses.field(default_factory=dict)
    bytes_accessed: dict[str, float] = dataclasses.field(default_factory=dict)
    gap: dict[str, float] = dataclasses.field(default_factory=dict)  # to the first contender, relative to a row's largest
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    references: list[str] = dataclasses.field(default_factory=list)
    unit: dict[str, str] = dataclasses.field(default_factory=dict)  # the first reference of the contender's framework

    COLUMNS: ClassVar[dict[str, Callable[[Any, str], float]]] = {
        "median ms": lambda r, name: r.milliseconds[name],
        "ratio of ours": lambda r, name: next(iter(r.milliseconds.values())) / r.milliseconds[name],
        "of one gradient": lambda r, name: r.milliseconds[name] / r.milliseconds[r.unit[name]],
        "first call s": lambda r, name: r.first_call[name],
        "temporary MB": lambda r, name: r.temporary_bytes[name] / 1e6,
        "answer MB": lambda r, name: r.answer_bytes[name] / 1e6,
    }


def measure(
    question: str,
    case: str,
    contenders: dict[str, Callable | Contender | Missing],
    args: Sequence,
    quick: bool,
    tolerance: float = 1e-5,
    seconds: float = MAX_SECONDS,
) -> Result:
    """Time the contenders in turns; ours is the first.  All rounds together take at most so many `seconds`.

    Raises Disagreement where a row of an answer differs by more than `tolerance` times its largest entry.
    """
    programs, result, expected = {}, Result(question, case), None
    frameworks: dict[str, str] = {}
    units: dict[str, str] = {}  # by framework
    for name, contender in contenders.items():
        if isinstance(contender, Missing):
            result.missing[name] = contender
            continue
        contender = contender if isinstance(contender, Contender) else jitted(contender)
        jax.clear_caches()  # otherwise the first contender would pay for what all of them use
        start = time.perf_counter()
        try:
            program = contender.prepare(*args)
            answer = program.run()
        except RuntimeError as error:
            if not programs or not re.search("RESOURCE_EXHAUSTED|out of memory", str(error)):
                raise
            result.missing[name] = "out of memory"
            continue
        result.first_call[name] = time.perf_counter() - start
        programs[name], frameworks[name] = program, contender.framework
        result.answer_bytes[name] = sum(leaf.nbytes for leaf in jax.tree.leaves(answer))
        if program.compiled is not None:
            costs = program.compiled.cost_analysis() or {}
            for figures, key in ((result.flops, "flops"), (result.bytes_accessed, "bytes accessed")):
                if key in costs:  # not every device counts
                    figures[name] = costs[key]
            result.temporary_bytes[name] = program.compiled.memory_analysis().temp_size_in_bytes
        if contender.reference:
            result.references.append(name)
            units.setdefault(contender.framework, name)
            continue
        found = [np.asarray(leaf) for leaf in jax.tree.leaves(contender.as_numpy(answer))]
        expected = found if expected is None else expected
        result.gap[name] = max(largest_gap(a, b) for a, b in zip(expected, found, strict=True))
        if not result.gap[name] <= tolerance:
            first = next(iter(programs))
            raise Disagreement(f"{question}, {case}: {first} and {name} differ by {result.gap[name]:.2g} of a row's largest")
    result.unit.update({name: units[framework] for name, framework in frameworks.items() if framework in units})
    times = take_turns(programs, 3 if quick else 40, result.references, seconds)
    result.milliseconds.update({name: 1e3 * float(np.median(seconds)) for name, seconds in times.items()})
    return result


def largest_gap(a: np.ndarray, b: np.ndarray) -> float:
    """max |a − b|, relative to the largest entry of each row, or to a thousandth of the largest entry if that is more."""
    if a.shape != b.shape:
        return float("inf")
    size = np.maximum(np.abs(a), np.abs(b))
    scale = np.maximum(size.max(-1, keepdims=True, initial=0) if a.ndim else size, 1e-3 * size.max(initial=0))
    return float(np.max(np.abs(a - b) / np.where(scale == 0, 1, scale), initial=0))


def take_turns(
    programs: dict[str, Program], rounds: int, references: Sequence[str] = (), most_seconds: float = MAX_SECONDS
) -> dict[str, list[float]]:
    """The seconds of every run.  Within a round the contenders run in random order.

    A contender is slow if it takes five times as long as the fastest that is no reference.  The slow ones take three turns
    before the rounds, so that the caches of the others stay warm.  There are fewer rounds where they would take longer than
    `most_seconds`.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}

    def turn(name):
        start = time.perf_counter()
        programs[name].run()
        times[name].append(time.perf_counter() - start)
        time.sleep(programs[name].rest_seconds)

    time.sleep(max(program.rest_seconds for program in programs.values()))
    for name in programs:  # one turn each shows which ones are slow
        turn(name)
    fastest = min(t[0] for name, t in times.items() if name not in references)
    fast = [name for name in programs if times[name][0] <= 5 * fastest]
    for name in programs:
        if name not in fast:
            turn(name), turn(name)
    rounds = min(rounds, max(2, int(most_seconds / sum(times[name][0] for name in fast))))
    shuffled = np.random.default_rng(0)
    for _ in range(rounds):
        for i in shuffled.permutation(len(fast)):
            turn(fast[i])
    return times


def best_other(figures: dict[str, float]) -> str:
    """The contender with the smallest figure, except those of jaxnets.  Raises ValueError if there is no other."""
    return min((name for name in figures if not name.startswith("jaxnets")), key=figures.__getitem__)


def console_table(title: str | None, results: list) -> Table:
    """A table of results of one type for the console, with its COLUMNS and the contenders that are missing."""
    out = Table(title=title, title_justify="left")
    columns = results[0].COLUMNS if results else {}
    if results and not any(getattr(result, "unit", None) for result in results):
        columns = {name: column for name, column in columns.items() if name != "of one gradient"}
    for column in ("case", "contender", *columns):
        out.add_column(column, justify="left" if column in ("case", "contender") else "right")
    for result in results:
        figures = next(value for value in vars(result).values() if isinstance(value, dict))
        rows = [(name, *(figure_text(column, result, name) for column in columns.values())) for name in figures]
        rows += [(name, reason) for name, reason in result.missing.items()]
        for i, row in enumerate(rows):
            out.add_row(result.case if i == 0 else "", *row, end_section=i == len(rows) - 1)
    return out


def figure_text(column: Callable, result, name: str) -> str:
    """A figure to three digits, or a dash if this contender has none."""
    try:
        return f"{column(result, name):.3g}"
    except KeyError:
        return "–"


def environment() -> dict[str, str]:
    """What the figures depend on."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "machine": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "python": platform.python_version(),
        "dtype": "float32",
        **({"flags": os.environ["XLA_FLAGS"]} if "XLA_FLAGS" in os.environ else {}),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy", "optax", *PEERS)},
    }


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
