"""Modules that branch, join or rearrange.  Most of their Jacobians hold no numbers."""

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..algebra.factors import Label
from ..algebra.rules import axis_names, diagonal, fresh_groups, from_groups, identity, placed, regroup, scaled, sliced
from ..algebra.selections import Slice
from ..checks import check_axis, check_integer
from ..errors import ShapeError
from .accurate import minus_abs
from .layer import layer
from .samples import Example

__all__ = [
    "duplicate", "add", "subtract", "multiply", "maximum", "minimum", "logaddexp", "concatenate", "stack", "split",
    "flatten",
]  # fmt: skip


MAX_COPIES = 10_000


@layer(plain=True)
def duplicate(x: Float[Array, "..."], *, n: int = 2) -> tuple[Float[Array, "..."], ...]:
    """n copies of the input  y1[...] = … = yn[...] = x[...].  The VJP adds the cotangents of the copies.

    ∂y[b,i]/∂x[b,i] = 1  for every copy
    """
    check_integer("duplicate", "n", n, 1, MAX_COPIES)
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
def subtract(x1: Float[Array, "*#s"], x2: Float[Array, "*#s"]) -> Float[Array, "..."]:
    """Difference  y[...] = x1[...] − x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = 1     ∂y[b,i]/∂x2[b,i] = −1
    """
    return x1 - x2


@subtract.jacobian
def _(y, x1, x2):
    return identity, scaled(-1)


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
    return _selection_rules((x1 > x2) | jnp.isnan(x1), y)


def _selection_rules(first, y):
    """The rules of a choice between two arrays; `first` is where the first one is chosen."""
    m = first.astype(y.dtype)
    return diagonal(m, "m"), diagonal(1 - m, "(1-m)")


@layer(plain=True)
def minimum(x1: Float[Array, "*#s"], x2: Float[Array, "*#s"]) -> Float[Array, "..."]:
    """Smaller of two  y[...] = x1[...] if x1[...] < x2[...] else x2[...], with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = m[b,i]     ∂y[b,i]/∂x2[b,i] = (1-m)[b,i],  m = 1 where x1 < x2, else 0.  A tie selects x2.
    """
    return jnp.where((x1 < x2) | jnp.isnan(x1), x1, x2)


@minimum.jacobian
def _(y, x1, x2):
    return _selection_rules((x1 < x2) | jnp.isnan(x1), y)


@layer
def logaddexp(x1: Float[Array, "*#s"], x2: Float[Array, "*#s"]) -> Float[Array, "..."]:
    """Smooth maximum of two  y[...] = log(exp(x1[...]) + exp(x2[...])), with NumPy broadcasting.

    ∂y[b,i]/∂x1[b,i] = p1[b,i]     ∂y[b,i]/∂x2[b,i] = p2[b,i],  p1 = 1 / (1 + exp(x2 − x1)),  p2 = 1 / (1 + exp(x1 − x2))

    Nothing overflows.  Where x1 − x2 is rounded, its relative error times |x1 − x2| is that of the smaller derivative.  Of
    two times ∞ both derivatives are ½; if both are −∞ the result is −∞, with Jacobian 0.
    """
    d = _difference(x1, x2)
    return jnp.where(x1 > x2, x1, x2) + jnp.log1p(jnp.exp(minus_abs(d)))


def _difference(x1, x2):
    """x1 − x2; 0 where they are equal, even if both are infinite."""
    infinite = jnp.isinf(x1) & (x1 == x2)
    return jnp.where(infinite, 0, x1) - jnp.where(infinite, 0, x2)


@logaddexp.jacobian
def _(y, x1, x2):
    d, nothing = _difference(x1, x2), jnp.isneginf(y)
    p1, p2 = (jnp.where(nothing, 0, lax.logistic(z)) for z in (d, -d))
    return diagonal(p1, "p1", "1 / (1 + exp(x2 − x1))"), diagonal(p2, "p2", "1 / (1 + exp(x1 − x2))")


@layer(plain=True)
def concatenate(*xs: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Inputs one after the other along `axis`; all other axes must be equal.

    ∂y[b,i]/∂xs1[b,j] = δ(i, j)     ∂y[b,i]/∂xs2[b,j] = δ(i, j + n1), …  with n1 the length of xs1
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


def concatenate_rules(y, xs, axis):
    """The rules of concatenation: every x is a part of y, and begins where the one before it ends."""
    ends = itertools.accumulate(x.shape[axis] for x in xs)
    return tuple(placed({axis % y.ndim: (end - x.shape[axis], 1)}) for x, end in zip(xs, ends, strict=True))


@concatenate.jacobian
def _(y, *xs, axis):
    return concatenate_rules(y, xs, axis)


@layer(plain=True)
def stack(*xs: Float[Array, "..."], axis: int = 0) -> Float[Array, "..."]:
    """Inputs of one shape as the entries of a new axis.

    ∂y[s,b,i]/∂xs1[b,i] = δ(s, 0)     ∂y[s,b,i]/∂xs2[b,i] = δ(s, 1), …
    """
    if not xs:
        raise TypeError("stack: no arguments")
    for i, x in enumerate(xs):
        if x.shape != xs[0].shape:
            raise ShapeError(f"stack: argument 'xs{i + 1}' has shape {x.shape}, expected {xs[0].shape} as 'xs1'")
    check_axis("stack", jax.ShapeDtypeStruct((*xs[0].shape, 1), xs[0].dtype), axis)
    return jnp.stack(xs, axis)


def stack_rules(y, xs, axis):
    """The rules of stacking: x_k is y at the index k of a new axis."""
    inp = fresh_groups(xs[0].shape, axis_names(xs[0].ndim))
    new = (Label(y.ndim, len(xs), "s"),)
    out = list(inp)
    out.insert(axis % y.ndim, new)
    return tuple(from_groups(out, inp, Slice(k, 1, ((), new))) for k in range(len(xs)))


@stack.jacobian
def _(y, *xs, axis):
    return stack_rules(y, xs, axis)


@layer(plain=True, example=Example((4, 6)))
def split(x: Float[Array, "..."], *, sections: int | tuple[int, ...] = 2, axis: int = -1) -> tuple[Float[Array, "..."], ...]:
    """Pieces of x along `axis`: `sections` is their number, if they have equal lengths, or their lengths.

    ∂y[b,j]/∂x[b,i] = δ(i, j)  of the first piece, δ(i, j + n1) of the second, … with n1 the length of the first

    Raises ValueError where the lengths do not add up to that of the axis.
    """
    return tuple(jnp.split(x, _piece_starts(x, sections, axis)[1:], axis))


def _piece_starts(x, sections, axis) -> list[int]:
    """The indices at which the pieces of x along an axis begin."""
    n = x.shape[check_axis("split", x, axis)]
    equal = isinstance(sections, int)
    if not equal and not (isinstance(sections, tuple) and all(isinstance(length, int) for length in sections)):
        raise TypeError(f"split: sections must be an integer or a tuple of integers, got {sections!r}")
    if equal and (sections < 1 or n % sections):
        raise ValueError(f"split: sections {sections} do not divide axis {axis} of an array of shape {x.shape}")
    lengths = [n // sections] * sections if equal else list(sections)
    if sum(lengths) != n or min(lengths) < 0:
        raise ValueError(f"split: sections {sections} do not add up to axis {axis} of an array of shape {x.shape}")
    return [0, *itertools.accumulate(lengths)][:-1]


@split.jacobian
def _(ys, x, *, sections, axis):
    return tuple((sliced({axis % x.ndim: (start, 1)}),) for start in _piece_starts(x, sections, axis))


@layer(plain=True)
def flatten(x: Float[Array, "..."], *, start: int = 1) -> Float[Array, "..."]:
    """All axes from `start` on merged into one, row-major: images [b,c,h,w] become vectors [b,c·h·w].

    ∂y[b,chw]/∂x[b,c,h,w] = 1
    """
    if start != x.ndim:
        start = check_axis("flatten", x, start, "start")
    return x.reshape(*x.shape[:start], math.prod(x.shape[start:]))


@flatten.jacobian
def _(y, x, *, start):
    return (regroup,)
