"""Losses: `(predictions, targets)`, per example, unreduced; `reduce` makes one number of them."""

from ..layers.layer import layers_of
from . import binary, classification, distribution, embedding, regression
from .reduce import reduce as reduce

globals().update(layers_of(binary, classification, distribution, embedding, regression))
