"""Normalisations of every example by itself: it is divided by a spread, mostly after subtracting a mean."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..algebra.factors import Label, Tensor
from ..algebra.rules import axis_names, fresh_groups, from_groups, total
from ..checks import check_axes, check_integer, check_not_negative, check_number, check_positive
from ..errors import ShapeError
from .layer import layer
from .normalize_common import (
    channel_axis_names,
    normalization_rules,
    over_root_mean_square,
    scale_and_shift,
    standard_scores,
)
from .reduce import weighted_sum_rule
from .samples import Example

__all__ = ["layer_norm", "layer_norm_statistics", "rms_norm", "group_norm", "instance_norm", "local_response_norm"]


@layer(example=Example((4, 5), (5,), (5,)))
def layer_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
) -> Float[Array, "..."]:
    """Layer normalisation  y[..., i] = x̂[..., i] scale[i] + bias[i],  x̂ = (x − μ) / √(σ² + eps)  over `axis`.

    ∂y[b,i]/∂x[b,j] = scale[i]·r[b]·(δ(i,j) − 1/n − x̂[b,i]·x̂[b,j]/n)  with r = 1 / √(σ² + eps)

    ∂y[b,i]/∂scale[i] = x̂[b,i]     ∂y[b,i]/∂bias[i] = 1

    `scale` and `bias` have the sizes of `axis`, in the order of x.  If all numbers are equal, x̂ is exactly 0.
    """
    check_not_negative("layer_norm", "eps", eps)
    axes = _sorted_axes("layer_norm", x, axis)
    return scale_and_shift("layer_norm", standard_scores(x, axes, eps)[0], scale, bias, axes)


@layer_norm.jacobian
def _(y, x, scale, bias, *, axis, eps):
    axes = _sorted_axes("layer_norm", x, axis)
    return normalization_rules(*standard_scores(x, axes, eps), scale, axes, axes, axis_names(x.ndim))


@layer
def layer_norm_statistics(
    x: Float[Array, "..."], *, axis: int | tuple[int, ...] = -1, eps: float = 1e-5, keepdims: bool = False
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Mean and one over the spread, as in `layer_norm`  y[...] = mean x,  r[...] = 1 / √(σ² + eps)  over `axis`.

    ∂y[b]/∂x[b,i] = 1/n     ∂r[b]/∂x[b,i] = g[b,i],  g = −r² x̂ / n  with  x̂ = (x − y) r

    These are Mean and InvStdDev of ONNX, which keeps the axes; `keepdims` does.  If all numbers are equal and `eps` is 0, r
    is 0, as its derivative.
    """
    check_not_negative("layer_norm_statistics", "eps", eps)
    axes = _sorted_axes("layer_norm_statistics", x, axis)
    mean, inverse = jnp.mean(x, axes, keepdims=True), standard_scores(x, axes, eps)[1]
    return (mean, inverse) if keepdims else (jnp.squeeze(mean, axes), jnp.squeeze(inverse, axes))


@layer_norm_statistics.jacobian
def _(y, x, *, axis, eps, keepdims):
    axes = _sorted_axes("layer_norm_statistics", x, axis)
    hat, inverse = standard_scores(x, axes, eps)
    n = max(1, math.prod(x.shape[a] for a in axes))
    slope = (-jnp.square(inverse) * hat / n, "g", "−r² x̂ / n  with  x̂ = (x − y) r")
    return (weighted_sum_rule(x, axes, keepdims, scale=1 / n),), (weighted_sum_rule(x, axes, keepdims, slope),)


def _sorted_axes(name, x, axis) -> tuple[int, ...]:
    found = tuple(sorted(check_axes(name, x, axis)))
    if not found:
        raise ShapeError(f"{name}: axis {axis} names no axis of argument 'x' of shape {x.shape}")
    return found


@layer(example=Example((4, 5), (5,)))
def rms_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-6,
    unit_offset: bool = False,
) -> Float[Array, "..."]:
    """Division by the root mean square  y[..., i] = x̂[..., i] scale[i],  x̂ = x / √(mean x² + eps)  over `axis`.

    ∂y[b,i]/∂x[b,j] = scale[i]·r[b]·(δ(i,j) − x̂[b,i]·x̂[b,j]/n)  with r = 1 / √(mean x² + eps)

    ∂y[b,i]/∂scale[i] = x̂[b,i]

    `scale` has the sizes of `axis`, in the order of x.  The default `eps` is that of flax and of most language models.  With
    `unit_offset` x̂ is multiplied by 1 + scale instead, as in Gemma, whose scales are stored as differences to 1.
    """
    check_not_negative("rms_norm", "eps", eps)
    axes = _sorted_axes("rms_norm", x, axis)
    return scale_and_shift("rms_norm", over_root_mean_square(x, axes, eps)[0], _gain(scale, unit_offset), None, axes)


def _gain(scale, unit_offset):
    return scale if scale is None or not unit_offset else 1 + scale


@rms_norm.jacobian
def _(y, x, scale, *, axis, eps, unit_offset):
    axes = _sorted_axes("rms_norm", x, axis)
    hat, inverse = over_root_mean_square(x, axes, eps)
    gain, name = _gain(scale, unit_offset), "(1 + scale)" if unit_offset else "scale"
    return normalization_rules(hat, inverse, gain, axes, axes, axis_names(x.ndim), centred=False, gain_name=name)[:2]


@layer(example=Example((2, 4, 3, 3), (4,), (4,), groups=2))
def group_norm(
    x: Float[Array, "b c *spatial"],
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    *,
    groups: int,
    eps: float = 1e-5,
) -> Float[Array, "b c *spatial"]:
    """Group normalisation  y[b, c, …] = x̂[b, c, …] scale[c] + bias[c],  over each of `groups` groups of channels.

    ∂y[b,gc,h,w]/∂x[b,gi,j,k] = scale[gc]·r[b,g]·(δ(chw,ijk) − 1/n − x̂[b,g,c,h,w]·x̂[b,g,i,j,k]/n)

    ∂y[b,gc,h,w]/∂scale[gc] = x̂[b,g,c,h,w]     ∂y[b,gc,h,w]/∂bias[gc] = 1

    For every example x̂ = (x − μ) / √(σ² + eps) over the channels of a group and all positions; r is one over that root.
    Raises ShapeError where a group has no entries.
    """
    check_not_negative("group_norm", "eps", eps)
    parts, axes = _with_group_axis(x, groups)
    return scale_and_shift("group_norm", standard_scores(parts, axes, eps)[0].reshape(x.shape), scale, bias, (1,))


@group_norm.jacobian
def _(y, x, scale, bias, *, groups, eps):
    parts, axes = _with_group_axis(x, groups)
    names = ["b", "g", *channel_axis_names(x.ndim)[1:]]
    return normalization_rules(*standard_scores(parts, axes, eps), scale, axes, (1,), names, split=True)


def _with_group_axis(x, groups):
    """x as [b, groups, c / groups, *spatial], and the axes of a group."""
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"group_norm: groups must be an integer, got {groups!r}")
    if groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"group_norm: groups {groups} do not divide the channels of argument 'x' of shape {x.shape}")
    if 0 in x.shape[1:]:
        raise ShapeError(f"group_norm: argument 'x' has shape {x.shape}, expected groups that are not empty")
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), tuple(range(2, x.ndim + 1))


@layer(example=Example((2, 3, 4, 4), (3,), (3,)))
def instance_norm(
    x: Float[Array, "b c *spatial"],
    *,
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    eps: float = 1e-5,
) -> Float[Array, "b c *spatial"]:
    """Instance normalisation  y[b, c, …] = x̂[b, c, …] scale[c] + bias[c],  over the positions of each channel.

    ∂y[b,c,h,w]/∂x[b,c,i,j] = scale[c]·r[b,c]·(δ(hw,ij) − 1/n − x̂[b,c,h,w]·x̂[b,c,i,j]/n)

    ∂y[b,c,h,w]/∂scale[c] = x̂[b,c,h,w]     ∂y[b,c,h,w]/∂bias[c] = 1

    x̂ = (x − μ) / √(σ² + eps), r is one over that root.  `scale` and `bias` are given by name, since torch has the running
    statistics in their places.  Raises ShapeError if x has no spatial axes.
    """
    check_not_negative("instance_norm", "eps", eps)
    if x.ndim == 2:
        raise ShapeError(f"instance_norm: argument 'x' has shape {x.shape}, expected [b, c, *spatial] with spatial axes")
    axes = tuple(range(2, x.ndim))
    return scale_and_shift("instance_norm", standard_scores(x, axes, eps)[0], scale, bias, (1,))


@instance_norm.jacobian
def _(y, x, scale, bias, *, eps):
    axes = tuple(range(2, x.ndim))
    return normalization_rules(*standard_scores(x, axes, eps), scale, axes, (1,), channel_axis_names(x.ndim))


@layer(example=Example((2, 6, 3), size=3))
def local_response_norm(
    x: Float[Array, "b c *spatial"], *, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Float[Array, "b c *spatial"]:
    """Local response normalisation  y[b, c, …] = x[b, c, …] / D^beta,  D[b, c, …] = k + (alpha / size) Σ_j x[b, j, …]².

    j runs over the `size` channels from c − ⌊size/2⌋ on; those that do not exist count as 0 (Krizhevsky et al. 2012).  As in
    torch and ONNX alpha is divided by size.

    ∂y[b,c,s]/∂x[b,i,s] = δ(c,i)·r[b,c,s] + v[b,c,s]·A[c,i]·x[b,i,s]  with r = D^−beta,  v = −2 alpha beta y / (size D)

    A is 1 where i is in the window of c, else 0.  Raises ValueError unless size and k are positive and alpha is not
    negative.
    """
    return x * _response(x, size, alpha, beta, k)[0] ** -beta


def _response(x, size, alpha, beta, k):
    """D, and the matrix of the windows of channels."""
    size = check_integer("local_response_norm", "size", size, 1)
    alpha = check_not_negative("local_response_norm", "alpha", alpha)
    check_number("local_response_norm", "beta", beta)
    k = check_positive("local_response_norm", "k", k)
    offset = np.arange(x.shape[1]) - np.arange(x.shape[1])[:, None] + size // 2
    matrix = jnp.asarray((offset >= 0) & (offset < size), x.dtype)
    return k + alpha / size * jnp.einsum("cj,bj...->bc...", matrix, jnp.square(x)), matrix


@local_response_norm.jacobian
def _(y, x, *, size, alpha, beta, k):
    response, matrix = _response(x, size, alpha, beta, k)
    out = fresh_groups(x.shape, channel_axis_names(x.ndim))
    j = (Label(x.ndim, x.shape[1], "j"),)
    inp = (out[0], j, *out[2:])
    coupled = (
        Tensor(-2 * alpha * beta / size * y / response, out, "v"),
        Tensor(matrix, (out[1], j), "A"),
        Tensor(x, inp, "x"),
    )
    return (total(from_groups(out, out, Tensor(response**-beta, out, "r")), from_groups(out, inp, *coupled)),)
