"""The practical tricks of training, measured: one experiment per trick, over several seeds.

`signals`, `depth`, `losses`, `descent`, `memory` and `restraint` hold them.
"""

from ..experiments.collection import Collection
from . import depth, descent, losses, memory, restraint, signals

TRICKS = Collection(
    "tricks",
    "trick",
    "practical tricks",
    signals.activations,
    depth.depth,
    losses.cross_entropy,
    losses.log_softmax,
    descent.batch_size,
    descent.shuffling,
    descent.normalisation,
    descent.learning_rate,
    restraint.l1,
    restraint.l2,
    signals.initialisation,
    restraint.dropout,
    memory.recurrence,
)
