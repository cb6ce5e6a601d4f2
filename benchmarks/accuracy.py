"""How large are the errors of values and derivatives in units of the last place, with mpmath at 60 digits as the judge?"""

import dataclasses
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import jaxnets as jn

from .oracles import BITS, DIGITS, ORACLES, ROWS, exact_results, layer_of, mpmath, rows, ulps

ENTRIES = ("value", "derivative", "derivative by jax.grad", "value of JAX's own", "derivative of JAX's own by jax.grad")


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The largest errors of one layer in ULP, by dtype and entry; infinite if a result is not finite.

    Only normal numbers among the exact results count.
    """

    question: str
    case: str
    ulp: dict[str, dict[str, float]]


def derivative_by_jax(function, x):
    y, pull = jax.vjp(function, x)
    return pull(jnp.ones_like(y))[0]


def elementwise(name, dtype, quick) -> dict[str, float]:
    """The largest errors of an elementwise layer, by entry."""
    layer, peer = layer_of(name), ORACLES[name].peer
    x, values, derivatives = exact_results(name, dtype, quick)

    @jax.jit
    def compute(x):
        found = [layer(x), jn.jacobian(layer)(x).diagonal(), derivative_by_jax(layer, x)]
        return found + [peer(x), derivative_by_jax(peer, x)] if peer else found

    right = [values, derivatives, derivatives, values, derivatives]
    with mpmath.workdps(DIGITS):
        return {e: float(ulps(a, b, dtype).max()) for e, a, b in zip(ENTRIES, compute(x), right, strict=False)}


def by_rows(name, dtype, quick) -> dict[str, float]:
    """The largest errors of a layer of whole rows, by entry."""
    exact, layer, values, jacobian, peer = ROWS[name]
    errors: dict[str, float] = {}

    @jax.jit
    def compute(x):
        return [layer(x), jn.jacobian(layer)(x).dense(), jax.jacrev(layer)(x), peer(x), jax.jacrev(peer)(x)]

    with mpmath.workdps(DIGITS):
        for x in rows(dtype, 4 if quick else 24):
            p = exact(x)
            right = [values(p), jacobian(p), jacobian(p), values(p), jacobian(p)]
            for entry, a, b in zip(ENTRIES, compute(x), right, strict=True):
                if len(b) > 1 or abs(b[0]) > 1e-30:
                    errors[entry] = max(errors.get(entry, 0.0), float(ulps([*np.ravel(a)] * 2, b * 2, dtype).max()))
    return errors


def run(quick: bool, scale: int) -> Iterator[Accuracy]:  # there is no batch to scale
    if mpmath is None:
        print("accuracy: skipped, mpmath is missing: pip install 'jaxnets[test]'", file=sys.stderr)
        return
    for names, measure in ((ORACLES, elementwise), (ROWS, by_rows)):
        for name in list(names)[:: 3 if quick else 1]:
            if name.split()[0] in jn.LAYERS:
                with jax.enable_x64(True):
                    ulp = {dtype: measure(name, dtype, quick) for dtype in BITS}
                yield Accuracy("accuracy", name, ulp)


def ulp_text(error: float | None) -> str:
    """An error in ULP, as a short text."""
    if error is None:
        return "–"
    return (
        "not finite"
        if error == np.inf
        else f"{error:.1f}"
        if error < 99.5
        else f"{error:.0e}".replace("e+0", "e").replace("e+", "e")
    )


def entry_texts(ulp: dict[str, dict[str, float]]) -> list[str]:
    """The errors as "float32 / float64", for every entry."""
    return [" / ".join(ulp_text(ulp[dtype].get(entry)) for dtype in BITS) for entry in ENTRIES]


def console_table(title: str, results: list[Accuracy]) -> Table:
    out = Table(
        title=title, title_justify="left", caption="largest errors in ULP, float32 / float64", caption_justify="left"
    )
    out.add_column("layer")
    for entry in ENTRIES:
        out.add_column(entry, justify="right")
    for result in results:
        out.add_row(result.case, *entry_texts(result.ulp))
    return out


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The guide's table."""
    exact = [r["case"] for r in results if not any(error for ulp in r["ulp"].values() for error in ulp.values())]
    rows = [[r["case"], *entry_texts(r["ulp"])] for r in results if r["case"] not in exact]
    return [
        "Largest errors against mpmath in units of the last place, float32 / float64, over normal results.",
        "",
        f"| layer | {' | '.join(ENTRIES)} |",
        "|---|" + "--:|" * len(ENTRIES),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"No error at all: {', '.join(exact)}.",
    ]
