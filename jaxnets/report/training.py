"""A network that learns, step by step: its decision regions or its curve, and the norms of its layers' Jacobians."""

import contextlib
import functools
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..autodiff.transforms import grad
from ..catalogue import LAYERS
from ..curvature.norms import jacobian_norm
from ..errors import SpecError
from ..learn.data import Dataset
from ..learn.presets import Problem, make_problem
from ..learn.progress import stage
from .points import PAD, training_data

SIZE, LEVELS = 40, 8  # cells along a side of the map of regions, and the shades of a colour in it
ADAM = "adam"
OPTIMIZERS = {ADAM: optax.adam, "sgd": optax.sgd, "momentum": functools.partial(optax.sgd, momentum=0.9)}
NAMES = {ADAM: "Adam", "sgd": "gradient descent", "momentum": "gradient descent with momentum 0.9"}
RATES = {ADAM: 0.02, "sgd": 0.2, "momentum": 0.05}  # where no other is asked for
STEPS, FRAMES = 400, 24
CURVE = 121  # points of the curve of a network of one number
SPIRAL = "spiral"


class Training:
    """Full-batch descent by one of OPTIMIZERS on points in the plane or values of a function, by default a spiral with 60
    points per arm, with hand-written gradients.

    Raises SpecError where the model does not map 2 numbers to a log-probability for every class, or 1 number to 1.
    """

    def __init__(self, problem: Problem, points: Dataset | None = None, optimizer: str = ADAM, rate: float | None = None):
        self.model, self.dtype = problem.model, problem.x.dtype
        self.points = points or training_data()
        self.outputs = _checked_outputs(problem, self.points)
        self.x = jnp.asarray(self.points.x, self.dtype)
        self.y = jnp.asarray(self.points.y, None if self.points.classes else self.dtype)
        self.extent = _extent(self.points)
        west, east, south, north = self.extent
        ticks = np.meshgrid(np.linspace(west, east, SIZE), np.linspace(south, north, SIZE))
        grid = np.stack(ticks, -1).reshape(-1, 2) if self.points.classes else np.linspace(west, east, CURVE)[:, None]
        self.grid = jnp.asarray(grid, self.dtype)
        rate = RATES[optimizer] if rate is None else rate
        self.optimizer, self.descent = OPTIMIZERS[optimizer](rate), f"{NAMES[optimizer]}, learning rate {rate:g}"
        self.state: Any = (0, problem.params, jax.jit(self.optimizer.init)(problem.params))

    def loss(self, params):
        cost = LAYERS["nll" if self.points.classes else "squared_error"]
        return LAYERS["mean"](cost(self.model.apply(params, self.x), self.y))

    @functools.cached_property
    def _step(self):
        @jax.jit
        def step(params, moments):
            updates, moments = self.optimizer.update(grad(self.loss)(params), moments)
            return optax.apply_updates(params, updates), moments

        return step

    @functools.cached_property
    def _measure(self):
        @jax.jit
        def measure(params):
            norms = jacobian_norm(lambda x: self.model.apply(params, x), layers=True)(self.x)
            predictions = self.model.apply(params, self.x)
            return (
                self.loss(params),
                predictions,
                self.model.apply(params, self.grid),
                OrderedDict((name, norm.mean()) for name, norm in norms.items()),
            )

        return measure

    def step(self, count: int = 1) -> dict:
        """Take some more steps, and return the frame after them."""
        number, params, moments = self.state
        for _ in range(count):
            params, moments = self._step(params, moments)
        self.state = (number + count, params, moments)
        return self.frame()

    def frame(self) -> dict[str, Any]:
        """What the network does now.

        `regions` has one character for every point of the grid, from the bottom row upwards.  Its code is
        48 + 8·class + level, with levels from 0 (all classes alike) to 7 (certain).  In place of these a network of one
        number has a `curve`.  `norms` holds the mean Frobenius norm of every layer's Jacobian by its input.
        """
        loss, predictions, grid, norms = jax.device_get(self._measure(self.state[1]))
        found = {"step": self.state[0], "loss": float(loss), "norms": [float(norm) for norm in norms.values()]}
        if self.points.classes is None:
            return {**found, "curve": [float(f"{y:.5g}") for y in grid.ravel()]}
        accuracy = float((predictions.argmax(1) == self.points.y).mean())
        return {**found, "accuracy": accuracy, "regions": self._regions(grid)}

    def _regions(self, log_probabilities: np.ndarray) -> str:
        sure = (np.exp(log_probabilities.max(1).astype(np.float64)) - 1 / self.outputs) / (1 - 1 / self.outputs)
        level = np.clip(np.nan_to_num(sure) * LEVELS, 0, LEVELS - 1).astype(int)
        return "".join(map(chr, 48 + LEVELS * log_probabilities.argmax(1) + level))

    def _drawn(self) -> np.ndarray:
        """Where the points are drawn: values of a function at their numbers."""
        return self.points.x if self.points.classes else np.concatenate([self.points.x, self.points.y], 1)

    def replay(self, steps: int = 0, frames: int = 1) -> dict[str, Any]:
        """Train for `steps` steps and return the frames on the way, which are close together at first, with the points."""
        shown = sorted({0, *np.geomspace(1, steps, frames - 1).round().astype(int).tolist()} if steps else {0})
        with stage(f"training on {self.points.name}", "compiling", total=steps or None) as told:
            found = [self.frame()]
            for before, after in zip(shown, shown[1:], strict=False):
                found.append(self.step(after - before))
                told.at(after, f"loss {found[-1]['loss']:.4f}")
        norms = jax.eval_shape(self._measure, self.state[1])[-1]
        return {
            "model": self.model.name,
            "about": f"{self.points.name}, {self.points.size} points; {self.descent}, all points in every step",
            "x": [[float(f"{x:.5g}") for x in point] for point in self._drawn()],
            "y": self.points.y.ravel().tolist(),
            "extent": [round(side, 4) for side in self.extent],
            "size": SIZE,
            "classes": self.points.classes and self.outputs,
            "layers": list(norms),
            "frames": found,
        }


def _checked_outputs(problem: Problem, points: Dataset) -> int:
    """How many numbers the model gives for a point.  Raises SpecError where it does not fit the points."""
    given = problem.x.shape[1:]
    made = problem.model.output_shape(given)
    if points.classes is None:
        if (given, made) == ((1,), (1,)):
            return 1
        goal = f"to learn {points.name} it must map [1] to [1]: give it the input 1, and end it with linear(1)"
    else:
        if given == (2,) and len(made) == 1 and made[0] >= max(2, points.classes):
            return made[0]
        count = max(2, points.classes)
        goal = (
            f"to learn {points.name} it must map [2] to [{count}] log-probabilities: give it the input 2, and end it "
            f"with linear({count}) log_softmax"
        )
    raise SpecError(f"model '{problem.title}' maps {list(given)} to {list(made)}; {goal}")


def _extent(points: Dataset) -> tuple[float, float, float, float]:
    """West, east, south and north of the picture: a square with the pad and all points, or for a function its values."""
    if points.classes is None:
        low, high = float(points.y.min()), float(points.y.max())
        return (-PAD, PAD, low - 0.25 * (high - low), high + 0.25 * (high - low))
    low, high = np.minimum(points.x.min(0), -PAD), np.maximum(points.x.max(0), PAD)
    half = 1.1 * float((high - low).max()) / 2
    (x, y) = (low + high) / 2
    return (float(x) - half, float(x) + half, float(y) - half, float(y) + half)


def replay(problem: Problem) -> dict[str, Any]:
    """The training of the model on the spiral or a function or, if it fits neither, that of the spiral's own network.

    `data` is the kind of data that it learns.
    """
    for kind in (SPIRAL, "function"):
        with contextlib.suppress(SpecError):
            return {**Training(problem, training_data(kind)).replay(STEPS, FRAMES), "data": kind}
    network = make_problem(SPIRAL, dtype=str(problem.x.dtype))
    return {**Training(network).replay(STEPS, FRAMES), "data": SPIRAL}
