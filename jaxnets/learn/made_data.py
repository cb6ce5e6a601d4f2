"""Data sets that are made by a formula, with noise: the course's spiral and cubic, circles, moons, and XOR."""

import jax
import numpy as np

from ..algebra.sizes import check_fits, host_memory
from ..checks import check_counts, check_not_negative, check_seed, checked
from .dataset import Dataset


@checked
def spiral(points: int = 1000, classes: int = 3, noise: float = 0.2, seed: int = 0) -> Dataset:
    """Points [classes · points, 2] on the arms of a spiral and their labels (NYU Deep Learning, week 2, equation 1).

    X_k(t) = t · (sin(2π/K (2t + k − 1) + ε), cos(2π/K (2t + k − 1) + ε)),  0 ≤ t ≤ 1,  k = 1 … K.  ε is normal with standard
    deviation `noise`; without noise the spiral is clean.  The defaults, 1000 points per class and a noise of 0.2, are the
    spiral of the course's notebook.

    >>> data = jn.data.spiral(points=50)
    >>> data.x.shape, data.y.shape, data.classes
    ((150, 2), (150,), 3)
    """
    check_counts("spiral", points=points, classes=classes)
    check_not_negative("spiral", "noise", noise)
    check_seed("spiral", seed)
    _check_memory(f"spiral: {points} points of {classes} classes", points * classes)
    rng = np.random.default_rng(seed)
    t = np.tile(np.linspace(0, 1, points), classes)
    k = np.repeat(np.arange(1, classes + 1), points)
    angle = 2 * np.pi / classes * (2 * t + k - 1) + noise * rng.standard_normal(t.size)
    x = t[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1)
    return Dataset(x, k - 1, f"a spiral with {classes} arms", classes)


@checked
def cubic(points: int = 100, noise: float = 0.3, seed: int = 0) -> Dataset:
    """y = x³ + ε at evenly spaced x [points, 1] from −1 to 1, with ε uniform from 0 to `noise`, as in the course's notebook.

    >>> jn.data.cubic().x.shape
    (100, 1)
    """
    check_counts("cubic", points=points)
    check_not_negative("cubic", "noise", noise)
    check_seed("cubic", seed)
    _check_memory(f"cubic: {points} points", points)
    x = np.linspace(-1, 1, points)[:, None]
    return Dataset(x, x**3 + noise * np.random.default_rng(seed).random(x.shape), "x³ with noise")


@checked
def circles(points: int = 1000, noise: float = 0.08, inner: float = 0.4, seed: int = 0) -> Dataset:
    """Points [2 · points, 2] of a circle in a circle, and their labels: 0 inside, 1 outside.

    X(φ) = r · (cos φ, sin φ) + ε at angles φ = 2π n / points, with r = `inner` for label 0 and r = 1 for label 1.  Both
    entries of ε are normal with standard deviation `noise`.

    >>> jn.data.circles(points=90)
    Dataset(a circle in a circle: x [180, 2], y [180], labels of 2 classes)
    """
    check_counts("circles", points=points)
    check_not_negative("circles", "noise", noise)
    check_not_negative("circles", "inner", inner)
    check_seed("circles", seed)
    _check_memory(f"circles: {points} points of 2 classes", 2 * points)
    angle = 2 * np.pi * np.arange(points) / points
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    return _of_two_classes([inner * circle, circle], noise, seed, "a circle in a circle")


@checked
def moons(points: int = 1000, noise: float = 0.08, seed: int = 0) -> Dataset:
    """Points [2 · points, 2] of two half circles that reach into each other, and their labels.

    X(φ) = s · ((cos φ, sin φ) / 1.5 − (1/3, 1/6)) + ε,  0 ≤ φ ≤ π, with s = 1 for label 0 and s = −1 for label 1.  Both
    entries of ε are normal with standard deviation `noise`.

    >>> jn.data.moons(points=90)
    Dataset(two moons: x [180, 2], y [180], labels of 2 classes)
    """
    check_counts("moons", points=points)
    check_not_negative("moons", "noise", noise)
    check_seed("moons", seed)
    _check_memory(f"moons: {points} points of 2 classes", 2 * points)
    angle = np.linspace(0, np.pi, points)
    moon = np.stack([np.cos(angle), np.sin(angle)], 1) / 1.5 - [1 / 3, 1 / 6]
    return _of_two_classes([moon, -moon], noise, seed, "two moons")


@checked
def xor(points: int = 1000, noise: float = 0.0, seed: int = 0) -> Dataset:
    """Points [2 · points, 2] of a square, and their labels: 1 where exactly one of the two numbers is positive.

    The points are uniform from −1 to 1, as many of one label as of the other; then both numbers get normal noise with
    standard deviation `noise`, so that with noise some points lie in a quadrant of the other label.

    >>> jn.data.xor(points=90)
    Dataset(a square, labelled by XOR: x [180, 2], y [180], labels of 2 classes)
    """
    check_counts("xor", points=points)
    check_not_negative("xor", "noise", noise)
    check_seed("xor", seed)
    _check_memory(f"xor: {points} points of 2 classes", 2 * points)
    alike, apart = np.random.default_rng(seed).uniform(-1, 1, (2, points, 2))
    alike[:, 1] = np.copysign(alike[:, 1], alike[:, 0])
    apart[:, 1] = np.copysign(apart[:, 1], -apart[:, 0])
    return _of_two_classes([alike, apart], noise, seed, "a square, labelled by XOR")


def _of_two_classes(parts: list[np.ndarray], noise: float, seed: int, name: str) -> Dataset:
    """The points of label 0, then those of label 1, with noise."""
    x = np.concatenate(parts)
    x = x + noise * np.random.default_rng([seed, 1]).standard_normal(x.shape)
    return Dataset(x, np.repeat([0, 1], len(parts[0])), name, 2)


def _check_memory(what: str, points: int):
    """MemoryError if so many points do not fit; it does not wake JAX, which may have to be told of other processes first."""
    check_fits(what, jax.ShapeDtypeStruct((points, 4), np.float64), host_memory)
