"""Losses: `(predictions, targets)`, per example, unreduced."""

from ..layer import layers_of
from . import classification, regression

globals().update(layers_of(classification, regression))
