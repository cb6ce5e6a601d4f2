"""Data to learn from: real handwritten digits, the course's spiral, noise."""

import jax
import jax.numpy as jnp
import numpy as np


def digits():
    """scikit-learn's 1,797 handwritten digits: images [1797, 64] in 0 … 1 and labels [1797].  Needs the extra `data`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ModuleNotFoundError("the digits need scikit-learn: pip install 'jaxnets[data]'") from None
    found = load_digits()
    return np.asarray(found.data / 16), np.asarray(found.target), "scikit-learn's handwritten digits"


def spiral(points: int = 1000, classes: int = 3, noise: float = 0.2, seed: int = 0):
    """Points [points · classes, 2] on the arms of a spiral and their labels (NYU Deep Learning, week 2, equation 1).

    X_k(t) = t · (sin(2π/K (2t + k − 1) + ε), cos(2π/K (2t + k − 1) + ε)),  0 ≤ t ≤ 1,  ε normal with deviation `noise`.
    """
    rng = np.random.default_rng(seed)
    t = np.tile(np.linspace(0, 1, points), classes)
    k = np.repeat(np.arange(1, classes + 1), points)
    angle = 2 * np.pi / classes * (2 * t + k - 1) + noise * rng.standard_normal(t.size)
    return t[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1), k - 1, f"a spiral with {classes} arms"


# What a preset shows its model on: functions of a key and a batch size.


def first(load):
    """A random batch of a data set, with its labels."""

    def batch(key, size):
        x, y, name = load()
        if not 0 < size <= len(x):
            raise ValueError(f"batch must be 1 to {len(x)} for {name}, got {size}")
        chosen = np.asarray(jax.random.choice(key, len(x), (size,), replace=False))
        source = f"{size} of {len(x)} examples of {name}"
        return jnp.asarray(x[chosen], jnp.result_type(float)), jnp.asarray(y[chosen]), source

    return batch


def itself(load):
    """A random batch of a data set, to be reproduced."""

    def batch(key, size):
        x, _, name = first(load)(key, size)
        return x, x, name

    return batch


def noise(shape, classes=None, target_shape=()):
    """Normal inputs [batch, *shape] with random labels, or normal targets [batch, *target_shape]."""

    def batch(key, size):
        if size < 1:
            raise ValueError(f"batch must be at least 1, got {size}")
        x = jax.random.normal(key, (size, *shape))
        if classes is None:
            return x, jax.random.normal(jax.random.fold_in(key, 1), (size, *target_shape)), "normal noise"
        return x, jax.random.randint(jax.random.fold_in(key, 1), (size,), 0, classes), "normal noise"

    return batch
