"""Dropout: noise that is added in training and left out in evaluation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..algebra.rules import diagonal, identity
from ..checks import check_axes, check_share
from ..errors import DTypeError
from .layer import layer
from .samples import Example, RandomKey

__all__ = ["dropout"]


@layer(example=Example((4, 5), RandomKey()))
def dropout(
    x: Float[Array, "..."],
    key: Key[Array, ""] | None = None,
    *,
    rate: float = 0.5,
    training: bool = True,
    shared: int | tuple[int, ...] = (),
) -> Float[Array, "..."]:
    """Inverted dropout  y[...] = m[...] x[...] / (1 − rate):  each m is 0 with probability `rate`, else 1.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = m / (1 − rate), with m drawn again from the key

    m is the same along the axes `shared`: with `shared=(2, 3)` whole channels of images [b,c,h,w] are dropped.  m depends on
    key, shape, rate and `shared` alone, not on the dtype.  Rate 0 and `training=False` give x itself and need no key; rate 1
    gives 0 with Jacobian 0.  A dropped entry is 0 even if x is NaN or ∞ there.  Raises ValueError for a rate outside [0, 1].
    """
    m = _mask(x, key, rate, training, shared)
    return x if m is None else jnp.where(m, x / kept_share(rate), 0)


def _mask(x, key, rate, training, shared):
    return kept("dropout", x, key, rate, training, check_axes("dropout", x, shared, "shared"))


def kept_share(rate) -> float:
    """1 − rate, by which what is kept is divided; 1 where nothing is kept."""
    return 1.0 if rate == 1 else 1.0 - rate


def kept(layer, x, key, rate, training, axes=(), name="rate"):
    """Where x is kept by the dropout of a layer, the same along some axes; None if it is kept everywhere."""
    rate = check_share(layer, name, rate)
    if rate == 0 or not training:
        return None
    if key is None:
        raise DTypeError(f"{layer}: argument 'key' is None, expected a key of jax.random to drop at rate {rate}")
    shape = [1 if a in axes else n for a, n in enumerate(x.shape)]
    return jax.random.uniform(key, shape, jnp.float32) >= rate


@dropout.jacobian
def _(y, x, key, *, rate, training, shared):
    m = _mask(x, key, rate, training, shared)
    return (identity if m is None else diagonal(m.astype(y.dtype) / kept_share(rate), "h'", "m / (1 − rate)")), None
