"""Some columns of the Jacobians of a function by all its inputs, few at a time: by forward mode and by finite differences.

The entries of all inputs are counted in one row, one input after the other: a place in it is a column.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import jax
import jax.numpy as jnp
import numpy as np

from ..learn.once import jit_once

FULL_COLUMNS, SAMPLED_COLUMNS = 4096, 512  # of a wider input some columns are compared
DIFFERENCED_COLUMNS = 64  # of every input
CHUNK = 64  # columns that are computed at a time
STEP = 0.5 * float(np.finfo(np.float64).eps) ** 0.2  # of central differences
NEAR = STEP / 128  # of the one-sided differences that tell of kinks
SHIFTS = (STEP, -STEP, STEP / 2, -STEP / 2, NEAR, -NEAR)

Arrays = Sequence[jax.Array]
Columns = Sequence[np.ndarray]  # which ones of every input


def compared_columns(size: int) -> np.ndarray:
    """All columns of an input, or a sample of many."""
    if size <= FULL_COLUMNS:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).choice(size, SAMPLED_COLUMNS, replace=False))


def forward_columns(function: Callable, inputs: Arrays, columns: Columns) -> list[jax.Array]:
    """For every output its columns [column, *output], by `jax.jvp`: the basis of `jax.jacfwd` is never made as a whole."""

    def column(place):
        tangents = [chosen.astype(x.dtype) for x, chosen in zip(inputs, _entry(inputs, place), strict=True)]
        return jax.jvp(function, tuple(inputs), tuple(tangents))[1]

    places = _places(inputs, columns)
    if not len(places):
        return [jnp.zeros((0, *y.shape), y.dtype) for y in jax.eval_shape(function, *inputs)]
    return _in_chunks(column, places)


def forward_columns_by(i: int, function: Callable, inputs: Arrays, columns: np.ndarray) -> list[jax.Array]:
    """The same by one input, the others fixed: where their derivatives are infinite, 0·∞ does not spoil it."""

    def of_one(x):
        return function(*inputs[:i], x, *inputs[i + 1 :])

    return jit_once(lambda x: forward_columns(of_one, [x], [columns]))(inputs[i])


def by_input(array, columns: Columns) -> list[np.ndarray]:
    """The columns of every input, of all that stand in a row."""
    return np.split(np.asarray(array), list(itertools.accumulate(map(len, columns)))[:-1])


class Differences:
    """Richardson's central differences and one-sided ones, over some of the known columns, in one call for all of them.

    They are taken in float64 whatever the dtype of the inputs, where a step can be short and still tell values apart.
    """

    def __init__(self, function: Callable, inputs: Arrays, known: Columns, pool: Executor):
        self.picked = [np.random.default_rng(0).permutation(len(own))[:DIFFERENCED_COLUMNS] for own in known]
        places = _places(inputs, [own[picked] for own, picked in zip(known, self.picked, strict=True)])
        shifts = np.append(0.0, np.repeat(SHIFTS, len(places)))

        def values(places, shifts, *inputs):
            centre = [x.astype(jnp.float64) for x in inputs]

            def value(place, shift):
                moved = [jnp.where(chosen, x + shift, x) for x, chosen in zip(centre, _entry(centre, place), strict=True)]
                return function(*moved)

            return _in_chunks(value, places, shifts)

        self._arguments = (np.append(0, np.tile(places, len(SHIFTS))), shifts, *inputs)
        self._run = jit_once(values)
        with jax.enable_x64(True):
            self._compiled = pool.submit(self._run.lower(*self._arguments).compile)

    def compute(self):
        """Takes its time; afterwards `estimates` answers at once."""
        self._compiled.result()
        with jax.enable_x64(True):
            found = [np.asarray(array, np.float64) for array in self._run(*self._arguments)]
        self._at = [array[0].reshape(-1, 1) for array in found]
        count = sum(map(len, self.picked))
        shifted = [array[1:].reshape(len(SHIFTS), count, math.prod(array.shape[1:])) for array in found]
        self._shifted = [by_input(array.transpose(1, 0, 2), self.picked) for array in shifted]

    def estimates(self, output: int, i: int, ours: np.ndarray, margin: np.ndarray) -> tuple[np.ndarray, int]:
        """The picked columns [output, column] by input i, with `ours` in them at kinks, and how many entries these are.

        A kink closer than the step spoils Richardson's estimate; one closer than `NEAR` leaves a jump between the slopes of
        both sides, and the derivative is one of them or between.
        """
        up, down, half_up, half_down, near_up, near_down = self._shifted[output][i].transpose(1, 2, 0)
        at = self._at[output]
        richardson = (4 * (half_up - half_down) / STEP - (up - down) / (2 * STEP)) / 3
        left, right = (at - near_down) / NEAR, (near_up - at) / NEAR
        middle = (left + right) / 2
        central = np.where(np.abs(middle - ours) < np.abs(richardson - ours), middle, richardson)
        between = (ours >= np.minimum(left, right) - margin) & (ours <= np.maximum(left, right) + margin)
        kink = (np.abs(central - ours) > margin) & (np.abs(right - left) > margin) & between
        return np.where(kink, ours, central), int(kink.sum())


def _places(inputs: Arrays, columns: Columns) -> np.ndarray:
    """Where columns of every input stand in the row of all of them."""
    starts = itertools.accumulate([x.size for x in inputs], initial=0)
    return np.concatenate([start + own for start, own in zip(starts, columns, strict=False)])


def _entry(inputs: Arrays, place) -> list[jax.Array]:
    """For every input, where its entry is that stands at this place of the row."""
    starts = itertools.accumulate([x.size for x in inputs], initial=0)
    return [(jnp.arange(x.size) + start == place).reshape(x.shape) for x, start in zip(inputs, starts, strict=False)]


def _in_chunks(function: Callable, *arrays):
    """`jax.vmap(function)(*arrays)`, `CHUNK` at a time, by a loop whose body is compiled once."""
    count = len(arrays[0])
    if count <= CHUNK:
        return jax.vmap(function)(*map(jnp.asarray, arrays))
    padded = [jnp.pad(array, (0, -count % CHUNK)) for array in arrays]
    return [y[:count] for y in jax.lax.map(lambda xs: function(*xs), padded, batch_size=CHUNK)]
