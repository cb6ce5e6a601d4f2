"""What the kinds of pooling share: which windows there are, and the axes of space."""

import math

import numpy as np

from ..checks import check_per_axis
from ..errors import ShapeError
from .conv import padding_pairs

Pairs = list[tuple[int, int]]  # the padding before and after, for each axis


def space_rank(layer: str, x, name: str, value) -> int:
    """The number of axes to pool over: the length of a tuple, else all axes after batch and channels."""
    rank = len(value) if isinstance(value, tuple) else x.ndim - 2
    if not 1 <= rank <= x.ndim:
        raise ShapeError(f"{layer}: argument 'x' has shape {x.shape}, expected axes of space for {name} {value}")
    if 0 in x.shape[-rank:]:
        raise ShapeError(f"{layer}: argument 'x' has shape {x.shape}, expected axes of space that are not empty")
    if x.ndim > rank + 1 and x.shape[-rank - 1] == 0:
        raise ShapeError(f"{layer}: argument 'x' has shape {x.shape}, expected channels that are not empty")
    return rank


def pool_windows(layer: str, x, kernel_size, stride, padding, dilation, ceil_mode) -> tuple[list[np.ndarray], Pairs]:
    """The table of the windows along each axis, and the padding before and after."""
    rank = space_rank(layer, x, "kernel_size", kernel_size)
    kernel = check_per_axis(layer, "kernel_size", kernel_size, rank)
    strides = kernel if stride is None else check_per_axis(layer, "stride", stride, rank)
    dilations = check_per_axis(layer, "dilation", dilation, rank)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    rows = list(zip(x.shape[-rank:], kernel, strides, dilations, reach, strict=True))
    pads = padding_pairs(layer, padding, rank, [max(0, (n - 1) // s * s + r - n) for n, _, s, _, r in rows])
    if not isinstance(padding, str) and any(2 * max(sides) > k for sides, k in zip(pads, kernel, strict=True)):
        raise ValueError(f"{layer}: padding {padding} must be at most half of kernel_size {kernel_size}")
    tables = []
    for (n, k, s, d, r), (low, high) in zip(rows, pads, strict=True):
        count = (n + low + high - r + (s - 1) * bool(ceil_mode)) // s + 1
        if count > 1 and (count - 1) * s >= n + low:  # the last window must not start in the padding after x
            count -= 1
        if count < 1:
            raise ShapeError(
                f"{layer}: argument 'x' of shape {x.shape} with padding {padding} is smaller than kernel_size "
                f"{kernel_size} with dilation {dilation}"
            )
        tables.append(s * np.arange(count)[:, None] + d * np.arange(k) - low)
    return tables, pads


def adaptive_windows(layer: str, x, output_size) -> list[np.ndarray]:
    """The tables of windows from ⌊p·n/m⌋ to below ⌈(p+1)·n/m⌉, for p from 0 to m − 1."""
    rank = space_rank(layer, x, "output_size", output_size)
    space = x.shape[-rank:]
    if isinstance(output_size, tuple):
        output_size = tuple(n if m is None else m for n, m in zip(space, output_size, strict=True))
    tables = []
    for n, m in zip(space, check_per_axis(layer, "output_size", output_size, rank), strict=True):
        p = np.arange(m)[:, None]
        first, end = p * n // m, -((p + 1) * n // -m)
        table = first + np.arange(np.max(end - first))
        tables.append(np.where(table < end, table, n))
    return tables


def with_space_axes(y, x, keepdims):
    """y of shape [b, c] with an axis of one entry for each axis of space of x, if these are kept."""
    return y.reshape(y.shape + (1,) * (x.ndim - 2)) if keepdims else y


def with_one_space_axis(layer: str, x):
    """x as [b, c, n]."""
    space_rank(layer, x, "all", None)
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
