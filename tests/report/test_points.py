"""What the live training learns from: the points against their formulas, and a training on each kind."""

import numpy as np
import pytest

from jaxnets import data
from jaxnets.errors import SpecError
from jaxnets.learn.presets import make_problem
from jaxnets.report.fields import DATA_FIELDS, MAX_POINTS
from jaxnets.report.points import DATA, DRAWS, FUNCTIONS, KINDS, page_sets, training_data
from jaxnets.report.training import CURVE, OPTIMIZERS, RATES, Training


def test_sets_are_those_of_the_data_module_with_four_decimals():
    for kind, made in {"spiral": data.spiral(60, seed=3), "circles": data.circles(90, seed=3)}.items():
        found, (known, seed) = training_data(kind, draw=3), (page_sets()[kind], 3)
        np.testing.assert_allclose(found.x, made.x, rtol=0, atol=5e-5)
        np.testing.assert_array_equal(found.y, made.y)
        np.testing.assert_array_equal(np.reshape(known["draws"][seed], (-1, 2)) / 1e4, found.x)
        assert [int(label) for label in known["labels"]] == made.y.tolist() and known["name"] == made.name
    assert {kind: len(made["draws"]) for kind, made in page_sets().items()} == dict.fromkeys(DATA, DRAWS)
    assert not np.array_equal(training_data("xor").x, training_data("xor", draw=1).x)


def test_functions_are_those_of_their_names():
    for name, values in {"sin": [0, -1, 0], "cos": [-1, 0, 1], "abs": [1, 0.5, 0], "x³": [-1, -0.125, 0]}.items():
        data = training_data("function", name)
        np.testing.assert_allclose(data.y[[0, 10, 20], 0], values, atol=1e-12)
    assert training_data("function", "step").y[[19, 20], 0].tolist() == [0, 1]


def test_requests_may_hold_what_there_is():
    assert DATA_FIELDS["data"][0] == " or ".join(KINDS) and DATA_FIELDS["function"][0] == " or ".join(FUNCTIONS)
    fits = DATA_FIELDS["points"][1]
    assert fits([[0.5, -1, 5]]) and fits([[0, 0, 1]] * MAX_POINTS) and not fits([[0, 0, 1]] * (MAX_POINTS + 1))
    for bad in ([0, 0], [0, 0, 6], [0, 0, 0], [0, 0, 1.0], [float("nan"), 0, 1], [1e7, 0, 1], ["0", 0, 1], [True, 0, 1]):
        assert not fits([bad]), bad
    assert not fits("points")
    draws, rates = DATA_FIELDS["draw"], DATA_FIELDS["rate"]
    assert draws[0] == f"a whole number from 0 to {DRAWS - 1}" and draws[1](DRAWS - 1) and not draws[1](DRAWS)
    assert DATA_FIELDS["optimizer"][0] == " or ".join(OPTIMIZERS) and set(RATES) == set(OPTIMIZERS)
    assert rates[1](0.5) and rates[1](100) and not any(map(rates[1], (0, -1, 101, float("nan"), "1", True)))


def test_a_network_of_one_number_learns_a_function():
    training = Training(make_problem("linear(8) tanh linear(1)", (1,), 1), training_data("function", "abs"))
    frames = [training.frame(), training.step(60)]
    assert frames[1]["loss"] < frames[0]["loss"] / 2 and len(frames[0]["curve"]) == CURVE
    predicted = np.asarray(training.model.apply(training.state[1], training.x))
    np.testing.assert_allclose(frames[1]["loss"], np.mean((predicted - training.points.y) ** 2), rtol=1e-4)
    with pytest.raises(SpecError, match=r"maps \[2\] to \[1\]; to learn the function abs it must map \[1\] to \[1\]"):
        Training(make_problem("linear(1)", (2,), 1), training_data("function", "abs"))


def test_a_network_learns_points_of_ones_own():
    corners = [(-3, -1, 1), (1, 1, 1), (-1, 1, 4), (1, -1, 4)]
    training = Training(make_problem("linear(12) tanh linear(5) log_softmax", (2,), 1), training_data("points", "", corners))
    frame = training.step(60)
    assert frame["accuracy"] == 1 and {(ord(c) - 48) // 8 for c in frame["regions"]} >= {0, 3}
    west, east, south, north = training.extent
    assert west < -3 and east > 1 and east - west == pytest.approx(north - south)
    with pytest.raises(SpecError, match=r"to learn points of one's own it must map \[2\] to \[4\]"):
        Training(make_problem("linear(3) log_softmax", (2,), 1), training_data("points", "", corners))
    with pytest.raises(ValueError, match="points: draw or load at least 2"):
        training_data("points", "", corners[:1])
