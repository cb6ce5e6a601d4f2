"""The explorer: its answers equal the library's, what does not fit is refused in the library's words, and its page works."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets.learn.presets import make_problem
from jaxnets.report.explorer import HEADERS, Explorer
from jaxnets.report.points import training_data

from .asking import MODEL, STEP, answer, ask, error
from .tabs import NARROW, WIDE


@pytest.fixture(scope="module")
def explorer():
    """With a real worker, which compiles as this process does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        with Explorer(0, MODEL["model"], MODEL["input"], limit_s=120) as found:
            yield found


def network(dtype):
    """The model of the requests as plain `jax.numpy`, with its parameters and inputs."""
    with jax.enable_x64(dtype == "float64"):
        found = make_problem(MODEL["model"], (2,), 2, MODEL["seed"], dtype)
    return found.params, found.x, lambda params, x: jax.nn.log_softmax(x @ params[0]["w"].T + params[0]["b"])


def test_the_page_is_on_the_model_and_has_every_part(explorer):
    with urlopen(explorer.url, timeout=120) as found:
        html = found.read().decode()
        assert found.headers["Content-Type"] == "text/html; charset=utf-8"
        assert {name: found.headers[name] for name in HEADERS} == HEADERS
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S).group(1))
    assert data["live"] == {"token": explorer.token, **MODEL, "batch": 4, "seed": 0}
    assert data["title"] == MODEL["model"]
    assert [module["name"] for module in data["modules"]][:2] == ["linear", "log_softmax"]
    assert len(data["saturation"]["panels"]) > 2
    assert data["replay"]["frames"][-1]["step"] > 100
    assert data["comparisons"] is None
    assert data["benchmarks"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_modules_have_the_jacobians_of_the_model(explorer, dtype):
    params, x, _ = network(dtype)
    content = answer(explorer, "/model", {**MODEL, "dtype": dtype})["content"]
    assert content["about"]["dtype"] == dtype
    assert "comparisons" not in content
    linear, log_softmax = content["modules"][:2]
    by_x = next(j for j in linear["jacobians"] if j["argument"] == "x")
    assert by_x["values"] == [[pytest.approx(w, rel=2e-6) for w in row] for row in params[0]["w"].tolist()]
    z = x[0] @ params[0]["w"].T + params[0]["b"]
    expected = jax.jacrev(jax.nn.log_softmax)(z).tolist()
    assert log_softmax["jacobians"][0]["values"] == [[pytest.approx(d, rel=1e-5) for d in row] for row in expected]


def test_comparisons_tell_of_every_block(explorer):
    comparisons = answer(explorer, "/compare", MODEL)["comparisons"]
    sizes = {"b": 3, "w": 6, "x": 4}  # of 2 examples
    for found, outputs in zip(comparisons, (6, 1), strict=True):  # the network's, and its average loss
        assert found["ok"]
        assert found["dtype"] == "float64"
        assert found["milliseconds"]["jacfwd"] > 0
        assert len(found["blocks"]) == 3
        for block, inputs in zip(found["blocks"], sizes.values(), strict=True):
            assert block["dense"] == 8 * outputs * inputs
            assert block["errors"]["jacrev"]["absolute"] < 1e-14


def test_training_goes_on_step_by_step(explorer):
    params, _, apply = network("float64")
    replay = answer(explorer, "/train", {**MODEL, "action": "reset"})["replay"]
    frames = replay["frames"] + [
        answer(explorer, "/train", STEP)["frame"],
        answer(explorer, "/train", {**STEP, "steps": 3})["frame"],
    ]
    assert [frame["step"] for frame in frames] == [0, 1, 4]
    x, y = jnp.asarray(replay["x"]), jnp.asarray(replay["y"])

    def loss(params):
        return -jnp.mean(apply(params, x)[jnp.arange(len(y)), y])

    optimizer = optax.adam(0.02)
    moments = optimizer.init(params)
    left, right, bottom, top = replay["extent"]
    grid = np.stack(np.meshgrid(np.linspace(left, right, replay["size"]), np.linspace(bottom, top, replay["size"])), -1)
    for step in range(5):
        if frames[0]["step"] == step:
            frame = frames.pop(0)
            assert frame["loss"] == pytest.approx(float(loss(params)), rel=1e-3)  # points have four places on the page
            assert frame["norms"][0] == pytest.approx(float(jnp.linalg.norm(params[0]["w"])), rel=1e-3)
            classes = [(ord(code) - 48) // 8 for code in frame["regions"]]
            agree = np.asarray(apply(params, grid.reshape(-1, 2))).argmax(1) == classes
            assert agree.mean() > 0.995
        updates, moments = optimizer.update(jax.jit(jax.grad(loss))(params), moments)
        params = optax.apply_updates(params, updates)
    assert not frames


def test_a_training_that_has_not_begun_begins_by_itself(explorer):
    answer(explorer, "/train", {**MODEL, "action": "reset"})
    found = answer(explorer, "/train", {**STEP, "data": "points", "points": [[0, 0, 1], [1, -1, 2]], "steps": 2})["replay"]
    assert found["y"] == [0, 1] and [frame["step"] for frame in found["frames"]] == [0, 2]
    found = answer(explorer, "/train", {**STEP, "seed": 2, "steps": 3})
    assert [frame["step"] for frame in found["replay"]["frames"]] == [0, 3]
    assert answer(explorer, "/train", {**STEP, "seed": 2})["frame"]["step"] == 4
    found = answer(explorer, "/train", {**STEP, "action": "reset", "steps": 1})
    assert [frame["step"] for frame in found["replay"]["frames"]] == [0, 1]
    assert answer(explorer, "/train", {**MODEL, "action": "reset", "model": "spiral", "input": ""})["replay"]


def test_a_training_descends_as_it_is_told(explorer):
    question = {**STEP, "action": "reset", "data": "xor", "draw": 1, "optimizer": "sgd", "rate": 0.5, "steps": 1}
    replay = answer(explorer, "/train", question)["replay"]
    np.testing.assert_allclose(replay["x"], training_data("xor", draw=1).x, atol=1e-4)
    assert replay["about"].endswith("180 points; gradient descent, learning rate 0.5, all points in every step")
    losses = [frame["loss"] for frame in replay["frames"]]
    losses.append(answer(explorer, "/train", {**question, "action": "step"})["frame"]["loss"])
    assert losses[2] < losses[1] < losses[0]
    assert "replay" in answer(explorer, "/train", {**question, "action": "step", "rate": 0.25})


def test_a_comparison_is_computed_once_and_beside_everything_else(explorer):
    """A typing error is answered while another model is compared; the same comparison is answered at once."""
    fresh = {**MODEL, "seed": 77}
    with ThreadPoolExecutor(1) as pool:
        comparing = pool.submit(answer, explorer, "/compare", fresh)
        for _ in range(3):
            assert error(ask(explorer, "/model", {**MODEL, "model": "linear(3) tahn"}))[0] == 400
        assert not comparing.done()
        found = comparing.result()
    start = time.monotonic()
    assert answer(explorer, "/compare", fresh) == found
    assert time.monotonic() - start < 0.5
    assert error(ask(explorer, "/compare", {**fresh, "model": "linear(3) tahn"}))[0] == 400


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/model", {"model": "linear(3) lock_softmax"}, "unknown word 'lock_softmax'"),
        ("/model", {"model": "__import__('os')"}, "cannot read"),
        ("/model", {"model": " "}, "empty"),
        ("/model", {"model": "linear(3) conv(2)"}, r"conv\(2, 3\): one example has shape \(3,\)"),
        ("/model", {"model": "spiral"}, "input: the preset 'spiral' has its own; leave this empty"),
        ("/model", {"model": "relu " * 65}, "65 modules, at most 64"),
        ("/model", {"model": "linear(70000)"}, "210,000 parameters, at most 200,000"),
        ("/model", {"model": "conv(20000, 1)", "input": "1x64x64"}, "163,840,000 numbers .*, at most 8,000,000"),
        ("/compare", {"model": "linear(30000)", "batch": 1}, "at most 20,000,000; take fewer examples"),
        ("/train", {"model": "linear(2) log_softmax", "action": "reset"}, "must map"),
        ("/train", {"data": "points", "action": "reset"}, "points: draw or load at least 2"),
        (
            "/train",
            {"data": "points", "points": [[0, 0, 1], [0, 0, 5]], "action": "reset"},
            "own it must map",
        ),
        ("/train", {"data": "function", "action": "reset"}, "the function sin it must map"),
        ("/train", {"model": "linear(9000) linear(3) log_softmax", "action": "reset"}, "at most 8,000,000"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_models_that_do_not_fit_are_refused_in_the_words_of_the_library(explorer, path, fields, expected):
    status, text = error(ask(explorer, path, {**MODEL, **fields}))
    assert status == 400
    assert re.search(expected, text), text


def test_fifty_at_once_are_answered_or_told_to_wait_and_no_step_is_lost(explorer):
    answer(explorer, "/train", {**MODEL, "action": "reset"})
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: ask(explorer, "/train", STEP), range(50)))
    good = [json.loads(text)["frame"]["step"] for status, _, text in found if status == 200]
    assert all(status in (200, 503) for status, _, _ in found)
    assert len(good) > 16
    assert sorted(good) == list(range(1, len(good) + 1))
    assert answer(explorer, "/train", STEP)["frame"]["step"] == len(good) + 1


def test_explore_prints_its_address_and_ends_at_ctrl_c():
    code = "from jaxnets.report.explorer import explore; explore(open_browser=False)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        url = process.stdout.readline().strip()
        host, token = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/\?token=([\w-]{20,})", url).groups()
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("POST", "/model", json.dumps({**MODEL, "model": ""}), {"X-Token": token})
        assert connection.getresponse().status == 400  # so the worker is there too
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()


def test_the_page_in_a_browser(explorer, browser):
    tab, problems = browser.new_page(), []
    tab.set_default_timeout(60_000)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda one: one.url.startswith((explorer.url.split("?")[0], "data:")) or problems.append(one.url))
    tab.goto(explorer.url)
    compared, compare = tab.locator("#comparison table").first, tab.get_by_role("button", name="Compare")
    compare.click()
    compared.wait_for()

    def show(model):
        tab.fill("[name='model']", model)
        tab.get_by_role("button", name="Show").click()

    show("linear(3) tahn")
    tab.get_by_role("alert").filter(has_text="unknown word 'tahn', did you mean tanh").wait_for()
    assert tab.inner_text(".page-head .model") == MODEL["model"]

    other = {**MODEL, "model": "linear(3) tanh log_softmax", "batch": 4, "seed": 0}
    show(other["model"])
    tab.locator(".page-head .model", has_text=other["model"]).wait_for()
    assert compared.count() == 0
    compare.click()
    compared.wait_for()
    block = answer(explorer, "/model", other)["content"]["modules"][0]["jacobians"][0]
    shown = tab.inner_text(".readout").rpartition("=")[2].replace("−", "-")
    assert float(shown) == pytest.approx(block["values"][0][0], rel=1e-5)

    for do, step in (("10", 10), ("1", 11), ("reset", 0), ("1", 1)):
        tab.locator(f"[data-live='{do}']").click()
        tab.locator("#training output", has_text=f"step {step},").wait_for()
    trained = tab.inner_text("#training output")
    tab.wait_for_url(re.compile(r"&train=1(&|$)"))  # it was train=11 before
    tab.reload()  # the page is on the first model, asks for the other one, and trains it again
    tab.locator("#training output", has_text=trained).wait_for()
    assert tab.inner_text(".page-head .model") == other["model"]
    tab.close()
    assert not problems


BUTTONS = {
    "Dark",
    "Show",
    "Compare",
    "Guided tour",
    "Copy link",
    "Next step",
    "Train",
    "Train 1 step",
    "Train 10 steps",
    "Start over",
    "Play",
    "Back",
    "Forward",
    "First",
}


def test_every_button_of_the_default_page_does_something_and_none_gives_an_error(browser):
    """In the order in which they stand, and again those that appear or become enabled by that, at both widths."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        with Explorer(limit_s=120) as explorer:
            for size in WIDE, NARROW:
                assert press_every_button(browser, explorer.url, *size) >= BUTTONS


def press_every_button(browser, url, width, height):
    """The names of the buttons, each of which was pressed."""
    from playwright.sync_api import TimeoutError as NotClicked

    tab, problems, pressed = browser.new_page(viewport={"width": width, "height": height}), [], set()
    tab.set_default_timeout(120_000)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda line: line.type == "error" and problems.append(line.text))
    tab.goto(url)

    def press(name):
        before, button = tab.content(), tab.get_by_role("button", name=name, exact=True).first
        try:
            button.click(timeout=30_000)
        except NotClicked:  # what plays came to its end meanwhile, and there is no way forward
            assert name == "Forward" and button.is_disabled()
            return
        if name == "Train":  # it goes on until it is told to stop
            tab.get_by_role("button", name="Stop", exact=True).click()
            tab.get_by_role("button", name="Train", exact=True).wait_for()
        tab.locator("[aria-busy]").wait_for(state="detached")
        for _ in range(10 if name not in ("Show", "First") else 0):  # a link takes a moment
            if tab.content() == before:
                tab.wait_for_timeout(100)
        pressed.add(name)
        assert not problems
        assert tab.locator("[role='alert']:visible, [aria-invalid='true']").count() == 0, name
        assert tab.content() != before or name in ("Show", "First"), name
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name

    def names():
        found = tab.locator("button:enabled:visible:not(.save button)").all()  # test_page_pictures presses the others
        return [one.get_attribute("aria-label") or one.inner_text() for one in found]

    for _ in range(2):  # a training of one frame has no way back
        while fresh := [name for name in names() if name not in pressed | {"Pause"}]:
            press(fresh[0])
        press("Train 1 step")
    assert tab.locator("#comparison table").count() == 2
    tab.close()
    return pressed
