"""How good the classifiers of a task are, and a table of them."""

import dataclasses
from collections.abc import Mapping

import jax
from rich.table import Table

from ...learn.evaluate import Evaluation, evaluate
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
