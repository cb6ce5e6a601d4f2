"""What tests of losses compare with: exactly, to a few digits, and by mpmath in the tails."""

import functools

import jax
import mpmath
import numpy as np

import jaxnets as jn

INF, NAN = np.inf, np.nan


def near(actual, expected, rtol=1e-13):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=1e-15)


def both(loss, *args, **config):
    """Value and derivative by the first argument of an elementwise loss, in one program."""
    return compiled_both(loss, tuple(config.items()))(*args)


@functools.cache
def compiled_both(loss, config):
    return jax.jit(jn.value_and_grad(lambda *args: jn.sum(loss(*args, **dict(config)))))


def gradients(function, *args):
    """Value and derivatives by all arguments, in one program, as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.jit(jn.value_and_grad(function, tuple(range(len(args)))))(*args))


def sigma(x):
    return 1 / (1 + mpmath.exp(-x))


def softplus(x):
    return mpmath.log1p(mpmath.exp(x))


LOGITS = [-700, -80, -40, -5, -1, -1e-3, 1e-3, 0.5, 3, 20, 60, 87]
CHANCES = [1e-30, 1e-6, 0.1, 0.4, 0.6, 0.9, 1 - 2**-20]

# loss, predictions, target, and by mpmath the value, the derivative and the second derivative
TAILS = [
    ("binary_cross_entropy_with_logits", LOGITS, 1, lambda x: (softplus(-x), -sigma(-x), sigma(x) * sigma(-x))),
    ("binary_cross_entropy_with_logits", LOGITS, 0, lambda x: (softplus(x), sigma(x), sigma(x) * sigma(-x))),
    ("soft_margin", LOGITS, 1, lambda x: (softplus(-x), -sigma(-x), sigma(x) * sigma(-x))),
    ("soft_margin", LOGITS, -1, lambda x: (softplus(x), sigma(x), sigma(x) * sigma(-x))),
    ("log_cosh", [1e-5, 0.05, 0.89, -0.91, -3, 10, 40], 0,
     lambda x: (mpmath.log(mpmath.cosh(x)), mpmath.tanh(x), mpmath.sech(x) ** 2)),
    ("binary_cross_entropy", CHANCES, 1, lambda p: (-mpmath.log(p), -1 / p, 1 / p**2)),
    ("binary_cross_entropy", CHANCES, 0, lambda p: (-mpmath.log1p(-p), 1 / (1 - p), 1 / (1 - p) ** 2)),
    ("poisson_nll", [-80, -10, -0.5, 1, 30], 0, lambda x: (mpmath.exp(x),) * 3),
]  # fmt: skip
