"""Every layer and loss by name, with example arguments and with the formulae of its Jacobians."""

import dataclasses

import jax
import jax.numpy as jnp
from rich.table import Table
from rich.text import Text

import jaxnets.layers
import jaxnets.losses  # noqa: F401  (both register their layers)

from .algebra.jacobian import Jacobian
from .layers.layer import LAYERS, Layer, is_variadic
from .layers.samples import Example, Labels, Real

SIZES = {"i": 5, "j": 4, "o": 3, "k": 6}  # of the axes with these names in annotations


def example_arguments(layer: Layer, key, dtype="float32") -> tuple[list, dict]:
    """Arguments and configuration for a layer: those of its `Example`, or else made from its annotations."""
    kinds, config = example_kinds(layer)
    arguments = []
    for i, kind in enumerate(kinds):
        normal = kind and jax.random.normal(jax.random.fold_in(key, i), kind.shape, dtype)
        arguments.append(kind and kind.from_normal(normal))
    return arguments, config


def example_kinds(layer: Layer) -> tuple[tuple, dict]:
    """The kinds of arguments and the whole configuration with which a layer is shown."""
    chosen = layer.example or Example(*_kinds_from_annotations(layer))
    defaults = {p.name: p.default for p in layer.signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    return chosen.arguments, defaults | chosen.config


def _kinds_from_annotations(layer: Layer):
    """One kind per argument: real numbers, integer labels where numbers may be labels, or None where a mask may be."""
    parameters = [p for p in layer.signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    names = [f"{p.name}{i}" for p in parameters for i in ((1, 2) if p.kind is p.VAR_POSITIONAL else ("",))]
    kinds = [layer.annotation(name) for name in names]
    leading = [4] if any(not is_variadic(dim) for _, dims, _ in kinds for dim in dims) else [4, 5]
    for kind, dims, optional in kinds:
        shape = tuple(n for dim in dims for n in (leading if is_variadic(dim) else [SIZES[dim]]))
        if optional and kind is not jnp.floating:
            yield None
        else:
            yield Real(shape) if kind is jnp.floating else Labels(shape, SIZES["k"])


@dataclasses.dataclass(frozen=True)
class LayerEntry:
    """A layer: what it computes, and the formula and the structure of each of its Jacobians."""

    name: str
    summary: str
    formulae: tuple[str, ...]
    structures: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All layers and losses.  It prints as a table."""

    entries: tuple[LayerEntry, ...]

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
    """The layers with the formulae that their rules give, found on shapes without computing anything."""
    entries = []
    for name, layer in LAYERS.items():
        config = example_kinds(layer)[1]
        arguments = jax.eval_shape(lambda layer=layer: example_arguments(layer, jax.random.key(0))[0])
        blocks: list[Jacobian] = []

        def rules(*arguments, layer=layer, blocks=blocks, config=config):
            out = layer(*arguments, **config)
            rows = layer.jacobians(out if layer.many_outputs else [out], arguments, config)
            blocks += [j for j in rows[0] if j is not None]

        jax.eval_shape(rules, *arguments)
        summary = " ".join((layer.__doc__ or "").split("\n\n")[0].split())
        entries.append(LayerEntry(name, summary, tuple(j.formula for j in blocks), tuple(j.structure for j in blocks)))
    return Catalogue(tuple(entries))
