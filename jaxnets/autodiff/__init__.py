"""Jacobians of any function.

`graph` reads a function into nodes and local Jacobians, with the rules of our layers and those of `primitives`; `plan`
finds the cheapest order of their products, `chunks` bounds their memory, `eliminate` carries them out, and `transforms`
are the functions that people call.
"""

from .transforms import dense as dense
from .transforms import grad as grad
from .transforms import hessian as hessian
from .transforms import jacobian as jacobian
from .transforms import loss_hessian as loss_hessian
from .transforms import value_and_grad as value_and_grad
from .transforms import value_and_jacobian as value_and_jacobian
