"""Jacobians as sums of einsums.

`factors` and `selections` are arrays and maps whose axes carry labels, `terms` are products of factors, and a `Jacobian` is
a sum of terms.  `contraction` multiplies factors, in the order that is cheapest by the counts of `planning`; `sums` adds
terms, `boxes` tells which parts of the whole they fill, and `places` joins these.  `rules` has what one needs to write a
layer's Jacobian; `notation`, `symbols` and `picture` show a Jacobian as a formula and as an image.
"""

from . import rules as rules
from .jacobian import Jacobian as Jacobian
