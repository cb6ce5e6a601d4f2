"""Modules that branch, join, average or rearrange: most of their Jacobians have no numbers at all."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ShapeError
from ..factors import Label, Slice
from ..layer import layer
from ..rules import axis_names, diagonal, fresh_groups, from_groups, identity, regroup


@layer
def duplicate(x: Float[Array, "..."], *, n: int = 2) -> tuple[Float[Array, "..."], ...]:
    """n copies of the input  y1[...] = … = yn[...] = x[...].  Backward, the cotangents of the copies add up.

    ∂y[b,i]/∂x[b,i] = 1  for every copy
    """
    return (x,) * n


@duplicate.jacobian
def _(y, x, *, n):
    return ((identity,),) * n


@layer
def add(x1: Float[Array, "..."], x2: Float[Array, "..."]) -> Float[Array, "..."]:
    """Sum  y[...] = x1[...] + x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = 1     ∂y[b,i]/∂x2[b,i] = 1
    """
    return x1 + x2


@add.jacobian
def _(y, x1, x2):
    return identity, identity


@layer
def multiply(x1: Float[Array, "..."], x2: Float[Array, "..."]) -> Float[Array, "..."]:
    """Product  y[...] = x1[...] · x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = x2[b,i]     ∂y[b,i]/∂x2[b,i] = x1[b,i]
    """
    return x1 * x2


@multiply.jacobian
def _(y, x1, x2):
    return diagonal(x2, "x2"), diagonal(x1, "x1")


@layer
def maximum(x1: Float[Array, "..."], x2: Float[Array, "..."]) -> Float[Array, "..."]:
    """Larger of two  y[...] = x1[...] if x1[...] > x2[...] else x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = m[b,i]     ∂y[b,i]/∂x2[b,i] = (1-m)[b,i],  m = 1 where x1 > x2, else 0.  A tie selects x2.
    """
    return jnp.where((x1 > x2) | jnp.isnan(x1), x1, x2)


@maximum.jacobian
def _(y, x1, x2):
    m = ((x1 > x2) | jnp.isnan(x1)).astype(y.dtype)
    return diagonal(m, "m"), diagonal(1 - m, "(1-m)")


@layer
def concatenate(*xs: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Inputs one after the other along `axis`; all other axes must agree.

    ∂y[b,j]/∂xs1[b,i] = δ(j, i)     ∂y[b,j]/∂xs2[b,i] = δ(j, i + n1), …  with n1 the length of xs1
    """
    others = {np.delete(x.shape, axis).tobytes() if -x.ndim <= axis < x.ndim else None for x in xs}
    if len({x.ndim for x in xs}) != 1 or len(others) != 1 or None in others:
        raise ShapeError(f"concatenate: arguments of shapes {[x.shape for x in xs]} do not fit along axis {axis}")
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


@layer
def flatten(x: Float[Array, "..."], *, start: int = 1) -> Float[Array, "..."]:
    """All axes from `start` on merged into one, row-major: images [b,c,h,w] to vectors [b,c·h·w].

    ∂y[b,chw]/∂x[b,c,h,w] = 1
    """
    if not 0 <= start <= x.ndim:
        raise ShapeError(f"flatten: start = {start} is no axis of an array of shape {x.shape}")
    return x.reshape(*x.shape[:start], math.prod(x.shape[start:]))


@flatten.jacobian
def _(y, x, *, start):
    return (regroup,)


@layer
def mean(x: Float[Array, "..."], *, axis: int | tuple[int, ...] | None = None) -> Float[Array, "..."]:
    """Average over `axis` (default: all axes): the average loss of a batch.

    ∂y/∂x[b] = 1/n  with n the number of averaged entries
    """
    return jnp.mean(x, axis)


@mean.jacobian
def _(y, x, *, axis):
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
    inp = fresh_groups(x.shape, axis_names(x.ndim) if x.ndim > 1 else "b")
    out = [group for i, group in enumerate(inp) if i not in axes]
    return (from_groups(out, inp, scale=y.size / x.size if x.size else 1.0),)
