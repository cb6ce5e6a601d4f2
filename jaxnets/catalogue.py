"""Every layer and loss by name, with example arguments and with the formulae of its Jacobians."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from rich.table import Table
from rich.text import Text

import jaxnets.layers
import jaxnets.losses  # noqa: F401  (both register their layers)

from .algebra.jacobian import Jacobian
from .layers.layer import LAYERS, Layer, is_variadic
from .layers.samples import Example, Labels, Mask, RandomKey, Real

CLASSES = 6
SIZES = {"i": 5, "j": 4, "o": 3, "k": CLASSES}  # of the axes with these names in annotations
WIDE = 130  # columns of text from which every property of a layer has a column
LEADING = (4, 5)  # sizes of the axes that `...` stands for


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
    chosen = layer.example or Example(*kinds_from_annotations(layer, SIZES.__getitem__, LEADING, CLASSES))
    defaults = {p.name: p.default for p in layer.signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    return chosen.arguments, defaults | chosen.config


def kinds_from_annotations(
    layer: Layer, size: Callable[[str], int], leading: Sequence[int], classes: int
) -> Iterator[Real | None]:
    """One kind per argument: real numbers, labels, a mask, a key, or None where an argument may be left out.

    `size(name)` is the size of a named axis.  `...` stands for the `leading` axes, or for the first of them alone if the
    layer has named axes, too.  Raises ValueError where an argument has no annotation.
    """
    parameters = [p for p in layer.signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    names = [f"{p.name}{i}" for p in parameters for i in ((1, 2) if p.kind is p.VAR_POSITIONAL else ("",))]
    annotations = [layer.annotation(name) for name in names]
    has_named_axes = any(not is_variadic(dim) for found in annotations if found for dim in found[1])
    for name, annotation in zip(names, annotations, strict=True):
        if annotation is None:
            raise ValueError(
                f"argument '{name}' of '{layer.name}' has no annotation to make an array from; annotate it, "
                'as in x: Float[Array, "b i"], or pass the arguments'
            )
        dtype, dims, optional = annotation
        variadic = leading[:1] if has_named_axes else leading
        shape = tuple(n for dim in dims for n in (variadic if is_variadic(dim) else [size(dim)]))
        if optional and dtype is not jnp.floating:
            yield None
        else:
            kinds = {jnp.floating: Real(shape), jnp.bool_: Mask(shape), jax.dtypes.prng_key: RandomKey(shape)}
            yield kinds.get(dtype, Labels(shape, classes))


@dataclasses.dataclass(frozen=True)
class LayerEntry:
    """A layer: what it computes, the formula and the structure of each of its Jacobians, and what their symbols mean."""

    name: str
    summary: str
    formulae: tuple[str, ...]
    legend: dict[str, str]  # what symbols of the formulae stand for
    structures: tuple[str, ...]

    def narrow_lines(self) -> list[str]:
        """The formulae, each with its structure, and what their symbols mean."""
        blocks = [f"{formula}  {word}" for formula, word in zip(self.formulae, self.structures, strict=True)]
        return [f"\n  {line}" for line in (*blocks, *self.legend_lines())]

    def legend_lines(self) -> list[str]:
        return [f"  {symbol} = {meaning}" for symbol, meaning in self.legend.items()]


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All layers and losses.  It prints as a table."""

    entries: tuple[LayerEntry, ...]

    def __repr__(self):
        return f"Catalogue({len(self.entries)} layers and losses)"

    def to_json(self) -> list:
        return [dataclasses.asdict(entry) for entry in self.entries]

    def __rich_console__(self, console, options):
        wide = options.max_width >= WIDE
        table = Table(show_lines=not wide)
        for name in (
            ("layer", "computes", "Jacobians", "structure") if wide else ("layer: what it computes, and its Jacobians",)
        ):
            table.add_column(name, overflow="fold")
        for entry in self.entries:
            if wide:
                formulae = [*entry.formulae, *entry.legend_lines()]
                cells = [entry.name, entry.summary, "\n".join(formulae), "\n".join(entry.structures)]
                table.add_row(*map(Text, cells))
            else:
                table.add_row(Text.assemble((entry.name, "bold"), f": {entry.summary}", *entry.narrow_lines()))
        yield table


def catalogue() -> Catalogue:
    """The layers with the formulae that their rules give, found on shapes without computing anything."""
    entries = []
    for name, layer in LAYERS.items():
        config = example_kinds(layer)[1]
        arguments = jax.eval_shape(lambda layer=layer: example_arguments(layer, jax.random.key(0))[0])
        blocks: list[Jacobian] = []

        def rules(*arguments, layer=layer, blocks=blocks, config=config):
            out = layer.of_arrays(config)(*arguments)
            rows = layer.jacobians(out if layer.many_outputs else [out], arguments, config)
            blocks += [j for j in rows[0] if j is not None]

        jax.eval_shape(rules, *arguments)
        summary = " ".join((layer.__doc__ or "").split("\n\n")[0].split())
        formulae, structures = tuple(j.formula for j in blocks), tuple(j.structure for j in blocks)
        legend = {symbol: meaning for j in blocks for symbol, meaning in j.legend.items()}
        entries.append(LayerEntry(name, summary, formulae, legend, structures))
    return Catalogue(tuple(entries))
