"""Jacobians as sums of einsums.

`factors` are arrays and maps whose axes carry labels, `terms` are products of factors, a `Jacobian` is a sum of terms, and
`contraction` carries products out.  `rules` is how a layer's Jacobian is written, `notation` and `picture` how one is shown.
"""

from . import rules as rules
from .jacobian import Jacobian as Jacobian
