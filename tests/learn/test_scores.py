"""Calibration and the area under the ROC curve, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

RNG = np.random.default_rng(0)


def calibration_error(logits, labels, bins):
    """By its definition, one bin after the other."""
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure, right = p.max(1), p.argmax(1) == labels
    error = 0.0
    for i in range(bins):
        inside = (sure >= i / bins) & ((sure < (i + 1) / bins) | (i == bins - 1))
        if inside.any():
            error += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    return error


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_error_of_random_predictions(bins):
    logits, labels = RNG.normal(size=(300, 4)) * 3, RNG.integers(0, 4, 300)
    found = jn.expected_calibration_error(logits, labels, bins=bins)
    assert found == pytest.approx(calibration_error(logits, labels, bins), abs=1e-12) and found > 0.1
    shifted = jnp.asarray(logits) + RNG.normal(size=(300, 1))  # the softmax forgets it
    assert jn.expected_calibration_error(shifted, labels, bins=bins) == pytest.approx(found, abs=1e-5)


def test_known_calibration_errors():
    sure = np.array([[0.0, -np.inf]] * 4)  # all of the first class with probability 1
    assert jn.expected_calibration_error(sure, [0, 0, 0, 0]) == 0
    assert jn.expected_calibration_error(sure, [1, 1, 1, 1]) == 1
    assert jn.expected_calibration_error(sure, [0, 1, 1, 1]) == 0.75
    coin = np.zeros((4, 2))
    assert jn.expected_calibration_error(coin, [0, 0, 1, 1]) == 0


def test_evaluate_has_the_same_error():
    model = jn.models.plain("relu")
    data = jn.data.Dataset(np.abs(RNG.normal(size=(50, 3))), RNG.integers(0, 3, 50), "numbers", 3)
    params = model.init(jax.random.key(0), (3,))
    found = jn.evaluate(model, params, data, bins=15).calibration_error
    assert found == pytest.approx(calibration_error(data.x, data.y, 15), abs=1e-6)


@pytest.mark.parametrize(
    "values", [RNG.normal(size=60), RNG.integers(0, 4, 60), np.zeros(60)], ids=["apart", "ties", "alike"]
)
def test_auroc_counts_pairs(values):
    positive = RNG.random(60) < 0.3
    pairs = values[positive][:, None] - values[~positive]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert jn.auroc(values, positive) == pytest.approx(expected, abs=1e-12)
    assert jn.auroc(-values, positive) == pytest.approx(1 - expected, abs=1e-12)
    assert jn.auroc(jnp.asarray(values, jnp.float32), jnp.asarray(positive)) == pytest.approx(expected, abs=1e-12)


def test_known_areas():
    assert jn.auroc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert jn.auroc([1, 2, 3, 4], [True, True, False, False]) == 0
    assert jn.auroc([1, 1, 1], [True, False, True]) == 0.5
    assert jn.auroc([-np.inf, 0, np.inf], [False, True, True]) == 1


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: jn.auroc([1, 2], [True]), jn.ShapeError, r"auroc: positive has shape \(1,\), expected \(2,\)"),
        (lambda: jn.auroc([1, 2], [0, 1]), jn.DTypeError, "auroc: positive must hold truth values"),
        (lambda: jn.auroc([1, 2], [True, True]), ValueError, "auroc: positive must hold True and False, got 2 True of 2"),
        (lambda: jn.auroc([1, np.nan], [True, False]), ValueError, "auroc: scores must not be NaN"),
        (lambda: jn.expected_calibration_error(np.ones((2, 2)), [0]), jn.ShapeError, r"error: labels has shape \(1,\)"),
        (lambda: jn.expected_calibration_error(np.ones(2), [0, 1]), jn.ShapeError, "error: predictions has shape"),
        (lambda: jn.expected_calibration_error(np.ones((2, 2)), [0.0, 1.0]), jn.DTypeError, "labels must be integers"),
        (
            lambda: jn.expected_calibration_error(np.ones((1, 2)), [2]),
            ValueError,
            "argument 'labels' has 2, expected 0 to 1",
        ),
        (lambda: jn.expected_calibration_error(np.ones((0, 2)), np.zeros(0, int)), ValueError, "must not be empty"),
        (lambda: jn.expected_calibration_error(np.ones((1, 2)), [0], bins=0), ValueError, "bins must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
