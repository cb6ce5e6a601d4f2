"""Products of the rows that the entries of a kernel meet, summed over the places of a convolution: Σ_p x[p+k] x[p+l].

They depend on k and l by the offset l − k, and by the window that p+k runs over; windows differ at their ends alone.  So the
places are cut into segments that lie in a window wholly or not at all, and a segment is multiplied once for every offset.
Where k and l change places, so do the factors.  For three entries that is a third of the products of all pairs.
"""

import functools
import itertools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..algebra.sharding import replicated


class Segment(NamedTuple):
    """Rows `start`, `start` + stride, …, so many, each with the row that lies `shift` behind it."""

    start: int
    rows: int
    shift: int


class Windows(NamedTuple):
    """One axis of space: entry k meets the rows stride·p + dilation·k − low with p < outputs, if they are among `size`."""

    size: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    low: int

    def _window(self, k: int) -> tuple[int, int, int]:
        """The first row modulo the stride; counted from it in steps of the stride, where the window begins and ends."""
        begin, rest = divmod(self.dilation * k - self.low, self.stride)
        return rest, begin, begin + self.outputs

    def segments(self) -> dict[tuple[int, int], list[Segment]]:
        """For entries k ≤ k' the segments of their products."""
        windows = [self._window(k) for k in range(self.kernel)]
        found = {}
        for k, other in itertools.combinations_with_replacement(range(self.kernel), 2):
            rest, begin, end = windows[k]
            shift = self.dilation * (other - k)
            last = -((rest + shift - self.size) // self.stride)  # where both rows end
            ends = sorted({place for r, *window in windows if r == rest for place in window if begin <= place <= end})
            cut = [(max(a, 0), min(b, last)) for a, b in itertools.pairwise(ends)]
            found[k, other] = [Segment(rest + self.stride * a, b - a, shift) for a, b in cut if a < b]
        return found

    @property
    def multiplied_rows(self) -> int:
        """How many pairs of rows are multiplied."""
        return sum(segment.rows for segment in set(itertools.chain(*self.segments().values())))


def shifted_products(x: jax.Array, windows: Windows, summed: int) -> jax.Array:
    """[k, *rest, k', *rest]: the products of x [size, …, *rest], summed over places and `summed` further axes."""
    axes = (*range(1 + summed),)

    @functools.cache
    def product(segment: Segment) -> jax.Array:
        stop = segment.start + (segment.rows - 1) * windows.stride + 1
        a, b = (lax.slice_in_dim(x, segment.start + s, stop + s, windows.stride) for s in (0, segment.shift))
        return lax.dot_general(a, b, ((axes, axes), ((), ())), out_sharding=replicated(x))

    rest = x.shape[1 + summed :]
    table = {}
    for (k, other), segments in windows.segments().items():
        total = functools.reduce(operator.add, map(product, segments)) if segments else jnp.zeros(rest * 2, x.dtype)
        table[k, other] = total
        table[other, k] = total.transpose(*range(len(rest), 2 * len(rest)), *range(len(rest)))
    entries = range(windows.kernel)
    return jnp.stack([jnp.stack([table[k, other] for other in entries], len(rest)) for k in entries])
