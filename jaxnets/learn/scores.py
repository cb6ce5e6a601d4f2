"""How far the confidence of predictions can be believed: calibration, and how well a score tells two kinds apart."""

import numpy as np

from ..checks import as_numbers, as_numpy, check_filled, check_integer, check_range, check_shape, checked
from ..errors import DTypeError

MAX_BINS = 1_000_000


@checked
def expected_calibration_error(predictions, labels, *, bins: int = 15) -> float:
    """The mean of |confidence − accuracy| over bins of confidence, weighted by their examples (Guo et al. 2017).

    Predictions `[example, class]` are logits or log-probabilities, whose softmax gives the probabilities of both; labels are
    integers `[example]`.  The confidence is the largest probability, and the bins are equally wide.  Raises ShapeError or
    DTypeError for arrays that do not fit, and ValueError if there is no example.

    >>> round(jn.expected_calibration_error(jnp.log(jnp.array([[0.8, 0.2], [0.7, 0.3]])), jnp.array([0, 1]), bins=1), 3)
    0.25
    """
    check_integer("expected_calibration_error", "bins", bins, 1, MAX_BINS)
    scores = as_numbers("expected_calibration_error", "predictions", predictions, "examples", "classes")
    labels = as_numpy("expected_calibration_error", "labels", labels)
    check_shape("expected_calibration_error", "labels", labels, len(scores))
    check_filled("expected_calibration_error", "predictions", scores)
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"expected_calibration_error: labels must be integers, got {labels.dtype}")
    check_range("expected_calibration_error", "labels", labels, scores.shape[1])
    return calibration_error(reliability(confidence_of(scores), scores.argmax(1) == labels, bins))


def confidence_of(predictions) -> np.ndarray:
    """The largest probability of every row of logits or log-probabilities."""
    p = np.exp(predictions - predictions.max(1, keepdims=True), dtype=np.float64)
    return np.nan_to_num(1 / p.sum(1))  # the largest entry of a row is exp(0); a NaN has no confidence


def reliability(confidence, right, bins: int) -> np.ndarray:
    """(mean confidence, accuracy, number of examples) of every bin."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, values, bins) for values in (confidence, right)]
    return np.stack([*(s / np.maximum(count, 1) for s in sums), count], 1)


def calibration_error(bins: np.ndarray) -> float:
    """The expected calibration error of the bins that `reliability` returns."""
    confidence, accuracy, count = bins.T
    return float(np.sum(count * np.abs(confidence - accuracy)) / np.sum(count))


@checked
def auroc(scores, positive) -> float:
    """The area under the ROC curve: how often a positive example has a larger score than a negative one; ties count half.

    `scores` are numbers and `positive` truth values, `[example]` both.  It is 1 for scores that tell the two kinds apart
    and ½ for those that say nothing.  Raises ShapeError or DTypeError for arrays that do not fit, and ValueError if one of
    the kinds is missing or a score is NaN.

    >>> jn.auroc([0.1, 0.4, 0.4, 0.8], [False, False, True, True])
    0.875
    """
    values = as_numbers("auroc", "scores", scores, "examples")
    kinds = as_numpy("auroc", "positive", positive)
    check_shape("auroc", "positive", kinds, len(values))
    if kinds.dtype != bool:
        raise DTypeError(f"auroc: positive must hold truth values, got an array of {kinds.dtype}")
    if kinds.all() or not kinds.any():
        raise ValueError(f"auroc: positive must hold True and False, got {kinds.sum()} True of {len(kinds)}")
    if np.isnan(values).any():
        raise ValueError("auroc: scores must not be NaN")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # from 1, and of equal scores the mean
    ours, theirs = int(kinds.sum()), int((~kinds).sum())
    return float((rank[kinds].sum() - ours * (ours + 1) / 2) / (ours * theirs))
