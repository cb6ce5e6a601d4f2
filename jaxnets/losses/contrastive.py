"""A loss that compares every vector of a batch with all others."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..algebra import sharding
from ..algebra.rules import einsum
from ..checks import check_positive
from ..layers.layer import layer
from ..layers.samples import Example
from ..layers.softmax import log_softmax, sum_of_others
from .common import check_same_shape, gradient_rule

__all__ = ["info_nce"]


@layer(example=Example((4, 5), (4, 5), temperature=2.0))
def info_nce(
    queries: Float[Array, "... n d"], keys: Float[Array, "... n d"], *, temperature: float = 0.1
) -> Float[Array, "... n"]:
    """Contrastive loss of pairs  y[..., n] = −log p[..., n, n],  p = softmax over j of Σ_d queries[n, d] keys[j, d] / τ.

    τ is the `temperature`.  Query n belongs to key n, and all other keys of the batch are wrong answers (van den Oord et al.
    2018).  The vectors are taken as they are: for cosines `normalize` them before.

    ∂y[b]/∂queries[b,d] = g[b,d],  g[n] = Σ_j s[n,j] keys[j]     ∂y[n]/∂keys[j,d] = s[n,j]·q[n,d],  s = (p − δ) / τ

    p − δ is computed without a difference, which keeps its digits where p is nearly 1.  The loss is convex by the queries,
    but a root of that Hessian has a column for each key, not for each entry, so there is none.  Raises ValueError unless
    the temperature is positive and finite.
    """
    return -jnp.diagonal(log_softmax.forward(_similarities(queries, keys, temperature)), axis1=-2, axis2=-1)


def _similarities(queries, keys, temperature):
    check_same_shape("info_nce", queries=queries, keys=keys)
    return sharding.einsum("...nd,...jd->...nj", queries, keys) / check_positive("info_nce", "temperature", temperature)


@info_nce.jacobian
def _(y, queries, keys, *, temperature):
    p = jnp.exp(log_softmax.forward(_similarities(queries, keys, temperature)))
    own = jnp.eye(p.shape[-1], dtype=bool)
    slope = jnp.where(own, -sum_of_others(p, own), p) / temperature
    gradient = sharding.einsum("...nj,...jd->...nd", slope, keys)
    by_keys = einsum("...n", "...jd", (slope, "...nj", "s"), (queries, "...nd", "q"))
    return gradient_rule(gradient, "g", "d"), by_keys
