"""What tests of single layers compare with, and random arrays."""

import numpy as np


def near(actual, expected, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(np.asarray(actual, np.float64), np.asarray(expected, np.float64), rtol, atol)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)
