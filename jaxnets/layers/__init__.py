"""The modules of a network, one family a file.

`layer` has the decorator that makes a layer of a forward function and its Jacobian, `marker` shows layers to JAX,
`samples` has kinds of arguments for examples, and `checks` checks arguments.  Files that end in `operators`, `operator` or
`common`, and `windows`, hold what several layers and JAX's own primitives share.
"""

from .attention import *
from .batch_norm import *
from .combine import *
from .conv import *
from .dropout import *
from .elementwise import *
from .embedding import *
from .gated import *
from .layer import LAYERS as LAYERS
from .layer import Layer as Layer
from .layer import layer as layer
from .lengths import *
from .linear import *
from .marker import with_rules as with_rules
from .max_pooling import *
from .mean_pooling import *
from .normalize import *
from .piecewise import *
from .rearrange import *
from .recurrent import *
from .reduce import *
from .reparametrize import *
from .resize import *
from .rotary import *
from .softmax import *
from .sparsemax import *
from .spread import *
