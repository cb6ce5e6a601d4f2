"""A page without a server trains by itself: its data and frames are Python's, and a whole lesson can be held on it."""

import re

import numpy as np
import pytest

from jaxnets.learn.presets import make_problem
from jaxnets.report.engine import engine_data
from jaxnets.report.points import FUNCTIONS, KINDS, training_data
from jaxnets.report.training import Training
from jaxnets.show.diagram import diagram_of
from jaxnets.show.local_jacobians import read_local_jacobians, run_on_shapes

from .tabs import NARROW, WIDE, wait_for_step

ANSWERS = """([question, steps]) => {
    const { replay } = trainByItself({ ...question, action: "reset" });
    const { frame } = trainByItself({ ...question, action: "step", steps });
    return { replay, frame, weights: Object.values(ownTraining.network.weights).map((rows) => [...rows]) };
}"""
LEARNED = """(question) => {
    const data = learnedData(question);
    return { ...data, x: data.x.map((point) => [...point]), y: data.y.map((y) => (y.length ? [...y] : y)) };
}"""


def engine_of(problem):
    found = {}

    def read(params, x):
        found["diagram"] = diagram_of(read_local_jacobians(problem.loss, (params, x))[0]).to_json()

    run_on_shapes(read, problem.params, problem.x)
    return {"diagram": found["diagram"], "engine": engine_data(problem, found["diagram"])}


def check_frame(mine, theirs):
    assert mine["step"] == theirs["step"]
    for name in ("loss", "accuracy", "norms", "curve"):
        if name in theirs:
            rtol = 6e-5 if name == "curve" else 1e-9  # a curve has five digits
            np.testing.assert_allclose(mine[name], theirs[name], rtol=rtol, atol=1e-9, err_msg=name)
    if "regions" in theirs:
        pairs = [(ord(a), ord(b)) for a, b in zip(mine["regions"], theirs["regions"], strict=True)]
        assert sum(a != b for a, b in pairs) <= 2  # of 1600, where a level begins


def test_modules_and_pass_at_the_first_weights_are_those_of_python(show, computing):
    tab = show(computing)
    tab.evaluate("made = { modules: state.data.modules, backward: state.data.backward }")
    found = tab.evaluate("atWeights(firstWeights(), state.data.engine)")
    for mine, theirs in zip(found["modules"], computing["modules"], strict=True):
        for j, known in zip(mine["jacobians"], theirs["jacobians"], strict=True):
            np.testing.assert_allclose(j["values"], known["values"], rtol=1e-5, atol=1e-12, err_msg=theirs["name"])
    mine, theirs = found["backward"], computing["backward"]
    for a, b in zip(mine["rows"], theirs["rows"], strict=True):
        np.testing.assert_allclose(a, b[: len(a)], rtol=1e-5, atol=1e-12)
    for module, (parts, known) in enumerate(zip(mine["parts"], theirs["parts"], strict=True)):
        for a, b in zip(parts, known, strict=True):
            np.testing.assert_allclose(a, b[: len(a)], rtol=1e-5, atol=1e-12, err_msg=f"module {module}")
    assert mine["gradients"].keys() == theirs["gradients"].keys()
    for label, known in theirs["gradients"].items():
        np.testing.assert_allclose(mine["gradients"][label]["values"], known["values"], rtol=1e-5, atol=1e-12, err_msg=label)


def test_what_is_learned_is_what_python_learns(show, computing):
    tab = show(computing)
    own = [[0.5, -0.25, 2], [-1, 0.125, 1], [0, 1, 5]]
    questions = [{"data": kind, "draw": draw} for kind in KINDS[:4] for draw in range(5)]
    questions += [{"data": "function", "function": name} for name in FUNCTIONS] + [{"data": "points", "points": own}, {}]
    for question in questions:
        mine = tab.evaluate(LEARNED, question)
        known = training_data(**{"kind" if name == "data" else name: value for name, value in question.items()})
        assert (mine["name"], mine["classes"]) == (known.name, known.classes)
        np.testing.assert_allclose(mine["x"], known.x, rtol=1e-15, atol=1e-15, err_msg=str(question))
        np.testing.assert_allclose(mine["y"], known.y, rtol=1e-15, atol=2e-15, err_msg=str(question))


def test_frames_are_those_of_python(show, asked, computing):
    tab = show(computing)
    training = Training(asked, training_data("moons", draw=3), "momentum", 0.1)
    question = {"data": "moons", "draw": 3, "optimizer": "momentum", "rate": 0.1}
    mine, theirs = tab.evaluate(ANSWERS, [question, 7]), training.replay()
    for name in ("model", "about", "y", "size", "classes", "layers"):
        assert mine["replay"][name] == theirs[name], name
    np.testing.assert_allclose(mine["replay"]["extent"], theirs["extent"], atol=1e-4)
    np.testing.assert_allclose(mine["replay"]["x"], theirs["x"], rtol=1e-4)
    check_frame(mine["replay"]["frames"][0], theirs["frames"][0])
    check_frame(mine["frame"], training.step(7))


def test_a_function_is_learned_as_python_learns_it(show, computing):
    problem = make_problem("linear(8) tanh linear(1)", (1,), 2, dtype="float64")
    training = Training(problem, training_data("function", "step"))  # an odd one has gradients that are 0 but for rounding
    tab = show({**computing, **engine_of(problem), "replay": {**training.replay(), "data": "function"}})
    assert tab.input_value("[name='data']") == "function" and "data=" not in tab.url
    mine = tab.evaluate(ANSWERS, [{"data": "function", "function": "step"}, 5])
    assert mine["replay"]["classes"] is None and len(mine["replay"]["frames"][0]["curve"]) == 121
    check_frame(mine["frame"], training.step(5))


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        ("linear(300) linear(7)", (8,), "the model has 4,807 weights, and at most 2,000 are computed here"),
        ("linear(3) mish", (8,), "the module mish is none of those that are computed here"),
        ("conv(2) relu", (1, 3, 3), "the module conv is none of those that are computed here"),
        ("softmax", (3, 3), "the module softmax is none of those that are computed here"),
    ],
)
def test_a_page_says_why_it_does_not_compute(show, computing, model, shape, reason):
    found = engine_of(make_problem(model, shape, 2))["engine"]
    assert found == {"reason": reason}
    if "weights" in reason:
        tab = show({**computing, "engine": found})
        assert f"cannot train the network by itself: {reason}" in tab.inner_text("#training")
        assert tab.locator("#training select, [data-live]").count() == 0 and tab.locator(".map .dot").count() == 180
        tab.click("#language")
        assert "le modèle a 4,807 poids" in tab.inner_text("#training")


def test_a_whole_lesson_on_one_file(show, computing):
    """A link is opened, points are drawn and learned, the pass goes backwards, a picture is saved, and all comes again."""
    tab = show(computing)
    tab.goto(f"{tab.url}?data=xor&draw=2&optimizer=sgd&rate=0.5&train=30&step=7")
    wait_for_step(tab, 7)
    assert [frame["step"] for frame in tab.evaluate("state.data.replay.frames")] == [0, 7, 17, 27, 30]
    assert tab.input_value("[name='optimizer']") == "sgd" and tab.input_value("[name='draw']") == "2"
    tab.select_option("[name='data']", "circles")
    wait_for_step(tab, 0)
    assert tab.locator("#training .region").count() > 0 and tab.locator(".map .dot").count() == 180

    tab.select_option("[name='data']", "points")
    tab.click("[data-live='1']")
    tab.get_by_role("alert").filter(has_text="draw or load at least 2").wait_for()
    pad = tab.locator(".pad")
    for label, places in {"1": [(60, 60), (240, 240)], "2": [(60, 240), (240, 60)]}.items():
        tab.focus(".pad")
        tab.keyboard.press(label)
        for x, y in places:
            pad.click(position={"x": x, "y": y})
    tab.select_option("[name='optimizer']", "adam")
    tab.fill("[name='rate']", "0.05")
    tab.keyboard.press("Tab")
    tab.click("[data-live='run']")
    tab.locator("#training output", has_text=re.compile(r"step [1-9]\d\d,")).wait_for()
    assert tab.inner_text("[data-live='run']") == "Stop" and tab.locator("[data-live='1']").is_disabled()
    tab.click("[data-live='run']")
    tab.get_by_role("button", name="Train", exact=True).wait_for()
    frames = tab.evaluate("state.data.replay.frames")
    assert frames[-1]["accuracy"] == 1 and frames[-1]["loss"] < frames[0]["loss"] / 10
    assert tab.locator("#training figure").nth(2).locator("tbody tr").count() == len(computing["replay"]["layers"])

    tab.click("#backward")
    last = len(computing["modules"]) + 1
    for step in range(2, last + 1):
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text("#pass h3").startswith(f"Step {step} of {last}")
    gradient = tab.inner_text("#pass table")
    assert f"after step {frames[-1]['step']} of the training, for 4 of its examples" in tab.inner_text("#graph")
    assert "jax.grad" not in gradient
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="Save as SVG: Regions").click()
    text = saved.value.path().read_text(encoding="utf-8")
    assert saved.value.suggested_filename == "jaxnets-regions.svg" and text.startswith("<svg") and "accuracy 1" in text

    tab.wait_for_url(f"**backward={last}&data=points&**&train={frames[-1]['step']}")
    assert "draw=" not in tab.url
    tab.reload()
    wait_for_step(tab, frames[-1]["step"])
    assert tab.evaluate("state.data.replay.frames").pop() == frames[-1]
    assert tab.inner_text("#pass table") == gradient
    tab.click("[data-live='reset']")
    wait_for_step(tab, 0)
    assert tab.locator("#graph").inner_text().find("of the training") < 0
    assert "jax.grad" in tab.inner_text("#pass table")


def test_a_press_that_leaves_a_field_is_a_press(show, computing):
    """What is typed is taken when the field is left: the button that is pressed meanwhile stays."""
    tab = show(computing)
    tab.click("#language")
    assert tab.inner_text("[data-live='run']") == "Entraîner"
    tab.fill("[name='rate']", "0,05")
    tab.locator("[data-live='1']").hover()
    tab.mouse.down()
    tab.locator("#training", has_text="taux d’apprentissage 0.05").wait_for()
    tab.mouse.up()
    tab.locator("#training output", has_text="pas 1,").wait_for()


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_training_fits_the_window_in_french(show, computing, size):
    tab = show(computing, size=size)
    tab.click("#language")
    tab.select_option("[name='data']", "points")
    tab.select_option("[name='data']", "function")
    tab.click("[data-live='1']")
    tab.get_by_role("alert").filter(has_text="pour apprendre la fonction sin").wait_for()
    tab.select_option("[name='data']", "moons")
    tab.click("[data-live='10']")
    tab.locator("#training output", has_text="pas 10").wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert "Avec les poids après le pas 10" in tab.inner_text("#graph")
    assert "deux lunes, 180 points" in tab.inner_text("#training")
