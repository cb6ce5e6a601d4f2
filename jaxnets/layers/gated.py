"""Gated units: one half of the input is multiplied by a function of the other half."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..algebra.factors import Label, Tensor
from ..algebra.rules import Rule, axis_names, fresh_groups, from_groups, total
from ..algebra.selections import Slice
from ..checks import check_axis
from ..errors import ShapeError
from .accurate import sigmoid_derivative, silu_derivative, times_sigmoid
from .elementwise import silu
from .layer import layer
from .samples import Example

__all__ = ["glu", "swiglu"]


def _halves(name, x, axis):
    along = check_axis(name, x, axis)
    if x.shape[along] % 2:
        raise ShapeError(f"{name}: argument 'x' has shape {x.shape}, whose axis {axis} has an odd length")
    return jnp.split(x, 2, along)


def _half_rule(x, axis, start, slope, name) -> Rule:
    """∂y[j]/∂x[i] = slope[j]·δ(i, j + start): the output depends on one half of x, entry by entry."""
    along = check_axis("glu", x, axis)
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out = list(inp)
    out[along] = (Label(x.ndim, slope.shape[along], "j"),)
    return from_groups(out, inp, Tensor(slope, tuple(out), name), Slice(start, 1, (out[along], inp[along])))


def _halves_rule(x, axis, by_first, by_second) -> Rule:
    half = x.shape[axis] // 2
    return total(_half_rule(x, axis, 0, *by_first), _half_rule(x, axis, half, *by_second))


@layer(example=Example((4, 6)))
def glu(x: Float[Array, "..."], *, axis: int = -1) -> Float[Array, "..."]:
    """Gated linear unit  y[..., j] = a[..., j] σ(c[..., j])  of the halves a, c of x along `axis`.

    ∂y[b,j]/∂x[b,i] = s[b,j]·δ(i, j) + (a·s')[b,j]·δ(i, j + n1)  with s = σ(c), s' = σ(c) σ(−c), n1 the length of a

    Raises ShapeError where the axis has an odd length.
    """
    a, c = _halves("glu", x, axis)
    return times_sigmoid(a, c)


@glu.jacobian
def _(y, x, *, axis):
    a, c = _halves("glu", x, axis)
    return (_halves_rule(x, axis, (jax.lax.logistic(c), "s"), (sigmoid_derivative(c, a), "(a·s')")),)


@layer(example=Example((4, 6)))
def swiglu(x: Float[Array, "..."], *, axis: int = -1) -> Float[Array, "..."]:
    """Unit gated by silu  y[..., j] = silu(a[..., j]) c[..., j]  of the halves a, c of x along `axis`.

    ∂y[b,j]/∂x[b,i] = (s'·c)[b,j]·δ(i, j) + s[b,j]·δ(i, j + n1)  with s = silu(a), s' = silu'(a), n1 the length of a

    Raises ShapeError where the axis has an odd length.
    """
    a, c = _halves("swiglu", x, axis)
    return silu.forward(a) * c


@swiglu.jacobian
def _(y, x, *, axis):
    a, c = _halves("swiglu", x, axis)
    return (_halves_rule(x, axis, (silu_derivative(a) * c, "(s'·c)"), (silu.forward(a), "s")),)
