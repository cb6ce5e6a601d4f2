"""The practicum: networks that learn a spiral, a cubic, handwritten digits and a text, and what layers do to the plane.

`spiral`, `regression`, `images` and `text` each study one kind of task, `run` is one training of a task, `scores` says how
good a classifier is, and `space` draws what layers do to the plane.
"""

import dataclasses
import functools
import math
from pathlib import Path

import jax
import optax

from ...catalogue import LAYERS
from ...errors import CheckpointError
from ...learn import data, spec
from ...learn.checkpoint import read_config
from ...learn.evaluate import Evaluation
from ...learn.evaluate import evaluate as evaluate_model
from ...learn.models import Model
from ...learn.presets import DIGITS
from ...learn.progress import stage
from ...learn.train import restore
from ...show.formats import import_plots
from . import images, regression, spiral, text
from .run import Recipe, Run, StudyResult
from .space import space

MAX_SEED = 2**31
__all__ = ["RECIPES", "Recipe", "StudyResult", "evaluate", "space", "train"]


def train(
    name: str,
    *,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    model: str | Model | None = None,
    gradient: str = "autodiff",
    output=None,
    pictures: bool = True,
    resume: bool = False,
    progress: bool = False,
) -> StudyResult:
    """Train the networks of a task (spiral, regression, digits, digits_conv, mnist, text), and report what they learned.

    The recipe of the task gives what is left out, and `batch_size=0` means full-batch.  `model`, a model or its description,
    replaces the network of the recipe; the networks that it is compared with stay.  `output` is the folder for the log
    metrics.jsonl, the checkpoints and the pictures, with a folder inside for each other network.  Without it nothing is
    written.

    Raises ValueError for an unknown task or a number out of range, SpecError or ShapeError for a model that does not fit,
    and ModuleNotFoundError where pictures are wanted and matplotlib is missing, all before training; and what `fit` raises.
    """
    if name not in RECIPES:
        raise ValueError(f"train: unknown task {name!r}; known: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    epochs = recipe.epochs if epochs is None else epochs
    rate = recipe.learning_rate if learning_rate is None else learning_rate
    for argument, value, least in (("epochs", epochs, 1), ("seed", seed, 0), ("batch_size", batch_size or 0, 0)):
        if not least <= value <= MAX_SEED:
            raise ValueError(f"train: {argument} must be {least} to 2³¹, got {value}")
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"train: learning_rate must be positive and finite, got {rate}")
    if resume and output is None:
        raise ValueError("train: resume needs output, the folder to go on from")
    plots = import_plots() if pictures and output is not None else None
    chosen = recipe.model if model is None else model
    network = spec.parse(chosen) if isinstance(chosen, str) else chosen
    training, held_out = recipe.data(seed)
    batch = recipe.batch_size if batch_size is None else batch_size or None
    folder = None if output is None else Path(output)
    run = Run(
        name, recipe, training, held_out, network, seed, epochs, batch, rate, gradient, folder, plots, resume, progress
    )
    return recipe.study(run)


def evaluate(checkpoint) -> Evaluation:
    """How good a classifier that `train` saved is on the examples that were held out from it.

    `checkpoint` is the output folder of the training, its folder of checkpoints, or one of these.  Raises CheckpointError
    where no checkpoint can be read, or where its task has no classes.
    """
    path = Path(checkpoint)
    path = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    config = read_config(path)
    task, seed = config.get("task"), config.get("seed")
    known = [name for name, recipe in RECIPES.items() if recipe.study is not regression.study]
    if task not in known or type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise CheckpointError(f"{path}: of {task or 'no task'}, expected one with classes: {', '.join(known)}")
    model, params, _ = restore(path)
    held_out = RECIPES[task].data(seed)[1]
    try:
        with stage(f"evaluating {model.name}", "on what its training held out"):
            return evaluate_model(model, params, held_out, jax.jit(RECIPES[task].loss))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its model is none for {task}: {error}") from None


def _decreasing(optimizer):
    """The optimizer with a learning rate that falls to 0 along a cosine."""
    return lambda rate, steps: optimizer(optax.cosine_decay_schedule(rate, steps))


_OF_DIGITS = Recipe(
    data=images.digits,
    model=f"flatten {DIGITS}",
    loss=LAYERS["nll"],
    epochs=20,
    batch_size=32,
    learning_rate=3e-3,
    optimizer=_decreasing(optax.adamw),
    study=images.study,
)
RECIPES: dict[str, Recipe] = {
    "spiral": Recipe(
        data=lambda seed: data.split(data.spiral(seed=seed), 0.2, seed),
        model="linear(100) relu linear(3) log_softmax",
        other_models={
            "linear": "linear(100) linear(3) log_softmax",
            "hidden": "linear(100) relu linear(2) linear(3) log_softmax",
        },
        loss=LAYERS["nll"],
        epochs=100,
        batch_size=100,
        learning_rate=1e-2,
        optimizer=_decreasing(optax.adam),
        study=spiral.study,
    ),
    "regression": Recipe(
        data=lambda seed: (data.cubic(seed=seed), data.cubic(seed=seed + 1)),
        model="linear(100) relu linear(1)",
        other_models={"tanh": "linear(100) tanh linear(1)"},
        loss=LAYERS["squared_error"],
        epochs=1000,
        batch_size=None,
        learning_rate=1e-2,
        optimizer=_decreasing(functools.partial(optax.adamw, weight_decay=1e-5)),
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
        optimizer=_decreasing(optax.adamw),
        study=images.study,
    ),
    "text": Recipe(
        data=lambda seed: text.guide(),
        model="embedding(97, 32) lstm(128) each_step(linear(97)) log_softmax",
        loss=LAYERS["nll"],
        epochs=20,
        batch_size=16,
        learning_rate=1e-2,
        optimizer=_decreasing(optax.adam),
        study=text.study,
    ),
}
