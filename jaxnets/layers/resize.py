"""Images of other sizes: every entry of the output is a weighted sum of some entries along each axis of space.

An axis is described by a table of places in x and one of their weights, a row for each entry of the output.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..algebra.factors import Factor, Tensor
from ..algebra.rules import from_groups
from ..algebra.selections import Selection
from ..checks import check_per_axis, check_positive
from ..errors import ShapeError
from .layer import layer
from .pool_common import space_rank
from .samples import Example
from .windows import space_and_batch_labels

__all__ = ["interpolate"]


@layer(example=Example((2, 3, 4, 5), size=(7, 3), mode="linear"))
def interpolate(
    x: Float[Array, "..."],
    *,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
    antialias: bool = False,
) -> Float[Array, "..."]:
    """Images of another size  y[b, c, p, q] = Σ_uv A[p, u] B[q, v] x[b, c, u, v].

    ∂y[b,c,p,q]/∂x[b,c,u,v] = A[p,u]·B[q,v]  with one matrix for each axis;  for the nearest entry δ(u, k[p])·δ(v, l[q])

    `size` m, or `scale_factor` s with m = ⌊s·n⌋ for an axis of n entries, is one number for all axes after [b, c], or a
    tuple for as many of the last axes.  Output p lies at the place z = r (p + ½) − ½ of x, with r = n/m or 1/s, and with
    `align_corners` at z = p (n − 1) / (m − 1).

    - "nearest" takes the entry ⌊r p⌋, as torch and OpenCV do, and "nearest-exact" ⌊r (p + ½)⌋, which is the nearest one.
    - "linear", also called "bilinear" and "trilinear", weights the two entries around z by 1 − |z − u|.
    - "cubic", or "bicubic", weights the four around z by Keys' polynomial with a = −¾.

    Beyond the edges of x its last entries are repeated.  With `antialias`, in the last two modes, a smaller image averages
    all entries: the weights are stretched by r where r > 1, those beyond the edges are left out, a is −½, and their sum is
    made 1, as in torch, Pillow and `jax.image.resize`.  For averages of areas there is `adaptive_avg_pool`.
    """
    axes = _axes(x, size, scale_factor, mode, align_corners, antialias)
    for a, axis in enumerate(axes, x.ndim - len(axes)):
        x = axis.applied(x, a)
    return x


class _Axis(NamedTuple):
    """The entries along an axis: y[p] = Σ_k weights[p, k] x[places[p, k]], or x[places[p, 0]] if weights are None."""

    places: np.ndarray
    weights: np.ndarray | None

    def applied(self, x, axis: int):
        """x with new entries along an axis."""
        if self.weights is None:
            return jnp.take(x, self.places[:, 0], axis)
        shape = (-1, *[1] * (x.ndim - axis - 1))
        columns = zip(self.places.T, self.weights.T, strict=True)
        return sum(jnp.take(x, places, axis) * jnp.asarray(w, x.dtype).reshape(shape) for places, w in columns)

    def matrix(self, n: int) -> np.ndarray:
        """The weights of all n entries, where there are weights."""
        matrix = np.zeros((len(self.places), n))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], self.places), np.asarray(self.weights))
        return matrix


MODES = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def _axes(x, size, scale_factor, mode, align_corners, antialias) -> list[_Axis]:
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: either size or scale_factor must be given, got {size} and {scale_factor}")
    kernel = _kernel(mode, antialias)
    if align_corners and (kernel is None or antialias):
        raise ValueError(f"interpolate: align_corners does not go with mode {mode!r}{' and antialias' * antialias}")
    given = {"scale_factor": scale_factor} if size is None else {"size": size}
    ((name, value),) = given.items()
    rank = space_rank("interpolate", x, name, value)
    space = x.shape[-rank:]
    if size is not None:
        sizes = check_per_axis("interpolate", "size", size, rank)
        ratios = [n / m for n, m in zip(space, sizes, strict=True)]
    else:
        given_factors = scale_factor if isinstance(scale_factor, tuple) else (scale_factor,) * rank
        factors = [check_positive("interpolate", "scale_factor", s) for s in given_factors]
        sizes = tuple(math.floor(s * n) for s, n in zip(factors, space, strict=True))
        ratios = [1 / s for s in factors]
        if 0 in sizes:
            raise ShapeError(
                f"interpolate: argument 'x' of shape {x.shape} has nothing left with scale_factor {scale_factor}"
            )
    rows = zip(space, sizes, ratios, strict=True)
    if kernel is None:
        return [_nearest(n, m, r, 0.5 if mode == "nearest-exact" else 0) for n, m, r in rows]
    if antialias:
        return [_averages(n, m, r, *kernel) for n, m, r in rows]
    return [_between(n, m, r, *kernel, align_corners) for n, m, r in rows]


Kernel = tuple[Callable[[np.ndarray], np.ndarray], int]  # the weight by the distance, and from where on it is 0


def _kernel(mode, antialias) -> Kernel | None:
    """None for the nearest entry."""
    mode = MODES.get(mode, mode)
    if mode in ("nearest", "nearest-exact") and not antialias:
        return None
    if mode == "linear":
        return lambda d: np.maximum(0, 1 - d), 1
    if mode == "cubic":
        return _cubic(-0.5 if antialias else -0.75), 2
    if mode in ("nearest", "nearest-exact"):
        raise ValueError(f"interpolate: antialias goes with linear or cubic, got mode {mode!r}")
    raise ValueError(f"interpolate: mode must be nearest, nearest-exact, linear or cubic, got {mode!r}")


def _cubic(a: float):
    """The polynomial of Keys (1981): 1 at distance 0, and 0 at 1, 2 and beyond."""

    def weight(d):
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1, (((d - 5) * d + 8) * d - 4) * a
        return np.where(d < 1, near, np.where(d < 2, far, 0))

    return weight


def _nearest(n, m, r, offset) -> _Axis:
    """The entry ⌊r (p + offset)⌋.  Products that should be integers are, up to rounding, which must not decide."""
    places = np.floor(np.round(r * (np.arange(m) + offset), 9)).astype(int)
    return _Axis(np.minimum(places, n - 1)[:, None], None)


def _between(n, m, r, weight, reach, align_corners) -> _Axis:
    """The entries around the place of every output, where those beyond the edges are the last ones."""
    p = np.arange(m)
    z = p * (n - 1) / max(1, m - 1) if align_corners else r * (p + 0.5) - 0.5
    places = np.floor(z).astype(int)[:, None] + np.arange(1 - reach, 1 + reach)
    return _Axis(np.clip(places, 0, n - 1), weight(abs(z[:, None] - places)))


def _averages(n, m, r, weight, reach) -> _Axis:
    """All entries of x within reach, which grows with r, and their weights, of which the sum is 1."""
    stretch = max(1.0, r)
    centres = r * (np.arange(m) + 0.5)
    first, end = (np.trunc(centres + s * reach * stretch + 0.5) for s in (-1, 1))
    first, end = np.maximum(first, 0).astype(int), np.minimum(end, n).astype(int)
    places = first[:, None] + np.arange(np.max(end - first))
    weights = np.where(places < end[:, None], weight(abs(places + 0.5 - centres[:, None]) / stretch), 0)
    return _Axis(np.minimum(places, n - 1), weights / weights.sum(1, keepdims=True))


@interpolate.jacobian
def _(y, x, *, size, scale_factor, mode, align_corners, antialias):
    axes = _axes(x, size, scale_factor, mode, align_corners, antialias)
    inp, out, lead = space_and_batch_labels(x, y, len(axes))
    factors: list[Factor] = []
    for a, axis in enumerate(axes):
        n = x.shape[a - len(axes)]
        if axis.weights is None:
            index = jnp.asarray(axis.places[:, 0], jnp.int32)
            factors.append(Selection(index, (out[a], inp[a]), "klm"[a % 3]))
        else:
            factors.append(Tensor(jnp.asarray(axis.matrix(n), y.dtype), (out[a], inp[a]), "ABC"[a % 3]))
    return (from_groups((*lead, *out), (*lead, *inp), *factors),)
