"""Modules that put the entries of an array into a larger one, or into other axes."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..algebra.factors import Label
from ..algebra.rules import axis_names, fresh_groups, from_groups, placed
from ..algebra.selections import Selection
from ..checks import check_axis, check_integer, check_number
from ..errors import ShapeError
from .conv import padding_pairs
from .layer import layer
from .samples import Example

__all__ = ["pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"]


# Which of n entries stands at place i, which may lie before 0 or behind n − 1
PLACES = {
    "reflect": lambda i, n: n - 1 - abs(i % max(1, 2 * n - 2) - (n - 1)),
    "symmetric": lambda i, n: np.minimum(i % (2 * n), 2 * n - 1 - i % (2 * n)),
    "replicate": lambda i, n: np.clip(i, 0, n - 1),
    "circular": lambda i, n: i % n,
}
NUMPY_NAMES = {"edge": "replicate", "wrap": "circular"}


@layer(plain=True, example=Example((4, 5), padding=((1, 2),)))
def pad(
    x: Float[Array, "..."],
    *,
    padding: int | tuple[int, ...] | tuple[tuple[int, int], ...],
    mode: str = "constant",
    value: float = 0.0,
) -> Float[Array, "..."]:
    """Entries before and after those of x  y[..., i] = x[..., i − n1]  where there is one, else as `mode` says.

    ∂y[b,i]/∂x[b,j] = δ(i, j + n1)  with n1 the number of entries before x;  in modes that repeat entries it is δ(j, k[i])

    `padding` is one number for all axes, or a tuple for as many of the last axes, with a number or a pair (before, after)
    for each.  With mode "constant" the new entries are `value`.  Else they are entries of x: of "a b c" two more on either
    side give "c b a b c b a" with "reflect", "b a a b c c b" with "symmetric", "a a a b c c c" with "replicate" or "edge",
    and "b c a b c a b" with "circular" or "wrap".  They may be more than x has.  Raises ValueError for negative numbers.
    """
    edges, value = _edges(x, padding), check_number("pad", "value", value)
    if mode == "constant":
        return jnp.pad(x, edges, constant_values=value)
    for axis, places in _places(x, edges, mode).items():
        x = jnp.take(x, places, axis)
    return x


def _edges(x, padding) -> list[tuple[int, int]]:
    """The padding before and after, for each axis."""
    rank = len(padding) if isinstance(padding, tuple) else x.ndim
    if rank > x.ndim:
        raise ShapeError(f"pad: argument 'x' has shape {x.shape}, expected an axis for each entry of padding {padding}")
    return [(0, 0)] * (x.ndim - rank) + padding_pairs("pad", padding, rank)


def _places(x, edges, mode) -> dict[int, np.ndarray]:
    """For each axis with padding, which entry of x every entry of y is."""
    mode = NUMPY_NAMES.get(mode, mode)
    if mode not in PLACES:
        raise ValueError(f"pad: mode must be one of constant, {', '.join([*PLACES, *NUMPY_NAMES])}, got {mode!r}")
    padded = {axis: pair for axis, pair in enumerate(edges) if pair != (0, 0)}
    if any(x.shape[axis] == 0 for axis in padded):
        raise ShapeError(f"pad: argument 'x' has shape {x.shape}, expected entries to repeat with mode {mode!r}")
    return {axis: PLACES[mode](np.arange(-low, x.shape[axis] + high), x.shape[axis]) for axis, (low, high) in padded.items()}


@pad.jacobian
def _(y, x, *, padding, mode, value):
    edges = _edges(x, padding)
    if mode == "constant":
        return (placed({axis: (before, 1) for axis, (before, _) in enumerate(edges)}),)
    inp = fresh_groups(x.shape, axis_names(x.ndim, "j"))
    out, factors = list(inp), []
    for k, (axis, places) in enumerate(_places(x, edges, mode).items()):
        out[axis] = (Label(x.ndim + axis, len(places), "i" if axis == x.ndim - 1 else ""),)
        factors.append(Selection(jnp.asarray(places, jnp.int32), (out[axis], inp[axis]), "klm"[k % 3]))
    return (from_groups(out, inp, *factors),)


@layer(plain=True, example=Example((2, 8, 3, 2), factor=2))
def pixel_shuffle(x: Float[Array, "... c h w"], *, factor: int) -> Float[Array, "... c h w"]:
    """Channels as pixels  y[..., c, h·r + p, w·r + q] = x[..., c·r² + p·r + q, h, w]  with r = `factor`.

    ∂y[b,c,hp,wq]/∂x[b,cpq,h,w] = 1

    [..., c·r², h, w] becomes [..., c, h·r, w·r].  Raises ShapeError where r² does not divide the channels.
    """
    *lead, c, r, _, h, w = _shuffled_sizes(x, factor)
    parts = x.reshape(*lead, c, r, r, h, w)
    order = [*range(len(lead) + 1), *(len(lead) + k for k in (3, 1, 4, 2))]
    return parts.transpose(order).reshape(*lead, c, h * r, w * r)


def _shuffled_sizes(x, factor) -> list[int]:
    r = check_integer("pixel_shuffle", "factor", factor, 1)
    *lead, channels, h, w = x.shape
    if channels % r**2:
        raise ShapeError(
            f"pixel_shuffle: argument 'x' has shape {x.shape}, expected channels that are a multiple of factor² = {r**2}"
        )
    return [*lead, channels // r**2, r, r, h, w]


@pixel_shuffle.jacobian
def _(y, x, *, factor):
    sizes = _shuffled_sizes(x, factor)
    names = [*axis_names(len(sizes) - 4, "c"), *"pqhw"]
    *lead, c, p, q, h, w = fresh_groups(sizes, names)
    return (from_groups((*lead, c, h + p, w + q), (*lead, c + p + q, h, w)),)


@layer(plain=True, example=Example((2, 2, 6, 4), factor=2))
def pixel_unshuffle(x: Float[Array, "... c h w"], *, factor: int) -> Float[Array, "... c h w"]:
    """Pixels as channels  y[..., c·r² + p·r + q, h, w] = x[..., c, h·r + p, w·r + q]  with r = `factor`.

    ∂y[b,cpq,h,w]/∂x[b,c,hp,wq] = 1

    [..., c, h·r, w·r] becomes [..., c·r², h, w].  Raises ShapeError where r does not divide the height and the width.
    """
    *lead, c, h, r, w, _ = _unshuffled_sizes(x, factor)
    order = [*range(len(lead) + 1), *(len(lead) + k for k in (2, 4, 1, 3))]
    return x.reshape(*lead, c, h, r, w, r).transpose(order).reshape(*lead, c * r * r, h, w)


def _unshuffled_sizes(x, factor) -> list[int]:
    r = check_integer("pixel_unshuffle", "factor", factor, 1)
    *lead, c, height, width = x.shape
    if height % r or width % r:
        raise ShapeError(
            f"pixel_unshuffle: argument 'x' has shape {x.shape}, expected a height and a width that {r} = factor divides"
        )
    return [*lead, c, height // r, r, width // r, r]


@pixel_unshuffle.jacobian
def _(y, x, *, factor):
    sizes = _unshuffled_sizes(x, factor)
    *lead, c, h, p, w, q = fresh_groups(sizes, [*axis_names(len(sizes) - 4, "c"), *"hpwq"])
    return (from_groups((*lead, c + p + q, h, w), (*lead, c, h + p, w + q)),)


@layer(plain=True, example=Example((2, 6, 3), groups=2))
def channel_shuffle(x: Float[Array, "b c ..."], *, groups: int, axis: int = 1) -> Float[Array, "b c ..."]:
    """Channels of groups, taken in turn  y[b, c·n + g] = x[b, g·m + c],  for n = `groups` of m channels along `axis`.

    ∂y[b,cg,i]/∂x[b,gc,i] = 1

    Raises ShapeError where the groups do not divide the channels.
    """
    axis, sizes = _grouped_sizes(x, groups, axis)
    return x.reshape(sizes).swapaxes(axis, axis + 1).reshape(x.shape)


def _grouped_sizes(x, groups, axis) -> tuple[int, list[int]]:
    """The axis of the channels, and the shape of x in which it is two: groups and the channels of one."""
    axis, n = check_axis("channel_shuffle", x, axis), check_integer("channel_shuffle", "groups", groups, 1)
    if x.shape[axis] % n:
        raise ShapeError(
            f"channel_shuffle: argument 'x' has shape {x.shape}, expected channels along axis {axis} that {n} groups divide"
        )
    return axis, [*x.shape[:axis], n, x.shape[axis] // n, *x.shape[axis + 1 :]]


@channel_shuffle.jacobian
def _(y, x, *, groups, axis):
    axis, sizes = _grouped_sizes(x, groups, axis)
    names = axis_names(x.ndim)
    labels = fresh_groups(sizes, [*names[:axis], "g", "c", *names[axis + 1 :]])
    before, (g, c), behind = labels[:axis], labels[axis : axis + 2], labels[axis + 2 :]
    return (from_groups((*before, c + g, *behind), (*before, g + c, *behind)),)
