"""The practicum: networks that learn a spiral, a cubic and handwritten digits, and what layers do to the plane."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from rich.table import Table
from rich.text import Text

from . import data, models, spec
from .catalogue import LAYERS
from .checkpoint import config_of
from .data import Dataset
from .display import as_text
from .errors import CheckpointError, ShapeError
from .evaluate import Evaluation, predict
from .evaluate import evaluate as measure
from .models import Model
from .train import Result, fit, restore
from .transforms import value_and_jacobian


@dataclasses.dataclass(frozen=True)
class Report:
    """What a task found: numbers for programs, lines and tables for people, and the pictures written."""

    numbers: dict[str, Any]
    lines: list[Any]
    pictures: list[Path]

    def to_json(self) -> dict:
        return {**self.numbers, "pictures": [str(path) for path in self.pictures]}

    def __rich_console__(self, console, options):
        for line in self.lines:
            yield Text(line) if isinstance(line, str) else line
        if self.pictures:
            yield Text(f"pictures: {', '.join(map(str, self.pictures))}")

    def __str__(self):
        return as_text(self, 110)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A task: `data(seed)` gives training and held-out examples; `model` is a description of the network that learns.

    `others`, by name, are networks to compare it with.  `optimizer(learning_rate, steps)`; `batch_size` None is full-batch.
    """

    data: Callable[[int], tuple[Dataset, Dataset]]
    model: str
    loss: Callable
    epochs: int
    batch_size: int | None
    learning_rate: float
    optimizer: Callable[[float, int], optax.GradientTransformation]
    study: Callable[["_Run"], Report]
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)


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
) -> Report:
    """Train the networks of a task, `spiral`, `regression`, `digits` or `mnist`, and tell what they learned.

    What is not given is the recipe's; `batch_size=0` is full-batch.  `model`, or its description, takes the place of the
    recipe's network; the networks that it is compared with stay.  `output` is the folder of the log metrics.jsonl, the
    checkpoints and the pictures, with a folder inside for each further network; None: nothing is written.

    Raises ValueError for an unknown task or a number out of range, SpecError or ShapeError for a model that does not fit,
    all before training; ModuleNotFoundError where pictures are wanted and matplotlib is missing; and what `fit` raises.
    """
    if name not in RECIPES:
        raise ValueError(f"train: unknown task {name!r}; known: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    epochs = recipe.epochs if epochs is None else epochs
    rate = recipe.learning_rate if learning_rate is None else learning_rate
    for argument, value, least in (("epochs", epochs, 1), ("seed", seed, 0), ("batch_size", batch_size or 0, 0)):
        if value < least:
            raise ValueError(f"train: {argument} must be at least {least}, got {value}")
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"train: learning_rate must be positive and finite, got {rate}")
    if resume and output is None:
        raise ValueError("train: resume needs output, the folder to go on from")
    plots = _plots() if pictures and output is not None else None
    chosen = spec.parse(model) if isinstance(model, str) else model
    training, held_out = recipe.data(seed)
    batch = recipe.batch_size if batch_size is None else batch_size or None
    folder = None if output is None else Path(output)
    run = _Run(
        name, recipe, training, held_out, chosen, seed, epochs, batch, rate, gradient, folder, plots, resume, progress
    )
    return recipe.study(run)


def evaluate(checkpoint) -> Evaluation:
    """How good a classifier that `train` left is on the examples that were held out from it.

    `checkpoint`: the folder of its output, or of checkpoints, or one of these.  Raises CheckpointError where there is none
    that can be read, or where it is of no task with classes.
    """
    path = Path(checkpoint)
    path = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    config = config_of(path)
    task, seed = config.get("task"), config.get("seed")
    known = [name for name, recipe in RECIPES.items() if recipe.study is not _regression]
    if task not in known or not isinstance(seed, int):
        raise CheckpointError(f"{path}: of {task or 'no task'}, expected one with classes: {', '.join(known)}")
    model, params, _ = restore(path)
    return measure(model, params, RECIPES[task].data(seed)[1], RECIPES[task].loss)


@dataclasses.dataclass(frozen=True)
class _Run:
    """One training of a task: its data, and all that `train` was told."""

    task: str
    recipe: Recipe
    training: Dataset
    held_out: Dataset
    given: Model | None
    seed: int
    epochs: int
    batch_size: int | None
    learning_rate: float
    gradient: str
    folder: Path | None
    plots: Any
    resume: bool
    progress: bool

    @functools.cached_property
    def model(self) -> Model:
        return self.given or spec.parse(self.recipe.model)

    def other(self, name) -> Model:
        return spec.parse(self.recipe.others[name])

    def begin(self, model: Model):
        """Parameters to start from, for a model that fits the data."""
        one = jax.ShapeDtypeStruct((1, *self.training.shape), jnp.result_type(float))
        make = functools.partial(model.init, input_shape=self.training.shape, dtype=one.dtype)
        key = jax.random.key(self.seed)
        shape = jax.eval_shape(lambda key, x: model.apply(make(key), x), key, one).shape[1:]
        classes = self.training.classes
        expected = self.training.y.shape[1:] if classes is None else (classes,)
        if shape != expected:
            raise ShapeError(f"model '{model.name}': one prediction has shape {shape}, expected {expected} for {self.task}")
        params = jax.jit(make)(key)
        if classes is not None and not np.allclose(np.exp(predict(model, params, self.held_out.x)).sum(1), 1, atol=1e-3):
            raise ValueError(f"model '{model.name}': its outputs must be log-probabilities; end it with log_softmax")
        return params

    def fit(self, model: Model, params, name: str = "", after_epoch=None) -> Result:
        """The recipe's network, or another one, whose log and checkpoints are in the folder `name`."""
        folder = self.folder / name if self.folder else None
        size = self.batch_size or self.training.size
        steps = max(1, self.training.size // max(1, size))
        return fit(
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
            config={"task": self.task, "seed": self.seed, "network": name},
            after_epoch=after_epoch,
        )

    def about(self) -> dict:
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

    def title(self, model: Model) -> str:
        """The dimensions that a model goes through, as ℝ² → ℝ¹⁰⁰ → ℝ³."""
        shapes, shape = [self.training.shape], self.training.shape
        for part in model.parts or (model,):
            before, shape = shape, part.output_shape(shape)
            if shape != before or part.name.startswith(("linear", "conv", "residual")):
                shapes.append(shape)
        return _spaces(*("×".join(map(str, shape)) for shape in shapes))

    def path(self, name: str) -> Path:
        return (self.folder or Path()) / name

    def save(self, figure, name: str) -> Path:
        return self.plots.save(figure, self.path(name))


# --- classes ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Scores:
    """How good a classifier is."""

    model: Model
    result: Result
    training: Evaluation
    held_out: Evaluation

    @classmethod
    def of(cls, run: _Run, model: Model, result: Result) -> "_Scores":
        found = (measure(model, result.params, part, run.recipe.loss) for part in (run.training, run.held_out))
        return cls(model, result, *found)

    @property
    def accuracy(self) -> float:
        return self.held_out.accuracy or 0.0

    def to_json(self) -> dict:
        return {
            "model": self.model.name,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.result.params)),
            "training_loss": self.training.loss,
            "training_accuracy": self.training.accuracy,
            "held_out_loss": self.held_out.loss,
            "held_out_accuracy": self.accuracy,
            "calibration_error": self.held_out.calibration_error,
            "seconds": round(self.result.seconds, 2),
        }


def _score_table(run: _Run, scores: Mapping[str, _Scores]) -> Table:
    columns = ("network", "parameters", "training accuracy", "held-out accuracy", "held-out loss", "seconds")
    rows = []
    for name, found in scores.items():
        values = found.to_json()
        accuracies = (f"{values[f'{part}_accuracy']:.2%}" for part in ("training", "held_out"))
        words = f"{name}: {found.model.name}" if name else found.model.name
        cells = (
            words,
            f"{values['parameters']:,}",
            *accuracies,
            f"{values['held_out_loss']:.4f}",
            f"{values['seconds']:.1f}",
        )
        rows.append(cells)
    return _table(f"{run.training.size:,} examples to learn from, {run.held_out.size:,} held out", columns, rows)


def _images(run: _Run) -> Report:
    """Digits: learning curves, the confusion matrix, calibration and the most confident mistakes."""
    model = run.model
    result = run.fit(model, run.begin(model))
    scores = _Scores.of(run, model, result)
    found = scores.held_out
    wrong = round((1 - scores.accuracy) * found.examples)
    lines = [
        _score_table(run, {"": scores}),
        f"{wrong} of {found.examples:,} held-out images are seen as another digit.  Confidence and accuracy differ by "
        f"{found.calibration_error:.1%} on average.",
    ]
    pictures = []
    if run.plots:
        plots, spaces = run.plots, run.title(model)
        pictures = [
            run.save(plots.learning_curves(result.history, spaces), "curves.png"),
            run.save(plots.confusion(found.confusion, f"held-out accuracy {scores.accuracy:.1%}"), "confusion.png"),
            run.save(plots.calibration(found.calibration, f"{found.examples:,} held-out images"), "calibration.png"),
            run.save(_mistakes(run, model, result.params), "mistakes.png"),
        ]
    return Report({**run.about(), **scores.to_json()}, lines, pictures)


def _mistakes(run, model, params, most: int = 18):
    """The images that a classifier was most confidently wrong about."""
    probabilities = np.exp(predict(model, params, run.held_out.x))
    seen, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(seen != run.held_out.y)
    worst = wrong[np.argsort(-sure[wrong])][:most]
    title = f"{len(wrong)} mistakes on {run.held_out.size:,} held-out images"
    title += f", the {most} most confident" if len(wrong) > most else ""
    return run.plots.mistakes(run.held_out.x[worst, 0], run.held_out.y[worst], seen[worst], sure[worst], title=title)


def _digits(seed: int) -> tuple[Dataset, Dataset]:
    """scikit-learn's digits as images [1, 8, 8], a fifth of them held out."""
    found = data.digits()
    return data.split(dataclasses.replace(found, x=found.x.reshape(-1, 1, 8, 8)), 0.2, seed)


def _mnist(seed: int, copies: int = 4) -> tuple[Dataset, Dataset]:
    """1,000 of the 5,000 images held out; the others each with distorted copies."""
    training, held_out = data.split(data.mnist(), 1000, seed)
    rng = np.random.default_rng(seed)
    x = np.concatenate([training.x, *(_distorted(training.x, rng) for _ in range(copies))])
    name = f"{training.name}, with {copies} distorted copies of each"
    return dataclasses.replace(training, x=x, y=np.tile(training.y, copies + 1), name=name), held_out


def _distorted(images, rng):
    """Images [image, 1, height, width] turned, sheared, stretched and moved a little, each by a random affine map."""
    count, _, height, width = images.shape
    centre = np.array([[height - 1], [width - 1]]) / 2
    maps = np.eye(2) + rng.uniform(-0.15, 0.15, (count, 2, 2))
    places = maps @ (np.indices((height, width)).reshape(2, -1) - centre) + centre + rng.uniform(-1.5, 1.5, (count, 2, 1))
    moved = jax.vmap(lambda image, at: map_coordinates(image, list(at), order=1))(images[:, 0], places.astype(images.dtype))
    return np.asarray(moved).reshape(images.shape)


# --- the spiral ---------------------------------------------------------------------------------------------------

FRAMES = 30


def _spiral(run: _Run) -> Report:
    """A network with a non-linearity and one without; and one that unwinds the spiral in a plane of its own."""
    model, plots, held_out = run.model, run.plots, run.held_out
    params = run.begin(model)
    points, extent = plots.plane(run.training.x) if plots else (None, None)
    frames: list[tuple[int, float, np.ndarray]] = []
    shown = set(np.geomspace(1, run.epochs, FRAMES).round().astype(int).tolist()) if plots else set()

    def watch(epoch, params, metrics):
        if epoch in shown:
            frames.append((epoch, metrics["validation_accuracy"], predict(model, params, points)))

    scores = {"": _Scores.of(run, model, run.fit(model, params, after_epoch=watch))}
    for name in run.recipe.others:
        other = run.other(name)
        scores[name] = _Scores.of(run, other, run.fit(other, run.begin(other), name))
    numbers = {**run.about(), **scores[""].to_json(), **{name: scores[name].to_json() for name in run.recipe.others}}
    lines = [
        _score_table(run, scores),
        "Two linear layers with nothing between them are one linear layer: they draw straight lines.",
    ]
    pictures = []
    if plots:
        panels = {}
        for name in ("linear", ""):
            found = scores[name]
            words = f"{run.title(found.model)}\n{name or _word(model)}: {found.accuracy:.1%} of held-out points"
            panels[words] = np.exp(predict(found.model, found.result.params, points))
        pictures.append(run.save(plots.decision_regions(held_out.x, held_out.y, extent, panels), "spiral.png"))
        if len(frames) > 1:

            def draw(figure, frame):
                epoch, accuracy, found = frame
                title = f"{run.title(model)}, epoch {epoch}: {accuracy:.1%} held out"
                plots.draw_regions(figure, held_out.x, held_out.y, extent, np.exp(found), title)

            pictures.append(plots.save_animation(frames, draw, run.path("boundary.gif"), milliseconds=150))
        pictures.append(_unwind(run, scores["hidden"]))
    return Report(numbers, lines, pictures)


def _word(model: Model) -> str:
    """The first non-linearity of a model, as people write it."""
    names = [part.name for part in model.parts if "(" not in part.name]
    return {"relu": "ReLU", "log_softmax": "linear"}.get(names[0], names[0]) if names else "network"


def _unwind(run: _Run, found: _Scores) -> Path:
    """From the input plane to the plane before the last linear layer, points and a grid; there straight lines part classes.

    That plane is shown up to a shift, a rotation or reflection and a scale: those that bring it closest to the input plane.
    """
    *before, last, _ = found.model.parts
    inner, params, x, y = models.serial(*before), found.result.params, run.held_out.x, run.held_out.y
    hidden = predict(inner, params[:-2], x)
    centre, middle = hidden.mean(0), x.mean(0)
    u, _, vt = np.linalg.svd((hidden - centre).T @ (x - middle))
    turn = (u @ vt) * (np.linalg.norm(x - middle) / np.linalg.norm(hidden - centre))

    def image(points):
        return (predict(inner, params[:-2], points.reshape(-1, 2)) - centre) @ turn + middle

    ticks, along = np.linspace(-1.2, 1.2, 25), np.linspace(-1.2, 1.2, 121)
    lines = [np.stack(np.broadcast_arrays(t, along), 1) for t in ticks]
    grid = np.array([*lines, *(line[:, ::-1] for line in lines)])
    moved_grid, moved = image(grid).reshape(grid.shape), image(x)
    points, extent = run.plots.plane(np.concatenate([x, moved]))
    logits = ((points - middle) @ np.linalg.inv(turn) + centre) @ np.asarray(params[-2]["w"]).T + np.asarray(params[-2]["b"])
    regions = np.asarray(jax.nn.softmax(logits))
    titles = {0.0: "ℝ², the plane of inputs", 1.0: "ℝ² before the last layer, which cuts it along lines"}

    def draw(figure, share):
        def between(a, b):
            return (1 - share) * a + share * b

        title = titles.get(share, f"{share:.0%} of the way through {run.title(inner)}")
        over = regions if share == 1 else None
        run.plots.draw_stretched(figure, between(grid, moved_grid), between(x, moved), y, extent, title, over)

    shares = (1 - np.cos(np.linspace(0, np.pi, FRAMES))) / 2
    return run.plots.save_animation([0.0] * 8 + shares.tolist(), draw, run.path("hidden.gif"))


# --- regression ---------------------------------------------------------------------------------------------------

MEMBERS, INTERVAL, WIDE = 5, (-1.0, 1.0), (-2.0, 2.0)


def _regression(run: _Run) -> Report:
    """Networks that agree where they saw data, and how far they part where they did not."""
    word = _word(run.model)
    names = [run.model.name if word in run.recipe.others else word, *run.recipe.others]
    chosen = [run.model, *map(run.other, run.recipe.others)]
    for model in chosen:
        run.begin(model)  # does every one fit?
    together = [_ensemble(model, MEMBERS) for model in chosen]
    wide = dataclasses.replace(run, training=_repeated(run.training), held_out=_repeated(run.held_out))
    x = np.linspace(*WIDE, 401)
    inside = (x >= INTERVAL[0]) & (x <= INTERVAL[1])
    found: dict[str, dict[str, Any]] = {}
    predictions = {}
    for i, (name, model, ensemble) in enumerate(zip(names, chosen, together, strict=True)):
        result = wide.fit(ensemble, wide.begin(ensemble), name if i else "")
        mean = predict(ensemble, result.params, run.held_out.x).mean(1)
        predictions[name] = predict(ensemble, result.params, x[:, None]).T
        deviation = predictions[name].std(0)
        found[name] = {
            "model": model.name,
            "rmse": float(np.sqrt(np.mean((mean - run.held_out.y[:, 0]) ** 2))),
            "deviation_inside": float(deviation[inside].mean()),
            "deviation_outside": float(deviation[~inside].mean()),
            "seconds": round(result.seconds, 2),
        }
    rows = [
        (
            f"{MEMBERS} × {values['model']}",
            f"{values['rmse']:.4f}",
            f"{values['deviation_inside']:.4f}",
            f"{values['deviation_outside']:.4f}",
            f"{values['deviation_outside'] / max(values['deviation_inside'], 1e-12):.0f}",
            f"{values['seconds']:.1f}",
        )
        for values in found.values()
    ]
    columns = ("ensemble", "RMSE of the mean", "deviation inside", "deviation outside", "ratio", "seconds")
    lines = [
        _table(
            f"{run.training.size} points on {INTERVAL[0]:g} … {INTERVAL[1]:g}, networks asked on {WIDE[0]:g} … {WIDE[1]:g}",
            columns,
            rows,
        ),
        "Deviation: standard deviation across the networks, on average over x.  Where there were no data they disagree.",
    ]
    pictures = []
    if run.plots:
        titles = {
            f"{MEMBERS} × {run.title(model)}, {name}": predictions[name] for name, model in zip(names, chosen, strict=True)
        }
        points = (run.training.x[:, 0], run.training.y[:, 0])
        pictures.append(run.save(run.plots.ensemble(x, titles, points, INTERVAL), "regression.png"))
        variances = {name: values.var(0) for name, values in predictions.items()}
        pictures.append(run.save(run.plots.variance(x, variances, INTERVAL, f"{MEMBERS} networks each"), "variance.png"))
    return Report({**run.about(), "ensembles": found}, lines, pictures)


def _repeated(dataset: Dataset) -> Dataset:
    """The same target for every network of an ensemble."""
    return dataclasses.replace(dataset, y=np.repeat(dataset.y, MEMBERS, 1))


def _ensemble(model: Model, count: int) -> Model:
    """Networks that learn side by side, each from weights of its own: predictions [batch, network] of one number each."""

    def init(key, input_shape, dtype=jnp.float32):
        return jax.vmap(lambda key: _spread(model.init(key, input_shape, dtype), key))(jax.random.split(key, count))

    def apply(params, x, *, key=None, train=False):
        keys = None if key is None else jax.random.split(key, count)
        every = jax.vmap(lambda p, k: model.apply(p, x, key=k, train=train), (0, None if key is None else 0), 1)
        return every(params, keys)[..., 0]

    return Model(f"{count} × ({model.name})", init, apply, lambda shape: (count,))


def _spread(params, key):
    """Biases of the first layer from −1 … 1 rather than 0, where the kinks of all its units would lie at x = 0."""
    if not (isinstance(params, list) and isinstance(params[0], dict) and "b" in params[0]):
        return params
    b = params[0]["b"]
    return [params[0] | {"b": jax.random.uniform(jax.random.fold_in(key, 1), b.shape, b.dtype, -1, 1)}, *params[1:]]


# --- recipes ------------------------------------------------------------------------------------------------------


def _decreasing(optimizer):
    """With a learning rate that falls to 0 along a cosine."""
    return lambda rate, steps: optimizer(optax.cosine_decay_schedule(rate, steps))


RECIPES: dict[str, Recipe] = {
    "spiral": Recipe(
        data=lambda seed: data.split(data.spiral(seed=seed), 0.2, seed),
        model="linear(100) relu linear(3) log_softmax",
        others={
            "linear": "linear(100) linear(3) log_softmax",
            "hidden": "linear(100) relu linear(2) linear(3) log_softmax",
        },
        loss=LAYERS["nll"],
        epochs=100,
        batch_size=100,
        learning_rate=1e-2,
        optimizer=_decreasing(optax.adam),
        study=_spiral,
    ),
    "regression": Recipe(
        data=lambda seed: (data.cubic(seed=seed), data.cubic(seed=seed + 1)),
        model="linear(100) relu linear(1)",
        others={"tanh": "linear(100) tanh linear(1)"},
        loss=LAYERS["squared_error"],
        epochs=1000,
        batch_size=None,
        learning_rate=1e-2,
        optimizer=_decreasing(functools.partial(optax.adamw, weight_decay=1e-5)),
        study=_regression,
    ),
    "digits": Recipe(
        data=_digits,
        model="conv(16) relu conv(16) relu max_pool(2) flatten dropout(0.3) linear(64) relu dropout(0.3) linear(10) "
        "log_softmax",
        loss=LAYERS["nll"],
        epochs=20,
        batch_size=32,
        learning_rate=3e-3,
        optimizer=_decreasing(optax.adamw),
        study=_images,
    ),
    "mnist": Recipe(
        data=_mnist,
        model="conv(16) relu max_pool(2) conv(32) relu max_pool(2) flatten dropout(0.3) linear(128) relu dropout(0.3) "
        "linear(10) log_softmax",
        loss=LAYERS["nll"],
        epochs=6,
        batch_size=64,
        learning_rate=3e-3,
        optimizer=_decreasing(optax.adamw),
        study=_images,
    ),
}


# --- what all tasks need ------------------------------------------------------------------------------------------


def _plots():
    """The module of pictures, which needs matplotlib."""
    try:
        import matplotlib  # noqa: F401

        from . import plots
    except ImportError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'jaxnets[plot]'") from None
    return plots


def _spaces(*sizes) -> str:
    """ℝ² → ℝ¹⁰⁰ → ℝ³"""
    digits = str.maketrans("0123456789×", "⁰¹²³⁴⁵⁶⁷⁸⁹ˣ")
    return " → ".join("ℝ" + str(size).translate(digits) * (str(size) != "1") for size in sizes)


def _table(title, columns, rows) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


# --- what layers do to the plane ----------------------------------------------------------------------------------

POINTS, MAPS, SCALES, HIDDEN = 1000, 5, (1, 2, 3, 4, 5), (2, 5, 20, 100)


def space(output=None, *, seed: int = 0) -> Report:
    """A cloud of 1,000 normal points through random linear maps, through tanh(s·x), and through random untrained networks.

    `output`: the folder of its pictures, linear_maps.png, tanh.png and networks.png; None: none are made.
    """
    plots = None if output is None else _plots()
    rng = np.random.default_rng(seed)
    x, maps = rng.standard_normal((POINTS, 2)), rng.standard_normal((MAPS, 2, 2))
    singular = np.linalg.svd(maps, compute_uv=False)
    moved = [np.asarray(LAYERS["linear"](x, w)) for w in maps]
    squashed = [np.asarray(LAYERS["tanh"](s * x)) for s in SCALES]
    networks = {f"2-{n}-2 {name}": _network(name, n, x, rng) for name in ("relu", "tanh") for n in HIDDEN}
    saturated = [float((np.abs(y) > 0.95).all(1).mean()) for y in squashed]
    numbers = {
        "task": "space",
        "seed": seed,
        "linear_maps": [
            {"matrix": w.tolist(), "singular_values": s.tolist(), "determinant": float(np.linalg.det(w))}
            for w, s in zip(maps, singular, strict=True)
        ],
        "tanh": [{"scale": s, "near_a_corner": share} for s, share in zip(SCALES, saturated, strict=True)],
        "networks": {name: about for name, (_, about) in networks.items()},
    }
    lines = [
        _table(
            "y = W x",
            ("map", "singular values", "area grows by", "turns over"),
            [
                (f"W{i}", f"{s[0]:.2f}, {s[1]:.2f}", f"{s[0] * s[1]:.2f}", "yes" if np.linalg.det(w) < 0 else "no")
                for i, (w, s) in enumerate(zip(maps, singular, strict=True), 1)
            ],
        ),
        _table(
            "y = tanh(s x)",
            ("s", "points near a corner of the square"),
            [(f"{s}", f"{share:.1%}") for s, share in zip(SCALES, saturated, strict=True)],
        ),
        _table(
            "random networks: singular values of their Jacobians, area = their product",
            ("network", "largest", "smallest", "median area", "points that collapse", "linear pieces"),
            [
                (
                    name,
                    f"{about['largest_singular_value']:.2f}",
                    f"{about['smallest_singular_value']:.2g}",
                    f"{about['median_area']:.2f}",
                    f"{about['collapsed']:.1%}",
                    f"{about['linear_pieces'] or '–'}",
                )
                for name, (_, about) in networks.items()
            ],
        ),
    ]
    pictures = []
    if plots:
        folder, colours = Path(output), plots.position_colours(x)
        titles = [f"σ = {s[0]:.2f}, {s[1]:.2f}" for s in singular]
        limit = 1.05 * max(np.abs(y).max() for y in [x, *moved])
        figure = plots.clouds(
            [("x", x), *zip(titles, moved, strict=True)],
            colours,
            3,
            title=f"y = W x,  {_spaces(2, 2)}",
            basis=[np.eye(2), *(w.T for w in maps)],
            limits=[limit] * (1 + MAPS),
        )
        pictures.append(plots.save(figure, folder / "linear_maps.png"))
        panels = [("x", x), *((f"s = {s}", y) for s, y in zip(SCALES, squashed, strict=True))]
        figure = plots.clouds(
            panels, colours, 3, title=f"y = tanh(s x),  {_spaces(2, 2)}", limits=[None, *[1.12] * len(SCALES)]
        )
        pictures.append(plots.save(figure, folder / "tanh.png"))
        show = {"relu": "ReLU", "tanh": "tanh"}
        panels = [(f"{show[name]},  {_spaces(2, n, 2)}", networks[f"2-{n}-2 {name}"][0]) for name in show for n in HIDDEN]
        figure = plots.clouds(panels, colours, len(HIDDEN), title="random networks before training")
        pictures.append(plots.save(figure, folder / "networks.png"))
    return Report(numbers, lines, pictures)


def _network(activation, hidden, x, rng):
    """Where a random network 2-hidden-2 takes the points, and what its Jacobians say."""
    model = models.mlp(hidden, 2, activation=activation, last=None)
    params = [
        {"w": rng.standard_normal((hidden, 2)), "b": rng.standard_normal(hidden)},  # kinks that miss the origin
        {},
        {"w": rng.standard_normal((2, hidden)) * (2 / hidden) ** 0.5, "b": np.zeros(2)},
    ]
    y, stretch = jax.jit(value_and_jacobian(lambda x: model.apply(params, x)))(x)
    singular = np.linalg.svd(stretch.per_example(), compute_uv=False)
    active = x @ params[0]["w"].T + params[0]["b"] > 0
    return np.asarray(y), {
        "largest_singular_value": float(singular.max()),
        "smallest_singular_value": float(singular.min()),
        "median_area": float(np.median(singular.prod(1))),
        "collapsed": float((singular[:, 1] <= 1e-6 * singular[:, 0]).mean()),
        "linear_pieces": len(np.unique(active, axis=0)) if activation == "relu" else None,
    }
