"""Pooling: the largest entry, the mean or a norm of windows, and what puts the largest entries back."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..algebra.factors import Label
from ..algebra.rules import first_largest, from_groups, named_tensor
from ..algebra.selections import Selection, as_int32
from ..checks import as_array, check_per_axis, check_positive, check_range, checked, is_floating
from ..errors import DTypeError, ShapeError
from .conv import Numbers, Padding, padding_pairs
from .conv_operators import take_tables
from .layer import layer
from .lengths import norm_and_gradient
from .samples import Example, Labels
from .windows import largest_in_windows, mean_rule, selection_rule, space_and_batch_labels, window_means

__all__ = [
    "max_pool", "max_pool_indices", "max_unpool", "adaptive_max_pool", "adaptive_max_pool_indices", "global_max_pool",
    "avg_pool", "adaptive_avg_pool", "global_avg_pool", "lp_pool", "global_lp_pool",
]  # fmt: skip

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


def _windows(layer: str, x, kernel_size, stride, padding, dilation, ceil_mode) -> tuple[list[np.ndarray], Pairs]:
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


def _adaptive_window_tables(layer: str, x, output_size) -> list[np.ndarray]:
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


@checked
def max_pool_indices(
    x: Float[Array, "..."],
    *,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Padding = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
) -> Int[Array, "..."]:
    """Where `max_pool` finds the largest entry of each window: its row-major index in the space of x, as torch counts.

    ONNX counts through the whole of x: its indices are these plus the number of entries of all images before.  A window of
    padding alone has the index −1.

    >>> jn.max_pool_indices(jnp.array([[[1.0, 3.0, 2.0, 5.0]]]), kernel_size=2)
    Array([[[1, 3]]], dtype=int32)
    """
    x = _floating("max_pool_indices", x)
    return largest_in_windows(x, _windows("max_pool_indices", x, kernel_size, stride, padding, dilation, ceil_mode)[0])[1]


def _floating(name: str, x):
    """x as an array; DTypeError if it is not floating."""
    x = as_array(f"{name}: argument 'x'", x)
    if not is_floating(x):
        raise DTypeError(f"{name}: argument 'x' has dtype {x.dtype}, expected floating")
    return x


@layer(plain=True, example=Example((2, 3, 2, 2), Labels((2, 3, 2, 2), 16), kernel_size=2))
def max_unpool(
    x: Float[Array, "*s"],
    indices: Int[Array, "*s"],
    *,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    output_size: Numbers | None = None,
) -> Float[Array, "..."]:
    """The entries of x at places of a larger space  y[b, c, indices[b, c, p]] = x[b, c, p], and 0 elsewhere.

    ∂y[b,c,p,q]/∂x[b,c,u,v] = δ(uv, k[b,c,p,q])  with k the index of the entry that was put there

    It puts back what `max_pool` took: `indices` are those of `max_pool_indices`, row-major in the space of y.  That has
    (n − 1)·stride + kernel_size − 2·padding places for n, or `output_size`.  `kernel_size` is one number for all axes after
    [b, c], or a tuple for as many of the last axes.  Of several entries with one index the last counts; an index of −1 goes
    nowhere.  Indices out of range raise ValueError outside `jit` and go nowhere inside.
    """
    source, rank = _sources(x, indices, kernel_size, stride, padding, output_size)
    lead = x.shape[: x.ndim - rank]
    rows = x.reshape(math.prod(lead), -1) if x.size else jnp.zeros((math.prod(lead), 1), x.dtype)
    places = source.reshape(len(rows), math.prod(source.shape[len(lead) :]))
    y = jnp.take_along_axis(rows, jnp.maximum(places, 0), 1)
    return jnp.where(places < 0, 0, y).reshape(source.shape)


def _sources(x, indices, kernel_size, stride, padding, output_size):
    """For every place of y the row-major index in the space of x of what is put there, −1 if nothing is; and the rank."""
    rank = space_rank("max_unpool", x, "kernel_size", kernel_size)
    if indices.shape != x.shape:
        raise ShapeError(f"max_unpool: argument 'indices' has shape {indices.shape}, expected {x.shape} as 'x'")
    kernel = check_per_axis("max_unpool", "kernel_size", kernel_size, rank)
    strides = kernel if stride is None else check_per_axis("max_unpool", "stride", stride, rank)
    pads = check_per_axis("max_unpool", "padding", padding, rank, 0)
    if output_size is None:
        rows = zip(x.shape[-rank:], kernel, strides, pads, strict=True)
        space = [(n - 1) * s + k - 2 * p for n, k, s, p in rows]
        if min(space) < 1:
            raise ShapeError(f"max_unpool: argument 'x' of shape {x.shape} leaves nothing beside padding {padding}")
    else:
        space = list(check_per_axis("max_unpool", "output_size", output_size, rank))
    lead, count = x.shape[: x.ndim - rank], math.prod(x.shape[x.ndim - rank :])
    check_range("max_unpool", "indices", indices, math.prod(space), -1)
    places = as_int32(indices).reshape(math.prod(lead), count)
    places = jnp.where(places < 0, math.prod(space), places)
    nothing = jnp.full((math.prod(lead), math.prod(space)), -1, jnp.int32)
    own = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32), places.shape)
    source = nothing.at[jnp.arange(len(places))[:, None], places].max(own, mode="drop")
    return source.reshape(*lead, *space), rank


@max_unpool.jacobian
def _(y, x, indices, *, kernel_size, stride, padding, output_size):
    return selection_rule(x, *_sources(x, indices, kernel_size, stride, padding, output_size)), None


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


@checked
def adaptive_max_pool_indices(x: Float[Array, "..."], *, output_size: int | tuple[int | None, ...]) -> Int[Array, "..."]:
    """Where `adaptive_max_pool` finds the largest entry of each window: its row-major index in the space of x.

    >>> jn.adaptive_max_pool_indices(jnp.array([[[1.0, 3.0, 2.0, 5.0]]]), output_size=2)
    Array([[[1, 3]]], dtype=int32)
    """
    x = _floating("adaptive_max_pool_indices", x)
    return largest_in_windows(x, _adaptive_window_tables("adaptive_max_pool_indices", x, output_size))[1]


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
    space_rank(layer, x, "all", None)
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


@layer(example=Example((4, 3, 6, 8), kernel_size=3, stride=2, p=3.0))
def lp_pool(
    x: Float[Array, "..."],
    *,
    kernel_size: Numbers,
    p: float = 2.0,
    stride: Numbers | None = None,
    padding: Padding = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
) -> Float[Array, "..."]:
    """Norm of each window  y[b, c, q] = (Σ_k |x[b, c, stride·q + dilation·k − padding]|^p)^(1/p),  k < kernel_size.

    ∂y[b,c,p,q]/∂x[b,c,u,v] = Σ_kl g[b,c,p,q,k,l]·δ(u, m[p,k])·δ(v, n[q,l]),  g = sign(x) (|x| / y)^(p−1)  of the entry at
    places k and l of a window, which is the entry at m and n of x

    Windows are those of `max_pool`; padding is 0.  g is 0 where an entry or y is 0.  Every window is divided by its largest
    entry, so that the powers neither overflow nor vanish.  It is ONNX's LpPool.  torch sums x^p without the absolute value,
    and takes 0 for a negative sum: it gives another number for an odd p where x is negative.  Raises ValueError unless p is
    positive and finite.
    """
    return _window_norms(x, kernel_size, p, stride, padding, dilation, ceil_mode)[0]


def _window_norms(x, kernel_size, p, stride, padding, dilation, ceil_mode):
    """The norm of every window [..., *space], its gradient [..., *space, *kernel], and the tables of the windows.

    A table holds −1 for places outside x.
    """
    p = check_positive("lp_pool", "p", p)
    tables, _ = _windows("lp_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    sizes = x.shape[x.ndim - len(tables) :]
    inside = [(table >= 0) & (table < n) for table, n in zip(tables, sizes, strict=True)]
    patches = take_tables(x, [np.where(hit, table, n) for hit, table, n in zip(inside, tables, sizes, strict=True)])
    norm, gradient = norm_and_gradient("lp_pool", patches, tuple(range(x.ndim, x.ndim + len(tables))), p)
    tables = [np.where(hit, table, -1) for hit, table in zip(inside, tables, strict=True)]
    return norm.reshape(norm.shape[: x.ndim]), gradient, tables


@lp_pool.jacobian
def _(y, x, *, kernel_size, p, stride, padding, dilation, ceil_mode):
    _, gradient, tables = _window_norms(x, kernel_size, p, stride, padding, dilation, ceil_mode)
    inp, out, lead = space_and_batch_labels(x, y, len(tables))
    start = x.ndim + y.ndim
    places = [(Label(start + a, table.shape[1], "klm"[a % 3]),) for a, table in enumerate(tables)]
    slopes = named_tensor(gradient, (*lead, *out, *places), "g", "sign(x) (|x| / y)^(p−1)")
    selections = [
        Selection(jnp.asarray(table, jnp.int32), (out[a], places[a], inp[a]), "mno"[a % 3]) for a, table in enumerate(tables)
    ]
    return (from_groups((*lead, *out), (*lead, *inp), slopes, *selections),)


@layer(example=Example((4, 3, 6, 8), p=3.0))
def global_lp_pool(x: Float[Array, "b c u ..."], *, p: float = 2.0, keepdims: bool = False) -> Float[Array, "b c ..."]:
    """Norm of each channel  y[b, c] = (Σ_u |x[b, c, u]|^p)^(1/p)  over all axes of space.

    ∂y[b,c]/∂x[b,c,u,v] = g[b,c,u,v],  g = sign(x) (|x| / y)^(p−1)

    With `keepdims` the axes of space stay, with one entry each.  g is 0 where an entry or y is 0.  Raises ValueError unless
    p is positive and finite.
    """
    return _with_space(_channel_norms(x, p)[0], x, keepdims)


def _channel_norms(x, p):
    """The norm of every channel [b, c], and its gradient in the shape of x."""
    rows = _with_one_space_axis("global_lp_pool", x)
    norm, gradient = norm_and_gradient("global_lp_pool", rows, (2,), check_positive("global_lp_pool", "p", p))
    return norm[..., 0], gradient.reshape(x.shape)


@global_lp_pool.jacobian
def _(y, x, *, p, keepdims):
    inp, _, lead = space_and_batch_labels(x, y, x.ndim - 2)
    gradient = named_tensor(_channel_norms(x, p)[1], (*lead, *inp), "g", "sign(x) (|x| / y)^(p−1)")
    return (from_groups((*lead, *[()] * (y.ndim - 2)), (*lead, *inp), gradient),)
