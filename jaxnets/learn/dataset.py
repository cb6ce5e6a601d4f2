"""Inputs and targets of a training, checked once."""

import dataclasses

import numpy as np

from ..checks import as_numpy, check_counts, checked
from ..errors import DTypeError, ShapeError
from .encoding import Encoding


@checked
@dataclasses.dataclass(frozen=True)
class Dataset:
    """NumPy arrays of inputs x[example, ...] and of targets: labels y[example] of `classes` classes, or numbers
    y[example, ...].

    In sequences x[example, t, ...] every step may have a label, y[example, t].  Raises ShapeError where x and y have
    different numbers of examples or none at all, DTypeError where x is not real or labels are not integers, one per example
    or step, and ValueError where a label is out of range.  `encoding` tells how a file of one's own was read.

    >>> data = jn.data.Dataset([[0.0, 1.0], [2.0, 3.0]], [0, 1], classes=2)
    >>> data.size, data.shape
    (2, (2,))
    """

    x: np.ndarray
    y: np.ndarray
    name: str = "data"
    classes: int | None = None  # None: y holds numbers, not labels
    encoding: Encoding | None = None

    def __post_init__(self):
        for field in ("x", "y"):
            object.__setattr__(self, field, as_numpy("Dataset", field, getattr(self, field)))
        if self.classes is not None:
            check_counts("Dataset", classes=self.classes)
        if self.x.ndim < 2 or self.y.ndim < 1 or len(self.x) != len(self.y) or not len(self.x):
            raise ShapeError(
                f"{self.name}: x has shape {self.x.shape} and y {self.y.shape}, expected (examples, ...) for both, x with "
                "features, and as many examples"
            )
        if self.x.dtype.kind not in "fiub":
            raise DTypeError(f"{self.name}: x has dtype {self.x.dtype}, expected real numbers")
        if self.encoding is not None and self.encoding.shape != self.shape:
            raise ShapeError(
                f"{self.name}: one input has shape {self.shape}, and its encoding is of {self.encoding.shape}; give it "
                "encoding=None where x was made anew"
            )
        if self.classes is None:
            if self.y.dtype.kind not in "fiub":
                raise DTypeError(f"{self.name}: y has dtype {self.y.dtype}, expected real numbers")
        else:
            check_labels(self.name, self.y, self.classes, self.x.shape)

    def __repr__(self):
        targets = "numbers" if self.classes is None else f"labels of {self.classes} classes"
        targets = targets if self.y.size else "no answers"
        return f"Dataset({self.name}: x {list(self.x.shape)}, y {list(self.y.shape)}, {targets})"

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.x.shape[1:]

    @checked
    def take(self, places, name: str | None = None) -> "Dataset":
        """The examples at these indices, as a data set."""
        return dataclasses.replace(self, x=self.x[places], y=self.y[places], name=name or self.name)


def check_labels(name, labels, classes, inputs=None):
    """DTypeError or ValueError unless there is a label for every example, or for every step of inputs of this shape."""
    of_steps = inputs is not None and labels.shape == inputs[:2]
    if not (labels.ndim == 1 or of_steps) or labels.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: labels have shape {labels.shape} and dtype {labels.dtype}, expected one integer per example"
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{name}: labels reach from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
