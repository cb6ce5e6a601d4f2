"""The page with a server behind it: another model is shown, compared and trained, and a refused one leaves the last."""

import pytest

from .serving import SETTINGS
from .tabs import NARROW, WIDE, wait_for_step


def test_another_model_is_shown_and_compared_when_asked_for(live, data):
    tab, server = live
    for name, text in (("model", "linear(4) tanh"), ("input", "1x2"), ("batch", "3")):
        tab.fill(f"[name='{name}']", text)
    tab.select_option("[name='dtype']", "float32")
    tab.evaluate("one('#controls form').requestSubmit(); one('#controls form').requestSubmit()")  # the second is not sent
    tab.get_by_role("heading", name="The Jacobians of another").wait_for()
    settings = {"model": "linear(4) tanh", "input": "1x2", "batch": 3, "dtype": "float32", "seed": 0}
    assert server.asked == [("model", settings)]  # nothing is compared by itself
    assert tab.locator("#comparison table").count() == 0

    server.refusal = "the time is up"
    tab.get_by_role("button", name="Compare").click()
    tab.locator("#comparison .alert", has_text="the time is up").wait_for()
    server.refusal, server.data = None, {**server.data, "comparisons": data["comparisons"]}
    tab.get_by_role("button", name="Try again").click()
    tab.locator("#comparison table").wait_for()
    assert tab.locator("#comparison .alert").count() == 0
    assert server.asked[1:] == [("compare", settings)] * 2


def test_while_it_computes_the_page_tells_the_time_and_the_rest_goes_on(live, data):
    tab, server = live
    tab.clock.install()
    server.waiting, compare = [], tab.get_by_role("button", name="Compare")
    compare.click()
    assert tab.inner_text("#comparison [role='timer']") == "computing… 0 s"
    tab.clock.run_for(12_000)
    assert tab.inner_text("#comparison [role='timer']") == "computing… 12 s"
    assert compare.is_disabled()
    (held,), server.waiting = server.waiting, None

    server.refusal = "model: unknown word 'tahn'"
    tab.get_by_role("button", name="Show").click()
    tab.get_by_role("alert").filter(has_text="unknown word 'tahn'").wait_for()
    server.refusal = None
    tab.get_by_role("button", name="Show").click()
    tab.get_by_role("heading", name="The Jacobians of another").wait_for()
    assert compare.is_enabled()  # the comparison of this model is another one
    server.data = {**server.data, "comparisons": data["comparisons"]}
    server(held)  # that of the model before comes now, and is dropped
    tab.get_by_role("button", name="Train 1 step").click()
    wait_for_step(tab, 1)
    assert tab.locator("#comparison table, [role='timer']").count() == 0
    compare.click()
    tab.locator("#comparison table").wait_for()


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


def test_a_training_begins_with_the_first_step(live):
    tab, server = live
    one, ten, start = (tab.locator(f"[data-live='{name}']") for name in ("1", "10", "reset"))
    ten.click()
    wait_for_step(tab, 10)
    one.click()
    wait_for_step(tab, 11)
    assert [asked["action"] for _, asked in server.asked] == ["reset", "step"]
    assert server.asked[-1] == ("train", {**SETTINGS, "action": "step", "steps": 1})
    tab.locator("[data-do='back']").click()
    wait_for_step(tab, 10)
    server.refusal = "model 'linear(3)' does not fit the spiral"
    one.click()
    tab.locator("#training [role='alert']", has_text="does not fit the spiral").wait_for()
    wait_for_step(tab, 10)
    server.refusal = None
    start.click()
    wait_for_step(tab, 0)
    assert server.asked[-1] == ("train", {**SETTINGS, "action": "reset"})


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_training_has_one_row_of_buttons_of_one_height(live, size):
    tab, _ = live
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    assert tab.locator("#training .row").count() == 1
    boxes = [button.bounding_box() for button in tab.locator("#training .row button").all()]
    assert len(boxes) == 8 and len({round(box["height"]) for box in boxes}) == 1
    assert size == NARROW or len({round(box["y"]) for box in boxes}) == 1
    fields = [field.bounding_box() for field in tab.locator("#controls input, #controls select, #controls button").all()]
    assert len({round(box["height"]) for box in fields}) == 1
    assert len({round(link.bounding_box()["height"]) for link in tab.locator("nav a").all()}) == 1


def test_another_language_leaves_what_was_typed_and_waits_for_what_is_computed(live):
    tab, server = live
    tab.fill("[name='model']", "linear(4) tanh")
    tab.select_option("[name='dtype']", "float32")
    tab.click("#language")
    assert [tab.input_value(f"[name='{name}']") for name in ("model", "dtype", "batch")] == [
        "linear(4) tanh",
        "float32",
        "4",
    ]
    server.refusal = "busy: too many requests wait; try again in a moment"
    tab.get_by_role("button", name="Comparer").click()
    tab.locator("#comparison .alert", has_text="réessayez dans un instant").wait_for()
    server.refusal = "batch: expected a whole number from 1 to 64, got 0"
    tab.get_by_role("button", name="Afficher").click()
    tab.get_by_role("alert").filter(has_text="attendu un nombre entier").wait_for()
    assert tab.locator("[aria-invalid='true']").get_attribute("name") == "batch"
    server.refusal, server.waiting = None, []
    tab.get_by_role("button", name="Réessayer").click()
    assert tab.locator("#comparison [role='timer']").inner_text().startswith("calcul en cours")
    tab.click("#language")
    assert tab.locator("#controls h2").inner_text() == "Votre modèle"
    assert tab.get_attribute("#language", "aria-busy") == "true"
    (held,), server.waiting = server.waiting, None
    server(held)
    tab.locator("#language:not([aria-busy])").wait_for()
    assert tab.locator("#controls h2").inner_text() == "Your model"
