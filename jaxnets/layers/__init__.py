"""The modules of a network, one family a file."""

from . import attention, combine, conv, dropout, elementwise, gated, linear, normalize, piecewise, pool, reduce, softmax
from .layer import layers_of

globals().update(
    layers_of(attention, combine, conv, dropout, elementwise, gated, linear, normalize, piecewise, pool, reduce, softmax)
)
