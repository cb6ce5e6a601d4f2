"""How good the networks of a task are: classifiers with a table of them, and networks that predict numbers."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from rich.table import Table

from ...errors import ShapeError
from ...learn.data import Dataset
from ...learn.encoding import Encoding
from ...learn.evaluate import Evaluation, evaluate, predict
from ...learn.models import Model
from ...learn.train import Result
from .run import Run, text_table


@dataclasses.dataclass(frozen=True)
class Scores:
    """How good a classifier is on the training set and on the held-out set."""

    model: Model
    result: Result
    training: Evaluation
    held_out: Evaluation

    @classmethod
    def of(cls, run: Run, model: Model, result: Result) -> "Scores":
        loss = jax.jit(run.recipe.loss)
        found = (evaluate(model, result.params, part, loss) for part in (run.training, run.held_out))
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


def score_table(run: Run, scores: Mapping[str, Scores]) -> Table:
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
    return text_table(f"{run.training.size:,} examples to learn from, {run.held_out.size:,} held out", columns, rows)


@dataclasses.dataclass(frozen=True)
class NumberScores:
    """How good predictions of numbers are, in the units of the target.

    `rmse` is the root of the mean squared error, and `r2` the share of the variance of the targets that the predictions
    explain, or None where the targets are all the same.
    """

    examples: int
    rmse: float
    r2: float | None

    @classmethod
    def of(cls, model: Model, params, dataset: Dataset) -> "NumberScores":
        """The scores of a model on a data set.  Raises ShapeError where the predictions do not fit the targets."""
        encoding = Encoding.of_dataset(dataset)
        predictions, targets = map(encoding.answers, (predict(model, params, dataset.x), dataset.y))
        if predictions.shape != targets.shape:
            raise ShapeError(f"evaluate: predictions have shape {predictions.shape}, expected {targets.shape}")
        errors, spread = np.square(predictions - targets).mean(), np.square(targets - targets.mean(0)).mean()
        return cls(dataset.size, float(np.sqrt(errors)), float(1 - errors / spread) if spread > 0 else None)

    @property
    def explained(self) -> str:
        return "–" if self.r2 is None else f"{self.r2:.4f}"

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    def __rich__(self):
        return text_table("", ("examples", "RMSE", "R²"), [(f"{self.examples:,}", f"{self.rmse:.4g}", self.explained)])
