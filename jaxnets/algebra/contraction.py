"""Products of factors: in which order, and carried out.

Inside `planning()` the same functions compute labels and count multiplications instead of making arrays, so that a plan
costs what the plan says.
"""

import dataclasses
import functools
import itertools
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import opt_einsum
from jax import lax

from .factors import Factor, Label, Tensor, distinct, size_of, tensor, wide

MOVE = 8  # what passing over an entry costs, in multiplications of a matrix product


@dataclasses.dataclass(eq=False)
class Meter:
    """Counts the multiplications of contractions that are only planned, and the entries that they pass over beside that:
    to transpose them, or entry by entry."""

    multiplies: int = 0
    moves: int = 0

    @property
    def cost(self) -> int:
        return self.multiplies + MOVE * self.moves


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def planning():
    """Inside, contractions compute shapes and counts instead of arrays."""
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


class Product(NamedTuple):
    """A product that was carried out: of which shapes, over which sizes it summed, its shape, its multiplications."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    summed: tuple[int, ...]
    result: tuple[int, ...]
    multiplies: int


_record: ContextVar[list[Product] | None] = ContextVar("record", default=None)


@contextmanager
def recording():
    """Inside, the products that are carried out are noted in the list that this gives."""
    products: list[Product] = []
    token = _record.set(products)
    try:
        yield products
    finally:
        _record.reset(token)


def _note(products: list[Product], a: Factor, b: Factor, keep):
    left, right = distinct(a.axes), distinct(b.axes)
    every = list(dict.fromkeys([*left, *right]))
    summed, kept = [x for x in every if x not in keep], [x for x in every if x in keep]
    sizes = [tuple(label.size for label in labels) for labels in (left, right, summed, kept)]
    products.append(Product(sizes[0], sizes[1], sizes[2], sizes[3], _product(_part(a), _part(b), keep)[1].multiplies))


def contract(factors, keep, scale: float = 1.0) -> Tensor:
    """scale times the product of the factors, summed over every label that is not in `keep`."""
    factors, keep = list(factors), set(keep)
    if not factors:
        return _planned((), ()) if _meter.get() else tensor(jnp.full((), scale), ())
    if len(factors) == 1 and not isinstance(factors[0], Tensor) and not factors[0].labels <= keep:
        factors.append(tensor(jnp.ones(()), ()))  # sums over axes of a map are its product with ones: no array of it
    if len(factors) == 1:
        only = factors[0]
        if _meter.get() and not (isinstance(only, Tensor) and only.labels <= keep):
            factors = [_planned(distinct(only.axes), keep)]
        else:
            factors = [only.tensor().summed(keep)]
    for first, second in _path(factors, keep):
        a, b = factors[first], factors[second]
        factors = [f for i, f in enumerate(factors) if i not in (first, second)]
        needed = keep.union(*(f.labels for f in factors))
        if (products := _record.get()) is not None and not _meter.get():
            _note(products, a, b, needed)
        factors.append(_pair(a, b, needed))
    return scaled(factors[0], scale)


def scaled(a: Tensor, scale: float) -> Tensor:
    """A stored array times a number."""
    return a if scale == 1 or _meter.get() else dataclasses.replace(a, value=wide(a.value) * scale)


def add(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two stored arrays, each repeated along the labels that only the other has."""
    labels = distinct(b.axes + a.axes if len(b.labels) >= len(a.labels) else a.axes + b.axes)  # the latest product's order
    if meter := _meter.get():
        if ENTRYWISE not in (a.name, b.name):  # else the sum is part of the same pass
            meter.moves += size_of(labels)
        return _planned(labels, labels)
    return tensor(wide(a.aligned(labels)) + wide(b.aligned(labels)), labels, "J")


def fused(a: Tensor, labels, whole: Label) -> Tensor:
    """The last `labels` of a stored array, all that it shares with nobody, as one label."""
    rest = [label for label in distinct(a.axes) if label not in labels]
    if _meter.get():
        return _planned([*rest, whole], [*rest, whole])
    value = a.arranged([*rest, *labels]).reshape([label.size for label in rest] + [whole.size])
    return tensor(value, [*rest, whole], a.name)


def with_deltas(a: Tensor, labels, repeats) -> Tensor:
    """a times δ(first, second) for every pair of `repeats`; `labels` are those of a and the new ones, in order."""
    if not repeats:
        return a
    if _meter.get():
        return _planned(labels, labels)

    def index(label):
        shape = [label.size if other == label else 1 for other in labels]
        return lax.broadcasted_iota(jnp.int32, shape, labels.index(label))

    hit = functools.reduce(jnp.logical_and, [index(first) == index(second) for first, second in repeats])
    array = jnp.where(hit, a.aligned(labels), 0)
    return Tensor(array, tuple((label,) if label.size == n else () for label, n in zip(labels, array.shape, strict=True)))


EXHAUSTIVE = 5  # factors up to which every order is tried


def _path(factors, keep):
    """Which two factors to multiply next, until one is left: the order with the fewest multiplications and transposes."""
    if len(factors) <= 2:
        return [(0, 1)] if len(factors) == 2 else []
    if len(factors) <= EXHAUSTIVE:
        return _cheapest([_part(f) for f in factors], keep)[1]
    union = set().union(*(f.labels for f in factors))
    sets = [frozenset(f.labels) for f in factors]
    path = opt_einsum.paths.auto(sets, union & keep, {label: label.size for label in union})
    return [tuple(sorted(step)) for step in path]


class _Part(NamedTuple):
    """What a plan knows of a factor: its axes in order, and what one product costs if it is a map without an array."""

    labels: list[Label]
    work: int | None = None


def _part(factor: Factor) -> _Part:
    return _Part(distinct(factor.axes), None if isinstance(factor, Tensor) else factor.work)


def _cheapest(parts, keep):
    """Cost and path of the best order of pairwise products."""
    if len(parts) == 1:  # the first axis of the output, often the batch, should lead: what follows reads it in that order
        labels = parts[0].labels
        return (0 if labels[:1] == sorted(labels)[:1] else MOVE * size_of(labels)), []
    best = None
    for i, j in itertools.combinations(range(len(parts)), 2):
        rest = [part for k, part in enumerate(parts) if k not in (i, j)]
        labels, meter = _product(parts[i], parts[j], keep.union(*(part.labels for part in rest)))
        if best is None or meter.cost < best[0]:
            more, path = _cheapest([*rest, _Part(labels)], keep)
            if best is None or meter.cost + more < best[0]:
                best = meter.cost + more, [(i, j), *path]
    return best


def _product(a: _Part, b: _Part, keep) -> tuple[list[Label], Meter]:
    """The axes of a product that keeps these labels, and what it costs."""
    labels, _, meter = _layout(a.labels, b.labels, keep)
    labels = [label for label in labels if label in keep]
    if a.work is None and b.work is None:
        return labels, meter
    other, applied = sorted((a, b), key=lambda part: (part.work is not None, size_of(part.labels)))
    stored = 0 if other.work is None else size_of(other.labels)  # one of two maps becomes an array
    if applied.work is None or set(applied.labels) <= keep:  # nothing to sum over: it becomes an array, too
        return labels, Meter(stored + size_of(applied.labels) + meter.multiplies, meter.moves)
    return labels, Meter(stored + applied.work * size_of(set(other.labels) - set(applied.labels)))


def _layout(x, y, keep) -> tuple[list[Label], bool, Meter]:
    """The axes of the product of two arrays, whether they change places, and its cost.

    The array with more labels comes first and keeps the order of its axes.
    """
    shared = set(x) & set(y)
    swapped = (len(x), -min(set(x) - shared, default=_NONE).id) < (len(y), -min(set(y) - shared, default=_NONE).id)
    x, y = (y, x) if swapped else (x, y)
    meter = Meter(size_of(set(x) | set(y)))
    if shared <= keep:
        meter.moves = meter.multiplies
        return (x if set(y) <= set(x) else sorted(set(x) | set(y))), swapped, meter
    batch = [label for label in x if label in shared & keep]
    for own in (x, y):  # a matrix product reads its operand in place where batch axes lead and the summed ones are at an end
        inner = [label in shared and label not in keep for label in own[len(batch) :]]
        if own[: len(batch)] != batch or inner not in (sorted(inner), sorted(inner, reverse=True)):
            meter.moves += size_of(own)
    return batch + [label for label in [*x, *y] if label not in shared], swapped, meter


_NONE = Label(-1, 0)


ENTRYWISE = "·"  # the name of a planned product that sums nothing


def _planned(labels, keep, spent: Meter | None = None, name="A") -> Tensor:
    """What a contraction over these labels would give, counted and not computed."""
    meter, kept = _meter.get() or Meter(), [label for label in labels if label in keep]
    meter.multiplies += spent.multiplies if spent else size_of(labels)
    meter.moves += spent.moves if spent else 0
    return tensor(jax.ShapeDtypeStruct([label.size for label in kept], jnp.float32), kept, name)


def _pair(a: Factor, b: Factor, keep) -> Tensor:
    if _meter.get():
        labels, spent = _product(_part(a), _part(b), keep)
        return _planned(labels, keep, spent, ENTRYWISE if a.labels & b.labels <= keep else "A")
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a, b = (a.tensor(), b) if size_of(a.labels) <= size_of(b.labels) else (b.tensor(), a)
    for operator, other in ((a, b), (b, a)):
        if isinstance(other, Tensor) and not isinstance(operator, Tensor):
            product = operator.contract(other.summed(keep | operator.labels), keep)
            if product is not None:
                return product.summed(keep)
    return _multiply(a.tensor().summed(keep | b.labels), b.tensor().summed(keep | a.labels), keep)


def _multiply(a: Tensor, b: Tensor, keep) -> Tensor:
    """Product of two stored arrays."""
    name = f"({a.name}·{b.name})".replace("((", "(").replace("))", ")")
    name = name if len(name) < 14 else "J"
    (x, x_labels), (y, y_labels) = a.flat(), b.flat()
    labels, swapped, _ = _layout(x_labels, y_labels, keep)
    if swapped:
        x, x_labels, y, y_labels = y, y_labels, x, x_labels
    shared = set(x_labels) & set(y_labels)
    if shared <= keep:
        return tensor(tensor(wide(x), x_labels).aligned(labels) * tensor(wide(y), y_labels).aligned(labels), labels, name)
    batch = [label for label in x_labels if label in shared & keep]
    summed = [label for label in x_labels if label in shared - keep]
    if len(shared) == len(x_labels) == len(y_labels):  # no matrix product: XLA would transpose both for one
        places = tuple(map(x_labels.index, summed))
        return tensor(jnp.sum(wide(x) * wide(tensor(y, y_labels).aligned(x_labels)), places), labels, name)
    numbers: Any = [[[own.index(label) for label in side] for own in (x_labels, y_labels)] for side in (summed, batch)]
    dtype = jnp.promote_types(x.dtype, y.dtype)
    summed_in = jnp.promote_types(dtype, jnp.float32)
    product = lax.dot_general(x.astype(dtype), y.astype(dtype), numbers, preferred_element_type=summed_in)
    return tensor(product, labels, name)
