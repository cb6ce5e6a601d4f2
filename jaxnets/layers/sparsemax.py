"""Sparsemax: the probabilities that are nearest to a vector, of which most may be 0."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..algebra.factors import Label
from ..algebra.rules import Rule, axis_names, fresh_groups, from_groups, named_tensor, total
from ..checks import check_axis
from .layer import layer

__all__ = ["sparsemax"]


@layer
def sparsemax(x: Float[Array, "..."], *, axis: int = -1) -> Float[Array, "..."]:
    """Sparse probabilities  y[..., i] = max(0, x[..., i] − τ[...])  along `axis`, with the τ for which Σ_i y[..., i] = 1.

    ∂y[b,i]/∂x[b,j] = δ(i,j)·s[b,i] − s[b,i]·m[b,j],  s = 1 where x > τ, else 0, and m = s / Σ s

    It is the point nearest to x among the probabilities (Martins and Astudillo 2016), and depends on differences of x alone.
    At a kink, where x[i] = τ, s is 0.
    """
    axis = check_axis("sparsemax", x, axis)
    return jnp.moveaxis(jnp.maximum(0, excess(jnp.moveaxis(x, axis, -1))), -1, axis)


def excess(x):
    """x − τ for rows [..., i].  The largest entry is subtracted before, so that large numbers cost no digits."""
    x = x - lax.stop_gradient(jnp.max(x, -1, keepdims=True, initial=-jnp.inf))
    ranked = lax.stop_gradient(jnp.sort(x, -1, descending=True))
    k = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    inside = 1 + k * ranked > jnp.cumsum(ranked, -1)  # for the largest k of them, at least for one
    least = jnp.min(jnp.where(inside, ranked, jnp.inf), -1, keepdims=True, initial=jnp.inf)
    support = x >= least
    count = jnp.maximum(1, jnp.sum(support, -1, keepdims=True)).astype(x.dtype)
    return x - (jnp.sum(jnp.where(support, x, 0), -1, keepdims=True) - 1) / count


def projection_rule(support, axis) -> Rule:
    """The rule diag(s) − s sᵀ / Σ s along an axis, for s of zeros and ones: a projection, so it is its own root."""
    count = jnp.maximum(1, jnp.sum(support, axis, keepdims=True))
    out = list(fresh_groups(support.shape, axis_names(support.ndim)))
    out[axis] = (out[axis][0]._replace(name="i"),)
    inp = list(out)
    inp[axis] = (Label(support.ndim, support.shape[axis], "j"),)
    s = named_tensor(support, out, "s")
    return total(from_groups(out, out, s), from_groups(out, inp, s, named_tensor(support / count, inp, "m"), scale=-1))


@sparsemax.jacobian
def _(y, x, *, axis):
    return (projection_rule((y > 0).astype(y.dtype), check_axis("sparsemax", x, axis)),)
