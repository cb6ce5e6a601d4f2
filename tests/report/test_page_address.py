"""The address holds what the page shows: loaded again it shows the same, and what does not fit is told and ignored."""

from urllib.parse import parse_qs, urlsplit

import pytest

from jaxnets.report.explorer import Explorer
from jaxnets.report.fields import shown_query

from .serving import LIVE, SETTINGS
from .tabs import choose, go_to, readout, slide, wait_for_step


def parts(tab):
    """What the address holds, once the page has written it."""
    tab.wait_for_timeout(250)
    return {name: texts[0] for name, texts in parse_qs(urlsplit(tab.url).query, keep_blank_values=True).items()}


def state(tab):
    """What the page shows of its state: module, Jacobian and view, frame and language."""
    return tab.evaluate("[state.module, state.jacobian, state.view, state.frame, state.language]")


def test_a_page_that_is_loaded_again_shows_the_same(show, data):
    tab = show()
    assert parts(tab) == {}
    choose(tab, "linear", argument="w", view="autodiff")
    go_to(tab, 0, 0)
    slide(tab, "#training input", 2)
    tab.click("#language")
    step = data["replay"]["frames"][2]["step"]
    assert parts(tab) == {"by": "w", "view": "autodiff", "step": str(step), "lang": "fr"}
    before, number = state(tab), readout(tab)
    tab.reload()
    assert state(tab) == before == [0, 1, "autodiff", 2, "fr"]
    assert readout(tab) == number and tab.locator("#told").is_hidden()
    choose(tab, "relu")
    slide(tab, "#training input", 0)
    assert parts(tab) == {"module": "2", "lang": "fr"}
    tab.click("#language")
    choose(tab, "linear")
    assert parts(tab) == {}


@pytest.mark.parametrize(
    "query",
    [
        "module=9",
        "module=0",
        "module=1.5",
        "by=toString",
        "view=none",
        "step=4",
        "lang=xx",
        "train=5",
        "model=linear(3)",
        "seed=-1",
    ],
)
def test_what_does_not_fit_in_the_address_is_told_and_ignored(show, query):
    tab = show()
    before = state(tab)
    tab.goto(f"{tab.url}?{query}&unknown=%3Cb%3E")
    assert tab.inner_text("#told p") == f"Ignored in the address: {query}"
    assert state(tab) == before
    tab.get_by_role("button", name="Close", exact=True).click()
    assert tab.locator("#told").is_hidden()


def test_the_explorer_shows_the_model_of_its_address_and_trains_as_far(live):
    tab, server = live
    assert parts(tab) == {}
    tab.goto(f"{LIVE}?model=linear(4)+tanh&batch=3&seed=7&module=2&train=110&step=50#training")
    tab.locator("#training input[max='3']").wait_for()
    wait_for_step(tab, 50)
    settings = {**SETTINGS, "model": "linear(4) tanh", "input": "", "batch": 3, "seed": 7}
    assert server.asked[0] == ("model", settings)
    assert [asked.get("steps") for path, asked in server.asked if path == "train"] == [50, 50, 10]
    assert tab.input_value("[name='seed']") == "7"
    assert state(tab)[0] == 1 and tab.locator("#training [type='range']").get_attribute("max") == "3"
    tab.locator("[data-live='1']").click()
    wait_for_step(tab, 111)
    found = {"model": "linear(4) tanh", "batch": "3", "seed": "7", "dtype": "float64", "module": "2", "train": "111"}
    assert parts(tab) == found and tab.url.endswith("#training")


def test_while_it_trains_again_the_page_says_how_far_it_is(live):
    tab, server = live
    server.waiting = []
    tab.goto(f"{LIVE}?train=60&lang=fr")
    tab.locator("#training", has_text="pas 0 sur 60").wait_for()
    assert tab.locator("#training [role='timer']").count() == 1
    (held,), server.waiting = server.waiting, None
    server(held)
    tab.locator("#training output", has_text="pas 60").wait_for()
    assert "sur 60" not in tab.inner_text("#training")
    server.waiting = []
    tab.goto(f"{LIVE}?train=60")
    tab.locator("#training", has_text="step 0 of 60").wait_for()
    tab.select_option("[name='data']", "moons")
    (held,), server.waiting = server.waiting, None
    server(held)
    wait_for_step(tab, 0)
    assert "of 60" not in tab.inner_text("#training") and server.asked[-1][1]["data"] == "moons"


def test_a_refused_part_of_the_address_leaves_the_rest(live):
    tab, server = live
    tab.goto(f"{LIVE}?batch=65&dtype=float16&input=2x&train=9000&module=2")
    tab.locator("#told", has_text="input=2x, batch=65, dtype=float16, train=9000").wait_for()
    assert state(tab)[0] == 1 and server.asked == []
    server.refusal = "model: unknown word 'tahn'"
    tab.goto(f"{LIVE}?model=tahn&module=2")
    tab.get_by_role("alert").filter(has_text="unknown word 'tahn'").wait_for()
    assert state(tab)[0] == 0 and tab.input_value("[name='model']") == "tahn"


def test_the_link_is_copied_or_shown(live):
    tab, _ = live
    choose(tab, "relu")
    tab.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }")
    tab.get_by_role("button", name="Copy link").click()
    tab.locator("#told", has_text="clipboard").wait_for()
    link = tab.evaluate("window.copied")
    assert link.startswith(LIVE) and "module=2" in link and "seed=0" in link
    tab.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error(); }; }")
    tab.get_by_role("button", name="Copy link").click()
    tab.locator("#told code").wait_for()
    assert tab.inner_text("#told code") == link


def test_a_copied_link_is_shown_by_another_explorer():
    link = "http://127.0.0.1:9/?token=old&model=linear%283%29+tanh&seed=7&lang=fr#order"
    found = Explorer(language="en", link=link)
    found._server.server_close()
    assert found.url.partition(found.token)[2] == "&model=linear%283%29+tanh&seed=7&lang=fr"
    assert shown_query(link.replace("&lang=fr", ""), "fr").endswith("&seed=7&lang=fr")
