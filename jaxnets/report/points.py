"""What the live training learns from: data sets in the plane, a function of one number, and points of one's own."""

from collections.abc import Callable, Sequence

import numpy as np

from ..learn.data import Dataset, spiral

POINTS, ARMS = 60, 3  # points per arm of the spiral, arms
COUNT, NOISE = 180, 0.08  # points of the other data sets, and the standard deviation of their noise
VALUES = 41  # of a function
PAD = 1.0  # the pad to draw on reaches from -1 to 1
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sin": lambda x: np.sin(np.pi * x),
    "cos": lambda x: np.cos(np.pi * x),
    "abs": np.abs,
    "step": lambda x: np.where(x < 0, 0.0, 1.0),
    "x²": lambda x: x**2,
    "x³": lambda x: x**3,
}

Points = Sequence[tuple[float, float, int]]  # two numbers and a label, from 1


def circles() -> Dataset:
    """x = r·(cos φ, sin φ) + ε at evenly spaced angles φ, with r = 0.4 for label 0 and 1 for label 1."""
    label = np.arange(COUNT) % 2
    angle = 2 * np.pi * np.arange(COUNT) / COUNT
    radius = np.where(label, 1.0, 0.4)[:, None]
    return Dataset(radius * np.stack([np.cos(angle), np.sin(angle)], 1) + _noise(), label, "a circle in a circle", 2)


def moons() -> Dataset:
    """Two half circles, (cos φ, sin φ) / 1.5 moved by ±(1/3, 1/6), of which label 1 is the one that is turned round."""
    label = np.arange(COUNT) % 2
    angle = np.pi * np.arange(COUNT) / COUNT
    turned = np.where(label, -1.0, 1.0)[:, None]
    arc = turned * (np.stack([np.cos(angle), np.sin(angle)], 1) / 1.5 - [1 / 3, 1 / 6])
    return Dataset(arc + _noise(), label, "two moons", 2)


def xor() -> Dataset:
    """x uniform from −1 to 1 on both axes; label 1 where exactly one of the two is positive."""
    x = np.random.default_rng(0).uniform(-1, 1, (COUNT, 2))
    return Dataset(x, np.logical_xor(*(x.T > 0)).astype(int), "a square, labelled by XOR", 2)


def _noise() -> np.ndarray:
    return NOISE * np.random.default_rng(0).standard_normal((COUNT, 2))


def values_of(name: str) -> Dataset:
    """One of FUNCTIONS at evenly spaced numbers from −1 to 1."""
    x = np.linspace(-1, 1, VALUES)[:, None]
    return Dataset(x, FUNCTIONS[name](x), f"the function {name}")


def own_points(points: Points) -> Dataset:
    """Points that people drew or loaded.  Raises ValueError for fewer than two."""
    if len(points) < 2:
        raise ValueError("points: draw or load at least 2")
    table = np.asarray(points, float)
    labels = table[:, 2].astype(int)
    return Dataset(table[:, :2], labels - 1, "points of one's own", int(labels.max()))


DATA: dict[str, Callable[[], Dataset]] = {
    "spiral": lambda: spiral(POINTS, ARMS),
    "circles": circles,
    "moons": moons,
    "xor": xor,
}
KINDS = (*DATA, "function", "points")


def training_data(kind: str = "spiral", function: str = "sin", points: Points = ()) -> Dataset:
    """The data set of one of KINDS."""
    if kind == "function":
        return values_of(function)
    return own_points(points) if kind == "points" else DATA[kind]()
