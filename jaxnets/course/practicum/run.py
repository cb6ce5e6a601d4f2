"""One training of a task of the practicum, and what is reported about it."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from rich.table import Table
from rich.text import Text

from ...algebra.sizes import check_fits
from ...errors import ShapeError
from ...learn import spec
from ...learn.data import Dataset
from ...learn.evaluate import predict
from ...learn.mesh import mesh_of
from ...learn.models import Model
from ...learn.pieces import whole
from ...learn.train import Result, fit
from ...show.formats import as_text, import_plots, superscript

MAX_SEED = 2**31


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """What a study of a task found: numbers for programs, lines and tables for people, and the pictures it wrote.

    `advice` says, in lines that come last, what can be done next.
    """

    numbers: dict[str, Any]
    lines: list[Any]
    pictures: list[Path]
    advice: tuple[str, ...] = ()

    def to_json(self) -> dict:
        return {**self.numbers, "pictures": [str(path) for path in self.pictures]}

    def __rich_console__(self, console, options):
        for line in self.lines:
            yield Text(line) if isinstance(line, str) else line
        if self.pictures:
            yield Text(f"pictures: {', '.join(map(str, self.pictures))}")
        yield from map(Text, self.advice)

    def __str__(self):
        return as_text(self, 110)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A task: `data(seed)` gives training and held-out examples, and `model` describes the network that learns.

    `other_models` holds, by name, the descriptions of networks to compare it with.  `optimizer(learning_rate, steps)` makes
    the optimizer.  A `batch_size` of None means full-batch.
    """

    data: Callable[[int], tuple[Dataset, Dataset]]
    model: str
    loss: Callable
    epochs: int
    batch_size: int | None
    learning_rate: float
    optimizer: Callable[[float, int], optax.GradientTransformation]
    study: Callable[["Run"], StudyResult]
    other_models: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Options:
    """What may be chosen for a training; what is None is as in the recipe, and a `batch_size` of 0 means full-batch.

    `model`, a model or its description, replaces the network of the recipe; the networks that it is compared with stay.
    `output` is the folder for the log metrics.jsonl, the checkpoints and the pictures, with a folder inside for each other
    network.  Without it nothing is written.  `format` is that of the pictures: png, svg or pdf.  `devices` is how
    many devices share the examples of each batch, and with `fsdp` also the parameters.
    """

    seed: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    model: str | Model | None = None
    gradient: str = "autodiff"
    output: str | os.PathLike | None = None
    pictures: bool = True
    resume: bool | Literal["with changes"] = False
    progress: bool = False
    format: str = "png"
    devices: int | None = None
    fsdp: bool = False

    def __post_init__(self):
        for name, least in (("epochs", 1), ("seed", 0), ("batch_size", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value <= MAX_SEED:
                raise ValueError(f"train: {name} must be {least} to 2³¹, got {value}")
        if self.learning_rate is not None and not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"train: learning_rate must be positive and finite, got {self.learning_rate}")
        if self.resume and self.output is None:
            raise ValueError("train: resume needs output, the folder to go on from")
        if self.fsdp and self.devices is None:
            raise ValueError("train: fsdp needs devices, the number of those that share the parameters")


def decreasing(optimizer):
    """The optimizer with a learning rate that falls to 0 along a cosine."""
    return lambda rate, steps: optimizer(optax.cosine_decay_schedule(rate, steps))


def run_recipe(name: str, recipe: Recipe, options: Options, config: Mapping[str, Any] | None = None) -> StudyResult:
    """Train the networks of a recipe, and report what they learned.  `config` is kept in the checkpoints."""
    mesh = None if options.devices is None else mesh_of(options.devices)
    plots = import_plots() if options.pictures and options.output is not None else None
    chosen = recipe.model if options.model is None else options.model
    network = spec.parse(chosen) if isinstance(chosen, str) else chosen
    training, held_out = recipe.data(options.seed)
    run = Run(
        name,
        recipe,
        training,
        held_out,
        network,
        options.seed,
        recipe.epochs if options.epochs is None else options.epochs,
        recipe.batch_size if options.batch_size is None else options.batch_size or None,
        recipe.learning_rate if options.learning_rate is None else options.learning_rate,
        options.gradient,
        None if options.output is None else Path(options.output),
        plots,
        options.resume,
        options.progress,
        options.format,
        config or {},
        mesh,
        options.fsdp,
    )
    return recipe.study(run)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a task: its data, and everything that `train` was given."""

    task: str
    recipe: Recipe
    training: Dataset
    held_out: Dataset
    model: Model
    seed: int
    epochs: int
    batch_size: int | None
    learning_rate: float
    gradient: str
    folder: Path | None
    plots: Any
    resume: bool | Literal["with changes"]
    progress: bool
    format: str = "png"  # of pictures
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # more that checkpoints remember
    mesh: Mesh | None = None
    fsdp: bool = False

    def other_model(self, name) -> Model:
        return spec.parse(self.recipe.other_models[name])

    def initial_params(self, model: Model):
        """Parameters to start from.  Raises where the model does not fit the data."""
        one = jax.ShapeDtypeStruct((1, *self.training.shape), jnp.result_type(float))
        init = jax.jit(model.init, static_argnames=("input_shape", "dtype"))
        make = functools.partial(init, input_shape=self.training.shape, dtype=one.dtype)
        key = jax.random.key(self.seed)
        shape = jax.eval_shape(lambda key, x: model.apply(make(key), x), key, one).shape[1:]
        classes = self.training.classes
        expected = self.training.y.shape[1:] + (() if classes is None else (classes,))
        if shape != expected:
            raise ShapeError(f"model '{model.name}': one prediction has shape {shape}, expected {expected} for {self.task}")
        needed = [jax.eval_shape(make, key)] * 3  # as many as Adam stores
        check_fits(f"the parameters of '{model.name}' and the optimizer's state", needed)
        params = make(key)
        if classes is not None and not np.allclose(np.exp(predict(model, params, self.held_out.x)).sum(-1), 1, atol=1e-3):
            raise ValueError(f"model '{model.name}': its outputs must be log-probabilities; end it with log_softmax")
        return params

    def fit(self, model: Model, params, name: str = "", after_epoch=None) -> Result:
        """Train a network of the task; its log and checkpoints go to the folder `name` inside the output folder."""
        folder = self.folder / name if self.folder else None
        size = self.batch_size or self.training.size
        steps = max(1, self.training.size // max(1, size))

        def seen(number, params, metrics):
            after_epoch(number, jax.tree.map(whole, params), metrics)

        result = fit(
            model,
            self.recipe.loss,
            self.training,
            self.recipe.optimizer(self.learning_rate, self.epochs * steps),
            epochs=self.epochs,
            batch_size=self.batch_size,
            validation=self.held_out,
            key=jax.random.key(self.seed),
            params=params,
            gradient=self.gradient,
            log=folder and folder / "metrics.jsonl",
            checkpoint=folder and folder / "checkpoints",
            save_every=steps * max(1, self.epochs // 10),
            resume=self.resume,
            progress=self.progress,
            config={**self.config, "task": self.task, "seed": self.seed, "network": name},
            after_epoch=after_epoch and (seen if self.fsdp else after_epoch),
            mesh=self.mesh,
            fsdp=self.fsdp,
        )
        return dataclasses.replace(result, params=jax.tree.map(whole, result.params)) if self.fsdp else result

    def description(self) -> dict:
        return {
            "task": self.task,
            "model": self.model.name,
            "seed": self.seed,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "gradient": self.gradient,
            "training_examples": self.training.size,
            "held_out_examples": self.held_out.size,
        }

    def space_chain(self, model: Model) -> str:
        """The dimensions that a model goes through, such as ℝ² → ℝ¹⁰⁰ → ℝ³."""
        shapes, shape = [self.training.shape], self.training.shape
        for part in model.parts or (model,):
            before, shape = shape, part.output_shape(shape)
            if shape != before or part.name.startswith(("linear", "conv", "residual")):
                shapes.append(shape)
        return space_chain(*("×".join(map(str, shape)) for shape in shapes))

    def path(self, name: str) -> Path:
        return (self.folder or Path()) / name

    def save(self, figure, name: str) -> Path:
        """Write a picture, whose name gets the ending of its format."""
        return self.plots.save(figure, self.path(f"{name}.{self.format}"))


# Words, tables, pictures


def nonlinearity_name(model: Model) -> str:
    """The first non-linearity of a model, as people write it."""
    names = [part.name for part in model.parts if "(" not in part.name]
    return {"relu": "ReLU", "log_softmax": "linear"}.get(names[0], names[0]) if names else "network"


def space_chain(*sizes) -> str:
    """The spaces of these dimensions, such as ℝ² → ℝ¹⁰⁰ → ℝ³."""
    return " → ".join("ℝ" + superscript(size) * (str(size) != "1") for size in sizes)


def text_table(title, columns, rows) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
