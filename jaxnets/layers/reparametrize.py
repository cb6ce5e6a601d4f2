"""Weights made of other weights: of a direction and a length, or divided by their largest singular value."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..algebra.factors import Tensor
from ..algebra.rules import axis_names, fresh_groups, from_groups, named_tensor, total
from ..checks import as_array, check_axis, check_integer, checked
from ..errors import ShapeError
from .layer import layer
from .lengths import unit_vectors
from .normalize_common import along_axes, normalization_rules
from .samples import Example

__all__ = ["weight_norm", "spectral_norm", "power_iteration"]


@layer(example=Example((4, 3), (4,)))
def weight_norm(v: Float[Array, "..."], g: Float[Array, "..."], *, axis: int | None = 0) -> Float[Array, "..."]:
    """Weights of a direction and a length  w[o, ...] = g[o] v[o, ...] / |v[o]|,  |v[o]| over all axes but `axis`.

    ∂y[o,i]/∂v[o,j] = g[o]·r[o]·(δ(i,j) − x̂[o,i]·x̂[o,j])  with x̂ = v / |v| and r = 1 / |v|

    ∂y[o,i]/∂g[o] = x̂[o,i]

    With `axis` None the length is that of all of v, and g a number; else g has one axis, where torch's also has axes of size
    1.  Where v is zero w is 0 with Jacobian 0.
    """
    own, others = _own_and_other_axes(v, g, axis)
    return unit_vectors(v, others)[0] * along_axes(v, g, own)


def _own_and_other_axes(v, g, axis):
    own = () if axis is None else (check_axis("weight_norm", v, axis),)
    expected = tuple(v.shape[a] for a in own)
    if g.shape != expected:
        raise ShapeError(f"weight_norm: argument 'g' has shape {g.shape}, expected {expected} for 'v' of shape {v.shape}")
    return own, tuple(a for a in range(v.ndim) if a not in own)


@weight_norm.jacobian
def _(y, v, g, *, axis):
    own, others = _own_and_other_axes(v, g, axis)
    names = ["o", *axis_names(v.ndim)[1:]] if own == (0,) else axis_names(v.ndim)
    unit, inverse, _ = unit_vectors(v, others)
    return normalization_rules(unit, inverse, g, others, own, names, centred=False, count=1, gain_name="g")[:2]


@layer(example=Example((4, 3), (4,)))
def spectral_norm(w: Float[Array, "..."], u: Float[Array, "o"], *, axis: int = 0) -> Float[Array, "..."]:
    """Weights over their largest singular value  y = w / σ,  σ = |Σ_o u[o] w[o, ...]| / |u|.

    ∂y[o,i]/∂w[j,k] = δ(o,j)·δ(i,k)·r − (r·y)[o,i]·û[j]·v̂[k]     ∂y[o,i]/∂u[j] = −(r·y)[o,i]·s[j]

    with r = 1 / σ, û = u / |u|, v̂ = Σ_o û[o] w[o, ...] / σ, and s the gradient of σ by u.  The axis o is `axis` of w.  σ is
    the largest singular value if u is its left singular vector, and less for any other u.  `power_iteration` brings u there,
    by one step for each step of training, as torch does:

        u = power_iteration(w, u)
        y = spectral_norm(w, u)

    What it returns is a constant, so the derivative of σ by w is û v̂ᵀ, that of torch, for any u.  At a singular vector s is
    0.  Where σ is 0, so are y and its Jacobian.
    """
    matrix, back = _as_matrix("spectral_norm", w, u, axis)
    return back(matrix * _singular_vectors(matrix, u)[2])


def _as_matrix(name, w, u, axis):
    """w as a matrix [o, others], and the way back."""
    axis = check_axis(name, w, axis)
    moved = jnp.moveaxis(w, axis, 0)
    if u.shape != moved.shape[:1]:
        raise ShapeError(f"{name}: argument 'u' has shape {u.shape}, expected {moved.shape[:1]} for 'w' of shape {w.shape}")
    matrix = moved.reshape(len(moved), math.prod(moved.shape[1:]))
    return matrix, lambda m: jnp.moveaxis(m.reshape(moved.shape), 0, axis)


def _singular_vectors(matrix, u):
    """û, v̂ and r; 0 where they are not defined."""
    own = unit_vectors(u, (0,))[0]
    other, inverse, _ = unit_vectors(own @ matrix, (0,))
    return own, other, inverse


@spectral_norm.jacobian
def _(y, w, u, *, axis):
    matrix, _ = _as_matrix("spectral_norm", w, u, axis)
    own, other, inverse = _singular_vectors(matrix, u)
    image = matrix @ other
    slope = (image - own * jnp.sum(own * image)) * unit_vectors(u, (0,))[1]
    axis = check_axis("spectral_norm", w, axis)
    names = axis_names(w.ndim - 1)
    out = fresh_groups(w.shape, [*names[:axis], "o", *names[axis:]])
    inp = fresh_groups(w.shape, ["", "", ""], start=w.ndim)
    rest = tuple(group for a, group in enumerate(inp) if a != axis)
    along = Tensor(y * inverse, out, "(r·y)")
    by_w = (
        along,
        Tensor(own, (inp[axis],), "û"),
        Tensor(other.reshape([n for a, n in enumerate(w.shape) if a != axis]), rest, "v̂"),
    )
    return (
        total(from_groups(out, out, named_tensor(inverse[0], (), "r", "1 / σ")), from_groups(out, inp, *by_w, scale=-1)),
        from_groups(out, (inp[axis],), along, named_tensor(slope, (inp[axis],), "s", "the gradient of σ by u"), scale=-1),
    )


@checked
def power_iteration(
    w: Float[Array, "..."], u: Float[Array, "o"], *, iterations: int = 1, axis: int = 0
) -> Float[Array, "o"]:
    """A vector nearer to the first left singular vector of weights, for `spectral_norm`, after some steps.

    A step is v = Wᵀu and then u = W v over its length, where W is w with `axis` first and the other axes as one.  From the
    derivative's view the result is a constant.

    >>> jn.power_iteration(jnp.diag(jnp.array([3.0, 0.0])), jnp.ones(2))
    Array([1., 0.], dtype=float32)
    """
    w, u = (lax.stop_gradient(as_array(f"power_iteration: argument '{name}'", x)) for name, x in (("w", w), ("u", u)))
    matrix, _ = _as_matrix("power_iteration", w, u, axis)
    count = check_integer("power_iteration", "iterations", iterations, 0)

    def step(_, u):
        return unit_vectors(matrix @ unit_vectors(u @ matrix, (0,))[0], (0,))[0]

    return lax.fori_loop(0, count, step, unit_vectors(u, (0,))[0])
