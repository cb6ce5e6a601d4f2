"""The modules of a network, one family a file.

`layer` is the decorator that makes a layer of a forward function and its Jacobian, `marker` how JAX sees a layer, and
`samples` the kinds of arguments that show one.
"""

from .attention import *
from .combine import *
from .conv import *
from .dropout import *
from .elementwise import *
from .gated import *
from .layer import LAYERS as LAYERS
from .layer import Layer as Layer
from .layer import layer as layer
from .linear import *
from .marker import with_rules as with_rules
from .normalize import *
from .piecewise import *
from .pool import *
from .reduce import *
from .softmax import *
