"""Losses that compare vectors, or scores, with each other."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from ..algebra.rules import diagonal
from ..checks import check_not_negative, check_number
from ..errors import ShapeError
from ..layers import accurate
from ..layers.layer import layer
from ..layers.lengths import norm_and_gradient, unit_vectors
from ..layers.samples import Example, Signs
from .common import as_real, check_not_complex, check_same_shape, gradient_rule, real_targets, rule_if_real

__all__ = ["cosine_embedding", "hinge_embedding", "triplet", "margin_ranking"]


def _check_signs(loss, x, targets):
    """The targets [...] of vectors [..., i]; ValueError if a known one is neither 1 nor −1."""
    if targets.shape != x.shape[:-1]:
        raise ShapeError(
            f"{loss}: argument 'targets' has shape {targets.shape}, expected {x.shape[:-1]} for vectors of shape {x.shape}"
        )
    _check_known_signs(loss, targets)
    return targets


def _check_known_signs(loss, targets):
    """ValueError if a known target is neither 1 nor −1."""
    check_not_complex(loss, targets)
    if not isinstance(targets, jax.core.Tracer):
        known = np.asarray(targets)
        if (wrong := (known != 1) & (known != -1)).any():
            raise ValueError(f"{loss}: argument 'targets' has {known[wrong][0]}, expected 1 or −1")


def _angle(x1, x2):
    """u1, u2, 1/|x1|, 1/|x2|, s and g, where u = x/|x|, s is the sign of the cosine c, and g = 1 − |c|.

    g is computed as ½|u2 − s u1|², which keeps the digits that 1 − |c| loses.  A zero vector has u = 0, 1/|x| = 0, s = 0
    and g = 1.
    """
    (u1, r1, _), (u2, r2, _) = (unit_vectors(x, (x.ndim - 1,)) for x in (x1, x2))
    s = jnp.where(jnp.sum(u1 * u2, -1) < 0, -1, 1)
    s = jnp.where(jnp.any(u1 != 0, -1) & jnp.any(u2 != 0, -1), s, 0).astype(x1.dtype)
    return u1, u2, r1, r2, s, jnp.where(s == 0, 1, jnp.sum(jnp.square(u2 - s[..., None] * u1), -1) / 2)


@layer(example=Example((4, 5), (4, 5), Signs((4,), integer=True)))
def cosine_embedding(
    x1: Float[Array, "... i"], x2: Float[Array, "... i"], targets: Num[Array, "..."], *, margin: float = 0.0
) -> Float[Array, "..."]:
    """Cosine loss of pairs of vectors  y[...] = 1 − c[...] where the target is 1, max(0, c[...] − margin) where it is −1.

    c is the cosine of the angle between x1 and x2 along the last axis.  Targets have no Jacobian.

    ∂y[b]/∂x1[b,i] = d1[b,i]     ∂y[b]/∂x2[b,i] = d2[b,i],  d1 = −t (u2 − c u1) / |x1|  with  u = x/|x|,  d2 likewise;  0
    where t = −1 and c ≤ margin, also at the kink

    The cosine with a zero vector is 0, with derivative 0.  Targets other than 1 and −1 raise ValueError outside `jit` and
    give NaN inside.
    """
    check_same_shape("cosine_embedding", x1=x1, x2=x2)
    t = _check_signs("cosine_embedding", x1, targets)
    *_, s, g = _angle(x1, x2)
    excess, other = _excess(s, g, margin), accurate.nan_unless(abs(t) == 1, s.dtype)
    return jnp.where(t == 1, jnp.where(s > 0, g, 2 - g), jnp.where(t == -1, excess, other))


def _excess(s, g, margin):
    """max(0, c − margin)."""
    excess = s * (1 - g) - check_number("cosine_embedding", "margin", margin)
    return jnp.where(excess <= 0, 0, excess)


@cosine_embedding.jacobian
def _(y, x1, x2, targets, *, margin):
    u1, u2, r1, r2, s, g = _angle(x1, x2)
    pushed_apart = (targets == -1) & (_excess(s, g, margin) > 0)
    sign = (pushed_apart.astype(y.dtype) - (targets == 1))[..., None]
    s, g = s[..., None], g[..., None]
    by_x1 = sign * (u2 - s * u1 + s * g * u1) * r1
    by_x2 = sign * (u1 - s * u2 + s * g * u2) * r2
    return gradient_rule(by_x1, "d1", "i"), gradient_rule(by_x2, "d2", "i"), None


@layer(example=Example((4, 5), Signs((4, 5), integer=True)))
def hinge_embedding(
    predictions: Float[Array, "..."], targets: Num[Array, "..."], *, margin: float = 1.0
) -> Float[Array, "..."]:
    """Hinge loss of distances  y[...] = x[...] where the target is 1, max(0, margin − x[...]) where it is −1.

    x are the predictions.  Targets have no Jacobian.

    ∂y[b,i]/∂predictions[b,i] = h'[b,i],  h' = 1 where t = 1, −1 where t = −1 and x < margin, else 0, also at the kink

    Targets other than 1 and −1 raise ValueError outside `jit` and give NaN inside.
    """
    check_same_shape("hinge_embedding", predictions=predictions, targets=targets)
    _check_known_signs("hinge_embedding", targets)
    gap = check_number("hinge_embedding", "margin", margin) - predictions
    other = accurate.nan_unless(abs(targets) == 1, predictions.dtype)
    return jnp.where(targets == 1, predictions, jnp.where(targets == -1, jnp.where(gap <= 0, 0, gap), other))


@hinge_embedding.jacobian
def _(y, predictions, targets, *, margin):
    pushed = (targets == -1) & (predictions < margin)
    slope = (targets == 1).astype(y.dtype) - pushed
    return diagonal(slope, "h'", "1 where t = 1, −1 where t = −1 and x < margin, else 0"), None


def _norm_and_gradient(d, p):
    """The p-norm of d along the last axis, and its gradient, which is 0 at d = 0."""
    y, gradient = norm_and_gradient("triplet", d, (d.ndim - 1,), p)
    return y[..., 0], gradient


def _excess_and_gradients(anchor, positive, negative, margin, p, eps, swap):
    """near − far + margin, where p rather than a is nearer to n, and the gradients of the three distances."""
    margin = check_not_negative("triplet", "margin", margin)
    p, eps = check_number("triplet", "p", p), check_number("triplet", "eps", eps)
    if p < 1:
        raise ValueError(f"triplet: p must be at least 1, got {p}")
    near, by_near = _norm_and_gradient(anchor - positive + eps, p)
    far, by_far = _norm_and_gradient(anchor - negative + eps, p)
    if not swap:
        return near - far + margin, jnp.zeros(far.shape, bool), by_near, by_far, by_far
    other, by_other = _norm_and_gradient(positive - negative + eps, p)
    swapped = other < far
    return near - jnp.where(swapped, other, far) + margin, swapped, by_near, by_far, by_other


@layer(example=Example((4, 5), (4, 5), (4, 5)))
def triplet(
    anchor: Float[Array, "... i"],
    positive: Float[Array, "... i"],
    negative: Float[Array, "... i"],
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
) -> Float[Array, "..."]:
    """Triplet loss of vectors  y[...] = max(0, |a − p + eps| − |a − n + eps| + margin)  of anchor, positive and negative.

    |·| is the p-norm along the last axis, 1 ≤ p ≤ ∞.  With `swap`, the smaller of |a − n + eps| and |p − n + eps| counts.

    ∂y[b]/∂anchor[b,i] = a[b,i]     ∂y[b]/∂positive[b,i] = p[b,i]     ∂y[b]/∂negative[b,i] = n[b,i],  from the gradient
    sign(d) (|d[i]| / |d|)^(p−1) of |d|;  0 where y is 0, also at the kink

    The norm of 0 has gradient 0.  If the two distances are equal they are not swapped.  The default of `eps` is torch's; 0
    works as well.  Raises ValueError for a negative margin.
    """
    check_same_shape("triplet", anchor=anchor, positive=positive, negative=negative)
    excess, *_ = _excess_and_gradients(anchor, positive, negative, margin, p, eps, swap)
    return jnp.where(excess <= 0, 0, excess)


@triplet.jacobian
def _(y, anchor, positive, negative, *, margin, p, eps, swap):
    excess, swapped, near, far, other = _excess_and_gradients(anchor, positive, negative, margin, p, eps, swap)
    met, swapped = (excess <= 0)[..., None], swapped[..., None]
    by_anchor = jnp.where(met, 0, near - jnp.where(swapped, 0, far))
    by_positive = jnp.where(met, 0, -near - jnp.where(swapped, other, 0))
    by_negative = jnp.where(met, 0, jnp.where(swapped, other, far))
    return gradient_rule(by_anchor, "a", "i"), gradient_rule(by_positive, "p", "i"), gradient_rule(by_negative, "n", "i")


@layer(example=Example((4, 5), (4, 5), Signs((4, 5))))
def margin_ranking(
    x1: Float[Array, "..."], x2: Float[Array, "..."], targets: Num[Array, "..."], *, margin: float = 0.0
) -> Float[Array, "..."]:
    """Ranking loss of scores  y[...] = max(0, margin − t[...] (x1[...] − x2[...])):  if t = 1, x1 should be the larger one.

    ∂y[b,i]/∂x1[b,i] = −t[b,i]     ∂y[b,i]/∂x2[b,i] = t[b,i]     ∂y[b,i]/∂targets[b,i] = (x2−x1)[b,i]  where y > 0, else 0,
    also at the kink.  Raises ValueError for a negative margin.
    """
    check_same_shape("margin_ranking", x1=x1, x2=x2)
    gap = _gap(x1, x2, real_targets("margin_ranking", x1, targets, "x1"), margin)
    return jnp.where(gap <= 0, 0, gap)


def _gap(x1, x2, t, margin):
    return check_not_negative("margin_ranking", "margin", margin) - t * (x1 - x2)


@margin_ranking.jacobian
def _(y, x1, x2, targets, *, margin):
    t = as_real(targets, x1)
    met = _gap(x1, x2, t, margin) <= 0
    slope = jnp.where(met, 0, t)
    by_targets = rule_if_real(targets, diagonal(jnp.where(met, 0, x2 - x1), "(x2−x1)"))
    return diagonal(-slope, "−t"), diagonal(slope, "t"), by_targets
