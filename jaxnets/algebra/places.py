"""Where the terms of a Jacobian lie, and one array of terms that lie in different places.

A term whose outer axes are placed by slices, as by `stack`, `concatenate` and `x[i]`, fills a box and is zero elsewhere.
Boxes that do not overlap are joined row by row.  Padding each to the size of the whole and adding them would take a pass
over the whole for every term.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .factors import Group, labels_of, shape_of
from .planning import is_planning, planned_array
from .promotion import numbers_of, usual_promotion
from .selections import Slice
from .sharding import spread_alike
from .sums import in_cheapest_sum
from .terms import Term


class Box(NamedTuple):
    """A part of an array: where it begins and where it ends, along every axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    def between(self, axis: int, start: int, stop: int) -> "Box":
        """The part of it between two places along an axis."""
        edges = ((*edge[:axis], place, *edge[axis + 1 :]) for edge, place in ((self.start, start), (self.stop, stop)))
        return Box(*edges)

    def holds(self, other: "Box", axis: int) -> bool:
        """Whether it holds the other along an axis."""
        return self.start[axis] <= other.start[axis] and other.stop[axis] <= self.stop[axis]

    def margins(self, whole: "Box") -> list[tuple[int, int, int]]:
        """What it lacks of the whole at both ends of every axis, as `lax.pad` wants it."""
        ends = zip(self.start, self.stop, whole.start, whole.stop, strict=True)
        return [(start - first, last - stop, 0) for start, stop, first, last in ends]


def placed(term: Term) -> tuple[Term, Box]:
    """The term without the slices that place its outer axes, and the box that it fills."""
    axes: list[Group] = [*term.out, *term.inp]
    start, factors = [0] * len(axes), list(term.factors)
    for factor in term.factors:
        if isinstance(factor, Slice) and (axis := _placed_axis(factor, axes, factors)) is not None:
            factors.remove(factor)
            axes[axis], start[axis] = factor.axes[0], start[axis] + factor.start
    out, inp = tuple(axes[: len(term.out)]), tuple(axes[len(term.out) :])
    stop = tuple(first + size for first, size in zip(start, shape_of(axes), strict=True))
    return replace(term, out=out, inp=inp, factors=tuple(factors)), Box(tuple(start), stop)


def _placed_axis(part: Slice, axes: list[Group], factors) -> int | None:
    """The outer axis that this slice alone places, without gaps; None if there is none."""
    whole = part.axes[1]
    if part.stride != 1 or whole not in axes or not all(isinstance(label.size, int) for label in whole):
        return None
    axis = axes.index(whole)
    others = {*labels_of(axes[:axis] + axes[axis + 1 :]), *labels_of(part.axes[:1])}
    others = others.union(*(f.labels for f in factors if f is not part))
    return None if others & set(whole) or len(set(whole)) < len(whole) else axis


def by_box(terms: Sequence[Term]) -> dict[Box, list[Term]]:
    """The terms without the slices that place them, by the boxes that they fill."""
    found: dict[Box, list[Term]] = {}
    for term in terms:
        inner, box = placed(term)
        found.setdefault(box, []).append(inner)
    return found


@usual_promotion()
def dense_sum(terms: Sequence[Term], shape, dtype) -> jax.Array:
    """The sum of the terms as one array of this shape, which has one axis for every outer axis.

    Terms in one place that share factors are summed before they are multiplied by these, where that is cheaper.
    """
    with numbers_of(dtype):
        parts = {box: [term.dense() for term in in_cheapest_sum(inner)] for box, inner in by_box(terms).items()}
    if is_planning():
        return planned_array(shape)
    arrays = {box: _total(summands).astype(dtype) for box, summands in parts.items()}
    if not arrays:
        return jnp.zeros(shape, dtype)
    whole = Box((0,) * len(shape), tuple(shape))
    cut = [a for a in range(len(shape)) if any((box.start[a], box.stop[a]) != (0, shape[a]) for box in arrays)]
    alike = spread_alike(list(arrays.values()), cut)
    return _joined({box: alike(array) for box, array in arrays.items()}, whole, lambda n: alike(jnp.zeros(n, dtype)))


def _total(arrays) -> jax.Array:
    return reduce(jnp.add, arrays)


def _joined(arrays: dict[Box, jax.Array], whole: Box, zeros: Callable) -> jax.Array:
    """One array from arrays in boxes inside `whole`, and zeros."""
    if not arrays:
        return zeros(whole.shape)
    if list(arrays) == [whole]:
        return arrays[whole]
    for axis in range(len(whole.start)):
        layers = _layers(arrays, whole, axis)
        if len(layers) > 1:
            inside = [{box: array for box, array in arrays.items() if layer.holds(box, axis)} for layer in layers]
            parts = [_joined(chosen, layer, zeros) for chosen, layer in zip(inside, layers, strict=True)]
            several = max(map(len, inside)) > 1
            return _written(parts, layers, whole, zeros) if several else jnp.concatenate(parts, axis)
    return _total([lax.pad(array, jnp.zeros((), array.dtype), box.margins(whole)) for box, array in arrays.items()])


def _written(parts, layers: list[Box], whole: Box, zeros: Callable) -> jax.Array:
    """The layers written into one array, one by one.

    XLA for CPU makes one loop of a concatenation of concatenations, in which every entry is computed by itself.
    """
    total = zeros(whole.shape)
    for part, layer in zip(parts, layers, strict=True):
        start = [first - origin for first, origin in zip(layer.start, whole.start, strict=True)]
        total = lax.dynamic_update_slice(total, part, start)
    return total


def _layers(boxes, whole: Box, axis: int) -> list[Box]:
    """The whole, cut across an axis where that cuts no box."""
    spans = sorted({(box.start[axis], box.stop[axis]) for box in boxes})
    if spans == [(whole.start[axis], whole.stop[axis])]:
        return [whole]
    ends = [whole.start[axis]]  # of the layers, each the start of the next one
    for start, stop in spans:
        if start > ends[-1]:  # nothing lies between them
            ends.append(start)
        if start == ends[-1]:
            ends.append(stop)
        else:
            ends[-1] = max(ends[-1], stop)
    if ends[-1] < whole.stop[axis]:
        ends.append(whole.stop[axis])
    return [whole.between(axis, start, stop) for start, stop in itertools.pairwise(ends)]
