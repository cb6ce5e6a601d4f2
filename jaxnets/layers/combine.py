"""Modules that branch, join, average or rearrange: most of their Jacobians have no numbers at all."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ShapeError
from ..factors import Label, Slice
from ..layer import check_axis, layer
from ..rules import axis_names, diagonal, fresh_groups, from_groups, identity, regroup


@layer(plain=True)
def duplicate(x: Float[Array, "..."], *, n: int = 2) -> tuple[Float[Array, "..."], ...]:
    """n copies of the input  y1[...] = … = yn[...] = x[...].  Backward, the cotangents of the copies add up.

    ∂y[b,i]/∂x[b,i] = 1  for every copy
    """
    if not isinstance(n, int):
        raise TypeError(f"duplicate: n must be an integer, got {n!r}")
    if n < 1:
        raise ValueError(f"duplicate: n must be positive, got {n}")
    return (x,) * n


@duplicate.jacobian
def _(y, x, *, n):
    return ((identity,),) * n


@layer(plain=True)
def add(x1: Float[Array, "*#s"], x2: Float[Array, "*#s"]) -> Float[Array, "..."]:
    """Sum  y[...] = x1[...] + x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = 1     ∂y[b,i]/∂x2[b,i] = 1
    """
    return x1 + x2


@add.jacobian
def _(y, x1, x2):
    return identity, identity


@layer(plain=True)
def multiply(x1: Float[Array, "*#s"], x2: Float[Array, "*#s"]) -> Float[Array, "..."]:
    """Product  y[...] = x1[...] · x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = x2[b,i]     ∂y[b,i]/∂x2[b,i] = x1[b,i]
    """
    return x1 * x2


@multiply.jacobian
def _(y, x1, x2):
    return diagonal(x2, "x2"), diagonal(x1, "x1")


@layer(plain=True)
def maximum(x1: Float[Array, "*#s"], x2: Float[Array, "*#s"]) -> Float[Array, "..."]:
    """Larger of two  y[...] = x1[...] if x1[...] > x2[...] else x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = m[b,i]     ∂y[b,i]/∂x2[b,i] = (1-m)[b,i],  m = 1 where x1 > x2, else 0.  A tie selects x2.
    """
    return jnp.where((x1 > x2) | jnp.isnan(x1), x1, x2)


@maximum.jacobian
def _(y, x1, x2):
    m = ((x1 > x2) | jnp.isnan(x1)).astype(y.dtype)
    return diagonal(m, "m"), diagonal(1 - m, "(1-m)")


@layer(plain=True)
def concatenate(*xs: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Inputs one after the other along `axis`; all other axes must agree.

    ∂y[b,j]/∂xs1[b,i] = δ(j, i)     ∂y[b,j]/∂xs2[b,i] = δ(j, i + n1), …  with n1 the length of xs1
    """
    if not xs:
        raise TypeError("concatenate: no arguments")
    for i, x in enumerate(xs):
        along = check_axis("concatenate", x, axis)
        if x.ndim != xs[0].ndim or any(a != along and n != xs[0].shape[a] for a, n in enumerate(x.shape)):
            raise ShapeError(
                f"concatenate: argument 'xs{i + 1}' has shape {x.shape}, expected {xs[0].shape} as 'xs1' but for axis {axis}"
            )
    return jnp.concatenate(xs, axis)


@concatenate.jacobian
def _(y, *xs, axis):
    starts = np.cumsum([0, *(x.shape[axis] for x in xs)])
    return tuple(place(y.shape, x.shape, axis, int(start)) for x, start in zip(xs, starts, strict=False))


def place(big_shape, small_shape, axis, start):
    """The rule of an array that stands in a bigger one at `start` along `axis`."""
    names = axis_names(len(big_shape))
    big, small = list(fresh_groups(big_shape, names)), list(fresh_groups(big_shape, names))
    axis %= len(big_shape)
    small[axis] = (Label(len(big_shape), small_shape[axis], "i"),)
    big[axis] = (big[axis][0]._replace(name="j"),)
    return from_groups(big, small, Slice(start, 1, (small[axis], big[axis])))


@layer(plain=True)
def flatten(x: Float[Array, "..."], *, start: int = 1) -> Float[Array, "..."]:
    """All axes from `start` on merged into one, row-major: images [b,c,h,w] to vectors [b,c·h·w].

    ∂y[b,chw]/∂x[b,c,h,w] = 1
    """
    if start != x.ndim:
        start = check_axis("flatten", x, start, "start")
    return x.reshape(*x.shape[:start], math.prod(x.shape[start:]))


@flatten.jacobian
def _(y, x, *, start):
    return (regroup,)


@layer
def mean(x: Float[Array, "..."], *, axis: int | tuple[int, ...] | None = None) -> Float[Array, "..."]:
    """Average over `axis` (default: all axes): the average loss of a batch.

    ∂y/∂x[b] = 1/n  with n the number of averaged entries
    """
    return jnp.mean(x, _averaged("mean", x, axis))


def _averaged(name, x, axis) -> tuple[int, ...]:
    """The axes that `axis` means: one, several, or all for None."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = [check_axis(name, x, a) for a in (axis if isinstance(axis, tuple) else (axis,))]
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{name}: axis {axis} names an axis of an array of shape {x.shape} twice")
    return tuple(axes)


@mean.jacobian
def _(y, x, *, axis):
    axes = _averaged("mean", x, axis)
    inp = fresh_groups(x.shape, axis_names(x.ndim) if x.ndim > 1 else "b")
    out = [group for i, group in enumerate(inp) if i not in axes]
    return (from_groups(out, inp, scale=y.size / x.size if x.size else 1.0),)
