"""Normalisations: subtract a mean, divide by a spread, both taken over some axes.

One operator is the Jacobian of all.  Variances are averages of squared differences, never differences of averages, so
they keep their digits beside a large mean and are never negative.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..algebra.factors import Group, Label, Operator, Tensor, applied_to_rows, at_least_float32, labels_of, pytree
from ..algebra.jacobian import jacobian_of
from ..algebra.rules import Rule, axis_names, diagonal, einsum, fresh_groups, from_groups, identity, scaled
from ..errors import DTypeError, ShapeError
from .elementwise import check_number
from .layer import check_axes, layer
from .reduce import scale_and_squares
from .samples import Example, Positive

__all__ = ["layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm", "standardize", "normalize"]


@pytree("hat", "inverse")
class NormalizeOperator(Operator):
    """∂x̂[i]/∂x[j] = r·(δ(i,j) − 1/n − x̂[i] x̂[j]/count), symmetric; without 1/n where no mean is subtracted.

    `hat` is [*shared, n], `inverse` (r, one over the spread) [*shared, 1]; where the spread is constant `hat` is 0.
    """

    hat: Any
    inverse: Any
    axes: tuple[Group, ...]
    count: int
    centred: bool = True
    output_rank = 1

    @property
    def shared_rank(self):  # type: ignore[override]
        return len(self.axes) - 2

    @property
    def kind(self):  # type: ignore[override]
        return "rank-2 update" if self.centred else "rank-1 update"

    @applied_to_rows
    def push(self, x):
        x = at_least_float32(x)
        x = x - jnp.mean(x, -1, keepdims=True) if self.centred else x
        return self.inverse * (x - self.hat * (jnp.sum(self.hat * x, -1, keepdims=True) / self.count))

    pull = push

    def on_diagonal(self):
        return self.inverse * (1 - self.centred / self.hat.shape[-1] - jnp.square(self.hat) / self.count)

    def array(self, forward=None):
        products = self.hat[..., :, None] * self.hat[..., None, :] / self.count
        others = -self.inverse[..., None] * (products + self.centred / self.hat.shape[-1])
        return jnp.where(jnp.eye(self.hat.shape[-1], dtype=bool), self.on_diagonal()[..., None], others)

    def as_tensor(self):
        if self.axes[-1] == self.axes[-2]:
            return Tensor(self.on_diagonal(), self.axes[:-1], self.kind)
        return Tensor(self.array(), self.axes, self.kind)

    def formula(self, show):
        *b, i, j = self.axes
        row, column = labels_of([*b, i]), labels_of([*b, j])
        if len(row) == len(column):  # the indices in the order in which the output has them
            order = sorted(range(len(row)), key=row.__getitem__)
            row, column = (tuple(labels[k] for k in order) for labels in (row, column))
        products = "·".join(f"x̂{show([(label,) for label in labels])}" for labels in (row, column))
        delta = f"δ({show([i])[1:-1]},{show([j])[1:-1]})"
        return f"r{show(b)}·({delta}{' − 1/n' * self.centred} − {products}{'' if self.count == 1 else '/n'})"


# --- x̂ and the spread ---------------------------------------------------------------------------------------------


def deviations(x, axes):
    """x minus its mean over some axes: exactly 0 where x is constant, and accurate beside a large mean.

    A first mean is only a shift, kept between the extremes, which its rounding may leave; the mean of what remains is
    small, and so is its rounding.
    """
    x = at_least_float32(x)
    if math.prod(x.shape[a] for a in axes) == 0:
        return x
    low, high = jnp.min(x, axes, keepdims=True), jnp.max(x, axes, keepdims=True)
    x = x - lax.stop_gradient(jnp.clip(jnp.mean(x, axes, keepdims=True), low, high))
    return x - jnp.mean(x, axes, keepdims=True)


def _mean_square(x, axes):
    """The average of squares over some axes, 0 for none."""
    return jnp.sum(jnp.square(x), axes, keepdims=True) / max(1, math.prod(x.shape[a] for a in axes))


def _safe_sqrt(square):
    """The square root, whose derivative at 0 is 0."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), jnp.where(square == 0, 0, jnp.nan))


def _quotient_and_inverse(x, divisor):
    """x / divisor and 1 / divisor, both 0 where the divisor is 0."""
    safe = jnp.where(divisor == 0, 1, divisor)
    return jnp.where(divisor == 0, 0, x / safe), jnp.where(divisor == 0, 0, 1 / safe)


def _over_root_mean_square(x, axes, eps) -> tuple[Any, Any]:
    """x / √(mean x² + eps) over some axes, and one over the root."""
    return _quotient_and_inverse(x, _safe_sqrt(_mean_square(x, axes) + eps))


def _check_eps(name, eps) -> float:
    eps = check_number(name, "eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"{name}: eps must be a finite number from 0 on, got {eps}")
    return eps


def check_broadcasts(layer, name, x, shape):
    """ShapeError where an argument does not broadcast to a shape."""
    try:
        if np.broadcast_shapes(x.shape, shape) == tuple(shape):
            return
    except ValueError:
        pass
    raise ShapeError(f"{layer}: argument '{name}' has shape {x.shape}, expected one that broadcasts to {tuple(shape)}")


def _scale_and_shift(name, y, scale, bias, axes):
    """y · scale + bias, both of the sizes of some axes of y."""
    expected = tuple(y.shape[a] for a in axes)
    for what, parameter in (("scale", scale), ("bias", bias)):
        if parameter is not None and parameter.shape != expected:
            raise ShapeError(f"{name}: argument '{what}' has shape {parameter.shape}, expected {expected}")
    y = y if scale is None else y * _broadcastable(y, scale, axes)
    return y if bias is None else y + _broadcastable(y, bias, axes)


def _broadcastable(y, parameter, axes):
    return parameter.reshape([n if a in axes else 1 for a, n in enumerate(y.shape)])


# --- rules --------------------------------------------------------------------------------------------------------


def zero(y, x):
    return jacobian_of([], y.shape, x.shape, x.dtype)


def _channel_axis_names(count) -> list[str]:
    """Names for the axes of an array with channels: [b, c], [b, c, s], [b, c, h, w], …"""
    return [*"bc"[:count], *{1: "s", 2: "hw", 3: "dhw"}.get(count - 2, "")]


def _normalization_rules(
    hat, inverse, scale, axes, own, names, *, split=False, centred=True, count=None
) -> tuple[Rule, Rule, Rule]:
    """The rules of y = x̂ · scale + bias, x̂ normalised over `axes`, by x, scale and bias; these have the axes `own` of y.

    `split`: axes 1 and 2 of x̂ are axis 1 of x and y.
    """
    out = list(fresh_groups(hat.shape, names))
    inp = list(out)
    for k, a in enumerate(axes):
        inp[a] = (Label(hat.ndim + k, hat.shape[a], "j" if len(axes) == 1 else ""),)
    shared = [a for a in range(hat.ndim) if a not in axes]
    order = (*shared, *axes)
    rows = [hat.shape[a] for a in shared]
    n = math.prod(hat.shape[a] for a in axes)
    groups = (*(out[a] for a in shared), labels_of(out[a] for a in axes), labels_of(inp[a] for a in axes))
    operator = NormalizeOperator(
        hat.transpose(order).reshape(*rows, n), inverse.reshape(*rows, 1), groups, n if count is None else count, centred
    )
    hat = Tensor(hat, tuple(out), "x̂")
    if split:
        out, inp = ([side[0], side[1] + side[2], *side[3:]] for side in (out, inp))
    parameter = tuple(out[a] for a in own)
    gain = [] if scale is None else [Tensor(scale, parameter, "scale")]
    return from_groups(out, inp, *gain, operator), from_groups(out, parameter, hat), from_groups(out, parameter)


# --- over the axes of an example ----------------------------------------------------------------------------------


@layer(example=Example((4, 5), (5,), (5,)))
def layer_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axes: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
) -> Float[Array, "..."]:
    """Layer normalisation  y[..., i] = x̂[..., i] scale[i] + bias[i],  x̂ = (x − μ) / √(σ² + eps)  over `axes`.

    ∂y[b,i]/∂x[b,j] = scale[i]·r[b]·(δ(i,j) − 1/n − x̂[b,i]·x̂[b,j]/n)  with r = 1 / √(σ² + eps)

    ∂y[b,i]/∂scale[i] = x̂[b,i]     ∂y[b,i]/∂bias[i] = 1

    `scale` and `bias` have the sizes of `axes`, in the order of x.  Equal numbers give x̂ = 0 exactly.
    """
    _check_eps("layer_norm", eps)
    axes = _sorted_axes("layer_norm", x, axes)
    return _scale_and_shift("layer_norm", _over_root_mean_square(deviations(x, axes), axes, eps)[0], scale, bias, axes)


@layer_norm.jacobian
def _(y, x, scale, bias, *, axes, eps):
    axes = _sorted_axes("layer_norm", x, axes)
    return _normalization_rules(
        *_over_root_mean_square(deviations(x, axes), axes, eps), scale, axes, axes, axis_names(x.ndim)
    )


def _sorted_axes(name, x, axes) -> tuple[int, ...]:
    return tuple(sorted(check_axes(name, x, axes)))


@layer(example=Example((4, 5), (5,)))
def rms_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    *,
    axes: int | tuple[int, ...] = -1,
    eps: float = 1e-6,
) -> Float[Array, "..."]:
    """Division by the root mean square  y[..., i] = x̂[..., i] scale[i],  x̂ = x / √(mean x² + eps)  over `axes`.

    ∂y[b,i]/∂x[b,j] = scale[i]·r[b]·(δ(i,j) − x̂[b,i]·x̂[b,j]/n)  with r = 1 / √(mean x² + eps)

    ∂y[b,i]/∂scale[i] = x̂[b,i]

    `scale` has the sizes of `axes`, in the order of x.  The default `eps` is that of flax and of most language models.
    """
    _check_eps("rms_norm", eps)
    axes = _sorted_axes("rms_norm", x, axes)
    return _scale_and_shift("rms_norm", _over_root_mean_square(x, axes, eps)[0], scale, None, axes)


@rms_norm.jacobian
def _(y, x, scale, *, axes, eps):
    axes = _sorted_axes("rms_norm", x, axes)
    hat, inverse = _over_root_mean_square(x, axes, eps)
    return _normalization_rules(hat, inverse, scale, axes, axes, axis_names(x.ndim), centred=False)[:2]


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

    Example by example, x̂ = (x − μ) / √(σ² + eps) over the channels of a group and all positions; r is one over that root.
    """
    _check_eps("group_norm", eps)
    parts, axes = _with_group_axis(x, groups)
    return _scale_and_shift(
        "group_norm", _over_root_mean_square(deviations(parts, axes), axes, eps)[0].reshape(x.shape), scale, bias, (1,)
    )


@group_norm.jacobian
def _(y, x, scale, bias, *, groups, eps):
    parts, axes = _with_group_axis(x, groups)
    names = ["b", "g", *_channel_axis_names(x.ndim)[1:]]
    return _normalization_rules(
        *_over_root_mean_square(deviations(parts, axes), axes, eps), scale, axes, (1,), names, split=True
    )


def _with_group_axis(x, groups):
    """[b, groups, c / groups, *spatial], and the axes of a group."""
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"group_norm: groups must be an integer, got {groups!r}")
    if groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"group_norm: groups {groups} do not divide the channels of argument 'x' of shape {x.shape}")
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), tuple(range(2, x.ndim + 1))


@layer(example=Example((2, 3, 4, 4), (3,), (3,)))
def instance_norm(
    x: Float[Array, "b c *spatial"],
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    *,
    eps: float = 1e-5,
) -> Float[Array, "b c *spatial"]:
    """Instance normalisation  y[b, c, …] = x̂[b, c, …] scale[c] + bias[c],  over the positions of each channel.

    ∂y[b,c,h,w]/∂x[b,c,i,j] = scale[c]·r[b,c]·(δ(hw,ij) − 1/n − x̂[b,c,h,w]·x̂[b,c,i,j]/n)

    ∂y[b,c,h,w]/∂scale[c] = x̂[b,c,h,w]     ∂y[b,c,h,w]/∂bias[c] = 1

    x̂ = (x − μ) / √(σ² + eps), r is one over that root.  Raises ShapeError where x has no positions.
    """
    _check_eps("instance_norm", eps)
    if x.ndim == 2:
        raise ShapeError(f"instance_norm: argument 'x' has shape {x.shape}, expected [b, c, *spatial] with spatial axes")
    axes = tuple(range(2, x.ndim))
    return _scale_and_shift("instance_norm", _over_root_mean_square(deviations(x, axes), axes, eps)[0], scale, bias, (1,))


@instance_norm.jacobian
def _(y, x, scale, bias, *, eps):
    axes = tuple(range(2, x.ndim))
    return _normalization_rules(
        *_over_root_mean_square(deviations(x, axes), axes, eps), scale, axes, (1,), _channel_axis_names(x.ndim)
    )


# --- over the examples --------------------------------------------------------------------------------------------


@layer(example=Example((4, 3), (3,), (3,), (3,), Positive((3,)), training=True))
def batch_norm(
    x: Float[Array, "b c *spatial"],
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    running_mean: Float[Array, "c"] | None = None,
    running_var: Float[Array, "c"] | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Float[Array, "b c *spatial"], Float[Array, "c"], Float[Array, "c"]]:
    """Batch normalisation  y[b, c, …] = x̂[b, c, …] scale[c] + bias[c],  and the new running mean and variance.

    In training x̂ = (x − μ) / √(σ² + eps) with the mean and variance of the batch, over all axes but c:

    ∂y[b,c]/∂x[j,c] = scale[c]·r[c]·(δ(b,j) − 1/n − x̂[b,c]·x̂[j,c]/n)     ∂y[b,c]/∂scale[c] = x̂[b,c]

    ∂y[b,c]/∂bias[c] = 1     ∂y/∂running_mean = 0     ∂y/∂running_var = 0

    with r = 1 / √(σ² + eps): every example depends on all others.  With m = `momentum`,
    new_mean = (1 − m) running_mean + m μ and
    new_var = (1 − m) running_var + m σ² n / (n − 1), the unbiased variance, though x̂ has the biased one.  Without running
    statistics those of the batch come back.  Raises ValueError where a channel has fewer than two values.

    In evaluation x̂ = (x − running_mean) / √(running_var + eps), so ∂y[b,c]/∂x[b,c] = scale[c]·r[c] with
    r = 1 / √(running_var + eps); the running statistics are needed and come back unchanged.
    """
    eps = _check_eps("batch_norm", eps)
    momentum = check_number("batch_norm", "momentum", momentum)
    if not 0 <= momentum <= 1:
        raise ValueError(f"batch_norm: momentum must be between 0 and 1, got {momentum}")
    if not training:
        if running_mean is None or running_var is None:
            name = "running_mean" if running_mean is None else "running_var"
            raise DTypeError(f"batch_norm: argument '{name}' is None, expected an array [c] in evaluation")
        hat = (x - _broadcastable(x, running_mean, (1,))) / _broadcastable(x, _safe_sqrt(running_var + eps), (1,))
        return _scale_and_shift("batch_norm", hat, scale, bias, (1,)), running_mean, running_var
    axes, n = _all_but_channels(x)
    if n < 2:
        raise ValueError(f"batch_norm: argument 'x' of shape {x.shape} has {n} values a channel, training needs two or more")
    d = deviations(x, axes)
    hat, _ = _over_root_mean_square(d, axes, eps)
    mean, variance = jnp.mean(at_least_float32(x), axes), jnp.sum(jnp.square(d), axes) / (n - 1)
    return (
        _scale_and_shift("batch_norm", hat, scale, bias, (1,)),
        _updated_statistic(running_mean, mean, momentum),
        _updated_statistic(running_var, variance, momentum),
    )


def _all_but_channels(x):
    """All axes but c, and the number of values of a channel."""
    axes = tuple(a for a in range(x.ndim) if a != 1)
    return axes, math.prod(x.shape[a] for a in axes)


def _updated_statistic(old, new, momentum):
    """A running statistic after a batch."""
    return new if old is None else ((1 - momentum) * old + momentum * new).astype(old.dtype)


@batch_norm.jacobian
def _(outputs, x, scale, bias, running_mean, running_var, *, training, momentum, eps):
    names = _channel_axis_names(x.ndim)
    out = fresh_groups(x.shape, names)
    channel = (out[1],)
    if not training:
        root = _safe_sqrt(running_var + eps)
        hat = Tensor((x - _broadcastable(x, running_mean, (1,))) / _broadcastable(x, root, (1,)), out, "x̂")
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
        (*_normalization_rules(*_over_root_mean_square(d, axes, eps), scale, axes, (1,), names), zero, zero),
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
    """Inputs of mean 0 and standard deviation 1  y = (x − μ) / max(σ, eps)  over `axis`, for every feature by itself.

    ∂y[b,i]/∂x[j,i] = r[i]·(δ(b,j) − 1/n − x̂[b,i]·x̂[j,i]/n)  with x̂ = y and r = 1 / max(σ, eps)

    σ is that of the whole batch (divided by n).  A feature that does not vary, σ ≤ eps, is only centred: its σ counts as
    the constant eps, x̂ as 0.  With `mean` and `std`, statistics of a training set that broadcast to x, the map is
    elementwise: ∂y[b,i]/∂x[b,i] = r[i] with r = 1 / max(std, eps).
    """
    eps = _check_eps("standardize", eps)
    if mean is None and std is None:
        return _standardized(x, check_axes("standardize", x, axis), eps)[0]
    if mean is None or std is None:
        raise DTypeError(f"standardize: argument '{'mean' if mean is None else 'std'}' is None, expected both or neither")
    check_broadcasts("standardize", "mean", mean, x.shape)
    check_broadcasts("standardize", "std", std, x.shape)
    return _quotient_and_inverse(x - mean, jnp.where(std > eps, std, eps))[0]


def _standardized(x, axes, eps):
    """x̂, one over the divisor, and where this is σ."""
    d = deviations(x, axes)
    sigma = _safe_sqrt(_mean_square(d, axes))
    return *_quotient_and_inverse(d, jnp.where(sigma > eps, sigma, eps)), sigma > eps


@standardize.jacobian
def _(y, x, mean, std, *, axis, eps):
    if mean is not None:
        inverse = _quotient_and_inverse(x, jnp.where(std > eps, std, eps))[1]
        return (
            diagonal(inverse, "r"),
            einsum("...", "...", (inverse, "...", "r"), scale=-1),
            einsum("...", "...", (jnp.where(std > eps, y * inverse, 0), "...", "ŷ"), scale=-1),
        )
    axes = check_axes("standardize", x, axis)
    hat, inverse, varies = _standardized(x, axes, eps)
    return _normalization_rules(jnp.where(varies, hat, 0), inverse, None, axes, (), axis_names(x.ndim))[0], None, None


# --- lengths ------------------------------------------------------------------------------------------------------


@layer
def normalize(x: Float[Array, "..."], *, axis: int | tuple[int, ...] = -1, eps: float = 1e-12) -> Float[Array, "..."]:
    """Vectors of length 1  y = x / max(|x|, eps)  along `axis`, with the Euclidean length.

    ∂y[b,i]/∂x[b,j] = r[b]·(δ(i,j) − x̂[b,i]·x̂[b,j])  with x̂ = y and r = 1 / max(|x|, eps)

    Vectors no longer than `eps`, the zero vector too, are divided by the constant `eps`: their Jacobian is δ(i,j) / eps.
    """
    _check_eps("normalize", eps)
    return _unit_vectors(x, check_axes("normalize", x, axis), eps)[0]


def _unit_vectors(x, axes, eps):
    """x / max(|x|, eps), one over the divisor, and where this is |x|; squares are of x divided by its largest entry."""
    largest, squares = scale_and_squares(at_least_float32(x), axes)
    length, least = _safe_sqrt(squares), eps / largest
    y, inverse = _quotient_and_inverse(x / largest, jnp.where(length > least, length, least))
    return y, inverse / largest, length > least


@normalize.jacobian
def _(y, x, *, axis, eps):
    axes = check_axes("normalize", x, axis)
    hat, inverse, varies = _unit_vectors(x, axes, eps)
    hat = jnp.where(varies, hat, 0)
    return (_normalization_rules(hat, inverse, None, axes, (), axis_names(x.ndim), centred=False, count=1)[0],)
