"""The modules of a network, one family a file."""

from .combine import add, concatenate, duplicate, flatten, maximum, mean, multiply
from .elementwise import identity, relu, sigmoid, softplus, tanh
from .linear import linear
from .softmax import log_softmax, softmax

__all__ = ["add", "concatenate", "duplicate", "flatten", "identity", "linear", "log_softmax", "maximum", "mean",
           "multiply", "relu", "sigmoid", "softmax", "softplus", "tanh"]
