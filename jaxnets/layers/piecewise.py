"""Piecewise linear non-linearities; the docstring says which slope holds at a kink."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..algebra.rules import axis_names, diagonal, fresh_groups, from_groups, named_tensor
from ..checks import check_axis, check_number, check_positive
from ..errors import ShapeError
from .layer import layer
from .samples import Example

__all__ = [
    "relu", "relu6", "hard_tanh", "clip", "leaky_relu", "prelu", "hard_sigmoid", "hard_swish", "soft_shrink",
    "hard_shrink", "threshold",
]  # fmt: skip


def _clipped(x, low, high):
    """x limited to the range from `low` to `high`, each of which may be None."""
    y = x if low is None else jnp.where(x <= low, low, x)  # `where` keeps NaN, and gives autodiff the slope 0 at the kink
    return y if high is None else jnp.where(x >= high, high, y)


def _clip_rule(x, low, high, meaning):
    """The rule of `_clipped`, with the formula of its derivative."""
    outside = jnp.zeros(x.shape, bool) if low is None else x <= low
    outside = outside if high is None else outside | (x >= high)
    return diagonal((~outside).astype(x.dtype), "h'", meaning)


@layer
def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit  y[...] = max(x[...], 0).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where x > 0, else 0.  At the kink x = 0 the derivative is 0.
    """
    return _clipped(x, 0, None)


@relu.jacobian
def _(y, x):
    return (_clip_rule(x, 0, None, "1 where x > 0, else 0"),)


@layer
def relu6(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit with a ceiling  y[...] = min(max(x[...], 0), 6).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where 0 < x < 6, else 0, also at the kinks.
    """
    return _clipped(x, 0, 6)


@relu6.jacobian
def _(y, x):
    return (_clip_rule(x, 0, 6, "1 where 0 < x < 6, else 0"),)


@layer
def hard_tanh(x: Float[Array, "..."], *, min_val: float = -1.0, max_val: float = 1.0) -> Float[Array, "..."]:
    """Piecewise linear tanh  y[...] = min(max(x[...], min_val), max_val).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where min_val < x < max_val, else 0, also at the kinks.

    Raises ValueError where min_val is larger than max_val.
    """
    return _clipped(x, *_check_limits("hard_tanh", min_val=min_val, max_val=max_val))


def _check_limits(layer, optional=False, **limits):
    """The lower and the upper limit as floats; ValueError if the lower is the larger one."""
    first, second = limits
    low, high = (None if optional and limits[name] is None else check_number(layer, name, limits[name]) for name in limits)
    if low is not None and high is not None and low > high:
        raise ValueError(f"{layer}: {first} {low} is larger than {second} {high}")
    return low, high


@hard_tanh.jacobian
def _(y, x, *, min_val, max_val):
    return (_clip_rule(x, min_val, max_val, "1 where min_val < x < max_val, else 0"),)


@layer
def clip(x: Float[Array, "..."], *, min: float | None = None, max: float | None = None) -> Float[Array, "..."]:
    """Entries limited to a range  y[...] = min(max(x[...], min), max),  each of which may be None.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where min < x < max, else 0, also at the limits.

    Raises ValueError where min is larger than max.
    """
    return _clipped(x, *_check_limits("clip", optional=True, min=min, max=max))


@clip.jacobian
def _(y, x, *, min, max):
    return (_clip_rule(x, min, max, "1 where min < x < max, else 0"),)


@layer
def leaky_relu(x: Float[Array, "..."], *, negative_slope: float = 0.01) -> Float[Array, "..."]:
    """Rectifier with a leak  y[...] = x[...] if x[...] > 0 else negative_slope·x[...].

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where x > 0, else negative_slope, also at the kink x = 0, as in torch.
    """
    return jnp.where(x > 0, x, check_number("leaky_relu", "negative_slope", negative_slope) * x)


@leaky_relu.jacobian
def _(y, x, *, negative_slope):
    return (diagonal(jnp.where(x > 0, 1, negative_slope).astype(x.dtype), "h'", "1 where x > 0, else negative_slope"),)


@layer(example=Example((4, 5), (5,)))
def prelu(x: Float[Array, "..."], w: Float[Array, "..."], *, axis: int = 1) -> Float[Array, "..."]:
    """Rectifier with a learnt leak  y[...] = x[...] if x[...] > 0 else w·x[...].

    `w` is one number, of shape () or (1,), or one number for each channel along `axis`, of shape (n,), or one number for
    each entry, of the shape of x, which then has two axes or more.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where x > 0, else w     ∂y[b,i]/∂w[i] = x⁻[b,i],  x⁻ = min(x, 0);  with a
    w for each entry it is ∂y[b,i]/∂w[b,i]

    At the kink x = 0 the derivative by x is w, as in torch.  Raises ShapeError where w does not fit the axis.
    """
    return jnp.where(x > 0, x, _broadcastable_slopes(x, w, axis) * x)


def _broadcastable_slopes(x, w, axis):
    """w in a shape that broadcasts along the axis of x."""
    if w.shape in ((), (1,)):
        return w.reshape(())
    if w.shape == x.shape and x.ndim > 1:
        return w
    channels = check_axis("prelu", x, axis)
    if w.shape != (x.shape[channels],):
        raise ShapeError(
            f"prelu: argument 'w' has shape {w.shape}, expected (), (1,) or {(x.shape[channels],)} for axis {axis} "
            f"of 'x' of shape {x.shape}, or that shape"
        )
    return w.reshape([-1 if a == channels else 1 for a in range(x.ndim)])


@prelu.jacobian
def _(y, x, w, *, axis):
    slope = jnp.where(x > 0, 1, _broadcastable_slopes(x, w, axis))
    groups = fresh_groups(x.shape, axis_names(x.ndim))
    shared = () if w.ndim == 0 else ((),) if w.shape == (1,) else groups if w.ndim > 1 else (groups[axis],)
    negative_part = named_tensor(jnp.where(x > 0, 0, x), groups, "x⁻", "min(x, 0)")
    return diagonal(slope, "h'", "1 where x > 0, else w"), from_groups(groups, shared, negative_part)


@layer
def hard_sigmoid(x: Float[Array, "..."], *, slope: float = 1 / 6, offset: float = 0.5) -> Float[Array, "..."]:
    """Piecewise linear sigmoid  y[...] = min(max(slope·x[...] + offset, 0), 1).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = slope where 0 < slope·x + offset < 1, else 0, also at the kinks.

    The kinks of the default, which is that of torch and jax, are at −3 and 3; ONNX has a slope of 0.2.  Raises ValueError
    unless slope is positive and finite.
    """
    low, high = _kinks_of_hard_sigmoid(slope, offset)
    return jnp.where(x <= low, 0, jnp.where(x >= high, 1, (x - low) / (high - low)))


def _kinks_of_hard_sigmoid(slope, offset) -> tuple[float, float]:
    """Where the line is 0 and where it is 1."""
    width = 1 / check_positive("hard_sigmoid", "slope", slope)
    low = -check_number("hard_sigmoid", "offset", offset) * width
    return low, low + width


@hard_sigmoid.jacobian
def _(y, x, *, slope, offset):
    low, high = _kinks_of_hard_sigmoid(slope, offset)
    h = jnp.where((x <= low) | (x >= high), 0, slope).astype(x.dtype)
    return (diagonal(h, "h'", "slope where 0 < slope·x + offset < 1, else 0"),)


@layer
def hard_swish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Swish with the piecewise linear sigmoid  y[...] = x[...]·min(max(x[...] + 3, 0), 6) / 6.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 0 where x ≤ −3, 1 where x ≥ 3, else (2x + 3) / 6: at the kinks 0 and 1.
    """
    inner = jnp.where((x <= -3) | (x >= 3), 0, x)
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, x, inner * (inner + 3) / 6))


@hard_swish.jacobian
def _(y, x):
    slope = jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, (2 * x + 3) / 6))
    return (diagonal(slope, "h'", "0 where x ≤ −3, 1 where x ≥ 3, else (2x + 3) / 6"),)


@layer
def soft_shrink(x: Float[Array, "..."], *, lambd: float = 0.5) -> Float[Array, "..."]:
    """Soft shrinkage towards 0  y[...] = x[...] − lambd where x > lambd, x[...] + lambd where x < −lambd, else 0.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where |x| > lambd, else 0, also at the kinks.

    Raises ValueError for a negative lambd.
    """
    lambd = _check_lambd("soft_shrink", lambd)
    return jnp.where(_within(x, lambd), 0, jnp.where(x > 0, x - lambd, x + lambd))


def _check_lambd(layer, lambd):
    lambd = check_number(layer, "lambd", lambd)
    if lambd < 0:
        raise ValueError(f"{layer}: lambd must not be negative, got {lambd}")
    return lambd


def _within(x, lambd):
    return (x >= -lambd) & (x <= lambd)


def _shrink_rule(x, lambd):
    return diagonal((~_within(x, lambd)).astype(x.dtype), "h'", "1 where |x| > lambd, else 0")


@soft_shrink.jacobian
def _(y, x, *, lambd):
    return (_shrink_rule(x, lambd),)


@layer
def hard_shrink(x: Float[Array, "..."], *, lambd: float = 0.5) -> Float[Array, "..."]:
    """Small entries set to 0  y[...] = x[...] where |x| > lambd, else 0.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where |x| > lambd, else 0, also at the jumps.

    Raises ValueError for a negative lambd.
    """
    return jnp.where(_within(x, _check_lambd("hard_shrink", lambd)), 0, x)


@hard_shrink.jacobian
def _(y, x, *, lambd):
    return (_shrink_rule(x, lambd),)


@layer(example=Example((4, 5), threshold=0.5, value=-1.0))
def threshold(x: Float[Array, "..."], *, threshold: float, value: float) -> Float[Array, "..."]:
    """Entries up to a threshold replaced  y[...] = x[...] where x > threshold, else value.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where x > threshold, else 0, also at the jump.
    """
    number = check_number("threshold", "value", value)
    return jnp.where(x <= check_number("threshold", "threshold", threshold), number, x)


@threshold.jacobian
def _(y, x, *, threshold, value):
    return (_clip_rule(x, threshold, None, "1 where x > threshold, else 0"),)
