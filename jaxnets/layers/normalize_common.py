"""What the normalisations share: x̂, scale and bias, and the rules.

One operator is the Jacobian of all of them.  A variance is the average of squared differences, never a difference of
averages.  So it keeps its digits beside a large mean, and is never negative.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from ..algebra.factors import Group, Label, Tensor, applied_to_rows, at_least_float32, labels_of, pytree
from ..algebra.rules import Rule, fresh_groups, from_groups
from ..errors import ShapeError
from .row_operator import RowOperator


@pytree("hat", "inverse")
class NormalizeOperator(RowOperator):
    """∂x̂[i]/∂x[j] = r·(δ(i,j) − 1/n − x̂[i] x̂[j]/count), symmetric; without 1/n where no mean is subtracted.

    `hat` is [*shared, n], and `inverse`, which is r, one over the spread, is [*shared, 1].  If the spread is a constant,
    `hat` is 0.
    """

    hat: Any
    inverse: Any
    axes: tuple[Group, ...]
    count: int
    centred: bool = True
    symbol = "norm'"
    meaning = "the derivative of a normalisation"

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        n = {"n": str(self.hat.shape[-1])} if self.centred or self.count != 1 else {}
        score = "(x − mean) · r" if self.centred else "x · r"
        return {"r": "1 / standard deviation" if self.centred else "1 / size", "x̂": score} | n

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

    def off_diagonal(self):
        products = self.hat[..., :, None] * self.hat[..., None, :] / self.count
        return -self.inverse[..., None] * (products + self.centred / self.hat.shape[-1])

    def formula(self, show):
        *b, i, j = self.axes
        row, column = labels_of([*b, i]), labels_of([*b, j])
        if len(row) == len(column):  # show the indices in the order of the output's axes
            order = sorted(range(len(row)), key=row.__getitem__)
            row, column = (tuple(labels[k] for k in order) for labels in (row, column))
        products = "·".join(f"{self.written('x̂')}{show([(label,) for label in labels])}" for labels in (row, column))
        delta = f"δ({show([i])[1:-1]},{show([j])[1:-1]})"
        n = self.written("n")
        mean, count = f" − 1/{n}" * self.centred, "" if self.count == 1 else f"/{n}"
        return f"{self.written('r')}{show(b)}·({delta}{mean} − {products}{count})"


def deviations(x, axes):
    """x minus its mean over some axes: exactly 0 where x is constant, and accurate beside a large mean.

    The mean is subtracted twice.  The first one is rounded, so it is clipped to the range of x; the mean of what remains is
    small, and so is its rounding error.
    """
    x = at_least_float32(x)
    if math.prod(x.shape[a] for a in axes) == 0:
        return x
    low, high = jnp.min(x, axes, keepdims=True), jnp.max(x, axes, keepdims=True)
    x = x - lax.stop_gradient(jnp.clip(jnp.mean(x, axes, keepdims=True), low, high))
    return x - jnp.mean(x, axes, keepdims=True)


def mean_square(x, axes):
    """The average of squares over some axes; 0 if there are no entries."""
    return jnp.sum(jnp.square(x), axes, keepdims=True) / max(1, math.prod(x.shape[a] for a in axes))


def safe_sqrt(square):
    """The square root; its derivative at 0 is 0 for autodiff."""
    zero_or_nan = jnp.sqrt(lax.stop_gradient(jnp.where(square > 0, 0, square)))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), zero_or_nan)


def quotient_and_inverse(x, divisor):
    """x / divisor and 1 / divisor; both are 0 where the divisor is 0."""
    safe = jnp.where(divisor == 0, 1, divisor)
    return jnp.where(divisor == 0, 0, x / safe), jnp.where(divisor == 0, 0, 1 / safe)


def over_root_mean_square(x, axes, eps) -> tuple[Any, Any]:
    """x / √(mean x² + eps) over some axes, and one over the root."""
    return quotient_and_inverse(x, safe_sqrt(mean_square(x, axes) + eps))


def standard_scores(x, axes, eps) -> tuple[Any, Any]:
    """x̂ = (x − μ) / √(σ² + eps) over some axes, and one over the root."""
    return over_root_mean_square(deviations(x, axes), axes, eps)


def scale_and_shift(name, y, scale, bias, axes):
    """y · scale + bias, whose shapes are the sizes of some axes of y."""
    expected = tuple(y.shape[a] for a in axes)
    for what, parameter in (("scale", scale), ("bias", bias)):
        if parameter is not None and parameter.shape != expected:
            raise ShapeError(f"{name}: argument '{what}' has shape {parameter.shape}, expected {expected}")
    y = y if scale is None else y * along_axes(y, scale, axes)
    return y if bias is None else y + along_axes(y, bias, axes)


def along_axes(y, parameter, axes):
    """A parameter of the sizes of some axes of y, in a shape that broadcasts to y."""
    return parameter.reshape([n if a in axes else 1 for a, n in enumerate(y.shape)])


def channel_axis_names(count) -> list[str]:
    """Names for the axes of an array with channels: [b, c], [b, c, s], [b, c, h, w], …"""
    return [*"bc"[:count], *{1: "s", 2: "hw", 3: "dhw"}.get(count - 2, "")]


def normalization_rules(
    hat, inverse, scale, axes, own, names, *, split=False, centred=True, count=None, gain_name="scale"
) -> tuple[Rule, Rule, Rule]:
    """The rules of y = x̂ · scale + bias by x, scale and bias; x̂ is normalised over `axes`.

    Scale and bias have the axes `own` of y.  With `split`, axes 1 and 2 of x̂ are axis 1 of x and y.  `gain_name` is what
    formulae call the scale.
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
    gain = [] if scale is None else [Tensor(scale, parameter, gain_name)]
    return from_groups(out, inp, *gain, operator), from_groups(out, parameter, hat), from_groups(out, parameter)
