"""The uses: each runs and says what its numbers say, and the parts that they are measured with."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

import jaxnets as jn
from jaxnets.course.experiments.panels import ImagesPanel, draw_panels
from jaxnets.course.experiments.words import number_text
from jaxnets.course.uses import USES, calibration, influence, kernels

from ..sweeps import swept


@pytest.mark.parametrize("name", swept(USES, ["influence"]))
def test_a_use_gives_numbers_a_picture_and_a_sentence(name, tmp_path):
    found = USES.measure(name, quick=True, output=tmp_path)
    for row in found.rows.values():
        assert [len(values) for values in row] == [2] * len(found.columns) and np.isfinite(row).all()
    for claim in found.claims:
        for values in found.column(claim.column, claim.among).values():
            assert number_text(np.median(values)) in found.sentence
    assert json.loads((tmp_path / f"{name}.json").read_text()) == found.to_json()
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in found.figure().axes] == [panel.title for panel in found.panels]
    check = {"calibration": check_calibration, "influence": check_influence, "ntk": check_ntk, "saliency": check_saliency}
    check[name](found)


def check_calibration(found):
    turned = found.column("turned: NLL")
    assert all(np.all(turned["whole GGN"] < turned[name]) for name in ("network", "temperature"))
    assert np.all(found.column("NLL")["temperature"] < turned["temperature"])


def check_influence(found):
    early, late = (found.column(name) for name in found.columns[::2])
    assert all(np.all(own["influence"] > 30 + own["random order"]) for own in (early, late))


def check_ntk(found):
    for column in found.columns[2:]:
        narrow, wide = found.column(column).values()
        assert np.all(wide < narrow)
    assert all(np.all(own > 70) for own in found.column("network (%)").values())


def check_saliency(found):
    accuracy = found.column("mean accuracy (%)")
    assert np.all(accuracy["integrated gradients"] < accuracy["random pixels"])


def test_digits_are_turned_about_their_centre():
    x = np.random.default_rng(0).random((3, 64))
    images = x.reshape(3, 8, 8)
    np.testing.assert_allclose(calibration.turned(x, 0), x, atol=1e-6)
    np.testing.assert_allclose(calibration.turned(x, 90).reshape(3, 8, 8), np.rot90(images, axes=(1, 2)), atol=1e-6)
    once = calibration.turned(calibration.turned(x, 30), -30)  # the middle stays, but for what interpolation smooths
    inner = (slice(None), slice(2, 6), slice(2, 6))
    assert np.corrcoef(once.reshape(3, 8, 8)[inner].ravel(), images[inner].ravel())[0, 1] > 0.8


def test_scores_of_known_predictions():
    """Sure and right upright; at 90° a little less sure of the class 0, which is right for half."""
    labels = np.array([0, 1, 0, 1])
    upright, sideways = log_softmax(20.0 * np.eye(2), 1)[labels], log_softmax(10.0 * np.eye(2), 1)[np.zeros(4, int)]
    nll, error, turned_nll, turned_error, of_errors, of_angle = calibration._scores(np.stack([upright, sideways]), labels)
    assert nll < 1e-8 and error < 1e-6 and turned_nll == pytest.approx(5, rel=1e-4)
    assert turned_error == pytest.approx(50, rel=1e-3) and (of_errors, of_angle) == (50, 100)


def test_as_many_labels_are_wrong_as_told():
    training, _ = jn.data.split(jn.data.digits(), 0.25)
    spoilt, wrong = influence._with_wrong_labels(training, 0)
    assert wrong.sum() == round(0.05 * training.size)
    assert np.all((spoilt.y != training.y) == wrong) and spoilt.y.min() >= 0 and spoilt.y.max() == 9


def test_regression_is_descent_in_small_steps():
    rng = np.random.default_rng(0)
    a, b, y = rng.normal(size=(6, 9)), rng.normal(size=(4, 9)), rng.normal(size=(6, 2))
    kernel, at, largest = a @ a.T, b @ a.T, np.linalg.eigvalsh(a @ a.T)[-1]
    weights, steps = np.zeros((9, 2)), 20_000
    for _ in range(steps):  # for a time of 3
        weights -= 3 / steps / largest * a.T @ (a @ weights - y)
    np.testing.assert_allclose(kernels.regression(kernel, at, y, 3.0), b @ weights, atol=1e-3)
    np.testing.assert_allclose(kernels.regression(kernel, at, y, 1e9), at @ np.linalg.solve(kernel, y), rtol=1e-6)


def test_the_network_that_is_linear_is_its_kernel():
    """Without a hidden layer the network and regression with its kernel are one, and the kernel does not move."""
    rng = np.random.default_rng(0)
    model = jn.models.linear(10)
    x, at = (rng.normal(size=(n, 5)).astype(np.float32) for n in (20, 7))
    y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 20)] - 0.1
    params = model.init(jax.random.key(0), (5,), jnp.float32)
    outputs, first, first_at, last, last_at = map(np.asarray, kernels._trained_with_kernels(model, 2000)(params, x, y, at))
    np.testing.assert_allclose(first, x @ x.T + 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first_at, at @ x.T + 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(first, last)
    whole = np.concatenate([x, np.ones((20, 1))], 1)
    expected = np.concatenate([at, np.ones((7, 1))], 1) @ np.linalg.lstsq(whole, y)[0]
    np.testing.assert_allclose(outputs, expected, atol=1e-3)
    np.testing.assert_allclose(kernels.regression(first, first_at, y, 20_000.0), expected, atol=1e-3)


def test_images_stand_in_columns_each_in_its_own_scale():
    images = {"digit": np.array([[[0.0, 2.0]], [[8.0, 0.0]]]), "map": np.array([[[-1.0, 0.0]], [[0.0, 4.0]]])}
    (axes,) = draw_panels([ImagesPanel("maps", images)], {"number": {"one": np.ones(2)}}, "Which?", "small").axes
    pixels = np.asarray(axes.get_images()[0].get_array())
    assert pixels.shape == (6, 8, 3) and [label.get_text() for label in axes.get_xticklabels()] == ["digit", "map"]
    assert np.all(pixels[1, 2] == 0) and np.all(pixels[4, 1] == 0) and np.all(pixels[1, 1] == 1)  # black for the largest
    assert pixels[1, 5, 2] > 2 * pixels[1, 5, 0] and pixels[4, 6, 0] > 2 * pixels[4, 6, 2]  # blue below zero, red above


def test_an_unknown_use_names_the_known_ones():
    with pytest.raises(ValueError, match="uses: unknown use 'x'; known: calibration, influence, ntk, saliency"):
        USES.measure("x")
