"""Models, what they learn from, and how they are trained.

`models` makes networks, `spec` reads them from text, and `presets` knows some by name.  `data` holds the data sets, and
`reading`, `tables` and `image_folders` read one's own, of which an `encoding` is kept.  `initializers` has the random
weights and `regularizers` the penalties.  `descent` compiles the steps of a training, `records` and `checkpoint` write down
what is kept of it.  `train`, `evaluate`, `scores` and `exporting` are what people call.
"""

from . import data as data
from . import initializers as initializers
from . import models as models
from . import regularizers as regularizers
from .encoding import Encoding as Encoding
from .evaluate import evaluate as evaluate
from .evaluate import predict as predict
from .exporting import export as export
from .scores import auroc as auroc
from .scores import expected_calibration_error as expected_calibration_error
from .spec import parse as parse
from .train import fit as fit
from .train import restore as restore
