"""Every layer and loss by name, with examples and with the formulae of its Jacobians."""

import dataclasses

import jax
import jax.numpy as jnp
from rich.table import Table
from rich.text import Text

import jaxnets.layers
import jaxnets.losses  # noqa: F401  (both register their layers)

from .jacobian import Jacobian
from .layer import LAYERS, Layer, is_variadic

SIZES = {"i": 5, "o": 3, "k": 6}


def example(layer: Layer, key, dtype="float32") -> list[jax.Array]:
    """Arguments for a layer, made from its annotations: normal numbers, and integer labels where numbers may be labels."""
    parameters = [p for p in layer.signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    names = [f"{p.name}{i}" for p in parameters for i in ((1, 2) if p.kind is p.VAR_POSITIONAL else ("",))]
    kinds = [layer.annotation(name) for name in names]
    featured = any(not is_variadic(dim) for _, dims, _ in kinds for dim in dims)
    arguments = []
    leading = [4] if featured else [4, 5]
    for i, (kind, dims, _) in enumerate(kinds):
        shape = [n for dim in dims for n in (leading if is_variadic(dim) else [SIZES[dim]])]
        own = jax.random.fold_in(key, i)
        if kind is jnp.floating:
            arguments.append(jax.random.normal(own, shape, dtype))
        else:
            arguments.append(jax.random.randint(own, shape, 0, SIZES["k"]))
    return arguments


@dataclasses.dataclass(frozen=True)
class Entry:
    """One layer: what it computes, and the formula and structure of each of its Jacobians."""

    name: str
    summary: str
    formulae: tuple[str, ...]
    structures: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All layers; prints as a table."""

    entries: tuple[Entry, ...]

    def to_json(self) -> list:
        return [dataclasses.asdict(entry) for entry in self.entries]

    def __rich_console__(self, console, options):
        table = Table()
        for name in ("layer", "computes", "Jacobians", "structure"):
            table.add_column(name)
        for entry in self.entries:
            cells = [entry.name, entry.summary, "\n".join(entry.formulae), "\n".join(entry.structures)]
            table.add_row(*map(Text, cells))
        yield table


def catalogue() -> Catalogue:
    """The layers with the formulae that their rules give, on examples that are only shapes."""
    entries = []
    for name, layer in LAYERS.items():
        arguments = example(layer, jax.random.key(0))
        blocks: list[Jacobian] = []

        def rules(*arguments, layer=layer, blocks=blocks):
            out = layer(*arguments)
            config = {p.name: p.default for p in layer.signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
            rows = layer.jacobians(out if layer.many_outputs else [out], arguments, tuple(config.items()))
            blocks += [j for j in rows[0] if j is not None]

        jax.eval_shape(rules, *arguments)
        summary = " ".join((layer.__doc__ or "").split("\n\n")[0].split())
        entries.append(Entry(name, summary, tuple(j.formula for j in blocks), tuple(j.structure for j in blocks)))
    return Catalogue(tuple(entries))
