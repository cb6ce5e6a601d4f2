"""The modules of a network, one family a file."""

from ..layer import layers_of
from . import combine, elementwise, linear, reduce, softmax

globals().update(layers_of(combine, elementwise, linear, reduce, softmax))
