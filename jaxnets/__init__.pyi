from .algebra import *
from .algebra import rules as rules
from .autodiff import *
from .curvature import *
from .errors import *
from .layers import *
from .learn import *
from .learn import data as data
from .learn import initializers as initializers
from .learn import models as models
from .learn import regularizers as regularizers
from .losses import *
from .show import *
from .show import plots as plots

__version__: str
WINGS: tuple[str, ...]

def _load() -> list[str]: ...
