"""The page in French: the control and the address change its language, and nothing of it is left in English."""

import re

import pytest

from jaxnets.report.page import page_html

from .tabs import NARROW, WIDE, choose, go_to, readout, slide

TEXTS = """() => {
    const UNSAID = "script, noscript, pre, code, #language, div[lang='en']";
    const names = (one) => ["aria-label", "aria-valuetext", "aria-roledescription", "title", "placeholder"]
        .map((name) => one.getAttribute(name));
    const own = (one) => [...one.childNodes].filter((node) => node.nodeType == 3).map((node) => node.textContent);
    return [...document.querySelectorAll("body *")].filter((one) => !one.closest(UNSAID))
        .flatMap((one) => [...own(one), ...names(one)]).filter((text) => text?.trim());
}"""
# Words that both languages share, names of functions and files, and what is not translated: names and cases of benchmarks.
SHARED = """
    jaxnets spiral linear relu tanh residual log_softmax softmax add mean nll float32 float64 cpu Python jax grad nan inf
    jacrev jacfwd log exp Graph Module Saturation structure dense dims Kronecker diagonal autodiff verdict multiplications
    SVG PNG versions Pause Gradients layers ULP logits params ratio mlp
"""
SAME = set(SHARED.split())


def french(tab):
    """The page that a tab shows, in French, by its address."""
    tab.goto(f"{tab.url.split('?')[0]}?lang=fr")
    return tab


def test_nothing_is_left_in_english(show):
    tab = show()
    choose(tab, "linear")
    english = tab.evaluate(TEXTS)
    tab.click("#language")
    found = tab.evaluate(TEXTS)
    assert len(found) == len(english) > 200
    left = {text for text, before in zip(found, english, strict=True) if text == before}
    words = {word for text in left for word in re.findall(r"[A-Za-z_]{3,}\d*", text)}
    assert words - SAME == set()


def test_the_control_changes_the_language_and_nothing_else(show):
    tab = show()
    choose(tab, "relu", view="autodiff")
    go_to(tab, 1, 1)
    slide(tab, "#position", 12)
    slide(tab, "#training input", 2)
    english, number = tab.inner_text("body"), readout(tab)
    assert tab.get_attribute("#language", "aria-label") == "Français"
    tab.click("#language")
    assert tab.get_attribute("html", "lang") == "fr"
    assert tab.inner_text("h1") == "Les jacobiennes d’un réseau"
    assert tab.inner_text("nav li:first-child") == tab.inner_text("#graph h2") == "Graphe"
    assert tab.text_content("#module-name").startswith("relu 2 sur 8, sortie")
    assert readout(tab) == number
    assert re.match(r"pas \d+, perte", tab.inner_text("#training output"))
    assert tab.evaluate("document.activeElement.id") == "language"
    assert tab.get_attribute("#language", "aria-label") == "English"
    tab.wait_for_url("**?lang=fr&**")
    tab.reload()
    assert tab.inner_text("#speed h2") == "Vitesse"
    tab = show()
    choose(tab, "relu", view="autodiff")
    go_to(tab, 1, 1)
    slide(tab, "#position", 12)
    slide(tab, "#training input", 2)
    tab.click("#language")
    tab.click("#language")
    assert tab.inner_text("body") == english
    assert tab.get_attribute("html", "lang") == "en"


def test_the_address_comes_before_the_language_that_the_page_was_made_in(show, data, tmp_path):
    tab = show()
    file = tmp_path / "french.html"
    file.write_text(page_html(data, "fr"), encoding="utf-8")
    assert '<html lang="fr">' in file.read_text(encoding="utf-8")
    for query, heading in (("", "Ordre"), ("?lang=en", "Order"), ("?lang=fr", "Ordre"), ("?lang=constructor", "Ordre")):
        tab.goto(file.as_uri() + query)
        assert tab.inner_text("#order h2") == heading


def test_without_a_script_the_page_says_so_in_every_language(show):
    tab = show(java_script_enabled=False)
    assert [line.get_attribute("lang") for line in tab.locator("noscript .alert, p.alert").all()] == ["en", "fr"]
    assert "veuillez en autoriser" in tab.inner_text("body")


def test_what_python_computed_is_found_whole_by_a_pattern_or_in_parts(show):
    tab = french(show())
    for english, text in {
        "block diagonal": "diagonale par blocs",
        "diagonal + rank-1 update": "diagonale + correction de rang 1",
        "ok, 2 at kinks": "ok, 2 à des points anguleux",
        "differs from jacrev, differences, 3 at kinks": "désaccord : jacrev, différences finies, 3 à des points anguleux",
        "meeting at linear[4, 3]": "rencontre en linear[4, 3]",
        "[4, 2], 4 of 180 examples of a spiral with 3 arms": "[4, 2], 4 exemples sur 180 : une spirale à 3 bras",
        "batch: expected a whole number from 1 to 64, got 0": "lot : attendu un nombre entier de 1 à 64, reçu 0",
        "constructor": "constructor",
        "linear(3) tahn": "linear(3) tahn",
    }.items():
        assert tab.evaluate("computed", english).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_french_labels_have_room(show, size):
    tab = french(show(size=size))
    for name in ("linear", "log_softmax", "mean"):
        choose(tab, name)
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    narrow = "(one) => one.scrollWidth > one.clientWidth + 1"
    assert tab.evaluate(f"[...document.querySelectorAll('button, h2, h3, dd, dt, caption')].filter({narrow}).length") == 0
