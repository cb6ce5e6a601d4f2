"""The guided tour: every stop scrolls to its panel and sets it, with buttons, keys and the address, in both languages."""

import pytest

from .tabs import NARROW, WIDE

PANELS = ["graph"] * 4 + ["order"] + ["module"] * 2 + ["saturation"] * 2 + ["comparison"] + ["training"] * 3


def title(tab):
    return tab.inner_text("#tour h3")


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_every_stop_is_shown_and_fits(show, size):
    tab = show(size=size)
    tab.get_by_role("button", name="Guided tour").click()
    words = set()
    for n, panel in enumerate(PANELS, 1):
        assert title(tab).startswith(f"Stop {n} of {len(PANELS)}, lecture ")
        top = tab.locator(f"#{panel} h2").bounding_box()["y"]
        assert 0 <= top < tab.locator("#tour").bounding_box()["y"] or panel == "training"
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        words.add(tab.inner_text("#tour p"))
        tab.keyboard.press("ArrowRight")
    assert len(words) == len(PANELS) and all(text.count(". ") + text.count("? ") >= 1 for text in words)
    assert title(tab).startswith(f"Stop {len(PANELS)} of") and tab.get_by_role("button", name="Next stop").is_disabled()
    tab.keyboard.press("Escape")
    assert tab.locator("#tour").is_hidden() and tab.evaluate("document.activeElement.id") == "start-tour"


def test_stops_set_what_they_speak_of(show, data):
    tab = show()
    tab.get_by_role("button", name="Guided tour").click()
    modules, position, frame = [], [], []
    for _ in PANELS:
        name = tab.inner_text("#pass h3") if tab.locator("#pass").count() else tab.text_content("#module-name")
        modules.append(name.split(": ")[-1].split(" ")[0])
        position.append(data["saturation"]["positions"][tab.evaluate("state.position")])
        frame.append(tab.evaluate("state.frame"))
        tab.get_by_role("button", name="Next stop").click() if len(frame) < len(PANELS) else None
    assert modules[1:4] == ["mean", "linear", "tanh"] and modules[5:7] == ["linear", "log_softmax"]
    assert position[7:9] == [20, 100] and frame[10:] == [0, 2, len(data["replay"]["frames"]) - 1]
    tab.get_by_role("button", name="Previous stop").click()
    assert title(tab).startswith("Stop 12 of 13, lecture P")


def test_the_address_holds_the_stop_and_the_language_changes_it(show):
    tab = show()
    address = tab.url
    tab.goto(f"{address}?tour=6")
    assert title(tab) == "Stop 6 of 13, lecture B" and tab.evaluate("state.jacobian") == 1
    tab.click("#language")
    assert title(tab) == "Étape 6 sur 13, cours B" and "presque vide" in tab.inner_text("#tour")
    tab.wait_for_url("**lang=fr**tour=6*")
    tab.get_by_role("button", name="Quitter la visite").click()
    tab.wait_for_url(lambda url: "tour" not in url)
    tab.goto(f"{address}?tour=99")
    assert tab.inner_text("#told p") == "Ignored in the address: tour=99" and tab.locator("#tour").is_hidden()
