"""What the live training learns from: data sets in the plane, a function of one number, and points of one's own."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..learn.data import Dataset, circles, moons, spiral, xor

DRAWS = 5  # seeds to choose from
DECIMALS = 4  # of a coordinate
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


def _set(make: Callable[..., Dataset], **settings) -> Callable[[int], Dataset]:
    """A function of the seed: the points with four decimals, as the page holds them."""

    def draw(seed):
        data = make(seed=seed, **settings)
        return dataclasses.replace(data, x=np.round(data.x, DECIMALS))

    return draw


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


DATA: dict[str, Callable[[int], Dataset]] = {
    "spiral": _set(spiral, points=60),
    "circles": _set(circles, points=90),
    "moons": _set(moons, points=90),
    "xor": _set(xor, points=90),
}
KINDS = (*DATA, "function", "points")


def training_data(kind: str = "spiral", function: str = "sin", points: Points = (), draw: int = 0) -> Dataset:
    """The data set of one of KINDS; `draw` is the seed of those that have noise."""
    if kind == "function":
        return values_of(function)
    return own_points(points) if kind == "points" else DATA[kind](draw)


def page_sets() -> dict[str, dict]:
    """All draws of the sets of points, for a page without a server: [x1, x2, …] in units of the last decimal, and labels."""
    found = {}
    for kind, make in DATA.items():
        draws = [make(seed) for seed in range(DRAWS)]
        found[kind] = {
            "name": draws[0].name,
            "classes": draws[0].classes,
            "labels": "".join(map(str, draws[0].y)),
            "draws": [np.rint(data.x * 10**DECIMALS).astype(int).ravel().tolist() for data in draws],
        }
    return found
