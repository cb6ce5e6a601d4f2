"""Lengths of vectors, Euclidean and others, and vectors divided by theirs."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..algebra.factors import Label, Tensor, at_least_float32
from ..algebra.rules import axis_names, fresh_groups, from_groups, total
from ..checks import check_axes, check_not_negative, check_number
from ..errors import ShapeError
from .layer import layer
from .normalize_common import normalization_rules, quotient_and_inverse, safe_sqrt
from .reduce import Axis, reduced_axes, weighted_sum_rule
from .samples import Example

__all__ = ["l2_norm", "vector_norm", "normalize", "cosine_similarity", "pairwise_distance"]


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
def vector_norm(x: Float[Array, "..."], *, p: float = 2.0, axis: Axis = None, keepdims: bool = False) -> Float[Array, "..."]:
    """Norm of any order  y = (Σ |x|^p)^(1/p)  along `axis`;  ∞ gives the largest |x|, −∞ the smallest, 0 counts what is
    not 0.

    ∂y/∂x[b,i] = g[b,i],  g = sign(x) (|x| / y)^(p−1),  0 for p = 0

    At an entry x = 0, and where y is 0, g is 0.  Several largest, or smallest, entries share the 1 evenly.  x is divided by
    its largest entry, for a negative p by its smallest, so that the powers neither overflow nor vanish.
    """
    axes = reduced_axes("vector_norm", x, axis)
    if p < 0 and any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"vector_norm: argument 'x' of shape {x.shape} has no entries along axis {axis}")
    y = norm_and_gradient("vector_norm", x, axes, p)[0]
    return y if keepdims else jnp.squeeze(y, axes)


def norm_and_gradient(name, x, axes, p):
    """The p-norm over some axes, which are kept, and its gradient; 0 at entries that are 0."""
    p = check_number(name, "p", p)
    size, sign = x * jnp.sign(x), jnp.sign(x)
    if math.isinf(p):
        largest = jnp.max(size, axes, keepdims=True, initial=0) if p > 0 else jnp.min(size, axes, keepdims=True)
        hit = (size == largest).astype(x.dtype)
        return largest, sign * hit / jnp.maximum(1, jnp.sum(hit, axes, keepdims=True))
    if p == 0:
        return jnp.sum(jnp.abs(sign), axes, keepdims=True), jnp.zeros_like(x)
    extreme = jnp.max(size, axes, keepdims=True, initial=0) if p > 0 else jnp.min(size, axes, keepdims=True)
    scale = lax.stop_gradient(jnp.where((extreme > 0) & jnp.isfinite(extreme), extreme, 1))
    powers = jnp.sum(_power(size / scale, p), axes, keepdims=True)
    nothing = (powers == 0) | (jnp.isinf(powers) & (p < 0))
    root = _power(jnp.where(nothing, 1, powers), 1 / p)
    ratio = jnp.where((size == 0) | nothing, 1, size / scale / root)
    return jnp.where(nothing, 0, scale * root), jnp.where(nothing, 0, sign * _power(ratio, p - 1))


def _power(x, p):
    return jnp.sqrt(x) if p == 0.5 else x ** int(p) if p == int(p) else x**p


@vector_norm.jacobian
def _(y, x, *, p, axis, keepdims):
    gradient = norm_and_gradient("vector_norm", x, reduced_axes("vector_norm", x, axis), p)[1]
    return (weighted_sum_rule(x, axis, keepdims, (gradient, "g", "sign(x) (|x| / y)^(p−1)")),)


@layer(example=Example((4, 5), (4, 5)))
def pairwise_distance(
    x1: Float[Array, "... i"], x2: Float[Array, "... i"], *, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False
) -> Float[Array, "..."]:
    """Distance of pairs of vectors  y[...] = |x1[...] − x2[...] + eps|  along the last axis, with the p-norm.

    ∂y[b]/∂x1[b,i] = g[b,i]     ∂y[b]/∂x2[b,i] = −g[b,i],  g = sign(d) (|d| / y)^(p−1)  with  d = x1 − x2 + eps

    At an entry d = 0 g is 0.  The default of `eps` is torch's; 0 works as well.  No broadcasting.
    """
    y = norm_and_gradient("pairwise_distance", _shifted_difference(x1, x2, eps), (x1.ndim - 1,), p)[0]
    return y if keepdims else y[..., 0]


def _shifted_difference(x1, x2, eps):
    if x1.shape != x2.shape:
        raise ShapeError(f"pairwise_distance: argument 'x2' has shape {x2.shape}, expected {x1.shape} as 'x1'")
    return x1 - x2 + check_number("pairwise_distance", "eps", eps)


@pairwise_distance.jacobian
def _(y, x1, x2, *, p, eps, keepdims):
    gradient = norm_and_gradient("pairwise_distance", _shifted_difference(x1, x2, eps), (x1.ndim - 1,), p)[1]
    meaning = "sign(d) (|d| / y)^(p−1)  with  d = x1 − x2 + eps"
    return tuple(
        weighted_sum_rule(x1, -1, keepdims, (each, name, meaning)) for each, name in ((gradient, "g"), (-gradient, "−g"))
    )


@layer
def normalize(
    x: Float[Array, "..."], *, axis: int | tuple[int, ...] = -1, p: float = 2.0, eps: float = 1e-12
) -> Float[Array, "..."]:
    """Vectors of length 1  y = x / max(|x|, eps)  along `axis`, with the Euclidean length, or the norm of order p.

    ∂y[b,i]/∂x[b,j] = r[b]·(δ(i,j) − x̂[b,i]·x̂[b,j])  with x̂ = y and r = 1 / max(|x|, eps);  for another p it is
    r (δ(i,j) − y[i] g[j]), with the gradient g of `vector_norm`

    Vectors no longer than `eps`, as the zero vector, are divided by the constant `eps`: their Jacobian is δ(i,j) / eps.
    """
    check_not_negative("normalize", "eps", eps)
    axes = check_axes("normalize", x, axis)
    if p == 2:
        return unit_vectors(at_least_float32(x), axes, eps)[0]
    return quotient_and_inverse(x, jnp.maximum(norm_and_gradient("normalize", x, axes, _check_order(p))[0], eps))[0]


def _check_order(p):
    if check_number("normalize", "p", p) <= 0:
        raise ValueError(f"normalize: p must be positive, got {p}")
    return p


@normalize.jacobian
def _(y, x, *, axis, p, eps):
    axes = check_axes("normalize", x, axis)
    if p != 2:
        return (_rule_of_any_order(y, x, axes, p, eps),)
    hat, inverse, varies = unit_vectors(at_least_float32(x), axes, eps)
    hat = jnp.where(varies, hat, 0)
    return (normalization_rules(hat, inverse, None, axes, (), axis_names(x.ndim), centred=False, count=1)[0],)


def _rule_of_any_order(y, x, axes, p, eps):
    norm, gradient = norm_and_gradient("normalize", x, axes, p)
    inverse = quotient_and_inverse(x, jnp.maximum(norm, eps))[1]
    out = fresh_groups(x.shape, axis_names(x.ndim))
    inp = tuple((Label(x.ndim + a, n, ""),) if a in axes else out[a] for a, n in enumerate(x.shape))
    along = Tensor(y * inverse, out, "(y·r)"), Tensor(jnp.where(norm > eps, gradient, 0), inp, "g")
    own = Tensor(jnp.broadcast_to(inverse, x.shape), out, "r")
    return total(from_groups(out, out, own), from_groups(out, inp, *along, scale=-1))


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
