"""One's own data: a network for a table, a file of arrays or a folder of images; how good it is, and what it predicts."""

import csv
import dataclasses
import io
import math
import os
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from ...catalogue import LAYERS
from ...errors import CheckpointError, ShapeError
from ...learn import data
from ...learn.data import Dataset
from ...learn.encoding import Encoding
from ...learn.evaluate import MAX_SHOWN_CLASSES, Evaluation, predict
from ...learn.evaluate import evaluate as evaluate_model
from ...learn.image_folders import image_files
from ...learn.progress import stage
from ...learn.reading import fingerprint, shaped_targets
from ...learn.train import restore
from .run import MAX_SEED, Options, Recipe, Run, StudyResult, decreasing, run_recipe, text_table
from .scores import NumberScores, Scores, score_table

BATCH = 32
STEPS = 1000  # about as many are taken
RATES = {"features": 1e-3, "images": 3e-3}  # small tables are soon learned by heart
MIN_EPOCHS, MAX_EPOCHS = 5, 300
LARGE_SIDE = 16  # images are pooled until none of their sides is longer


def train_on(
    path: str | os.PathLike,
    *,
    target: str | None = None,
    classes: int | None = None,
    size: tuple[int, int] | None = None,
    held_out: float = 0.2,
    standardize: bool = True,
    **options,
) -> StudyResult:
    """Train a network on one's own data, as `jn.data.load` reads it, and report what it learned.

    `held_out` is the share of the examples that are held out.  Features and targets of numbers are standardized by the
    training examples, unless `standardize` is False.  Further options are those of `Options`.  Raises as `jn.data.load`, as
    `train` and as `fit` do.
    """
    chosen = Options(**options)
    if not 0 < held_out < 1:
        raise ValueError(f"train: held_out must be between 0 and 1, got {held_out}")
    found = _with_columns(data.load(path, classes, target=target, size=size))
    name = name_of(path)
    parts = data.split(dataclasses.replace(found, name=name), held_out, chosen.seed)
    encoding = parts[0].encoding or Encoding.of_dataset(parts[0])
    if standardize:
        encoding = encoding.fitted(parts[0].x, parts[0].y)
    training, of_rest = (_encoded(part, encoding) for part in parts)
    source = {
        "path": os.path.abspath(path),
        "sha256": fingerprint(path),
        "held_out": held_out,
        "seed": chosen.seed,
    }
    return run_recipe(name, _recipe(training, of_rest), chosen, {"source": source})


def name_of(path: str | os.PathLike) -> str:
    """What a run on this file or folder is called."""
    return Path(os.path.abspath(path)).stem or "data"


def _with_columns(found: Dataset) -> Dataset:
    """The data set, whose targets of numbers have an axis of their own, once all numbers are finite."""
    for name, values in (("x", found.x), ("y", found.y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{found.name}: {name} holds NaN or infinity, expected finite numbers")
    if found.classes is not None or found.y.ndim > 1:
        return found
    return dataclasses.replace(found, y=shaped_targets(found.name, found.y, (1,)))


def _encoded(part: Dataset, encoding: Encoding) -> Dataset:
    return dataclasses.replace(part, x=encoding.inputs(part.x), y=encoding.targets(part.y), encoding=encoding)


def _recipe(training: Dataset, held_out: Dataset) -> Recipe:
    """How to learn from these examples where nothing else is asked for."""
    images = len(training.shape) == 3
    steps = max(1, training.size // BATCH)
    wanted = math.ceil(STEPS / steps)
    return Recipe(
        data=lambda seed: (training, held_out),
        model=_network(training),
        loss=LAYERS["squared_error"] if training.classes is None else LAYERS["nll"],
        epochs=min(max(wanted, MIN_EPOCHS), MAX_EPOCHS),
        batch_size=min(BATCH, training.size),
        learning_rate=RATES["images" if images else "features"],
        optimizer=decreasing(optax.adamw),
        study=study,
    )


def _network(training: Dataset) -> str:
    """Two hidden layers of 64 for features, and a small convolutional network for images [channels, height, width]."""
    end = f"linear({training.classes}) log_softmax"
    if training.classes is None:
        end = f"linear({math.prod(training.y.shape[1:])})"
    if len(training.shape) != 3:
        flat = "flatten " if len(training.shape) > 1 else ""
        return f"{flat}linear(64) relu linear(64) relu {end}"
    height, width = training.shape[1:]
    words = ["conv(16) relu conv(16) relu"]
    while min(height, width) >= 2 and (len(words) == 1 or max(height, width) > LARGE_SIDE):
        words.append("max_pool(2)" if len(words) == 1 else "conv(32) relu max_pool(2)")
        height, width = height // 2, width // 2
    return " ".join([*words, "flatten dropout(0.3) linear(64) relu dropout(0.3)", end])


def study(run: Run) -> StudyResult:
    """Learning curves, and for labels the confusion matrix and the calibration, of a network that learned one's own data."""
    model = run.model
    result = run.fit(model, run.initial_params(model))
    pictures = []
    if run.plots:
        pictures = [run.save(run.plots.learning_curves(result.history, run.space_chain(model)), "curves")]
    numbers: dict[str, Any]
    if run.training.classes is None:
        parts = {"training": run.training, "held_out": run.held_out}
        found = {name: NumberScores.of(model, result.params, part) for name, part in parts.items()}
        count = sum(leaf.size for leaf in jax.tree.leaves(result.params))
        cells = (
            model.name,
            f"{count:,}",
            f"{found['training'].rmse:.4g}",
            f"{found['held_out'].rmse:.4g}",
            found["held_out"].explained,
            f"{result.seconds:.1f}",
        )
        columns = ("network", "parameters", "training RMSE", "held-out RMSE", "held-out R²", "seconds")
        title = f"{run.training.size:,} examples to learn from, {run.held_out.size:,} held out"
        lines: list[Any] = [text_table(title, columns, [cells])]
        numbers = {"parameters": count, "seconds": round(result.seconds, 2)}
        numbers |= {f"{name}_{key}": getattr(scores, key) for name, scores in found.items() for key in ("rmse", "r2")}
    else:
        scores = Scores.of(run, model, result)
        lines, numbers = [score_table(run, {"": scores})], scores.to_json()
        held_out = scores.held_out
        if run.plots:
            plots, title = run.plots, f"held-out accuracy {scores.accuracy:.1%}"
            if run.training.classes <= MAX_SHOWN_CLASSES:
                pictures.append(run.save(plots.confusion(held_out.confusion, title, held_out.names), "confusion"))
            pictures.append(
                run.save(plots.calibration(held_out.calibration, f"{held_out.examples:,} examples"), "calibration")
            )
    return StudyResult({**run.description(), **numbers}, lines, pictures, _advice(run.folder))


def _advice(folder: Path | None) -> tuple[str, ...]:
    """The commands that come next."""
    if folder is None:
        return ()
    name = shlex.quote(str(folder))
    commands = (f"evaluate {name}", f"predict {name} FILE -o predictions.csv", f"export {name} -o model.jax")
    return tuple(f"{'      ' if i else 'next: '}jaxnets {command}" for i, command in enumerate(commands))


# What a run says of another file


def evaluate(path: Path, file=None) -> Evaluation | NumberScores:
    """How good a run is on the data in a file, or on the examples that were held out from its training."""
    model, params, config = restore(path)
    found = data.load(file, like=config) if file is not None else _held_out(path, config)
    if not found.y.size:
        target = Encoding.of_description(config).target
        raise ValueError(
            f"{file}: no answers to compare with{f', no column {target!r}' if target else ''}; `jaxnets predict` needs none"
        )
    with stage(f"evaluating {model.name}", f"on {found.name}"):
        if found.classes is None:
            return NumberScores.of(model, params, found)
        return evaluate_model(model, params, found, jax.jit(LAYERS["cross_entropy"]))


def _held_out(path: Path, config: dict) -> Dataset:
    """The examples that the training of a run held out, read again from the file that it remembers."""
    source = config["source"]
    try:
        file, sha256, share, seed = (source[name] for name in ("path", "sha256", "held_out", "seed"))
        if not isinstance(file, str) or not 0 < share < 1 or type(seed) is not int or not 0 <= seed <= MAX_SEED:
            raise TypeError
    except (KeyError, TypeError):
        raise CheckpointError(f"{path}: does not tell which file it learned from; name one with --data") from None
    advice = "name the file to evaluate on with --data"
    if not os.path.exists(file):
        raise ValueError(f"{file}: the file of the training is no longer there; {advice}")
    if fingerprint(file) != sha256:
        raise ValueError(f"{file}: the file has changed since the training, so what was held out is not known; {advice}")
    return data.split(data.load(file, like=config), share, seed)[1]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One row of cells for each example: the name of its file, where it has one, and what is predicted of it."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def to_csv(self) -> str:
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows([self.columns, *self.rows])
        return written.getvalue()


def predict_file(checkpoint, file: str | os.PathLike) -> Predictions:
    """What a run predicts of the examples in a file: the class and the probability of each, or numbers in their units.

    Raises CheckpointError where no checkpoint can be read, and as `jn.data.load` does.
    """
    model, params, config = restore(checkpoint)
    encoding = Encoding.of_description(config)
    found = data.load(file, like=config)
    with stage(f"predicting with {model.name}", f"{found.size:,} examples"):
        predictions = predict(model, params, found.x)
    answers = encoding.answers(predictions)
    if encoding.classes is None:
        cells = answers.reshape(found.size, -1)
        name = encoding.target or "prediction"
        columns = (name,) if cells.shape[1] == 1 else tuple(f"{name}_{i}" for i in range(cells.shape[1]))
        rows = [tuple(f"{value:.9g}" for value in row) for row in cells]
    else:
        if answers.ndim != 1:
            raise ShapeError(f"{file}: predictions have shape {predictions.shape}, expected one class for each example")
        columns = ("predicted", *encoding.classes)
        probabilities = np.asarray(jax.nn.softmax(predictions))
        rows = [(str(word), *(f"{p:.6g}" for p in row)) for word, row in zip(answers, probabilities, strict=True)]
    if encoding.kind == "images":
        folder = Path(file)
        names = [str(one.relative_to(folder) if folder.is_dir() else one.name) for _, one in image_files(folder)]
        columns, rows = ("file", *columns), [(name, *row) for name, row in zip(names, rows, strict=True)]
    return Predictions(columns, rows)
