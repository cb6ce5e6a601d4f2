"""Rotary position embedding: queries and keys are turned by angles that grow with their position."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..algebra.factors import Label, at_least_float32
from ..algebra.rules import fresh_groups, from_groups, named_tensor, total
from ..algebra.selections import Slice, as_int32
from ..checks import check_broadcasts, check_integer, check_positive
from ..errors import ShapeError
from .layer import layer
from .samples import Example

__all__ = ["rotary"]


@layer(example=Example((2, 3, 4), None))
def rotary(
    x: Float[Array, "... t d"],
    positions: Int[Array, "..."] | None = None,
    *,
    base: float = 10000.0,
    dim: int | None = None,
    interleaved: bool = False,
) -> Float[Array, "... t d"]:
    """Rotary position embedding  y[..., t, pi] = Σ_q R[t, i, p, q] x[..., t, qi]:  pairs of features are turned.

    ∂y[b,t,pi]/∂x[b,t,qi] = R[t,i,p,q],  R = [[cos a, −sin a], [sin a, cos a]]  with a = position · base^(−2i / dim)

    p and q are 0 or 1.  The partner of feature i is feature i + dim/2 (Llama, GPT-NeoX), and with `interleaved` features 2i
    and 2i + 1 are a pair (GPT-J).  Only the first `dim` features are turned, by default all, the others are kept.  R has
    2·t·dim entries.

    `positions` broadcast to [..., t], by default 0, 1, …, t − 1; they may be negative.  Angles are counted in 2⁻³² of a
    turn, with integers that drop whole turns without an error.  So R is accurate in float32 at every position of 32 bits,
    where a product of position and frequency may be off by 0.05 at position 10⁶; in float64 the error of a large angle is
    about 2⁻⁵³ of the position.  Raises ShapeError unless `dim` is even and at most d.
    """
    dim = _rotated("rotary", x, dim)
    matrix = _rotations(x, positions, base, dim)
    pairs = _in_pairs(x[..., :dim], interleaved)
    turned = jnp.stack(
        [matrix[..., p, 0] * pairs[0] + matrix[..., p, 1] * pairs[1] for p in (0, 1)], -1 if interleaved else -2
    )
    return jnp.concatenate([turned.reshape(*x.shape[:-1], dim), x[..., dim:]], -1)


def _rotated(name, x, dim) -> int:
    """How many features are turned."""
    dim = x.shape[-1] if dim is None else check_integer(name, "dim", dim, 0)
    if dim % 2 or dim > x.shape[-1]:
        raise ShapeError(f"{name}: dim {dim} must be even and at most the features of argument 'x' of shape {x.shape}")
    return dim


def _in_pairs(x, interleaved):
    """The first and the second feature of every pair."""
    return (x[..., ::2], x[..., 1::2]) if interleaved else jnp.split(x, 2, -1)


def _rotations(x, positions, base, dim):
    """The matrices R[..., t, i, p, q]; the axes before t are those of the positions."""
    if positions is None:
        positions = jnp.arange(x.shape[-2], dtype=jnp.int32)
    check_broadcasts("rotary", "positions", positions, x.shape[:-1])
    positions = jnp.atleast_1d(as_int32(positions))[..., None]
    frequencies = check_positive("rotary", "base", base) ** (-np.arange(0, dim, 2) / max(1, dim))
    steps = frequencies / (2 * np.pi) % 1 * 2**32  # in 2⁻³² of a turn
    units = np.round(steps)
    whole = positions * jnp.asarray(units.astype(np.int64).astype(np.int32))  # what overflows are whole turns
    dtype = at_least_float32(x).dtype
    angle = (whole.astype(dtype) + positions.astype(dtype) * (steps - units).astype(dtype)) * (2 * np.pi / 2**32)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)


@rotary.jacobian
def _(y, x, positions, *, base, dim, interleaved):
    dim = _rotated("rotary", x, dim)
    matrix = _rotations(x, positions, base, dim)
    names = [*"bh"[: x.ndim - 2], *[""] * (x.ndim - 4), "t"]
    lead = fresh_groups(x.shape[:-1], names)
    i, p, q, row, column, kept = (
        Label(x.ndim + k, n, name)
        for k, (n, name) in enumerate(zip((dim // 2, 2, 2, *x.shape[-1:] * 2, x.shape[-1] - dim), "ipqrck", strict=True))
    )
    out, inp = ((i, p), (i, q)) if interleaved else ((p, i), (q, i))
    sizes = matrix.shape[:-3]
    known = zip(lead[-len(sizes) :], sizes, x.shape[-1 - len(sizes) : -1], strict=True)
    own = (group if n == size else () for group, n, size in known)
    turn = named_tensor(matrix, (*own, (i,), (p,), (q,)), "R", "[[cos a, −sin a], [sin a, cos a]] of the angles a")
    if dim == x.shape[-1]:
        return from_groups((*lead, out), (*lead, inp), turn), None
    whole = (*lead, (row,)), (*lead, (column,))
    turned = from_groups(*whole, Slice(0, 1, (out, (row,))), turn, Slice(0, 1, (inp, (column,))))
    return total(turned, from_groups(*whole, *(Slice(dim, 1, ((kept,), (label,))) for label in (row, column)))), None
