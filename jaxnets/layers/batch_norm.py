"""Normalisations over the examples of a batch: batch normalisation, and inputs of mean 0 and standard deviation 1."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..algebra.factors import Tensor, at_least_float32
from ..algebra.rules import axis_names, diagonal, einsum, fresh_groups, from_groups, identity, scaled, zero
from ..checks import check_axes, check_broadcasts, check_not_negative, check_share
from ..errors import DTypeError
from .layer import layer
from .normalize_common import (
    along_axes,
    channel_axis_names,
    deviations,
    mean_square,
    normalization_rules,
    over_root_mean_square,
    quotient_and_inverse,
    safe_sqrt,
    scale_and_shift,
)  # fmt: skip
from .samples import Example, Positive

__all__ = ["batch_norm", "standardize"]


@layer(example=Example((4, 3), (3,), (3,), (3,), Positive((3,)), training=True))
def batch_norm(
    x: Float[Array, "b c *spatial"],
    *,
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    running_mean: Float[Array, "c"] | None = None,
    running_var: Float[Array, "c"] | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Float[Array, "b c *spatial"], Float[Array, "c"], Float[Array, "c"]]:
    """Batch normalisation  y[b, c, …] = x̂[b, c, …] scale[c] + bias[c],  and the new running mean and variance.

    Everything after x is given by name, since libraries disagree on the order.

    In training x̂ = (x − μ) / √(σ² + eps) with the mean and variance of the batch, over all axes but c:

    ∂y[b,c]/∂x[j,c] = scale[c]·r[c]·(δ(b,j) − 1/n − x̂[b,c]·x̂[j,c]/n)     ∂y[b,c]/∂scale[c] = x̂[b,c]

    ∂y[b,c]/∂bias[c] = 1     ∂y/∂running_mean = 0     ∂y/∂running_var = 0

    with r = 1 / √(σ² + eps), so every example depends on all others.  With m = `momentum`,
    new_mean = (1 − m) running_mean + m μ and new_var = (1 − m) running_var + m σ² n / (n − 1), which has the unbiased
    variance, while x̂ has the biased one.  Without running statistics those of the batch are returned.  Raises ValueError if
    a channel has fewer than two values.

    In evaluation x̂ = (x − running_mean) / √(running_var + eps), so ∂y[b,c]/∂x[b,c] = scale[c]·r[c] with
    r = 1 / √(running_var + eps).  The running statistics are required and returned unchanged.
    """
    eps = check_not_negative("batch_norm", "eps", eps)
    momentum = check_share("batch_norm", "momentum", momentum)
    if not training:
        if running_mean is None or running_var is None:
            name = "running_mean" if running_mean is None else "running_var"
            raise DTypeError(f"batch_norm: argument '{name}' is None, expected an array [c] in evaluation")
        hat = (x - along_axes(x, running_mean, (1,))) / along_axes(x, safe_sqrt(running_var + eps), (1,))
        return scale_and_shift("batch_norm", hat, scale, bias, (1,)), running_mean, running_var
    axes, n = _all_but_channels(x)
    if n < 2:
        raise ValueError(f"batch_norm: argument 'x' of shape {x.shape} has {n} values a channel, training needs two or more")
    d = deviations(x, axes)
    hat, _ = over_root_mean_square(d, axes, eps)
    mean, variance = jnp.mean(at_least_float32(x), axes), jnp.sum(jnp.square(d), axes) / (n - 1)
    return (
        scale_and_shift("batch_norm", hat, scale, bias, (1,)),
        _updated_statistic(running_mean, mean, momentum),
        _updated_statistic(running_var, variance, momentum),
    )


def _all_but_channels(x):
    """All axes but c, and the number of values in a channel."""
    axes = tuple(a for a in range(x.ndim) if a != 1)
    return axes, math.prod(x.shape[a] for a in axes)


def _updated_statistic(old, new, momentum):
    """A running statistic after this batch."""
    return new if old is None else ((1 - momentum) * old + momentum * new).astype(old.dtype)


@batch_norm.jacobian
def _(outputs, x, scale, bias, running_mean, running_var, *, training, momentum, eps):
    names = channel_axis_names(x.ndim)
    out = fresh_groups(x.shape, names)
    channel = (out[1],)
    if not training:
        root = safe_sqrt(running_var + eps)
        hat = Tensor((x - along_axes(x, running_mean, (1,))) / along_axes(x, root, (1,)), out, "x̂")
        gain = [] if scale is None else [Tensor(scale, channel, "scale")]
        gain.append(Tensor(1 / root, channel, "r"))
        by_var = from_groups(out, channel, *gain, hat, Tensor(1 / root, channel, "r"), scale=-0.5)
        return (
            (
                from_groups(out, out, *gain), from_groups(out, channel, hat), from_groups(out, channel),
                from_groups(out, channel, *gain, scale=-1), by_var,
            ),
            (zero, zero, zero, identity, zero),
            (zero, zero, zero, zero, identity),
        )  # fmt: skip
    axes, n = _all_but_channels(x)
    d = deviations(x, axes)
    to_mean, to_var = (1.0 if old is None else momentum for old in (running_mean, running_var))
    return (
        (*normalization_rules(*over_root_mean_square(d, axes, eps), scale, axes, (1,), names), zero, zero),
        (from_groups(channel, out, scale=to_mean / n), zero, zero, scaled(1 - momentum), zero),
        (
            from_groups(channel, out, Tensor(d, out, "(x−μ)"), scale=2 * to_var / (n - 1)),
            zero, zero, zero, scaled(1 - momentum),
        ),
    )  # fmt: skip


@layer(example=Example((4, 5), None, None))
def standardize(
    x: Float[Array, "..."],
    mean: Float[Array, "..."] | None = None,
    std: Float[Array, "..."] | None = None,
    *,
    axis: int | tuple[int, ...] = 0,
    eps: float = 1e-8,
) -> Float[Array, "..."]:
    """Every feature with mean 0 and standard deviation 1  y = (x − μ) / max(σ, eps)  over `axis`.

    ∂y[b,i]/∂x[j,i] = r[i]·(δ(b,j) − 1/n − x̂[b,i]·x̂[j,i]/n)  with x̂ = y and r = 1 / max(σ, eps)

    σ is that of the whole batch, with divisor n.  A feature that does not vary, with σ ≤ eps, is only centred: for the
    Jacobian its σ is the constant eps and its x̂ is 0.  With `mean` and `std`, statistics of a training set that broadcast
    to x, the map is elementwise: ∂y[b,i]/∂x[b,i] = r[i] with r = 1 / max(std, eps).
    """
    eps = check_not_negative("standardize", "eps", eps)
    if mean is None and std is None:
        return _standardized(x, check_axes("standardize", x, axis), eps)[0]
    if mean is None or std is None:
        raise DTypeError(f"standardize: argument '{'mean' if mean is None else 'std'}' is None, expected both or neither")
    check_broadcasts("standardize", "mean", mean, x.shape)
    check_broadcasts("standardize", "std", std, x.shape)
    return quotient_and_inverse(x - mean, jnp.where(std > eps, std, eps))[0]


def _standardized(x, axes, eps):
    """x̂, one over the divisor, and where the divisor is σ."""
    d = deviations(x, axes)
    sigma = safe_sqrt(mean_square(d, axes))
    return *quotient_and_inverse(d, jnp.where(sigma > eps, sigma, eps)), sigma > eps


@standardize.jacobian
def _(y, x, mean, std, *, axis, eps):
    if mean is not None:
        inverse = quotient_and_inverse(x, jnp.where(std > eps, std, eps))[1]
        return (
            diagonal(inverse, "r"),
            einsum("...", "...", (inverse, "...", "r"), scale=-1),
            einsum("...", "...", (jnp.where(std > eps, y * inverse, 0), "...", "ŷ"), scale=-1),
        )
    axes = check_axes("standardize", x, axis)
    hat, inverse, varies = _standardized(x, axes, eps)
    return normalization_rules(jnp.where(varies, hat, 0), inverse, None, axes, (), axis_names(x.ndim))[0], None, None
