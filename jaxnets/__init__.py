"""Neural-network layers and losses as pure JAX functions, each with a hand-written, structured Jacobian."""

from .errors import DTypeError, JacobianTooLarge, OpaqueError, RuleError, ShapeError, SpecError
from .jacobian import Jacobian, diagonal, einsum, scaled
from .layer import LAYERS, Layer, layer
from .layers import *  # noqa: F403
from .losses import *  # noqa: F403
from .transforms import dense, grad, hessian, jacobian, value_and_grad, value_and_jacobian
