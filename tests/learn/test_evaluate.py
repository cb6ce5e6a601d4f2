"""Predictions in parts, and how good they are, against NumPy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxnets as jn
from jaxnets import ShapeError
from jaxnets.learn.data import Dataset
from jaxnets.learn.evaluate import Evaluation, evaluate, predict, validation_metrics
from jaxnets.learn.models import Model, dropout, linear, mlp, nearest_neighbour, serial

MODEL = linear(2)


def given(shape):
    """A model whose predictions are its inputs."""

    def apply(params, x, *, key=None, training=False):
        return jnp.asarray(x)

    return Model("given", lambda key, shape: {}, apply, lambda _: shape)


def classified(examples=300, classes=4, scale=2.0):
    """Random logits, labels that they tell something about, and both as a data set for `given`."""
    rng = np.random.default_rng(0)
    logits = scale * rng.normal(size=(examples, classes))
    labels = (logits + 2 * rng.normal(size=logits.shape)).argmax(1)
    return logits, labels, Dataset(logits, labels, "some", classes)


# --- predictions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 5, 11, 12, 1024])
def test_predictions_do_not_depend_on_the_parts(batch_size):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(11, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)
    found = predict(MODEL, {"w": w, "b": b}, x, batch_size)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, x @ w.T + b, rtol=1e-14)


def test_parts_are_of_one_size():
    sizes = []

    def apply(params, x, *, key=None, training=False):
        sizes.append(len(x))  # once for every program that is compiled
        return x

    predict(Model("sizes", lambda key, shape: {}, apply, lambda shape: shape), {}, np.ones((11, 1)), 4)
    assert sizes == [4]


def test_nothing_is_dropped():
    model = serial(dropout(0.5), linear(2))
    x, w = np.ones((4, 3)), np.ones((2, 3))
    np.testing.assert_array_equal(predict(model, [{}, {"w": w}], x), np.full((4, 2), 3.0))


def test_inputs_get_the_dtype_of_the_parameters():
    params = {"w": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32)}
    for dtype in (np.uint8, np.float64, np.bool_):
        found = predict(MODEL, params, np.ones((4, 3), dtype))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.full((4, 2), 3))


@pytest.mark.parametrize("model", [mlp(4, 2), nearest_neighbour(5)], ids=["mlp", "nearest_neighbour"])
def test_of_nothing_nothing_is_predicted(model):
    shape = (3,)
    params = jax.eval_shape(lambda key: model.init(key, shape, jnp.float32), jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), params)
    none, some = predict(model, params, np.ones((0, 3))), predict(model, params, np.ones((2, 3)))
    assert none.shape == (0, *some.shape[1:])
    assert none.dtype == some.dtype


def test_predict_refuses_what_does_not_fit():
    params = {"w": np.ones((2, 3))}
    with pytest.raises(ShapeError, match=r"'x' has shape \(3,\), expected \(examples"):
        predict(MODEL, params, np.ones(3))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        predict(MODEL, params, np.ones((2, 3)), 0)


# --- how good they are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 4, 10])
@pytest.mark.parametrize("normalised", [False, True], ids=["logits", "log-probabilities"])
def test_evaluation_is_what_its_definition_says(bins, normalised):
    logits, labels, data = classified()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if normalised:
        data = Dataset(np.log(probabilities), labels, "some", 4)
    found = evaluate(given((4,)), {}, data, bins=bins)
    best = [row.argmax() for row in logits]
    assert found.examples == 300
    assert found.loss is None
    assert found.accuracy == sum(map(int, np.equal(best, labels))) / 300
    for true in range(4):
        for predicted in range(4):
            assert found.confusion[true, predicted] == sum((labels == true) & (np.array(best) == predicted))
    error = 0.0
    for i in range(bins):
        inside = [j for j in range(300) if i / bins < probabilities[j].max() <= (i + 1) / bins]
        confidence, accuracy, count = found.calibration[i]
        assert count == len(inside)
        if inside:
            assert confidence == pytest.approx(np.mean([probabilities[j].max() for j in inside]))
            assert accuracy == pytest.approx(np.mean([best[j] == labels[j] for j in inside]))
            error += len(inside) / 300 * abs(confidence - accuracy)
    assert found.calibration_error == pytest.approx(error)
    assert found.calibration[:, 2].sum() == found.confusion.sum() == 300
    assert 0.3 < found.accuracy < 0.9  # there is something to tell apart


def test_labels_of_steps_count_like_labels_of_examples():
    logits, labels, data = classified()
    steps = Dataset(logits.reshape(60, 5, 4), labels.reshape(60, 5), "some", 4)
    one, other = evaluate(given((4,)), {}, data, jn.cross_entropy), evaluate(given((5, 4)), {}, steps, jn.cross_entropy)
    assert (other.examples, other.accuracy) == (60, one.accuracy)
    np.testing.assert_array_equal(other.confusion, one.confusion)
    np.testing.assert_allclose(other.loss, one.loss)
    with pytest.raises(ShapeError, match=r"\(60, 4, 4\)"):
        evaluate(given((4,)), {}, Dataset(logits[:60], labels.reshape(60, 5)[:, :4], "some", 4))


def test_confident_predictions_are_in_the_last_bin():
    labels = np.array([0, 1, 1])
    found = evaluate(given((2,)), {}, Dataset([[1e3, 0], [0, 1e3], [800, -800]], labels, "sure", 2))
    np.testing.assert_allclose(found.calibration[-1], [1, 2 / 3, 3])
    np.testing.assert_array_equal(found.calibration[:-1], np.zeros((9, 3)))
    assert found.calibration_error == pytest.approx(1 / 3)


def test_too_much_confidence_does_not_make_up_for_too_little():
    labels = np.array([1, 0])
    found = evaluate(given((2,)), {}, Dataset([[1e3, 0], [0.1, 0]], labels, "two", 2))
    assert found.calibration_error == pytest.approx((1 + 1 - 1 / (1 + np.exp(-0.1))) / 2)


def test_a_class_without_examples_has_its_row():
    found = evaluate(given((3,)), {}, Dataset([[0.0, 1, 0], [0, 0, 5]], np.array([1, 1]), "two", 3))
    np.testing.assert_array_equal(found.confusion, [[0, 0, 0], [0, 1, 1], [0, 0, 0]])


def test_the_loss_is_the_average():
    logits, labels, data = classified(20)
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[range(20), labels])
    assert evaluate(given((4,)), {}, data, jn.cross_entropy).loss == pytest.approx(expected, rel=1e-12)
    found = validation_metrics(given((4,)), {}, data, jn.cross_entropy)
    assert found == {"loss": pytest.approx(expected), "accuracy": (logits.argmax(1) == labels).mean()}


def test_numbers_have_a_loss_and_no_classes():
    rng = np.random.default_rng(0)
    data = Dataset(rng.normal(size=(20, 3)), rng.normal(size=(20, 3)))
    found = evaluate(given((3,)), {}, data, jn.squared_error)
    expected = np.mean((data.x - data.y) ** 2)
    assert found == Evaluation(20, pytest.approx(expected, rel=1e-12))
    assert validation_metrics(given((3,)), {}, data, jn.squared_error) == {"loss": found.loss}
    assert evaluate(given((3,)), {}, data) == Evaluation(20, None)


def test_evaluate_refuses_what_does_not_fit():
    data = classified(5)[-1]
    with pytest.raises(ShapeError, match=r"predictions have shape \(5, 4\), expected \(5, 7\)"):
        evaluate(given((4,)), {}, Dataset(data.x, data.y, "some", 7))
    with pytest.raises(ShapeError, match=r"expected \(5, 4\)"):
        evaluate(nearest_neighbour(2), {"w": np.ones((2, 4))}, data)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        evaluate(given((4,)), {}, data, bins=0)


# --- how it is shown ----------------------------------------------------------------------------------------------


def shown(found):
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(found)
    return capture.get()


def test_people_see_tables():
    data = Dataset([[2.0, 0], [0, 2], [2, 0]], np.array([0, 1, 1]), "three", 2)
    text = shown(evaluate(given((2,)), {}, data, jn.cross_entropy))
    for words in ("examples", "loss", "0.7936", "66.67%", "0.214", "confusion matrix", "true \\ predicted", "calibration"):
        assert words in text
    rows = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["0", "1", "·"] in rows
    assert ["1", "1", "1"] in rows
    assert ["0.881", "0.667", "3"] in rows
    assert text.count("0.000") == 0  # empty bins are left out


def test_people_see_what_there_is():
    assert "accuracy" not in shown(Evaluation(20, 0.5)) and "0.5000" in shown(Evaluation(20, 0.5))
    assert "loss" not in shown(Evaluation(20, None)) and "20" in shown(Evaluation(20, None))
    data = Dataset([[2.0, 0]], np.array([0]), "one", 2)
    assert "loss" not in shown(evaluate(given((2,)), {}, data))


def test_a_prompt_shows_one_line():
    assert repr(Evaluation(20, 0.5)) == "Evaluation(20 examples, loss 0.5)"
    labels = repr(Evaluation(3, None, 2 / 3, np.eye(2), np.zeros((1, 3)), 0.25))
    assert labels == "Evaluation(3 examples, accuracy 0.6667, calibration error 0.25)"


def test_programs_get_json():
    _, _, data = classified(20)
    found = evaluate(given((4,)), {}, data, jn.cross_entropy)
    read = json.loads(json.dumps(found.to_json()))
    assert list(read) == ["examples", "loss", "accuracy", "confusion", "calibration", "calibration_error"]
    assert read["confusion"] == found.confusion.tolist()
    assert (read["loss"], read["accuracy"]) == (found.loss, found.accuracy)
    assert Evaluation(20, None).to_json() == {"examples": 20}
