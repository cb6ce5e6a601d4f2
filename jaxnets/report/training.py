"""A network that learns the spiral, step by step: its decision regions, and the norms of its layers' Jacobians."""

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
from ..learn import data
from ..learn.presets import Problem, make_problem
from ..learn.progress import stage

POINTS, CLASSES = 60, 3  # points per arm, arms
SIZE, LEVELS = 40, 8  # cells along a side of the map of regions, and the shades of a colour in it
RATE = 0.02
STEPS, FRAMES = 400, 24
SPIRAL = "spiral"


class SpiralTraining:
    """Full-batch Adam on a spiral with 60 points per arm, with hand-written gradients.

    Raises SpecError where the model does not map 2 numbers to 3 log-probabilities.
    """

    def __init__(self, problem: Problem):
        self.model, self.dtype = problem.model, problem.x.dtype
        given = problem.x.shape[1:]
        made = problem.model.output_shape(given)
        if (given, made) != ((2,), (CLASSES,)):
            raise SpecError(
                f"model '{problem.title}' maps {list(given)} to {list(made)}; "
                f"to learn the spiral it must map [2] to [{CLASSES}] log-probabilities: give it the input 2, and end it "
                f"with linear({CLASSES}) log_softmax"
            )
        self.points = data.spiral(POINTS, CLASSES)
        self.x = jnp.asarray(self.points.x, self.dtype)
        half = 1.1 * float(np.abs(self.points.x).max())
        self.extent = (-half, half, -half, half)
        ticks = np.linspace(-half, half, SIZE)
        self.grid = jnp.asarray(np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2), self.dtype)
        self.optimizer = optax.adam(RATE)
        self.state: Any = (0, problem.params, jax.jit(self.optimizer.init)(problem.params))

    def loss(self, params):
        return LAYERS["mean"](LAYERS["nll"](self.model.apply(params, self.x), jnp.asarray(self.points.y)))

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
        48 + 8·class + level, with levels from 0 (a third for each class) to 7 (certain).  `norms` holds the mean Frobenius
        norm of every layer's Jacobian by its input.
        """
        loss, predictions, grid, norms = jax.device_get(self._measure(self.state[1]))
        likeliest = grid.argmax(1)
        sure = (np.exp(grid.max(1).astype(np.float64)) - 1 / CLASSES) / (1 - 1 / CLASSES)
        level = np.clip(np.nan_to_num(sure) * LEVELS, 0, LEVELS - 1).astype(int)
        return {
            "step": self.state[0],
            "loss": float(loss),
            "accuracy": float((predictions.argmax(1) == self.points.y).mean()),
            "regions": "".join(map(chr, 48 + LEVELS * likeliest + level)),
            "norms": [float(norm) for norm in norms.values()],
        }

    def replay(self, steps: int = 0, frames: int = 1) -> dict[str, Any]:
        """Train for `steps` steps and return the frames on the way, which are close together at first, with the points."""
        shown = sorted({0, *np.geomspace(1, steps, frames - 1).round().astype(int).tolist()} if steps else {0})
        with stage("training on the spiral", "compiling", total=steps or None) as told:
            found = [self.frame()]
            for before, after in zip(shown, shown[1:], strict=False):
                found.append(self.step(after - before))
                told.at(after, f"loss {found[-1]['loss']:.4f}")
        norms = jax.eval_shape(self._measure, self.state[1])[-1]
        return {
            "model": self.model.name,
            "about": f"{self.points.name}, {self.points.size} points; Adam, learning rate {RATE}, all points in every step",
            "x": np.round(self.points.x, 4).tolist(),
            "y": self.points.y.tolist(),
            "extent": [round(side, 4) for side in self.extent],
            "size": SIZE,
            "classes": CLASSES,
            "layers": list(norms),
            "frames": found,
        }


def replay(problem: Problem) -> dict[str, Any]:
    """The training of the model on the spiral or, if the model does not fit it, that of the spiral's own network."""
    try:
        training = SpiralTraining(problem)
    except SpecError:
        training = SpiralTraining(make_problem(SPIRAL, dtype=str(problem.x.dtype)))
    return training.replay(STEPS, FRAMES)
