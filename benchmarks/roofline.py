"""How close do we and the others come to this machine's limits: the speed of its best matrix product and of copying?"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

import jaxnets as jn

from .gradient import gradients, labelled_batch
from .harness import Result, jitted, measure, take_turns
from .input_jacobian import diagonals, jacobians
from .networks import elementwise, mlp


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The speeds that contenders reach, by XLA's count of operations and bytes, and the limits of the machine.

    `fraction` is the least time that the limits allow, divided by the time taken.  Thanks to caches it can exceed 1.
    """

    question: str
    case: str
    gflops: dict[str, float]
    gbytes: dict[str, float]
    fraction: dict[str, float]
    limits: dict[str, float]
    missing: dict[str, str] = dataclasses.field(default_factory=dict)

    COLUMNS: ClassVar[dict[str, Callable[[Any, str], float]]] = {
        "GFLOP/s": lambda r, name: r.gflops[name],
        "GB/s": lambda r, name: r.gbytes[name],
        "fraction of the limit": lambda r, name: r.fraction[name],
    }


def fastest_run(function: Callable, *args) -> float:
    return min(take_turns({"it": jitted(function).prepare(*args)}, 5)["it"])


def machine_limits(quick: bool) -> dict[str, float]:
    """GFLOP/s of the best product of square matrices, and GB/s of a large copy.

    The matrices grow until a product takes a tenth of a second.
    """
    best, size, taken = 0.0, 128, 0.0
    while taken < (1e-4 if quick else 0.1):
        a = jax.random.normal(jax.random.key(0), (size, size))
        taken = fastest_run(jnp.matmul, a, a)
        best, size = max(best, 2e-9 * size**3 / taken), 2 * size
    x = jnp.ones(2**20 if quick else 2**26)  # larger than every cache
    return {"GFLOP/s": best, "GB/s": 2e-9 * x.nbytes / fastest_run(jnp.negative, x)}


def run(quick: bool, scale: int) -> Iterator[Roofline]:
    limits = machine_limits(quick)
    network, batch = (mlp(8, 6, 5), 4) if quick else (mlp(784, 512, 512, 10), 256)
    chain = elementwise(100 if quick else 10**7)
    x, labels = labelled_batch(network, batch * scale)
    counted = ("jaxnets, diagonal", "jaxnets, plain jax.numpy", "jvp of ones, structure known")
    cases = {
        f"Jacobian, {network.name}, B={len(x)}": (jacobians(network), (network.params, x)),
        f"gradient, {network.name}, B={len(x)}": (gradients(network, jn.grad, jax.grad), (network.params, x, labels)),
        chain.name: ({name: diagonals(chain)[name] for name in counted}, (chain.params, chain.inputs(1)[0])),
    }
    for case, (contenders, args) in cases.items():
        yield against_limits(measure("roofline", case, contenders, args, quick), limits)


def against_limits(result: Result, limits: dict[str, float]) -> Roofline:
    gflops = {name: 1e-6 * count / result.milliseconds[name] for name, count in result.flops.items()}
    gbytes = {name: 1e-6 * count / result.milliseconds[name] for name, count in result.bytes_accessed.items()}
    counted = [name for name in gflops if name in gbytes]  # not every device counts
    fraction = {name: max(gflops[name] / limits["GFLOP/s"], gbytes[name] / limits["GB/s"]) for name in counted}
    return Roofline("roofline", result.case, gflops, gbytes, fraction, limits, result.missing)


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's table."""
    limits = results[0]["limits"]
    out = [
        f"This machine: {limits['GFLOP/s']:.3g} GFLOP/s in a product of matrices, {limits['GB/s']:.3g} GB/s in a copy.",
        "",
        "| case | contender | GFLOP/s | GB/s | fraction of the limit |",
        "|---|---|--:|--:|--:|",
    ]
    for r in results:
        for name in r["fraction"]:
            figures = f"{r['gflops'][name]:.3g} | {r['gbytes'][name]:.3g} | {r['fraction'][name]:.2f}"
            out.append(f"| {r['case']} | {name} | {figures} |")
    return out
