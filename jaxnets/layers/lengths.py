"""Euclidean lengths, and vectors divided by theirs."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..algebra.factors import at_least_float32
from ..algebra.rules import axis_names
from ..checks import check_axes, check_not_negative
from ..errors import ShapeError
from .layer import layer
from .normalize_common import normalization_rules, quotient_and_inverse, safe_sqrt
from .reduce import Axis, reduced_axes, weighted_sum_rule

__all__ = ["l2_norm", "normalize", "cosine_similarity"]


def scale_and_squares(x, axes):
    """A scale c and Σ (x / c)².  c is the largest entry, so that the squares neither overflow nor vanish."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axes, keepdims=True, initial=0))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale, jnp.sum(jnp.square(x / scale), axes, keepdims=True)


def unit_vectors(x, axes, eps=0.0):
    """x / max(|x|, eps), one over the divisor, and where the divisor is |x|.  A divisor of 0 gives 0 and 0."""
    scale, squares = scale_and_squares(x, axes)
    length, least = safe_sqrt(squares), eps / scale
    unit, inverse = quotient_and_inverse(x / scale, jnp.where(length > least, length, least))
    return unit, inverse / scale, length > least


@layer
def l2_norm(x: Float[Array, "..."], *, axis: Axis = None, keepdims: bool = False) -> Float[Array, "..."]:
    """Euclidean length  y = √Σ x²  along `axis`.

    ∂y/∂x[b,i] = (x/y)[b,i],  0 at the zero vector

    x is divided by its largest entry before it is squared, so that the squares neither overflow nor vanish.
    """
    axes = reduced_axes("l2_norm", x, axis)
    scale, squares = scale_and_squares(x, axes)
    y = scale * safe_sqrt(squares)
    return y if keepdims else jnp.squeeze(y, axes)


@l2_norm.jacobian
def _(y, x, *, axis, keepdims):
    unit = unit_vectors(x, reduced_axes("l2_norm", x, axis))[0]
    return (weighted_sum_rule(x, axis, keepdims, (unit, "x/y")),)


@layer
def normalize(x: Float[Array, "..."], *, axis: int | tuple[int, ...] = -1, eps: float = 1e-12) -> Float[Array, "..."]:
    """Vectors of length 1  y = x / max(|x|, eps)  along `axis`, with the Euclidean length.

    ∂y[b,i]/∂x[b,j] = r[b]·(δ(i,j) − x̂[b,i]·x̂[b,j])  with x̂ = y and r = 1 / max(|x|, eps)

    Vectors no longer than `eps`, as the zero vector, are divided by the constant `eps`: their Jacobian is δ(i,j) / eps.
    """
    check_not_negative("normalize", "eps", eps)
    return unit_vectors(at_least_float32(x), check_axes("normalize", x, axis), eps)[0]


@normalize.jacobian
def _(y, x, *, axis, eps):
    axes = check_axes("normalize", x, axis)
    hat, inverse, varies = unit_vectors(at_least_float32(x), axes, eps)
    hat = jnp.where(varies, hat, 0)
    return (normalization_rules(hat, inverse, None, axes, (), axis_names(x.ndim), centred=False, count=1)[0],)


@layer
def cosine_similarity(
    x1: Float[Array, "*s"], x2: Float[Array, "*s"], *, axis: int = -1, eps: float = 1e-8
) -> Float[Array, "..."]:
    """Cosine of the angle  y = Σ x1 x2 / (max(|x1|, eps) max(|x2|, eps))  along `axis`.

    ∂y[b]/∂x1[b,i] = s1[b,i]     ∂y[b]/∂x2[b,i] = s2[b,i],  s1 = (x2/|x2| − y x1/|x1|) / |x1|, and s2 likewise

    The cosine with a zero vector is 0.  In place of a length up to `eps` stands the constant `eps`.
    """
    check_not_negative("cosine_similarity", "eps", eps)
    if x1.shape != x2.shape:
        raise ShapeError(f"cosine_similarity: argument 'x2' has shape {x2.shape}, expected {x1.shape} as 'x1'")
    axes = check_axes("cosine_similarity", x1, axis)
    return jnp.sum(unit_vectors(x1, axes, eps)[0] * unit_vectors(x2, axes, eps)[0], axes)


@cosine_similarity.jacobian
def _(y, x1, x2, *, axis, eps):
    axes = check_axes("cosine_similarity", x1, axis)
    y = jnp.expand_dims(y, axes)
    vectors = [unit_vectors(x, axes, eps) for x in (x1, x2)]

    def slope(own, other):
        unit, inverse, varies = own
        return (other[0] - jnp.where(varies, y * unit, 0)) * inverse

    first, second = slope(*vectors), slope(*vectors[::-1])
    return weighted_sum_rule(x1, axis, False, (first, "s1")), weighted_sum_rule(x2, axis, False, (second, "s2"))
