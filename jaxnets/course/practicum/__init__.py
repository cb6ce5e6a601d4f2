"""The practicum: networks that learn points, a cubic, handwritten digits and a text, and what layers do to the plane.

`points`, `regression`, `images` and `text` each study one kind of task, and `own_data` people's own files.  `run` is one
training of a task, `scores` says how good a network is, and `space` draws what layers do to the plane.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import optax

from ...catalogue import LAYERS
from ...errors import CheckpointError
from ...learn import data
from ...learn.checkpoint import find_checkpoint, read_config
from ...learn.evaluate import Evaluation
from ...learn.evaluate import evaluate as evaluate_model
from ...learn.presets import DIGITS
from ...learn.progress import stage
from ...learn.train import restore
from . import images, own_data, points, regression, text
from .own_data import name_of, predict_file, train_on
from .run import MAX_SEED, Options, Recipe, StudyResult, decreasing, run_recipe
from .scores import NumberScores
from .space import space

__all__ = ["RECIPES", "Recipe", "StudyResult", "evaluate", "name_of", "predict_file", "space", "train", "train_on"]


def train(name: str, **options) -> StudyResult:
    """Train the networks of a task, one of RECIPES, and report what they learned.

    The options are those of `Options`.  Raises ValueError for an unknown task or a number out of range, SpecError or
    ShapeError for a model that does not fit, and ModuleNotFoundError where pictures are wanted and matplotlib is missing,
    all before training; and what `fit` raises.
    """
    if name not in RECIPES:
        raise ValueError(f"train: unknown task {name!r}; known: {', '.join(RECIPES)}")
    return run_recipe(name, RECIPES[name], Options(**options))


def evaluate(checkpoint, file=None) -> Evaluation | NumberScores:
    """How good a network that was trained is on the data in a file, or on the examples that were held out from it.

    `checkpoint` is the output folder of the training, its folder of checkpoints, or one of these.  Raises CheckpointError
    where no checkpoint can be read, or where there is nothing to tell what was held out.
    """
    path = find_checkpoint(checkpoint)
    config = read_config(path)
    if file is not None or "source" in config:
        return own_data.evaluate(path, file)
    task, seed = config.get("task"), config.get("seed")
    known = [name for name, recipe in RECIPES.items() if recipe.study is not regression.study]
    if task not in known or type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise CheckpointError(
            f"{path}: of {task or 'no task'}, expected one with classes: {', '.join(known)}; or name a file with --data"
        )
    model, params, _ = restore(path)
    held_out = RECIPES[task].data(seed)[1]
    try:
        with stage(f"evaluating {model.name}", "on what its training held out"):
            return evaluate_model(model, params, held_out, jax.jit(RECIPES[task].loss))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its model is none for {task}: {error}") from None


_OF_DIGITS = Recipe(
    data=images.digits,
    model=f"flatten {DIGITS}",
    loss=LAYERS["nll"],
    epochs=20,
    batch_size=32,
    learning_rate=3e-3,
    optimizer=decreasing(optax.adamw),
    study=images.study,
)


def _of_points(make: Callable[..., data.Dataset], classes: int) -> Recipe:
    """The task of telling apart points in the plane, of some classes."""
    return Recipe(
        data=lambda seed: data.split(make(seed=seed), 0.2, seed),
        model=f"linear(100) relu linear({classes}) log_softmax",
        other_models={
            "linear": f"linear(100) linear({classes}) log_softmax",
            "hidden": f"linear(100) relu linear(2) linear({classes}) log_softmax",
        },
        loss=LAYERS["nll"],
        epochs=100,
        batch_size=100,
        learning_rate=1e-2,
        optimizer=decreasing(optax.adam),
        study=points.study,
    )


RECIPES: dict[str, Recipe] = {
    "spiral": _of_points(data.spiral, 3),
    "circles": _of_points(data.circles, 2),
    "moons": _of_points(data.moons, 2),
    "xor": _of_points(data.xor, 2),
    "regression": Recipe(
        data=lambda seed: (data.cubic(seed=seed), data.cubic(seed=seed + 1)),
        model="linear(100) relu linear(1)",
        other_models={"tanh": "linear(100) tanh linear(1)"},
        loss=LAYERS["squared_error"],
        epochs=1000,
        batch_size=None,
        learning_rate=1e-2,
        optimizer=decreasing(functools.partial(optax.adamw, weight_decay=1e-5)),
        study=regression.study,
    ),
    "digits": _OF_DIGITS,
    "digits_conv": dataclasses.replace(
        _OF_DIGITS,
        model="conv(16) relu conv(16) relu max_pool(2) flatten dropout(0.3) linear(64) relu dropout(0.3) linear(10) "
        "log_softmax",
    ),
    "mnist": Recipe(
        data=images.mnist,
        model="conv(16) relu max_pool(2) conv(32) relu max_pool(2) flatten dropout(0.3) linear(128) relu dropout(0.3) "
        "linear(10) log_softmax",
        loss=LAYERS["nll"],
        epochs=6,
        batch_size=64,
        learning_rate=3e-3,
        optimizer=decreasing(optax.adamw),
        study=images.study,
    ),
    "text": Recipe(
        data=lambda seed: text.guide(),
        model="embedding(97, 32) lstm(128) each_step(linear(97)) log_softmax",
        loss=LAYERS["nll"],
        epochs=20,
        batch_size=16,
        learning_rate=1e-2,
        optimizer=decreasing(optax.adam),
        study=text.study,
    ),
}
