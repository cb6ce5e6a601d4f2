"""One array of terms that lie in different places.

A term whose outer axes are placed by slices, as by `stack`, `concatenate` and `x[i]`, fills a box and is zero elsewhere.
Boxes that do not overlap are joined row by row.  Padding each to the size of the whole and adding them would take a pass
over the whole for every term.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from .boxes import Box, by_box
from .planning import is_planning, planned_array
from .promotion import numbers_of, usual_promotion
from .sharding import spread_alike
from .sums import in_cheapest_sum
from .terms import Term


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
