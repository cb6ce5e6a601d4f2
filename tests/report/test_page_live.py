"""The page with a server behind it: another model is shown, compared and trained, and a refused one leaves the last."""

import json

import pytest

from jaxnets.report.page import page_html
from jaxnets.show.formats import replace_nonfinite

from .tabs import wait_for_step

SETTINGS = {"model": "linear(3)", "input": "2", "batch": 4, "dtype": "float64", "seed": 0}
LIVE = "http://127.0.0.1:9/"  # answered by the tests, no server listens there


class Server:
    """Answers for the page in live mode; keeps what it was asked."""

    def __init__(self, data, replay):
        self.data, self.replay, self.asked, self.refusal, self.step = data, replay, [], None, 0

    def __call__(self, route):
        request = route.request
        if request.method == "GET":
            return route.fulfill(body=page_html(self.data), content_type="text/html; charset=utf-8")
        path, body = request.url.removeprefix(LIVE), request.post_data_json
        assert request.headers["x-token"] == "secret" and request.headers["content-type"] == "application/json"
        self.asked.append((path, body))
        if self.refusal == "silence":
            return route.abort()
        if self.refusal:
            return route.fulfill(status=400, body=json.dumps({"error": self.refusal}))
        self.step += body.get("steps", 0)
        frame = {**self.replay["frames"][0], "step": self.step}
        answers = {
            "model": {"content": {**self.data, "title": "another"}},
            "compare": {"comparisons": self.data["comparisons"]},
            "train": {"frame": frame} if body.get("action") == "step" else {"replay": self.replay},
        }
        return route.fulfill(body=json.dumps(replace_nonfinite(answers[path], str)))


@pytest.fixture
def live(browser, data):
    """A page with a server behind it."""
    replay = {**data["replay"], "frames": data["replay"]["frames"][:1]}
    server = Server({**data, "live": {"token": "secret", **SETTINGS}}, replay)
    tab = browser.new_page()
    tab.set_default_timeout(5000)
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.route("**/*", server)
    tab.goto(LIVE)
    yield tab, server
    tab.close()
    assert not errors


def test_another_model_is_shown_and_compared(live):
    tab, server = live
    compared = server.data["comparisons"]
    for name, text in (("model", "linear(4) tanh"), ("input", "1x2"), ("batch", "3")):
        tab.fill(f"[name='{name}']", text)
    tab.select_option("[name='dtype']", "float32")
    tab.evaluate("one('#controls form').requestSubmit(); one('#controls form').requestSubmit()")  # the second is not sent
    tab.get_by_role("heading", name="The Jacobians of another").wait_for()
    tab.locator("#comparison:not([aria-busy]) table").wait_for()
    settings = {"model": "linear(4) tanh", "input": "1x2", "batch": 3, "dtype": "float32", "seed": 0}
    assert server.asked == [("model", settings), ("compare", settings)]

    server.data = {**server.data, "comparisons": None}
    server.refusal = "the time is up"
    tab.reload()
    tab.locator("#comparison .alert", has_text="the time is up").wait_for()
    server.refusal, server.data = None, {**server.data, "comparisons": compared}
    tab.get_by_role("button", name="Try again").click()
    tab.locator("#comparison table").wait_for()
    assert server.asked[2:] == [("compare", SETTINGS)] * 2


@pytest.mark.parametrize(
    "refusal, words, field",
    [
        ("model 'linear(': write linear(FEATURES)", "write linear(FEATURES)", "model"),
        ("batch: expected a whole number, got 0", "a whole number", "batch"),
        ("silence", "does not answer", "model"),
    ],
)
def test_a_refused_model_leaves_the_last_one(live, refusal, words, field):
    tab, server = live
    before = tab.inner_text("#module"), tab.inner_text("h1")
    server.refusal = refusal
    tab.get_by_role("button", name="Show").click()
    alert = tab.get_by_role("alert").filter(has_text=words)
    alert.wait_for()
    assert tab.locator("[aria-invalid='true']").get_attribute("name") == field
    assert (tab.inner_text("#module"), tab.inner_text("h1")) == before
    server.refusal = None
    tab.get_by_role("button", name="Show").click()
    alert.wait_for(state="hidden")
    assert tab.locator("[aria-invalid='true']").count() == 0


def test_a_model_is_trained_one_step_at_a_time(live):
    tab, server = live
    one, ten, start = (tab.locator(f"[data-live='{name}']") for name in ("1", "10", "reset"))
    assert one.is_disabled()
    start.click()
    wait_for_step(tab, 0)
    for do, steps, seen in ((one, 1, 1), (ten, 10, 11)):
        do.click()
        wait_for_step(tab, seen)
        assert server.asked[-1] == ("train", {**SETTINGS, "action": "step", "steps": steps})
    assert server.asked[0] == ("train", {**SETTINGS, "action": "reset"}) and len(server.asked) == 3
    tab.locator("[data-do='back']").click()
    wait_for_step(tab, 1)
    server.refusal = "model 'linear(3)' does not fit the spiral"
    one.click()
    tab.locator("#training [role='alert']", has_text="does not fit the spiral").wait_for()
    wait_for_step(tab, 1)
