"""Losses for real targets."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError
from ..layer import layer
from ..rules import diagonal


@layer
def squared_error(predictions: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """Squared difference of every entry  y[...] = (predictions[...] − targets[...])².  Unreduced; no broadcasting.

    ∂y[b,i]/∂predictions[b,i] = 2e[b,i]     ∂y[b,i]/∂targets[b,i] = −2e[b,i],  e = predictions − targets
    """
    if predictions.shape != targets.shape:
        raise ShapeError(
            f"squared_error: argument 'targets' has shape {targets.shape}, expected {predictions.shape} as 'predictions'"
        )
    return jnp.square(predictions - targets)


@squared_error.jacobian
def _(y, predictions, targets):
    slope = 2 * (predictions - targets)
    return diagonal(slope, "2e"), diagonal(-slope, "−2e")
