"""Reductions: modules that make one number of many, along some axes.

All take `keepdims` and `axis`: one axis, a tuple of axes, or None for all.  A number is reduced along axis 0 or −1 as a
vector of one entry is.  Entries where the mask `where` is False do not count, whatever they hold.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..algebra.rules import Rule, axis_names, fresh_groups, from_groups, named_tensor
from ..checks import check_axes, check_broadcasts
from ..errors import ShapeError
from .layer import layer
from .softmax import masked_rows, most_likely_mask, sum_of_others

__all__ = ["sum", "mean", "max", "min", "logsumexp"]

Axis = int | tuple[int, ...] | None


def reduced_axes(name, x, axis) -> tuple[int, ...]:
    """The axes that a reduction goes over.  A number is reduced along axis 0 or −1 as a vector of one entry is."""
    return () if x.ndim == 0 and axis in (0, -1) else check_axes(name, x, axis)


def weighted_sum_rule(x, axis, keepdims, *factors, scale=1.0) -> Rule:
    """The rule of a sum over some axes, weighted by factors over all axes of x."""
    axes = reduced_axes("sum", x, axis)
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out = [() if i in axes else group for i, group in enumerate(inp) if keepdims or i not in axes]
    return from_groups(out, inp, *(named_tensor(value, inp, *words) for value, *words in factors), scale=scale)


def full_mask(name, x, where):
    """The mask in the shape of x; None if there is no mask."""
    if where is None:
        return None
    check_broadcasts(name, "where", where, x.shape)
    return jnp.broadcast_to(where, x.shape)


def _with_masked_as(name, x, where, value):
    """x with this value where the mask is False."""
    mask = full_mask(name, x, where)
    return x if mask is None else jnp.where(mask, x, value)


@layer
def sum(  # noqa: A001
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: Axis = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """Sum over `axis`.

    ∂y/∂x[b,i] = 1, and 0 for entries that are masked
    """
    return jnp.sum(_with_masked_as("sum", x, where, 0), reduced_axes("sum", x, axis), keepdims=keepdims)


@sum.jacobian
def _(y, x, where, *, axis, keepdims):
    mask = [] if where is None else [(full_mask("sum", x, where).astype(x.dtype), "m", "the mask")]
    return weighted_sum_rule(x, axis, keepdims, *mask), None


@layer
def mean(
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: Axis = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """Average over `axis` (default: all axes): the average loss of a batch.

    ∂y/∂x[b,i] = 1/n  with n the number of averaged entries;  (m/n)[b,i] with a mask m

    If everything is masked the mean is 0, with Jacobian 0.
    """
    axes = reduced_axes("mean", x, axis)
    if where is None:
        return jnp.mean(x, axes, keepdims=keepdims)
    count = jnp.sum(full_mask("mean", x, where), axes, keepdims=keepdims)
    return jnp.sum(_with_masked_as("mean", x, where, 0), axes, keepdims=keepdims) / jnp.maximum(count, 1).astype(x.dtype)


@mean.jacobian
def _(y, x, where, *, axis, keepdims):
    if where is None:
        return weighted_sum_rule(x, axis, keepdims, scale=y.size / x.size if x.size else 1.0), None
    mask = full_mask("mean", x, where).astype(x.dtype)
    count = jnp.sum(mask, reduced_axes("mean", x, axis), keepdims=True)
    return weighted_sum_rule(
        x, axis, keepdims, (mask / jnp.maximum(count, 1), "m/n", "the mask over the number of averaged entries")
    ), None


@layer
def max(  # noqa: A001
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: Axis = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """Largest entry along `axis`.

    ∂y/∂x[b,i] = m[b,i],  m = 1 at the largest entry, else 0.  Several largest entries share the 1 evenly.

    If everything is masked the result is −∞, with Jacobian 0.  Raises ShapeError for a maximum of nothing.
    """
    axes = _filled_axes("max", x, axis)
    return jnp.max(_with_masked_as("max", x, where, -jnp.inf), axes, keepdims=keepdims)


def _filled_axes(name, x, axis) -> tuple[int, ...]:
    """The axes that a reduction goes over; ShapeError if there are no entries."""
    axes = reduced_axes(name, x, axis)
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"{name}: argument 'x' of shape {x.shape} has no entries along axis {axis}")
    return axes


@max.jacobian
def _(y, x, where, *, axis, keepdims):
    return _extreme_rule("max", y, x, where, axis, keepdims, "1 at the largest entry, else 0"), None


def _extreme_rule(name, y, x, where, axis, keepdims, meaning) -> Rule:
    """The rule of the largest or the smallest entry y."""
    axes = reduced_axes(name, x, axis)
    mask = full_mask(name, x, where)
    hit = x == (y if keepdims else jnp.expand_dims(y, axes))
    hit = (hit if mask is None else hit & mask).astype(x.dtype)
    share = hit / jnp.maximum(jnp.sum(hit, axes, keepdims=True), 1)
    return weighted_sum_rule(x, axis, keepdims, (share, "m", meaning))


@layer
def min(  # noqa: A001
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: Axis = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """Smallest entry along `axis`.

    ∂y/∂x[b,i] = m[b,i],  m = 1 at the smallest entry, else 0.  Several smallest entries share the 1 evenly.

    If everything is masked the result is ∞, with Jacobian 0.  Raises ShapeError for a minimum of nothing.
    """
    axes = _filled_axes("min", x, axis)
    return jnp.min(_with_masked_as("min", x, where, jnp.inf), axes, keepdims=keepdims)


@min.jacobian
def _(y, x, where, *, axis, keepdims):
    return _extreme_rule("min", y, x, where, axis, keepdims, "1 at the smallest entry, else 0"), None


@layer
def logsumexp(
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: Axis = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """Smooth maximum  y = log Σ exp(x)  along `axis`.

    ∂y/∂x[b,i] = p[b,i],  p = softmax(x)

    It is computed from the differences to the largest entry, which do not overflow.  If everything is −∞ or masked the
    result is −∞, with Jacobian 0.
    """
    rows, _ = masked_rows("logsumexp", x, where, reduced_axes("logsumexp", x, axis))
    largest, e = _exponentials(rows)
    y = jnp.where(jnp.isneginf(largest), largest, largest + jnp.log1p(sum_of_others(e, most_likely_mask(rows))[..., 0]))
    axes = reduced_axes("logsumexp", x, axis)
    return jnp.expand_dims(y, axes) if keepdims else y


def _exponentials(rows):
    """The largest entry of each row, and exp(x − largest); 0 in a row that is all −∞."""
    largest = jnp.max(rows, -1, initial=-jnp.inf)
    return largest, jnp.exp(rows - jnp.where(jnp.isfinite(largest), largest, 0)[..., None])


@logsumexp.jacobian
def _(y, x, where, *, axis, keepdims):
    rows, back = masked_rows("logsumexp", x, where, reduced_axes("logsumexp", x, axis))
    _, e = _exponentials(rows)
    total = jnp.sum(e, -1, keepdims=True)
    return weighted_sum_rule(x, axis, keepdims, (back(e / jnp.where(total > 0, total, 1)), "p", "softmax(x)")), None
