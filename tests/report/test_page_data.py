"""What the live training learns from, in the browser: chosen, typed, drawn, loaded from a file, and kept in the address."""

import re

import pytest

from .serving import LIVE
from .tabs import NARROW, WIDE, wait_for_quiet, wait_for_step

BOXES = "[...document.querySelectorAll('.pad, .pad .dot')].map((element) => element.getBoundingClientRect().toJSON())"


def learn(tab, name):
    tab.select_option("#training select", name)


def load(tab, text):
    tab.set_input_files("[name='csv']", {"name": "points.csv", "mimeType": "text/csv", "buffer": text.encode()})


def trained_on(server):
    path, question = server.asked[-1]
    assert path == "train"
    return {name: question[name] for name in ("data", "function", "points", "action") if name in question}


def test_another_data_set_begins_a_new_training(live):
    tab, server = live
    tab.click("[data-live='1']")
    wait_for_step(tab, 1)
    assert trained_on(server) == {"action": "reset"}
    learn(tab, "moons")
    wait_for_step(tab, 0)
    assert trained_on(server) == {"data": "moons", "action": "reset"} and tab.locator("#training .region").count() > 0
    assert tab.evaluate("document.activeElement.name") == "data"
    tab.click("[data-live='1']")
    wait_for_step(tab, 1)
    assert trained_on(server) == {"data": "moons", "action": "step"}
    tab.wait_for_url("**&data=moons&train=1*")
    tab.reload()
    wait_for_step(tab, 1)
    assert trained_on(server)["data"] == tab.input_value("#training select") == "moons"


def test_a_function_is_a_word_of_a_list(live):
    tab, server = live
    learn(tab, "function")
    wait_for_step(tab, 0)
    assert tab.locator("#functions option").count() == 6
    tab.fill("[name='function']", "alert(1)")
    tab.keyboard.press("Enter")
    tab.get_by_role("alert").filter(has_text="Unknown function alert(1); known: sin, cos").wait_for()
    assert tab.get_attribute("[name='function']", "aria-invalid") == "true"
    tab.click("[data-live='1']")
    assert len(server.asked) == 1
    tab.fill("[name='function']", " X^3 ")
    tab.keyboard.press("Enter")
    assert tab.input_value("[name='function']") == "x³"
    wait_for_quiet(tab)
    wait_for_step(tab, 0)
    curve = {"step": 0, "loss": 1.0, "norms": server.replay["frames"][0]["norms"], "curve": [0, 0.5, -0.5]}
    server.replay = {**server.replay, "classes": None, "extent": [-1, 1, -1, 1], "frames": [curve]}
    tab.click("[data-live='reset']")
    tab.locator(".map .series[d]").wait_for()
    assert tab.inner_text("#training output") == "step 0, loss 1"
    assert trained_on(server) == {"data": "function", "function": "x³", "action": "reset"}
    assert tab.locator(".map .series").get_attribute("d") == "M0 150L150 75L300 225"
    assert "curve" in tab.get_attribute(".map", "aria-label")


def test_optimizer_rate_and_seed_are_asked_for_and_stay_in_the_address(live):
    tab, server = live
    tab.select_option("[name='draw']", "3")
    tab.select_option("[name='optimizer']", "momentum")
    assert tab.input_value("[name='rate']") == "0.05"
    wait_for_step(tab, 0)
    wait_for_quiet(tab)
    before = len(server.asked)
    for text in ("0", "-1", "1e9", "abc", ""):
        tab.fill("[name='rate']", text)
        tab.keyboard.press("Enter")
        tab.get_by_role("alert").filter(has_text="The learning rate must be a number above 0 and up to 100.").wait_for()
        assert tab.get_attribute("[name='rate']", "aria-invalid") == "true" and tab.input_value("[name='rate']") == text
        for button in ("1", "run", "reset"):
            tab.click(f"[data-live='{button}']")
            assert tab.evaluate("document.activeElement.name") == "rate" and not tab.evaluate("state.busy.size")
    assert len(server.asked) == before and tab.evaluate("state.learned.rate") == 0.05
    tab.fill("[name='rate']", "1e-3")
    tab.keyboard.press("Tab")
    assert tab.evaluate("state.learned.rate") == 0.001 and tab.get_by_role("alert").count() == 0
    tab.fill("[name='rate']", "0,5")
    tab.keyboard.press("Tab")
    wait_for_step(tab, 0)
    asked = {"action": "reset", "draw": 3, "optimizer": "momentum", "rate": 0.5}
    tab.wait_for_function("state.trained")
    assert {name: server.asked[-1][1].get(name) for name in asked} == asked
    wait_for_quiet(tab)
    tab.click("[data-live='1']")
    wait_for_step(tab, 1)
    tab.wait_for_url("**draw=3&optimizer=momentum&rate=0.5&train=1")
    tab.reload()
    wait_for_step(tab, 1)
    assert {name: server.asked[-1][1].get(name) for name in asked} == asked
    assert tab.input_value("[name='optimizer']") == "momentum" and tab.input_value("[name='rate']") == "0.5"


def test_it_trains_until_it_is_told_to_stop(live):
    tab, server = live
    tab.click("[data-live='run']")
    tab.locator("#training output", has_text=re.compile(r"^step ([2-9]\d|\d{3,}),")).wait_for()
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_role("button", name="Train", exact=True).wait_for()
    asked = len(server.asked)
    assert [question["action"] for _, question in server.asked] == ["reset"] + ["step"] * (asked - 1)
    server.refusal = "busy"
    tab.click("[data-live='run']")
    tab.get_by_role("alert").filter(has_text="busy").wait_for()
    assert len(server.asked) == asked + 1 and tab.locator("[data-live='1']").is_enabled()


def test_points_are_drawn_with_the_mouse(live):
    tab, server = live
    learn(tab, "points")
    pad = tab.locator(".pad")
    pad.click(position={"x": 150, "y": 150})
    tab.keyboard.press("2")
    pad.click(position={"x": 225, "y": 75})
    tab.get_by_label("3", exact=True).check()
    pad.click(position={"x": 75, "y": 75})
    assert tab.locator(".pad .dot").count() == 3 and pad.get_attribute("aria-label").startswith("Points: 3. A click")
    assert tab.evaluate("document.activeElement.matches('.pad')")
    tab.get_by_role("button", name="Undo").click()
    tab.click("[data-live='1']")
    wait_for_step(tab, 1)
    (first, second) = trained_on(server)["points"]
    assert first == [pytest.approx(0, abs=0.02), pytest.approx(0, abs=0.02), 1]
    assert second == [pytest.approx(0.55, abs=0.02), pytest.approx(0.55, abs=0.02), 2]
    tab.wait_for_url("**train=1*")
    tab.reload()
    wait_for_step(tab, 1)
    assert trained_on(server)["points"] == [first, second]
    tab.get_by_role("button", name="Clear").click()
    assert tab.locator(".pad .dot").count() == 0


def test_points_are_drawn_with_the_keyboard(live):
    tab, _ = live
    learn(tab, "points")
    tab.focus(".pad")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "4", "Enter", "ArrowDown", "ArrowDown", "1", "Enter"):
        tab.keyboard.press(key)
    assert tab.evaluate("state.learned.points") == [[0.2, 0.1, 4], [0.2, -0.1, 1]]
    for _ in range(15):
        tab.keyboard.press("ArrowLeft")
    assert tab.inner_text(".own output") == "x1 = -1, x2 = -0.1"


def test_an_answer_for_other_data_is_dropped(live):
    tab, server = live
    server.waiting = []
    tab.click("[data-live='1']")
    tab.locator("#training [role='timer']").wait_for()
    learn(tab, "moons")
    (held,), server.waiting = server.waiting, None
    assert tab.locator("#training output").count() == 0
    server(held)
    wait_for_step(tab, 0)
    assert trained_on(server) == {"data": "moons", "action": "reset"}
    wait_for_quiet(tab)
    tab.click("[data-live='1']")
    wait_for_step(tab, 1)
    assert trained_on(server) == {"data": "moons", "action": "step"}


def test_points_are_loaded_from_a_file(live):
    tab, server = live
    learn(tab, "points")
    load(tab, "\ufeffx1,x2,label\r\n0.5,-1e-1,cat\n1,2,ant\n\n3,4,cat\n")
    tab.locator(".pad .dot").nth(2).wait_for(state="attached")
    pad, *dots = tab.evaluate(BOXES)
    assert all(pad["left"] < dot["left"] < dot["right"] < pad["right"] for dot in dots)
    assert all(pad["top"] < dot["top"] < dot["bottom"] < pad["bottom"] for dot in dots)
    assert "The pad reaches from −4 to 4." in tab.inner_text(".own")
    tab.focus(".pad")
    for key in ("ArrowRight", "ArrowUp", "Enter"):
        tab.keyboard.press(key)
    assert tab.evaluate("state.learned.points.at(-1)") == [0.4, 0.4, 1]
    tab.locator(".pad").click(position={"x": dots[2]["x"] - pad["x"] + 4, "y": dots[2]["y"] - pad["y"] + 4})
    assert tab.evaluate("state.learned.points.at(-1)") == [pytest.approx(3, abs=0.1), pytest.approx(4, abs=0.1), 1]
    for _ in range(2):
        tab.get_by_role("button", name="Undo").click()
    tab.click("[data-live='1']")
    wait_for_step(tab, 1)
    assert trained_on(server)["points"] == [[0.5, -0.1, 2], [1, 2, 1], [3, 4, 2]]
    for text, words in {
        "x1,x2,label\n\n": "no points below the first line",
        "x,y\n1,2": "the first line must be x1,x2,label",
        "x1,x2,label\n1,2,a\n1,two,b": "line 3: expected two numbers and a label, got 1,two,b",
        "x1,x2,label\n1,,a": "line 2: expected",
        "x1,x2,label\n1,Infinity,a": "line 2: expected",
        "x1,x2,label\n" + "1,2,a\n" * 5001: "5001 points, at most 5000",
        "x1,x2,label\n" + "".join(f"1,2,{i}\n" for i in range(6)): "6 different labels, at most 5",
    }.items():
        load(tab, text)
        tab.get_by_role("alert").filter(has_text=words).wait_for()
        assert tab.locator(".pad .dot").count() == 3
    for separator in ";\t":
        rows = ["x1;x2;label", "1,5;-,25;0,9", "2;1e-1;1,0", "-0.5;3,5e1;0,9"]
        load(tab, "\r\n".join(rows).replace(";", separator))
        tab.wait_for_function("state.learned.points[0]?.[0] === 1.5")
        assert tab.evaluate("state.learned.points") == [[1.5, -0.25, 1], [2, 0.1, 2], [-0.5, 35, 1]]
        load(tab, f"x1{separator}x2{separator}label\n1,5,2{separator}2{separator}a")
        tab.get_by_role("alert").filter(has_text="line 2: expected two numbers").wait_for()
        tab.get_by_role("button", name="Clear").click()
    load(tab, "x1,x2,label\n" + "1,2,a\n" * 61)
    tab.locator(".pad .dot").nth(60).wait_for(state="attached")
    tab.get_by_role("button", name="Copy link").click()
    tab.locator("#told", has_text="It leaves out your 61 points; at most 60 fit.").wait_for()
    assert "points=" not in tab.evaluate("String(link())") and "data=points" in tab.evaluate("String(link())")


BAD = ["data=iris", "function=eval", "draw=5", "optimizer=rprop", "rate=0", "points=1_2_6", "points=1_2"]


@pytest.mark.parametrize("query", [*BAD, f"points={'*'.join(['1_1_1'] * 61)}"])
def test_bad_data_in_the_address_is_ignored(live, query):
    tab, server = live
    tab.goto(f"{LIVE}?{query}")
    tab.locator("#told", has_text=f"Ignored in the address: {query[:20]}").wait_for()
    assert tab.input_value("#training select") == "spiral" and server.asked == []


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_pad_fits_the_window_and_speaks_french(live, size):
    tab, _ = live
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    learn(tab, "points")
    tab.click("#language")
    tab.locator(".own", has_text="Un clic en dessine un").wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert "Points : 0. Un clic en dessine un" in tab.inner_text(".own") and tab.input_value("#training select") == "points"
