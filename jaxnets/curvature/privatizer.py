"""The noise of private training, as a transformation of optax."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..checks import as_array, check_key, check_not_negative, checked, show_value
from ..errors import DTypeError


class PrivatizerState(NamedTuple):
    """What `gaussian_privatizer` remembers: the key of its next step."""

    key: Any


@checked
def gaussian_privatizer(*, stddev: float, key: Any) -> optax.GradientTransformation:
    """An optax transformation that adds normal noise of deviation `stddev` to every number of a clipped gradient.

    It comes before the optimizer: `optax.chain(jn.gaussian_privatizer(stddev=s, key=key), optax.adam(1e-3))`.  The steps are
    those of differentially private training (Abadi et al. 2016) with noise multiplier z for `s = z *
    gradient.sensitivity()`, where `gradient` is what `clipped_grad` returns.  Unlike
    `optax.contrib.differentially_private_aggregate` it takes the sum, not gradients of single examples.  Every step and leaf
    has noise of its own, drawn in float32 at least; the same `key` gives the same noise, so use a key once and keep it
    secret.  Raises ValueError if `stddev` is negative or infinite, TypeError if `key` is none, DTypeError where a gradient
    is not floating.

    >>> private = jn.gaussian_privatizer(stddev=2.0, key=jax.random.key(0))
    >>> noisy, state = private.update(jnp.zeros(10_000), private.init(jnp.zeros(10_000)))
    >>> round(float(jnp.std(noisy)), 1)
    2.0
    """
    check_not_negative("gaussian_privatizer", "stddev", stddev)
    check_key("gaussian_privatizer", "key", key)

    def start(params):
        return PrivatizerState(key)

    def update(gradient, state, params=None):
        if not isinstance(state, PrivatizerState):
            raise TypeError(f"gaussian_privatizer: state must be what init(params) returns, got {show_value(state)}")
        leaves, tree = jax.tree.flatten(gradient)
        key, *own = jax.random.split(state.key, 1 + len(leaves))
        noisy = [_with_noise(leaf, stddev, k) for leaf, k in zip(leaves, own, strict=True)]
        return jax.tree.unflatten(tree, noisy), PrivatizerState(key)

    return optax.GradientTransformation(start, update)


def _with_noise(leaf, stddev: float, key) -> jax.Array:
    leaf = as_array("gaussian_privatizer: gradient", leaf)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):  # rounded noise would hide less than was promised
        raise DTypeError(f"gaussian_privatizer: gradient has dtype {leaf.dtype}, expected floating")
    wide = jnp.promote_types(leaf.dtype, jnp.float32)
    return (leaf + stddev * jax.random.normal(key, leaf.shape, wide)).astype(leaf.dtype)
