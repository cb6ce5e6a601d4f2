"""Average pooling and pooling by norms: the mean or the p-norm of windows."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..algebra.factors import Label
from ..algebra.rules import from_groups, named_tensor
from ..algebra.selections import Selection
from ..checks import check_positive
from .conv import Numbers, Padding
from .conv_operators import take_tables
from .layer import layer
from .lengths import norm_and_gradient
from .pool_common import adaptive_windows, pool_windows, with_one_space_axis, with_space_axes
from .samples import Example
from .windows import mean_rule, space_and_batch_labels, window_means

__all__ = ["avg_pool", "adaptive_avg_pool", "global_avg_pool", "lp_pool", "global_lp_pool"]


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
    tables, pads = pool_windows("avg_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    return window_means(x, tables, _divisors(x, tables, pads, count_include_pad, divisor_override))


@avg_pool.jacobian
def _(y, x, *, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override):
    tables, pads = pool_windows("avg_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
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
    tables = adaptive_windows("adaptive_avg_pool", x, output_size)
    return window_means(x, tables, _places_counted(x, tables, [(0, 0)] * len(tables)))


@adaptive_avg_pool.jacobian
def _(y, x, *, output_size):
    tables = adaptive_windows("adaptive_avg_pool", x, output_size)
    return (mean_rule(y, x, tables, _places_counted(x, tables, [(0, 0)] * len(tables))),)


@layer(example=Example((4, 3, 6, 8)))
def global_avg_pool(x: Float[Array, "b c u ..."], *, keepdims: bool = False) -> Float[Array, "b c ..."]:
    """Mean of each channel  y[b, c] = mean of x[b, c, u]  over all axes of space.

    ∂y[b,c]/∂x[b,c,u,v] = 1/n,  one over the number n of entries

    With `keepdims` the axes of space stay, with one entry each.
    """
    return with_space_axes(jnp.mean(with_one_space_axis("global_avg_pool", x), -1), x, keepdims)


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
    tables, _ = pool_windows("lp_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
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
    return with_space_axes(_channel_norms(x, p)[0], x, keepdims)


def _channel_norms(x, p):
    """The norm of every channel [b, c], and its gradient in the shape of x."""
    rows = with_one_space_axis("global_lp_pool", x)
    norm, gradient = norm_and_gradient("global_lp_pool", rows, (2,), check_positive("global_lp_pool", "p", p))
    return norm[..., 0], gradient.reshape(x.shape)


@global_lp_pool.jacobian
def _(y, x, *, p, keepdims):
    inp, _, lead = space_and_batch_labels(x, y, x.ndim - 2)
    gradient = named_tensor(_channel_norms(x, p)[1], (*lead, *inp), "g", "sign(x) (|x| / y)^(p−1)")
    return (from_groups((*lead, *[()] * (y.ndim - 2)), (*lead, *inp), gradient),)
