"""Pooling: the largest entry or the mean of windows."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..algebra.rules import first_largest, from_groups
from ..checks import check_per_axis
from ..errors import ShapeError
from .conv import Numbers, Padding, padding_pairs
from .layer import layer
from .samples import Example
from .windows import largest_in_windows, mean_rule, selection_rule, space_and_batch_labels, window_means

__all__ = ["max_pool", "adaptive_max_pool", "global_max_pool", "avg_pool", "adaptive_avg_pool", "global_avg_pool"]

Pairs = list[tuple[int, int]]  # the padding before and after, for each axis


def _pooled_rank(layer: str, x, name: str, value) -> int:
    """The number of axes to pool over: the length of a tuple, else all axes after batch and channels."""
    rank = len(value) if isinstance(value, tuple) else x.ndim - 2
    if not 1 <= rank <= x.ndim:
        raise ShapeError(f"{layer}: argument 'x' has shape {x.shape}, expected axes of space for {name} {value}")
    if 0 in x.shape[-rank:]:
        raise ShapeError(f"{layer}: argument 'x' has shape {x.shape}, expected axes of space that are not empty")
    if x.ndim > rank + 1 and x.shape[-rank - 1] == 0:
        raise ShapeError(f"{layer}: argument 'x' has shape {x.shape}, expected channels that are not empty")
    return rank


def _windows(layer: str, x, kernel_size, stride, padding, dilation, ceil_mode) -> tuple[list[np.ndarray], Pairs]:
    """The table of the windows along each axis, and the padding before and after."""
    rank = _pooled_rank(layer, x, "kernel_size", kernel_size)
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


def _adaptive_window_tables(layer: str, x, output_size) -> list[np.ndarray]:
    """The tables of windows from ⌊p·n/m⌋ to below ⌈(p+1)·n/m⌉, for p from 0 to m − 1."""
    rank = _pooled_rank(layer, x, "output_size", output_size)
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


@layer(plain=True, example=Example((4, 3, 6, 8), kernel_size=2))
def max_pool(
    x: Float[Array, "..."],
    *,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Padding = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
) -> Float[Array, "..."]:
    """Largest entry of each window  y[b, c, p] = max_k x[b, c, stride·p + dilation·k − padding],  k < kernel_size.

    ∂y[b,c,p,q]/∂x[b,c,u,v] = δ(uv, k[b,c,p,q])  with k the index of the largest entry, of equal ones the first in
    row-major order

    `kernel_size` is one number for all axes after [b, c], or a tuple for as many of the last axes; by default `stride` is
    the same.  `padding` is one number, one for each axis, a pair (before, after) for each axis, or "same", which gives
    ⌈n/stride⌉ outputs with the odd one behind.  Numbers are at most half of the kernel.  Padding is −∞ and never selected;
    NaN is larger than all numbers.  With `ceil_mode` a last window may extend past the end if it starts in x or in the
    padding before x.
    """
    return largest_in_windows(x, _windows("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)[0])[0]


@max_pool.jacobian
def _(y, x, *, kernel_size, stride, padding, dilation, ceil_mode):
    tables, _ = _windows("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    return (selection_rule(x, largest_in_windows(x, tables)[1], len(tables)),)


@layer(plain=True, example=Example((4, 3, 5, 7), output_size=3))
def adaptive_max_pool(x: Float[Array, "..."], *, output_size: int | tuple[int | None, ...]) -> Float[Array, "..."]:
    """Largest entry of m windows of n entries  y[b, c, p] = max of x[b, c, u],  ⌊p·n/m⌋ ≤ u < ⌈(p+1)·n/m⌉.

    ∂y[b,c,p,q]/∂x[b,c,u,v] = δ(uv, k[b,c,p,q])  with k the index of the largest entry, of equal ones the first

    `output_size` m is one number for all axes after [b, c], or a tuple for as many of the last axes, in which None keeps the
    size of x.
    """
    return largest_in_windows(x, _adaptive_window_tables("adaptive_max_pool", x, output_size))[0]


@adaptive_max_pool.jacobian
def _(y, x, *, output_size):
    tables = _adaptive_window_tables("adaptive_max_pool", x, output_size)
    return (selection_rule(x, largest_in_windows(x, tables)[1], len(tables)),)


@layer(plain=True, example=Example((4, 3, 6, 8)))
def global_max_pool(x: Float[Array, "b c u ..."], *, keepdims: bool = False) -> Float[Array, "b c ..."]:
    """Largest entry of each channel  y[b, c] = max_u x[b, c, u]  over all axes of space.

    ∂y[b,c]/∂x[b,c,u,v] = δ(uv, k[b,c])  with k the index of the largest entry, of equal ones the first

    With `keepdims` the axes of space stay, with one entry each.
    """
    rows = _with_one_space_axis("global_max_pool", x)
    return _with_space(jnp.take_along_axis(rows, first_largest(rows)[..., None], -1)[..., 0], x, keepdims)


def _with_space(y, x, keepdims):
    """y of shape [b, c] with an axis of one entry for each axis of space of x, if these are kept."""
    return y.reshape(y.shape + (1,) * (x.ndim - 2)) if keepdims else y


@global_max_pool.jacobian
def _(y, x, *, keepdims):
    index = first_largest(_with_one_space_axis("global_max_pool", x))
    return (selection_rule(x, _with_space(index, x, keepdims), x.ndim - 2),)


def _with_one_space_axis(layer: str, x):
    """x as [b, c, n]."""
    _pooled_rank(layer, x, "all", None)
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


@layer(example=Example((4, 3, 6, 8), kernel_size=3, stride=2, padding=1))
def avg_pool(
    x: Float[Array, "..."],
    *,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Padding = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
) -> Float[Array, "..."]:
    """Mean of each window  y[b, c, p] = Σ_k x[b, c, stride·p + dilation·k − padding] / n,  k < kernel_size.

    ∂y[b,c,p,q]/∂x[b,c,u,v] = A[p,u]·B[q,v]  with one matrix for each axis; if windows tile x there is none: an index of x
    is a pair of p and k, and the derivative is 1/n

    `kernel_size` is one number for all axes after [b, c], or a tuple for as many of the last axes; by default `stride` is
    the same.  `padding` is one number, one for each axis, a pair (before, after) for each axis, or "same", which gives
    ⌈n/stride⌉ outputs with the odd one behind.  Numbers are at most half of the kernel.  Padding is 0.  n counts it; without
    `count_include_pad` n counts the entries of x alone, of which there is one at least, and `divisor_override` replaces n.
    With `ceil_mode` a last window may extend past the end if it starts in x or in the padding before x; what lies beyond the
    padding is never counted.
    """
    tables, pads = _windows("avg_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    return window_means(x, tables, _divisors(x, tables, pads, count_include_pad, divisor_override))


@avg_pool.jacobian
def _(y, x, *, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override):
    tables, pads = _windows("avg_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    return (mean_rule(y, x, tables, _divisors(x, tables, pads, count_include_pad, divisor_override)),)


def _divisors(x, tables, pads, count_include_pad, divisor_override) -> list[np.ndarray]:
    """For each axis the divisors of its windows; the divisor of a window is the product over the axes."""
    if divisor_override is not None:
        if isinstance(divisor_override, bool) or not isinstance(divisor_override, (int, float)):
            raise TypeError(f"avg_pool: divisor_override must be a number, got {divisor_override!r}")
        if divisor_override == 0:
            raise ValueError("avg_pool: divisor_override must not be 0")
        first, *others = (np.ones(len(table)) for table in tables)
        return [first * divisor_override, *others]
    return _places_counted(x, tables, pads if count_include_pad else [(0, 0)] * len(tables))


def _places_counted(x, tables, pads) -> list[np.ndarray]:
    """For each axis how many places of each window lie in x or in the padding, at least 1."""
    rows = zip(tables, x.shape[x.ndim - len(tables) :], pads, strict=True)
    counts = [((table >= -low) & (table < n + high)).sum(1) for table, n, (low, high) in rows]
    return [np.maximum(1, count).astype(float) for count in counts]


@layer(example=Example((4, 3, 5, 7), output_size=3))
def adaptive_avg_pool(x: Float[Array, "..."], *, output_size: int | tuple[int | None, ...]) -> Float[Array, "..."]:
    """Mean of m windows of n entries  y[b, c, p] = mean of x[b, c, u],  ⌊p·n/m⌋ ≤ u < ⌈(p+1)·n/m⌉.

    ∂y[b,c,p,q]/∂x[b,c,u,v] = A[p,u]·B[q,v]  with one matrix for each axis; none if m divides n

    `output_size` m is one number for all axes after [b, c], or a tuple for as many of the last axes, in which None keeps the
    size of x.
    """
    tables = _adaptive_window_tables("adaptive_avg_pool", x, output_size)
    return window_means(x, tables, _places_counted(x, tables, [(0, 0)] * len(tables)))


@adaptive_avg_pool.jacobian
def _(y, x, *, output_size):
    tables = _adaptive_window_tables("adaptive_avg_pool", x, output_size)
    return (mean_rule(y, x, tables, _places_counted(x, tables, [(0, 0)] * len(tables))),)


@layer(example=Example((4, 3, 6, 8)))
def global_avg_pool(x: Float[Array, "b c u ..."], *, keepdims: bool = False) -> Float[Array, "b c ..."]:
    """Mean of each channel  y[b, c] = mean of x[b, c, u]  over all axes of space.

    ∂y[b,c]/∂x[b,c,u,v] = 1/n,  one over the number n of entries

    With `keepdims` the axes of space stay, with one entry each.
    """
    return _with_space(jnp.mean(_with_one_space_axis("global_avg_pool", x), -1), x, keepdims)


@global_avg_pool.jacobian
def _(y, x, *, keepdims):
    inp, _, lead = space_and_batch_labels(x, y, x.ndim - 2)
    return (from_groups((*lead, *[()] * (y.ndim - 2)), (*lead, *inp), scale=1 / math.prod(x.shape[2:])),)
