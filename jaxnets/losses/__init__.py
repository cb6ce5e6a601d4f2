"""Losses: `(predictions, targets)`, one loss per example, unreduced; `reduce` makes one number of them."""

from .binary import *
from .classification import *
from .distribution import *
from .embedding import *
from .reduce import reduce as reduce
from .regression import *
