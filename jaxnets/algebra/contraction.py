"""Products of factors: the order in which they are multiplied, and the products themselves.

Inside `planning()` the same functions do not make arrays: they compute labels and count multiplications.
"""

import dataclasses
import functools
import itertools
import operator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import opt_einsum
from jax import lax

from .factors import Factor, Label, Tensor, at_least_float32, distinct_labels, entries_over, tensor
from .planning import MOVE, Meter, Product, current_meter, planned_array, recorded_products
from .promotion import narrowest_number, usual_promotion
from .sharding import compatible, compatible_in_product, explicit_mesh, reshaped
from .symbols import product_notes, sum_notes


def _record_product(products: list[Product], a: Factor, b: Factor, keep):
    left, right = distinct_labels(a.axes), distinct_labels(b.axes)
    every = list(dict.fromkeys([*left, *right]))
    summed, kept = [x for x in every if x not in keep], [x for x in every if x in keep]
    sizes = [tuple(label.size for label in labels) for labels in (left, right, summed, kept)]
    cost = _planned_product(_outline_of(a), _outline_of(b), keep)[1]
    products.append(Product(sizes[0], sizes[1], sizes[2], sizes[3], cost.multiplies))


@usual_promotion()
def contract(factors, keep, scale: float = 1.0) -> Tensor:
    """`scale` times the product of the factors, summed over every label outside `keep`."""
    factors, keep = list(factors), set(keep)
    sources = list(factors)
    if not factors:
        return _planned_tensor((), (), Meter()) if current_meter() else tensor(jnp.full((), scale), ())
    factors = with_free_labels_summed(factors, keep)
    if len(factors) == 1 and not isinstance(factors[0], Tensor) and not factors[0].labels <= keep:
        factors.append(tensor(jnp.ones((), jnp.float32), ()))  # its sum is its product with ones: the map needs no array
    if len(factors) == 1:
        factor = factors[0]
        if current_meter() and not (isinstance(factor, Tensor) and factor.labels <= keep):
            factors = [_planned_tensor(distinct_labels(factor.axes), keep)]
        else:
            factors = [factor.as_tensor().summed_except(keep)]
    for first, second in _contraction_path(factors, keep):
        a, b = factors[first], factors[second]
        factors = [f for i, f in enumerate(factors) if i not in (first, second)]
        needed = keep.union(*(f.labels for f in factors))
        if (products := recorded_products()) is not None and not current_meter():
            _record_product(products, a, b, needed)
        factors.append(_product_of_factors(a, b, needed))
    return scaled_tensor(_named_as_product(factors[0], sources), scale)


def _named_as_product(a: Tensor, factors) -> Tensor:
    """The product of these factors, with its name."""
    if current_meter() or (len(factors) == 1 and isinstance(factors[0], Tensor)):
        return a
    notes = product_notes((f.chain() for f in factors), (entry for f in factors for entry in f.legend_in_product()))
    return dataclasses.replace(a, notes=notes)


def with_free_labels_summed(factors, keep):
    """The factors, of which selections are summed over labels that no other factor has."""
    found = list(factors)
    for i, factor in enumerate(factors):
        free = factor.labels - keep
        if free and not isinstance(factor, Tensor):
            free = free.difference(*(f.labels for f in factors if f is not factor))
            if free and (summed := factor.summed_over(free)):
                labels, array = summed
                found[i] = _planned_tensor(labels, labels) if current_meter() else tensor(array(), labels, "k")
    return found


def scaled_tensor(a: Tensor, scale: float) -> Tensor:
    """A stored array times a number, in float32 or wider."""
    if scale == 1 or current_meter():
        return a
    notes = product_notes([a.chain()], a.legend(), scale)
    wide_enough = a.value.astype(jnp.promote_types(a.value.dtype, narrowest_number()))
    return dataclasses.replace(a, value=wide_enough * scale, notes=notes)


@usual_promotion()
def sum_of_tensors(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two stored arrays, each repeated along the labels that only the other has."""
    first, second = (b, a) if len(b.labels) >= len(a.labels) else (a, b)
    labels = distinct_labels(first.axes + second.axes)  # in the order of the latest product
    if meter := current_meter():
        if ENTRYWISE not in (a.name, b.name):  # else XLA adds in the pass that multiplies
            meter.moves += entries_over(labels)
        return _planned_tensor(labels, labels, Meter())  # a sum multiplies nothing
    summands = compatible(*(at_least_float32(t.aligned_to(labels)) for t in (a, b)))
    notes = sum_notes(a.chain(), b.chain(), a.legend() + b.legend())
    return dataclasses.replace(tensor(operator.add(*summands), labels), notes=notes)


def with_fused_labels(a: Tensor, labels, whole: Label) -> Tensor:
    """A stored array whose last `labels`, which no other factor has, are merged into one."""
    rest = [label for label in distinct_labels(a.axes) if label not in labels]
    if current_meter():
        return _planned_tensor([*rest, whole], [*rest, whole])
    value = reshaped(a.broadcast_to([*rest, *labels]), [label.size for label in rest] + [whole.size])
    return tensor(value, [*rest, whole]).named_as(a)


@usual_promotion()
def with_deltas(a: Tensor, labels, repeats) -> Tensor:
    """a times δ(first, second) for every pair of `repeats`.  `labels` are the labels of a and the new ones, in order."""
    if not repeats:
        return a
    if current_meter():
        return _planned_tensor(labels, labels)

    def index(label):
        shape = [label.size if other == label else 1 for other in labels]
        return lax.broadcasted_iota(jnp.int32, shape, labels.index(label))

    hit = functools.reduce(jnp.logical_and, [index(first) == index(second) for first, second in repeats])
    array = jnp.where(hit, a.aligned_to(labels), 0)
    axes = tuple((label,) if label.size == n else () for label, n in zip(labels, array.shape, strict=True))
    return Tensor(array, axes).named_as(a)


EXHAUSTIVE = 5  # up to so many factors every order is tried


def _contraction_path(factors, keep):
    """The two factors to multiply next, until one is left: the order with the fewest multiplications and transposes."""
    if len(factors) <= 2:
        return [(0, 1)] if len(factors) == 2 else []
    if len(factors) <= EXHAUSTIVE:
        return _cheapest_path([_outline_of(f) for f in factors], keep)[1]
    union = set().union(*(f.labels for f in factors))
    sets = [frozenset(f.labels) for f in factors]
    path = opt_einsum.paths.auto(sets, union & keep, {label: label.size for label in union})
    return [tuple(sorted(step)) for step in path]


class _Outline(NamedTuple):
    """What planning needs of a factor: its labels in order, and the factor itself if it is a map without an array."""

    labels: list[Label]
    map: Factor | None = None


def _outline_of(factor: Factor) -> _Outline:
    return _Outline(distinct_labels(factor.axes), None if isinstance(factor, Tensor) else factor)


def _cheapest_path(outlines, keep):
    """The cost and the steps of the best order of pairwise products."""
    if len(outlines) == 1:  # what follows reads the result with its first axis, often the batch, in front
        labels = outlines[0].labels
        return (0 if labels[:1] == sorted(labels)[:1] else MOVE * entries_over(labels)), []
    best = None
    for i, j in itertools.combinations(range(len(outlines)), 2):
        rest = [outline for k, outline in enumerate(outlines) if k not in (i, j)]
        labels, meter = _planned_product(outlines[i], outlines[j], keep.union(*(outline.labels for outline in rest)))
        if best is None or meter.cost < best[0]:
            more, path = _cheapest_path([*rest, _Outline(labels)], keep)
            if best is None or meter.cost + more < best[0]:
                best = meter.cost + more, [(i, j), *path]
    return best


def _planned_product(a: _Outline, b: _Outline, keep) -> tuple[list[Label], Meter]:
    """The labels of a product, summed over those outside `keep`, and its cost."""
    labels, _, meter = _product_layout(a.labels, b.labels, keep)
    labels = [label for label in labels if label in keep]
    if a.map is None and b.map is None:
        return labels, meter
    if known := _known_product_with_itself(a.map, b.map, keep):
        return labels, Meter(known[1])
    other, applied = sorted((a, b), key=lambda outline: (outline.map is not None, entries_over(outline.labels)))
    assert applied.map is not None
    stored = 0 if other.map is None else entries_over(other.labels)  # of two maps one becomes an array
    left = set(other.labels) & (keep | set(applied.labels))
    if set(applied.labels) <= keep or not applied.map.applies_to(left, keep):  # it becomes an array as well
        return labels, Meter(stored + entries_over(applied.labels) + meter.multiplies, meter.moves)
    return labels, Meter(stored + applied.map.multiplies_per_vector * applied.map.count_vectors(left, keep))


def _known_product_with_itself(a: Factor | None, b: Factor | None, keep):
    """What a map knows of its product with itself, summed over labels outside `keep`; None if b is another map."""
    if a is None or b is None or type(a) is not type(b):
        return None
    if any(one is not other for one, other in zip(*map(jax.tree.leaves, (a, b)), strict=True)):
        return None
    return a.times_itself(b, (a.labels | b.labels) - keep)


def _product_layout(x, y, keep) -> tuple[list[Label], bool, Meter]:
    """The labels of the product of two arrays, whether the arrays change places, and the cost.

    The array with more labels comes first and keeps the order of its axes.
    """
    shared = set(x) & set(y)
    swapped = (len(x), -min(set(x) - shared, default=_NO_LABEL).id) < (len(y), -min(set(y) - shared, default=_NO_LABEL).id)
    x, y = (y, x) if swapped else (x, y)
    meter = Meter(entries_over(set(x) | set(y)))
    if shared <= keep:
        meter.moves = meter.multiplies
        return (x if set(y) <= set(x) else sorted(set(x) | set(y))), swapped, meter
    batch = [label for label in x if label in shared & keep]
    for own in (x, y):  # it is read in place if its batch axes lead and its summed axes stand at one end of the others
        inner = [label in shared and label not in keep for label in own[len(batch) :]]
        if own[: len(batch)] != batch or inner not in (sorted(inner), sorted(inner, reverse=True)):
            meter.moves += entries_over(own)
    if _is_summed_entry_by_entry(x, y, meter):
        return [label for label in x if label not in shared or label in keep], swapped, meter
    return batch + [label for label in [*x, *y] if label not in shared], swapped, meter


def _is_summed_entry_by_entry(x, y, meter: Meter) -> bool:
    """Whether a product with a sum is no matrix product: for one with a single row XLA would have to transpose x."""
    return set(y) <= set(x) and (meter.moves > 0 or set(x) <= set(y))


_NO_LABEL = Label(-1, 0)


ENTRYWISE = "·"  # the name of a planned product without a sum


def _planned_tensor(labels, keep, spent: Meter | None = None, name="A") -> Tensor:
    """The result of a contraction over these labels, as a shape; its cost is added to the counter."""
    meter, kept = current_meter() or Meter(), [label for label in labels if label in keep]
    meter.multiplies += spent.multiplies if spent else entries_over(labels)
    meter.moves += spent.moves if spent else 0
    meter.largest = max(meter.largest, entries_over(kept))
    return tensor(planned_array(label.size for label in kept), kept, name)


_shared_products: ContextVar[dict | None] = ContextVar("shared", default=None)


@contextmanager
def sharing_products():
    """A context in which a product of the same two factors is carried out once, and what is solved together is solved once.

    It must lie within one trace of JAX: what is shared outlives it nowhere.
    """
    token = _shared_products.set({})
    try:
        yield
    finally:
        _shared_products.reset(token)


def shared_products() -> dict | None:
    """What was computed in this context, under keys that tell what it is; None outside of `sharing_products`."""
    return _shared_products.get()


def _product_of_factors(a: Factor, b: Factor, keep) -> Tensor:
    known = shared_products()
    if known is None or current_meter():
        return _computed_product(a, b, keep)
    labels = distinct_labels([*a.axes, *b.axes])
    places = {label: i for i, label in enumerate(labels)}
    key = (_key(a, places), _key(b, places), tuple(label in keep for label in labels))
    if key not in known:
        known[key] = labels, a, b, _computed_product(a, b, keep)  # the factors are kept, so that their ids stay theirs
    then, _, _, product = known[key]
    now = dict(zip(then, labels, strict=True))
    return product.relabel(lambda group: tuple(now[label] for label in group))


def _key(factor: Factor, places):
    """Equal for the same factor along the same labels."""
    leaves, tree = jax.tree.flatten(factor.relabel(lambda group: ()))
    axes = tuple(tuple((places[label], label.size) for label in group) for group in factor.axes)
    return axes, tree, tuple(map(id, leaves))


def _computed_product(a: Factor, b: Factor, keep) -> Tensor:
    if current_meter():
        labels, spent = _planned_product(_outline_of(a), _outline_of(b), keep)
        return _planned_tensor(labels, keep, spent, ENTRYWISE if a.labels & b.labels <= keep else "A")
    if known := _known_product_with_itself(a, b, keep):
        labels, _, array = known
        return tensor(array(), labels)
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a, b = (a.as_tensor(), b) if entries_over(a.labels) <= entries_over(b.labels) else (b.as_tensor(), a)
    for applied, other in ((a, b), (b, a)):
        if isinstance(other, Tensor) and not isinstance(applied, Tensor):
            summed = other.summed_except(keep | applied.labels)
            if applied.applies_to(summed.labels, keep):
                return applied.contract(summed, keep).summed_except(keep)
    left, right = a.as_tensor().summed_except(keep | b.labels), b.as_tensor().summed_except(keep | a.labels)
    return _product_of_tensors(left, right, keep)


def _product_of_tensors(a: Tensor, b: Tensor, keep) -> Tensor:
    """The product of two stored arrays, summed over the labels outside `keep`."""
    (x, x_labels), (y, y_labels) = a.array_and_labels(), b.array_and_labels()
    labels, swapped, meter = _product_layout(x_labels, y_labels, keep)
    if swapped:
        x, x_labels, y, y_labels = y, y_labels, x, x_labels
    shared = set(x_labels) & set(y_labels)
    if shared <= keep:
        arrays = [tensor(at_least_float32(v), own).aligned_to(labels) for v, own in ((x, x_labels), (y, y_labels))]
        return tensor(operator.mul(*compatible(*arrays)), labels)
    batch = [label for label in x_labels if label in shared & keep]
    summed = [label for label in x_labels if label in shared - keep]
    if _is_summed_entry_by_entry(x_labels, y_labels, meter):
        places = tuple(map(x_labels.index, summed))
        factors = compatible(at_least_float32(x), at_least_float32(tensor(y, y_labels).aligned_to(x_labels)))
        return tensor(jnp.sum(operator.mul(*factors), places), labels)
    numbers: Any = [[[own.index(label) for label in side] for own in (x_labels, y_labels)] for side in (summed, batch)]
    dtype = jnp.promote_types(x.dtype, y.dtype)
    summed_in = jnp.promote_types(dtype, jnp.float32)
    same = a.value is b.value and x.shape == y.shape and numbers[0][0] == numbers[0][1]
    if same and not batch and not explicit_mesh(x):
        return tensor(_product_with_itself(x, numbers[0][0], summed_in), labels)
    x, y, sharding = compatible_in_product(x, y, *numbers)
    product = lax.dot_general(
        x.astype(dtype), y.astype(dtype), numbers, preferred_element_type=summed_in, out_sharding=sharding
    )
    return tensor(product, labels)


SMALLEST_BLOCK = 96  # of a product of an array with itself that is made in blocks
MOST_BLOCKS = 4


def _product_with_itself(x: jax.Array, summed: list[int], dtype) -> jax.Array:
    """Σ x[…, i] x[…, j] over some axes.  It is symmetric, so of two blocks that are each other's transposes one is made.

    With four blocks a side ten of sixteen are made.
    """
    kept = [a for a in range(x.ndim) if a not in summed]
    shape = [x.shape[a] for a in kept]
    x = x.transpose(*summed, *kept).reshape(*(x.shape[a] for a in summed), -1)
    axes = (*range(len(summed)),)
    size, count = x.shape[-1], _blocks_of(x.shape[-1])
    cuts = [size * i // count for i in range(count + 1)]
    parts = [lax.slice_in_dim(x, start, stop, axis=-1) for start, stop in itertools.pairwise(cuts)]
    table: dict[tuple[int, int], jax.Array] = {}
    for i, j in itertools.combinations_with_replacement(range(len(parts)), 2):
        table[i, j] = lax.dot_general(parts[i], parts[j], ((axes, axes), ((), ())), preferred_element_type=dtype)
        table[j, i] = table[i, j].T
    rows = [jnp.concatenate([table[i, j] for j in range(len(parts))], 1) for i in range(len(parts))]
    return jnp.concatenate(rows).reshape(*shape, *shape)


def _blocks_of(size) -> int:
    """Into how many blocks a side is cut: one where a size is only known later."""
    return max(1, min(MOST_BLOCKS, size // SMALLEST_BLOCK)) if isinstance(size, int) else 1
