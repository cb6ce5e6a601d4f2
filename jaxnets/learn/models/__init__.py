"""Models as pairs of pure functions.

`model` says what a model is, `parts` has those to build with, and `networks` whole ones.
"""

from .model import Model as Model
from .networks import autoencoder as autoencoder
from .networks import convnet as convnet
from .networks import mlp as mlp
from .networks import nearest_neighbour as nearest_neighbour
from .networks import residual_mlp as residual_mlp
from .parts import conv as conv
from .parts import dropout as dropout
from .parts import each_step as each_step
from .parts import embedding as embedding
from .parts import gru as gru
from .parts import linear as linear
from .parts import lstm as lstm
from .parts import max_pool as max_pool
from .parts import plain as plain
from .parts import residual as residual
from .parts import rnn as rnn
from .parts import serial as serial
