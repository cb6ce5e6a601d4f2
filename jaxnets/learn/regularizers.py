"""Penalties on parameters, to be added to a loss."""

import jax.numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path

from ..algebra.factors import at_least_float32
from ..errors import DTypeError


def l1(params):
    """Σ |w|  over all entries of the floating-point leaves of a pytree: a penalty that favours zeros.

    ∂/∂w = sign(w), which is 0 at w = 0.  Other leaves do not count; raises ValueError if there is no floating-point leaf.
    Float16 and bfloat16 are added up in float32, which is also the dtype of the result.

    >>> jn.regularizers.l1({"w": jnp.array([1.0, -2.0])})
    Array(3., dtype=float32)
    """
    return sum(jnp.sum(w * jnp.sign(w)) for w in _floating_leaves("l1", params))


def l2(params):
    """½ Σ w²  over all entries of the floating-point leaves of a pytree: weight decay.

    ∂/∂w = w, so `loss + c * l2(params)` is what torch calls a weight decay of c.  Other leaves do not count; raises
    ValueError if there is no floating-point leaf.  Float16 and bfloat16 are added up in float32, which is also the dtype of
    the result.

    >>> jn.regularizers.l2({"w": jnp.array([1.0, -2.0])})
    Array(2.5, dtype=float32)
    """
    return sum(jnp.sum(jnp.square(w)) for w in _floating_leaves("l2", params)) / 2


def _floating_leaves(name, params):
    found = []
    for path, leaf in tree_leaves_with_path(params):
        try:
            leaf = jnp.asarray(leaf)
        except (TypeError, ValueError, OverflowError):
            raise DTypeError(f"{name}: parameter {keystr(path) or 'params'} is no array: {type(leaf).__name__}") from None
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            found.append(at_least_float32(leaf))
    if not found:
        raise ValueError(f"{name}: params has no floating array")
    return found
