"""Max pooling: the largest entry of windows, where it is, and what puts it back."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..algebra.rules import first_largest
from ..algebra.selections import as_int32
from ..checks import as_array, check_per_axis, check_range, checked, is_floating
from ..errors import DTypeError, ShapeError
from .conv import Numbers, Padding
from .layer import layer
from .pool_common import adaptive_windows, pool_windows, space_rank, with_one_space_axis, with_space_axes
from .samples import Example, Labels
from .windows import largest_in_windows, selection_rule

__all__ = [
    "max_pool", "max_pool_indices", "max_unpool", "adaptive_max_pool", "adaptive_max_pool_indices", "global_max_pool",
]  # fmt: skip


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
    return largest_in_windows(x, pool_windows("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)[0])[0]


@max_pool.jacobian
def _(y, x, *, kernel_size, stride, padding, dilation, ceil_mode):
    tables, _ = pool_windows("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
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
    return largest_in_windows(x, pool_windows("max_pool_indices", x, kernel_size, stride, padding, dilation, ceil_mode)[0])[
        1
    ]


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
    return largest_in_windows(x, adaptive_windows("adaptive_max_pool", x, output_size))[0]


@adaptive_max_pool.jacobian
def _(y, x, *, output_size):
    tables = adaptive_windows("adaptive_max_pool", x, output_size)
    return (selection_rule(x, largest_in_windows(x, tables)[1], len(tables)),)


@checked
def adaptive_max_pool_indices(x: Float[Array, "..."], *, output_size: int | tuple[int | None, ...]) -> Int[Array, "..."]:
    """Where `adaptive_max_pool` finds the largest entry of each window: its row-major index in the space of x.

    >>> jn.adaptive_max_pool_indices(jnp.array([[[1.0, 3.0, 2.0, 5.0]]]), output_size=2)
    Array([[[1, 3]]], dtype=int32)
    """
    x = _floating("adaptive_max_pool_indices", x)
    return largest_in_windows(x, adaptive_windows("adaptive_max_pool_indices", x, output_size))[1]


@layer(plain=True, example=Example((4, 3, 6, 8)))
def global_max_pool(x: Float[Array, "b c u ..."], *, keepdims: bool = False) -> Float[Array, "b c ..."]:
    """Largest entry of each channel  y[b, c] = max_u x[b, c, u]  over all axes of space.

    ∂y[b,c]/∂x[b,c,u,v] = δ(uv, k[b,c])  with k the index of the largest entry, of equal ones the first

    With `keepdims` the axes of space stay, with one entry each.
    """
    rows = with_one_space_axis("global_max_pool", x)
    return with_space_axes(jnp.take_along_axis(rows, first_largest(rows)[..., None], -1)[..., 0], x, keepdims)


@global_max_pool.jacobian
def _(y, x, *, keepdims):
    index = first_largest(with_one_space_axis("global_max_pool", x))
    return (selection_rule(x, with_space_axes(index, x, keepdims), x.ndim - 2),)
