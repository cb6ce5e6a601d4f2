"""Every layer and loss by name."""

import jaxnets.layers
import jaxnets.losses  # noqa: F401  (both register their layers)

from .layer import LAYERS

__all__ = ["LAYERS"]
