"""Jacobians of any function.

`graph` reads a function into the nodes and edges of `nodes`.  Their local Jacobians come from the rules of layers and, for
JAX's own primitives, from `primitives`, which are filed by what they do; `opaque` is for those without a rule.  `plan` finds
the cheapest order in which to multiply local Jacobians, `chunks` bounds the memory, and `eliminate` multiplies;
`numbering` gives numbers to what a network has several times.  `transforms` has the functions that people call.
"""

from .transforms import dense as dense
from .transforms import grad as grad
from .transforms import hessian as hessian
from .transforms import jacobian as jacobian
from .transforms import loss_hessian as loss_hessian
from .transforms import value_and_grad as value_and_grad
from .transforms import value_and_jacobian as value_and_jacobian
