"""What Jacobians are used for, measured on handwritten digits: one experiment per use, over several seeds."""

from ..experiments.collection import Collection
from . import calibration, influence, kernels, saliency

USES = Collection(
    "uses",
    "use",
    "uses of Jacobians",
    calibration.calibration,
    influence.influence,
    kernels.ntk,
    saliency.saliency,
)
