"""What tests of normalisations share: comparisons, compiled functions, and a table of the layers."""

import jax
import numpy as np

import jaxnets as jn

NAN, INF = np.nan, np.inf


def trained(x, **config):
    """The first output of batch norm in training."""
    return jn.batch_norm(x, training=True, **config)[0]


def compiled(function):
    """The value, and the dense Jacobians by our rule and by JAX."""

    def call(x):
        y, j = jn.value_and_jacobian(function)(x)
        return y, j.dense(), jax.jacrev(function)(x)

    return at_once(call)


def at_once(function):
    """The function as one program, which gives arrays of NumPy."""
    compiled = jax.jit(function)
    return lambda *args: jax.device_get(compiled(*args))


# Every normalisation as a function of [b, c, s] alone, and the axes over which it goes.
OVER = {
    "layer_norm": (jn.layer_norm, (2,)),
    "layer_norm of two axes": (lambda x: jn.layer_norm(x, axis=(1, 2)), (1, 2)),
    "instance_norm": (jn.instance_norm, (2,)),
    "batch_norm": (trained, (0, 2)),
    "standardize": (jn.standardize, (0,)),
}
