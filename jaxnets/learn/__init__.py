"""Models, what they learn from, and how they are trained.

`models` and `spec` make networks, `data` gives examples, `initializers` and `regularizers` serve both; `descent` holds the
compiled steps, `records` and `checkpoint` what is kept of a training, `train` and `evaluate` what people call.
"""

from . import data as data
from . import initializers as initializers
from . import models as models
from . import regularizers as regularizers
from .evaluate import evaluate as evaluate
from .evaluate import predict as predict
from .spec import parse as parse
from .train import fit as fit
