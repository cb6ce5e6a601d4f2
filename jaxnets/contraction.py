"""Products of factors: in which order, and carried out.

Inside `planning()` the same functions compute labels and count multiplications instead of making arrays, so that a plan
costs what the plan says.
"""

import dataclasses
import functools
import itertools
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import opt_einsum
from jax import lax

from .factors import Factor, Label, Tensor, distinct, size_of, tensor, wide


@dataclasses.dataclass(eq=False)
class Meter:
    """Counts the multiplications of contractions that are only planned."""

    multiplies: int = 0


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


def contract(factors, keep, scale: float = 1.0) -> Tensor:
    """scale times the product of the factors, summed over every label that is not in `keep`."""
    factors, keep = list(factors), set(keep)
    if not factors:
        return tensor(jnp.full((), scale), ())
    if len(factors) == 1 and not isinstance(factors[0], Tensor) and not factors[0].labels <= keep:
        factors.append(tensor(jnp.ones(()), ()))  # sums over axes of a map are its product with ones: no array of it
    if len(factors) == 1:
        only = factors[0]
        factors = [_planned(distinct(only.axes), keep) if _meter.get() else only.tensor().summed(keep)]
    for first, second in _path(factors, keep):
        a, b = factors[first], factors[second]
        factors = [f for i, f in enumerate(factors) if i not in (first, second)]
        needed = keep.union(*(f.labels for f in factors))
        factors.append(_pair(a, b, needed))
    return scaled(factors[0], scale)


def scaled(a: Tensor, scale: float) -> Tensor:
    """A stored array times a number."""
    return a if scale == 1 or _meter.get() else dataclasses.replace(a, value=wide(a.value) * scale)


def add(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two stored arrays, each repeated along the labels that only the other has."""
    labels = distinct(a.axes + b.axes)
    if _meter.get():
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


MOVE = 8  # what transposing an entry costs, in multiplications
EXHAUSTIVE = 5  # factors up to which every order is tried


def _path(factors, keep):
    """Which two factors to multiply next, until one is left: the order with the fewest multiplications and transposes."""
    if len(factors) <= 2:
        return [(0, 1)] if len(factors) == 2 else []
    orders = [distinct(f.axes) for f in factors]
    if len(factors) <= EXHAUSTIVE:
        return _cheapest(orders, keep)[1]
    union = set().union(*orders)
    path = opt_einsum.paths.auto(list(map(frozenset, orders)), union & keep, {label: label.size for label in union})
    return [tuple(sorted(step)) for step in path]


def _cheapest(orders, keep):
    """Cost and path of the best order of pairwise products."""
    if len(orders) == 1:  # the first axis of the output, often the batch, should lead: what follows reads it in that order
        return (0 if orders[0][:1] == sorted(orders[0])[:1] else MOVE * size_of(orders[0])), []
    best = None
    for i, j in itertools.combinations(range(len(orders)), 2):
        rest = [order for k, order in enumerate(orders) if k not in (i, j)]
        labels, _, cost = _layout(orders[i], orders[j], keep.union(*rest))
        if best is None or cost < best[0]:
            more, path = _cheapest([*rest, labels], keep)
            if best is None or cost + more < best[0]:
                best = cost + more, [(i, j), *path]
    return best


def _layout(x, y, keep):
    """The axes of the product of two arrays, whether they change places, and its cost.

    The array with more labels comes first and keeps the order of its axes.
    """
    shared = set(x) & set(y)
    swapped = (len(x), -min(set(x) - shared, default=_NONE).id) < (len(y), -min(set(y) - shared, default=_NONE).id)
    x, y = (y, x) if swapped else (x, y)
    cost = size_of(set(x) | set(y))
    if shared <= keep:
        return (x if set(y) <= set(x) else sorted(set(x) | set(y))), swapped, cost
    batch = [label for label in x if label in shared & keep]
    for own in (x, y):  # a matrix product reads its operand in place where batch axes lead and the summed ones are at an end
        inner = [label in shared and label not in keep for label in own[len(batch) :]]
        if own[: len(batch)] != batch or inner not in (sorted(inner), sorted(inner, reverse=True)):
            cost += MOVE * size_of(own)
    return batch + [label for label in [*x, *y] if label not in shared], swapped, cost


_NONE = Label(-1, 0)


def _planned(labels, keep, cost=None) -> Tensor:
    """What a contraction over these labels would give, counted and not computed."""
    meter, kept = _meter.get() or Meter(), [label for label in labels if label in keep]
    meter.multiplies += size_of(labels) if cost is None else cost
    return tensor(jax.ShapeDtypeStruct([label.size for label in kept], jnp.float32), kept)


def _pair(a: Factor, b: Factor, keep) -> Tensor:
    if _meter.get():
        labels, _, cost = _layout(distinct(a.axes), distinct(b.axes), keep)
        return _planned([label for label in labels if label in keep], keep, cost)
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
    numbers: Any = [[[own.index(label) for label in side] for own in (x_labels, y_labels)] for side in (summed, batch)]
    dtype = jnp.promote_types(x.dtype, y.dtype)
    summed_in = jnp.promote_types(dtype, jnp.float32)
    product = lax.dot_general(x.astype(dtype), y.astype(dtype), numbers, preferred_element_type=summed_in)
    return tensor(product, labels, name)
