"""The predictions of a trained model, and how good they are."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ..checks import as_numpy, check_integer, checked, show_value
from ..errors import ShapeError
from .data import Dataset
from .models import Model
from .pieces import whole
from .scores import MAX_BINS, calibration_error, confidence_of, reliability


@checked
def predict(model: Model, params, x, batch_size: int = 1024) -> np.ndarray:
    """The predictions [example, ...] for inputs [example, ...], computed `batch_size` at a time and without dropout.

    Inputs are cast to the dtype of the parameters.  Raises ShapeError where the axis of examples is missing.

    >>> model = jn.models.mlp(3)
    >>> params = model.init(jax.random.key(0), (2,))
    >>> jn.predict(model, params, jnp.ones((50, 2))).shape
    (50, 3)
    """
    return _predict("predict", model, params, x, batch_size)


def _predict(name, model, params, x, batch_size=1024):
    x = as_numpy(name, "x", x)
    if x.ndim < 2:
        raise ShapeError(f"{name}: argument 'x' has shape {x.shape}, expected (examples, ...)")
    check_integer(name, "batch_size", batch_size, 1)
    with parameters_explained(name, model, params, x.shape[1:]):
        return _batched_predictions(model, params, x, batch_size)


def _batched_predictions(model, params, x, batch_size):
    parts = [whole(_predictions(model, params, part))[:count] for part, count in _padded_parts(x, batch_size)]
    if not parts:
        one = jax.ShapeDtypeStruct((1, *x.shape[1:]), floating_dtype(params))
        found = jax.eval_shape(model.apply, params, one)
        return np.zeros((0, *found.shape[1:]), found.dtype)
    return np.concatenate(parts)


@contextlib.contextmanager
def parameters_explained(name: str, model: Model, params, shape):
    """ShapeError in place of an error inside if the parameters are another tree than the model makes for such inputs.

    A model may work with other trees, so only an error tells that this one does not fit.
    """
    try:
        yield
    except Exception as error:
        expected: Any = jax.tree.structure(jax.eval_shape(lambda: model.init(jax.random.key(0), tuple(shape))))
        found: Any = jax.tree.structure(params)
        arrays = all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(params))
        if found == expected and arrays:
            raise
        got = show_value(params) if not arrays or found.num_leaves < 2 else found
        raise ShapeError(
            f"{name}: params must be a tree {expected} of arrays, as {model}.init makes it, got {got}"
        ) from error


@functools.partial(jax.jit, static_argnums=0)
def _predictions(model, params, x):
    return model.apply(params, x.astype(floating_dtype(params)))


def floating_dtype(params):
    """The dtype of the floating-point parameters, or JAX's default if there are none."""
    found = [leaf.dtype for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.result_type(*found) if found else jnp.result_type(float)


def _padded_parts(x, batch_size):
    """Parts of equal size, each with the number of its own examples: the last part is filled up with copies of its first.

    Since all parts have one size, the model is compiled once.
    """
    size = math.ceil(len(x) / math.ceil(len(x) / batch_size)) if len(x) else 1
    for i in range(0, len(x), size):
        part = x[i : i + size]
        yield np.concatenate([part, np.repeat(part[:1], size - len(part), 0)]), len(part)


MAX_SHOWN_CLASSES = 30  # of a confusion matrix; a larger one is in `confusion` alone


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good predictions are.  Where targets are numbers and not labels, all but `examples` and `loss` are None.

    `confusion[true, predicted]` counts examples.  The confidence of a prediction is its largest probability;
    `calibration[bin]` is (mean confidence, accuracy, number) of the examples whose confidence lies in the bin, and
    `calibration_error` is the mean of |confidence − accuracy| over the examples (Guo et al. 2017, arXiv:1706.04599).  Where
    every step of a sequence has a label, these count steps.  `names` are those of the classes, where they are known.
    """

    examples: int
    loss: float | None
    accuracy: float | None = None
    confusion: np.ndarray | None = None
    calibration: np.ndarray | None = None
    calibration_error: float | None = None
    names: tuple[str, ...] | None = None

    def __repr__(self):
        scores = {"loss": self.loss, "accuracy": self.accuracy, "calibration error": self.calibration_error}
        known = [f"{name} {value:.4g}" for name, value in scores.items() if value is not None]
        return f"Evaluation({', '.join([f'{self.examples} examples', *known])})"

    def to_json(self) -> dict:
        found = dataclasses.asdict(self)
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items() if v is not None}

    def __rich__(self):
        summary = Table("examples", *[name for name in ("loss", "accuracy", "calibration error") if self._has(name)])
        values = [f"{self.loss:.4f}" if self.loss is not None else None]
        values += [f"{self.accuracy:.2%}", f"{self.calibration_error:.3f}"] if self.accuracy is not None else []
        summary.add_row(str(self.examples), *[v for v in values if v is not None])
        if self.confusion is None or self.calibration is None:
            return summary
        names = self.names or tuple(map(str, range(len(self.confusion))))
        counts = Table("true \\ predicted", *map(escape, names), title="confusion matrix")
        for name, row in zip(names, self.confusion, strict=True):
            counts.add_row(escape(name), *(str(n) if n else "·" for n in row))
        shown = [summary, counts] if len(self.confusion) <= MAX_SHOWN_CLASSES else [summary]
        bins = Table("confidence", "accuracy", "examples", title="calibration")
        for mean, accuracy, count in self.calibration[self.calibration[:, 2] > 0]:
            bins.add_row(f"{mean:.3f}", f"{accuracy:.3f}", str(int(count)))
        return Group(*shown, bins)

    def _has(self, name) -> bool:
        return getattr(self, name.replace(" ", "_")) is not None


@checked
def evaluate(model: Model, params, data: Dataset, loss: Callable | None = None, bins: int = 10) -> Evaluation:
    """The average loss, the accuracy, the confusion matrix and the calibration of a model on a data set.

    `loss(predictions, targets)` is per example.  Predictions [example, class], or [example, t, class] where every step has a
    label, may be logits or log-probabilities: their softmax gives the probabilities of both.  Raises ShapeError where the
    predictions do not fit the classes.

    >>> model, data = jn.models.mlp(3), jn.data.spiral(points=50)
    >>> found = jn.evaluate(model, model.init(jax.random.key(0), data.shape), data, jn.nll)
    >>> found.examples, found.confusion.shape
    (150, (3, 3))
    """
    check_integer("evaluate", "bins", bins, 1, MAX_BINS)
    predictions = _predict("evaluate", model, params, data.x)
    average = None if loss is None else float(np.mean(np.asarray(loss(predictions, data.y), np.float64)))
    if data.classes is None:
        return Evaluation(data.size, average)
    if predictions.shape != (*data.y.shape, data.classes):
        raise ShapeError(f"evaluate: predictions have shape {predictions.shape}, expected {(*data.y.shape, data.classes)}")
    predictions, labels = predictions.reshape(-1, data.classes), data.y.reshape(-1)
    best = predictions.argmax(1)
    right = best == labels
    confusion = np.zeros((data.classes, data.classes), np.int64)
    np.add.at(confusion, (labels, best), 1)
    calibration = reliability(confidence_of(predictions), right, bins)
    error = calibration_error(calibration)
    names = None if data.encoding is None else data.encoding.classes
    return Evaluation(data.size, average, float(right.mean()), confusion, calibration, error, names)


def validation_metrics(model: Model, params, data: Dataset, loss) -> dict:
    """The average loss, and the accuracy where there are labels: what training reports of a validation set."""
    found = evaluate(model, params, data, loss)
    return {"loss": found.loss} | ({} if found.accuracy is None else {"accuracy": found.accuracy})
