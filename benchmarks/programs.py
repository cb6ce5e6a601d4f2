"""Do gradients, norms, Jacobians, kernels and GGN diagonals of programs as people write them cost what they do in JAX?"""

from collections.abc import Iterator

import numpy as np

from tests.costs.architectures import ARCHITECTURES
from tests.costs.counting import QUESTIONS, SMALL_BYTES, asked
from tests.costs.programs import PROGRAMS

from .harness import Result, best_other, measure

QUICK = ("labels by range", "cond")
TOLERANCE = 2e-3  # in float32, where the orders of sums differ
SHOWN = 30  # rows of the guide's table
COUNTS = {"FLOPs": "flops", "temporary bytes": "temporary_bytes", "time": "milliseconds", "first call": "first_call"}


def run(quick: bool, scale: int) -> Iterator[Result]:
    for program in [*PROGRAMS, *ARCHITECTURES]:
        if quick and program.name not in QUICK:
            continue
        for question in asked(program):
            ours, theirs = QUESTIONS[question](program)
            contenders = {"jaxnets": ours, **{f"JAX, way {i}": other for i, other in enumerate(theirs, 1)}}
            args = (program.params, program.x, program.y)
            yield measure("programs", f"{question} of {program.name}", contenders, args, quick, TOLERANCE)


def ratios(result: dict) -> dict[str, float]:
    """Ours divided by the best of JAX's, for everything that is counted."""

    def ratio(name, key):
        ours = result[key].get("jaxnets", 0.0)  # XLA tells no FLOPs of a program that has none
        best = result[key][best_other(result[key])]
        same = name == "temporary bytes" and 0 <= ours - best <= SMALL_BYTES
        return 1.0 if same else ours / best

    return {name: ratio(name, key) for name, key in COUNTS.items()}


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's table: how the ratios are spread, and the rows whose times are worst."""
    rows = {result["case"]: ratios(result) for result in results}
    out = [f"Ours divided by the best of `jax.grad`, `jacrev`, `jacfwd` and `vmap(jax.grad)`, over {len(rows)} rows:", ""]
    for name in COUNTS:
        values = [row[name] for row in rows.values()]
        out.append(f"- {name}: median {np.median(values):.2f}, nine of ten below {np.quantile(values, 0.9):.2f}")
    out += ["", f"The {SHOWN} rows with the largest ratios of times:", ""]
    out += [f"| row | {' | '.join(COUNTS)} |", "|---|--:|--:|--:|--:|"]
    for case, row in sorted(rows.items(), key=lambda item: -item[1]["time"])[:SHOWN]:
        out.append(f"| {case} | {' | '.join(f'{row[name]:.2f}' for name in COUNTS)} |")
    return out
