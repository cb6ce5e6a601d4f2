"""Losses: `(predictions, targets)`, per example, unreduced."""

from .classification import cross_entropy, nll
from .regression import squared_error

__all__ = ["cross_entropy", "nll", "squared_error"]
