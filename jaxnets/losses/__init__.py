"""Losses: functions of `(predictions, targets)` that return one loss per example; `reduce` makes one number of them."""

from .binary import *
from .classification import *
from .distribution import *
from .embedding import *
from .reduce import reduce as reduce
from .regression import *
