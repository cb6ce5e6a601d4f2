"""Initial weights `[out, in, *kernel]`: Kaiming's, Xavier's and orthogonal ones, drawn by `jax.nn.initializers`.

Every function here but `gain` returns an initializer `init(key, shape, dtype)`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn.initializers import variance_scaling

from ..checks import check_floating_dtype, check_key, check_positive, checked, is_integer, show_value
from ..errors import ShapeError

FIXED_GAINS = {
    "linear": 1.0, "identity": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4,
}  # fmt: skip
MODES = ("fan_in", "fan_out", "fan_avg")


@checked
def gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor on the standard deviation of weights with which a signal keeps its size through this non-linearity.

    It is √2 for relu, √(2 / (1 + slope²)) for leaky_relu, 5/3 for tanh, 3/4 for selu, and 1 for sigmoid and linear.

    >>> round(jn.initializers.gain("relu") ** 2, 6)
    2.0
    """
    return _gain("gain", nonlinearity, slope)


def _gain(name: str, nonlinearity: str, slope: float) -> float:
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in FIXED_GAINS:
        raise ValueError(f"{name}: unknown nonlinearity {nonlinearity!r}; known: {', '.join(FIXED_GAINS)}, leaky_relu")
    return FIXED_GAINS[nonlinearity]


@checked
def kaiming_normal(nonlinearity: str = "relu", *, slope: float = 0.01, mode: str = "fan_in") -> Callable:
    """w ~ N(0, gain² / fan): He et al. 2015, arXiv:1502.01852.

    >>> w = jn.initializers.kaiming_normal()(jax.random.key(0), (500, 200))
    >>> w.shape, bool(abs(w.std() - (2 / 200) ** 0.5) < 1e-3)
    ((500, 200), True)
    """
    return _scaled("kaiming_normal", _gain("kaiming_normal", nonlinearity, slope), mode, "normal")


@checked
def kaiming_uniform(nonlinearity: str = "relu", *, slope: float = 0.01, mode: str = "fan_in") -> Callable:
    """w ~ U(−a, a) with a = gain √(3 / fan): He et al. 2015, arXiv:1502.01852."""
    return _scaled("kaiming_uniform", _gain("kaiming_uniform", nonlinearity, slope), mode, "uniform")


@checked
def xavier_normal(scale: float = 1.0) -> Callable:
    """w ~ N(0, 2 scale² / (fan_in + fan_out)): Glorot and Bengio 2010."""
    return _scaled("xavier_normal", scale, "fan_avg", "normal")


@checked
def xavier_uniform(scale: float = 1.0) -> Callable:
    """w ~ U(−a, a) with a = scale √(6 / (fan_in + fan_out)): Glorot and Bengio 2010.

    >>> w = jn.initializers.xavier_uniform()(jax.random.key(0), (50, 100))
    >>> bool(abs(w).max() <= (6 / 150) ** 0.5)
    True
    """
    return _scaled("xavier_uniform", scale, "fan_avg", "uniform")


@checked
def orthogonal(scale: float = 1.0) -> Callable:
    """w = scale · Q with Q Qᵀ = 1, or Qᵀ Q = 1 if w has more rows than columns: Saxe et al. 2014, arXiv:1312.6120.

    A kernel counts as `[out, in · kernel]`.  Square weights keep the norm of every vector, as those of the states of a
    recurrent layer should.

    >>> w = jn.initializers.orthogonal()(jax.random.key(0), (50, 50))
    >>> bool(abs(w @ w.T - jnp.eye(50)).max() < 1e-5)
    True
    """
    check_positive("orthogonal", "scale", scale)
    return _checked_init("orthogonal", jax.nn.initializers.orthogonal(scale, column_axis=0))


def _scaled(name, scale, mode, distribution):
    if mode not in MODES:
        raise ValueError(f"{name}: mode must be one of {', '.join(MODES)}, got {mode!r}")
    check_positive(name, "scale", scale)
    return _checked_init(name, variance_scaling(scale**2, mode, distribution, in_axis=1, out_axis=0))


def _checked_init(name: str, draw: Callable) -> Callable:
    """An initializer whose arguments are checked."""

    def init(key, shape, dtype=float):
        check_key(name, "key", key)
        if not isinstance(shape, (tuple, list)) or len(shape) < 2 or not all(is_integer(n) and n >= 0 for n in shape):
            raise ShapeError(f"{name}: shape must be the sizes of two axes or more, [out, in, ...], got {show_value(shape)}")
        check_floating_dtype(name, "dtype", dtype)
        return jnp.zeros(shape, dtype) if 0 in shape else draw(key, shape, dtype)  # nothing has no variance

    return init
