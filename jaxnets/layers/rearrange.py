"""Modules that put the entries of an array into a larger one, or into other axes."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..algebra.rules import axis_names, fresh_groups, from_groups, placed
from ..checks import check_integer, check_number
from ..errors import ShapeError
from .conv import padding_pairs
from .layer import layer
from .samples import Example

__all__ = ["pad", "pixel_shuffle"]


@layer(plain=True, example=Example((4, 5), padding=((1, 2),)))
def pad(
    x: Float[Array, "..."], *, padding: int | tuple[int, ...] | tuple[tuple[int, int], ...], value: float = 0.0
) -> Float[Array, "..."]:
    """A constant before and after the entries of x  y[..., i] = x[..., i − n1]  where there is one, else value.

    ∂y[b,i]/∂x[b,j] = δ(i, j + n1)  with n1 the number of entries before x

    `padding` is one number for all axes, or a tuple for as many of the last axes, with a number or a pair (before, after)
    for each.  Raises ValueError for negative numbers.
    """
    return jnp.pad(x, _edges(x, padding), constant_values=check_number("pad", "value", value))


def _edges(x, padding) -> list[tuple[int, int]]:
    """The padding before and after, for each axis."""
    rank = len(padding) if isinstance(padding, tuple) else x.ndim
    if rank > x.ndim:
        raise ShapeError(f"pad: argument 'x' has shape {x.shape}, expected an axis for each entry of padding {padding}")
    return [(0, 0)] * (x.ndim - rank) + padding_pairs("pad", padding, rank)


@pad.jacobian
def _(y, x, *, padding, value):
    return (placed({axis: (before, 1) for axis, (before, _) in enumerate(_edges(x, padding))}),)


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
