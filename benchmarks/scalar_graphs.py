"""How long do the Jacobians of scalar programs take, and how many multiplications, compared with JAX and other orders?"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from rich.console import Group
from rich.table import Table

import jaxnets as jn

from . import harness
from .harness import Result, measure
from .scalar_programs import PROGRAMS

# Multiplications as the authors of https://arxiv.org/abs/2406.05027 count them: src/alphagrad/alphazero/config/joint.yaml of
# https://github.com/jamielohoff/alphagrad at 64aeec1, and for AlphaGrad the best return of the runs that lie in eval there.
# Their programs are spelled in another way than ours, and products with the edges of sums count there.  So a figure there is
# not to be compared with one of ours, only by how much an order beats the sweeps on the same graph.
PUBLISHED = {
    "Roe flux, 1-d": {"forward": 620, "reverse": 364, "Markowitz": 407, "AlphaGrad": 320},
    "Roe flux, 3-d": {"forward": 1556, "reverse": 979, "Markowitz": 938, "AlphaGrad": 784},
    "robot arm": {"forward": 397, "reverse": 301, "Markowitz": 288, "AlphaGrad": 231},
    "human heart dipole": {"forward": 240, "reverse": 172, "Markowitz": 194, "AlphaGrad": 148},
    "propane combustion": {"forward": 151, "reverse": 90, "Markowitz": 111, "AlphaGrad": 88},
    "Black-Scholes": {"forward": 545, "reverse": 572, "Markowitz": 350, "AlphaGrad": 308},
}


@dataclasses.dataclass(frozen=True)
class ScalarResult(Result):
    """The times, the multiplications of one Jacobian by order, and how they compare with the least or with a bound."""

    multiplications: dict[str, int] = dataclasses.field(default_factory=dict)
    chosen: str = ""
    bound: str = ""


def contenders(function: Callable) -> dict[str, Callable]:
    """The contenders for [B, m, n]: functions of points [B, n]."""
    return {
        "jaxnets, vmapped": jax.vmap(lambda x: jn.jacobian(function)(x).dense()),
        "jaxnets, batched": lambda points: jn.jacobian(jax.vmap(function))(points).per_example(),
        "vmap(jacrev)": jax.vmap(jax.jacrev(function)),
        "vmap(jacfwd)": jax.vmap(jax.jacfwd(function)),
    }


def run(quick: bool, scale: int) -> Iterator[ScalarResult]:
    batch = 16 if quick else 4096 * scale
    for name, program in PROGRAMS.items():
        points = jnp.asarray(program.points(batch), jnp.float32)
        # errors of float32 are larger where differences of large terms are small
        timed = measure("scalar_graphs", f"{name}, B={batch}", contenders(program.function), (points,), quick, 1e-3)
        plan = jn.explain_plan(program.function, points[0])
        counts = {cost.name: cost.multiplies for cost in plan.costs}
        (chosen,) = [cost.name for cost in plan.costs if cost.chosen]
        bound = plan.bound.compared(counts[chosen]) if plan.bound else ""
        figures = {field.name: getattr(timed, field.name) for field in dataclasses.fields(Result)}
        yield ScalarResult(**figures, multiplications=counts, chosen=chosen, bound=bound)


def console_table(title: str | None, results: list[ScalarResult]) -> Group:
    """The times, and below them the multiplications."""
    counts = Table(title="multiplications of one Jacobian, and those that were published of another spelling of the program")
    for column in ("case", "ours", "compared with the least", "published"):
        counts.add_column(column, overflow="fold")
    for result in results:
        ours = [f"{name} {n}{' (chosen)' * (name == result.chosen)}" for name, n in result.multiplications.items()]
        published = [f"{name} {n}" for name, n in PUBLISHED[result.case.rpartition(", B=")[0]].items()]
        counts.add_row(result.case, ", ".join(ours), result.bound, ", ".join(published))
    return Group(harness.console_table(title, results), counts)
