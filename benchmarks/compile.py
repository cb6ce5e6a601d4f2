"""How long do tracing and compiling Jacobians and gradients take, and how large are the programs, compared with autodiff?"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import numpy as np

import jaxnets as jn

from .gradient import gradients, labelled_batch
from .harness import best_other
from .input_jacobian import jacobians
from .networks import convnet, deep

CASES = (lambda: deep(5, 64), lambda: deep(20, 64), lambda: deep(100, 64), lambda: convnet())
QUICK = (lambda: deep(3, 8),)
BATCH = 16
STAGES = ("trace_ms", "lower_ms", "compile_ms")


@dataclasses.dataclass(frozen=True)
class Compilation:
    """By contender: the median time of each stage, from empty caches, and the instructions of the compiled program."""

    question: str
    case: str
    trace_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    lower_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    compile_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    instructions: dict[str, int] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)

    COLUMNS: ClassVar[dict[str, Callable[[Any, str], float]]] = {
        "trace ms": lambda r, name: r.trace_ms[name],
        "lower ms": lambda r, name: r.lower_ms[name],
        "compile ms": lambda r, name: r.compile_ms[name],
        "instructions": lambda r, name: r.instructions[name],
    }


def time_stages(function: Callable, args) -> tuple[list[float], int]:
    """The milliseconds of the stages, and the number of instructions."""
    jax.clear_caches()
    times = [time.perf_counter()]
    stage = jax.jit(function)
    for step in (lambda s: s.trace(*args), lambda s: s.lower(), lambda s: s.compile()):
        stage = step(stage)
        times.append(time.perf_counter())
    return list(1e3 * np.diff(times)), stage.as_text().count(" = ")


def compare_stages(case: str, contenders: dict[str, Callable], args, rounds: int) -> Compilation:
    result = Compilation("compile", case)
    timed = [{name: time_stages(function, args) for name, function in contenders.items()} for _ in range(rounds)]
    for name in contenders:
        medians = np.median([turn[name][0] for turn in timed], axis=0)
        for stage, median in zip(STAGES, medians, strict=True):
            getattr(result, stage)[name] = float(median)
        result.instructions[name] = timed[0][name][1]
    return result


def run(quick: bool, scale: int) -> Iterator[Compilation]:
    rounds = 2 if quick else 5
    for make in QUICK if quick else CASES:
        network = make()
        x, labels = labelled_batch(network, BATCH * scale)
        yield compare_stages(f"Jacobian, {network.name}", jacobians(network), (network.params, x), rounds)
        both = gradients(network, jn.grad, jax.grad)
        yield compare_stages(f"gradient, {network.name}", both, (network.params, x, labels), rounds)


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's table."""
    out = ["| case | ours: trace and lower, compile, instructions | best other | ratio of times |", "|---|---|---|--:|"]
    for result in results:
        total = {name: sum(result[stage][name] for stage in STAGES) for name in result["trace_ms"]}
        ours, other = next(iter(total)), best_other(total)
        cells = [
            f"{name} {result['trace_ms'][name] + result['lower_ms'][name]:.3g} ms, {result['compile_ms'][name]:.3g} ms, "
            f"{result['instructions'][name]}"
            for name in (ours, other)
        ]
        out.append(f"| {result['case']} | {' | '.join(cells)} | {total[ours] / total[other]:.2f} |")
    return out
