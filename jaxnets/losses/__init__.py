"""Losses: functions of `(predictions, targets)` that return one loss per example; `reduce` makes one number of them."""

from .binary import *
from .classification import *
from .contrastive import *
from .distribution import *
from .embedding import *
from .multilabel import *
from .reduce import reduce as reduce
from .regression import *
from .sequence import *
