"""The page for the browser, in Chromium without a window: every panel, by mouse and keyboard; its numbers against Python."""

import copy
import inspect
import re
from importlib.resources import files

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from jaxnets.report.page import SCRIPTS, STYLES, page_html, script, style
from jaxnets.report.training import Training

from .tabs import NARROW, WIDE, choose, go_to, readout, rows_of, slide, values

PANELS = ["graph", "module", "order", "comparison", "saturation", "training", "speed"]


def test_a_page_is_one_small_file(data):
    sources = [files("jaxnets.report").joinpath("page.html").read_text(encoding="utf-8"), style(), script()]
    assert sum(len(text.encode()) for text in sources) < 140_000
    assert not any(word in text for text in sources for word in ("innerHTML", "outerHTML", "document.write", "eval("))
    html = page_html(data)
    assert len(html.encode()) < 400_000
    assert not re.findall(r"(?:src|href)=\"(?!#|data:,)[^\"]*\"| on\w+=\"|@import|url\(\"", html)


def test_every_file_of_style_and_script_is_in_the_page():
    for folder, names in (("style", STYLES), ("script", SCRIPTS)):
        assert sorted(names) == sorted(
            path.name.split(".")[0] for path in files("jaxnets.report").joinpath(folder).iterdir()
        )


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_every_panel_is_there_and_nothing_is_wider_than_the_window(show, size):
    tab = show(size=size)
    assert [link.get_attribute("href") for link in tab.locator("nav a").all()] == [f"#{panel}" for panel in PANELS]
    for panel in PANELS:
        assert len(tab.inner_text(f"#{panel} .body").split()) > 3
    for name in ("linear", "add", "log_softmax", "mean"):
        choose(tab, name)
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    keyboard = "(one) => one.scrollWidth <= one.clientWidth || one.tabIndex == 0"
    assert tab.evaluate(f"[...document.querySelectorAll('.scroll, pre')].every({keyboard})")


def test_tables_pictures_and_fields_have_names(show):
    tab = show()
    unnamed = tab.evaluate("""() => [
        ["table", (one) => one.caption?.textContent && !one.querySelector("th:not([scope])")],
        ["svg", (one) => one.ariaLabel || one.ariaHidden],
        ["input", (one) => one.labels.length || one.ariaLabel],
        ["section", (one) => document.getElementById(one.getAttribute("aria-labelledby"))],
    ].flatMap(([tag, named]) => [...document.querySelectorAll(tag)].filter((one) => !named(one)).map(String))""")
    assert not unnamed
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_graph_shows_every_arrow_without_overlaps(show, data, size):
    tab = show(size=size)
    values, gradients = tab.locator(".graph").all()
    words, back = values.text_content(), gradients.text_content()
    for arrow in data["diagram"]["arrows"]:
        if arrow["block"]:
            assert arrow["block"]["dims"] in words
            assert arrow["gradient"].replace(" = ", "= ") in back
    assert values.locator(".arrow").count() == gradients.locator(".arrow").count() == len(data["diagram"]["arrows"])
    assert all(name in words for name in ("w₁", "b₁", "w₂", "b₂", "h₁"))
    assert all(f"∂C/∂{name}" in back for name in ("x", "w₁", "b₂", "h₆"))
    assert values.locator("g.weight title").first.text_content().startswith("params[0]['w']")
    overlaps = tab.evaluate("""() => [...document.querySelectorAll(".graph")].flatMap((graph) => {
        const boxes = [...graph.querySelectorAll("text, .block")].filter((one) => one.tagName == "rect" || one.textContent)
            .filter((one) => !one.matches(".name")).map((one) => [one, one.getBoundingClientRect()]);
        const common = (a, b, start, end) => Math.min(a[end], b[end]) - Math.max(a[start], b[start]);
        return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(
            ([, b]) => common(a, b, "left", "right") > 1 && common(a, b, "top", "bottom") > 3,
        ).map(([other]) => [one.textContent || one.outerHTML, other.textContent || other.outerHTML]));
    })""")
    assert not overlaps


def test_modules_are_chosen_with_mouse_and_keyboard(show, asked):
    tab = show()
    gradients = tab.locator(".graph").nth(1)
    gradients.locator("[data-module='1']").click()
    assert tab.text_content("#module-name").startswith("relu 2 of")
    assert tab.locator("[aria-pressed='true'][data-module]").count() == 2
    assert tab.locator("#module").bounding_box()["y"] < 100  # the window has moved there

    tab.locator(".graph [tabindex='0']").first.focus()
    for key, module in (("ArrowDown", 2), ("ArrowRight", 3), ("ArrowUp", 2), ("End", 7), ("ArrowDown", 7), ("Home", 0)):
        tab.keyboard.press(key)
        assert tab.evaluate("document.activeElement.dataset.module") == str(module)
    assert tab.text_content("#module-name").startswith("relu")
    tab.keyboard.press("Enter")
    assert tab.text_content("#module-name").startswith("linear")
    shown = tab.locator("#module").inner_text()
    j = jn.jacobian(jn.linear)(asked.x, asked.params[0]["w"], asked.params[0]["b"])
    assert j.formula in shown and "Kronecker" in shown and "12×2" in shown
    assert tab.locator("pre").first.text_content() == inspect.getsource(jn.linear.forward).strip()
    assert re.search(r"layers/linear\.py:\d+", shown)

    tab.get_by_role("button", name="Module 2: relu", exact=True).click()
    assert tab.text_content("#module-name").startswith("relu")
    assert tab.evaluate("document.activeElement.dataset.to") == "2"  # the way on is a key press


def test_heat_map_reads_the_numbers_of_the_jacobian(show, asked):
    tab = show()
    choose(tab, "linear", argument="w")
    go_to(tab, 13, 3)
    assert readout(tab) == "∂y[1,1]/∂w[1,1] = " + readout(tab).rsplit(" ", 1)[1]
    assert float(readout(tab).rsplit(" ", 1)[1]) == pytest.approx(float(asked.x[1, 1]), rel=1e-5)
    go_to(tab, 13, 2)
    assert float(readout(tab).rsplit(" ", 1)[1]) == pytest.approx(float(asked.x[1, 0]), rel=1e-5)
    go_to(tab, 13, 4)
    assert readout(tab) == "∂y[1,1]/∂w[2,0] = 0, zero by structure"
    assert "first 24×24 of 48×24" in tab.inner_text("#heat")

    tab.get_by_label("x", exact=True).check()
    box = tab.locator("[data-cell='2,1']").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    where, number = readout(tab).split(" = ")
    assert where == "∂y[b=0,2]/∂x[b=0,1]"
    assert float(number) == pytest.approx(float(asked.params[0]["w"][2, 1]), rel=1e-5)
    fill = tab.get_attribute("[data-cell='2,1']", "fill")
    red, _, blue = map(int, re.findall(r"\d+", fill))
    assert (red > blue) == (float(number) > 0)


def test_zeros_by_structure_are_drawn_unlike_zeros_of_value(show, asked):
    tab = show()
    hidden = np.asarray(asked.x @ asked.params[0]["w"].T + asked.params[0]["b"])[0]
    dead, alive = int(np.argmin(hidden)), int(np.argmax(hidden))
    assert hidden[dead] < 0 < hidden[alive]
    choose(tab, "relu")
    assert tab.get_attribute(f"[data-cell='{dead},{dead}']", "fill") == "rgb(247,247,247)"
    assert tab.locator(f"[data-cell='{dead},{alive}']").count() == 0
    assert tab.locator("[data-hatch]").get_attribute("fill") == "url(#hatch)"
    go_to(tab, dead, dead)
    assert readout(tab).endswith(" = 0")
    go_to(tab, dead, alive)
    assert readout(tab).endswith("zero by structure")
    assert "zero by structure" in tab.inner_text("#heat .row")


def test_heat_map_shows_autodiff_and_the_difference(show, data):
    changed = copy.deepcopy(data)
    j = changed["modules"][1]["jacobians"][0]
    j["autodiff"], j["difference"] = [[0, 0, 0.25], [1, 0, 0.5], [2, 2, "nan"]], [[1, 0, -0.5]]
    tab = show(changed)
    choose(tab, "relu", view="autodiff")
    for row, column, text in ((0, 0, "0.25"), (1, 0, "0.5"), (2, 2, "nan"), (0, 1, "zero by structure")):
        go_to(tab, row, column)
        assert readout(tab).endswith(text)
    assert tab.get_attribute("[data-cell='2,2']", "fill") == "url(#unknown)"
    tab.get_by_label("difference", exact=True).check()
    assert tab.locator("#heat .legend text").all_text_contents() == ["−0.5", "0", "0.5"]
    assert tab.get_attribute("[data-cell='1,0']", "fill") == "rgb(33,102,172)"
    assert tab.get_attribute("[data-cell='0,0']", "fill") == "rgb(247,247,247)"
    del j["autodiff"], j["difference"]
    tab = show(changed)
    choose(tab, "relu")
    assert tab.get_by_label("autodiff", exact=True).is_disabled()


def test_order_and_comparison_hold_the_numbers_of_python(show, data, compared):
    tab = show()
    for i, plan in enumerate(data["plans"]):
        shown = rows_of(tab.locator("#order table").nth(i))
        least = min(cost["multiplies"] for cost in plan["costs"])
        for cells, cost in zip(shown, plan["costs"], strict=True):
            assert int(cells[1].replace(",", "")) == cost["multiplies"]
            assert float(cells[2]) == pytest.approx(cost["multiplies"] / least, abs=0.005)
            assert ("chosen" in cells[0]) == cost["chosen"]
        assert tab.locator("#order .steps").nth(i).locator("li").all_inner_texts() == list(plan["order"])
    assert "·".join(tab.locator(".chain li").all_inner_texts()) == data["chain"]

    heads = tab.locator("#comparison thead th").all_inner_texts()
    for row, block in zip(tab.locator("#comparison tbody tr").all(), compared.blocks, strict=True):
        cells = dict(zip(heads, row.locator("th, td").all_inner_texts(), strict=True))
        assert cells["Jacobian"].split() == [block.name, f"{list(block.output)}×{list(block.input)}".replace(" ", "")]
        assert cells["verdict"] == block.verdict == "ok"
        for method, error in block.errors.items():
            absolute, *ulp = cells[f"error to {method}"].removesuffix("ULP").split()
            assert float(absolute) == pytest.approx(error.absolute, rel=0.05)
            # to finite differences, which are not right up to rounding errors, ULP mean nothing
            assert list(map(float, ulp)) == ([] if method == "differences" else [pytest.approx(error.ulp, rel=0.05)])
    times = dict(re.findall(r"(\w+) ([\d.e+-]+) ms", tab.inner_text("#comparison")))
    for method, time in compared.milliseconds.items():
        assert float(times[method]) == pytest.approx(time, rel=0.05)


def test_saturation_follows_the_slider_to_overflow(show, data):
    tab = show()
    positions = data["saturation"]["positions"]

    def value(panel, series):
        return float(values(tab, f"#saturation figure:nth-child({panel + 1})")[series])

    def dot(panel, place):
        return tab.locator("#saturation figure").nth(panel).locator("circle").nth(place)

    for t in (0, 40, 100):
        slide(tab, "#position", positions.index(t))
        z = jnp.asarray([t, 0, 0], jnp.float32)
        assert f"t = {t}, logits [{t}, 0, 0] in float32" in tab.inner_text("#saturation output")
        assert value(1, "jn.log_softmax(z)") == pytest.approx(-np.log1p(2 * np.exp(-float(t))), rel=1e-4)
        assert value(2, "jn.log_softmax(z)") == pytest.approx(float(jax.nn.log_softmax(z)[1]), rel=1e-5)
        naive = float(jnp.log(jnp.exp(z) / jnp.exp(z).sum())[0])
        assert value(1, "log(exp(z) / Σ exp(z))") == pytest.approx(naive, rel=1e-5, nan_ok=True)
        assert dot(1, 0).get_attribute("visibility") == ("hidden" if t == 100 else "visible")
    assert np.isnan(value(1, "log(exp(z) / Σ exp(z))"))
    tab.focus("#position")
    tab.keyboard.press("ArrowRight")
    assert f"t = {positions[positions.index(100) + 1]}," in tab.get_attribute("#position", "aria-valuetext")


def test_training_is_replayed(show, data, asked):
    tab = show()
    frames, size = data["replay"]["frames"], data["replay"]["size"]

    def at():
        return int(re.match(r"step (\d+)", tab.text_content("#training output"))[1])

    do = {name: tab.locator(f"[data-do='{name}']") for name in ("play", "back", "step", "reset")}
    shown = {layer: float(norm) for layer, norm in values(tab, "#training figure:nth-child(3)").items()}
    (first, last), x = ([asked.params[i] for i in (0, 3)], Training(asked).x)
    alive = (x @ first["w"].T + first["b"] > 0).sum(1)
    norms = {"linear": jnp.linalg.norm(first["w"]), "relu": jnp.sqrt(alive).mean(), "linear 2": jnp.linalg.norm(last["w"])}
    for layer, norm in norms.items():
        assert shown[layer] == pytest.approx(float(norm), rel=1e-5)
    assert len(shown) == len(data["replay"]["layers"])
    assert float(values(tab, "#training figure:nth-child(2)")["loss"]) == pytest.approx(frames[0]["loss"], rel=1e-5)
    assert tab.locator(".map .dot").count() == len(data["replay"]["x"])

    assert do["back"].is_disabled()
    do["step"].click()
    do["step"].click()
    assert at() == frames[2]["step"]
    do["back"].click()
    assert at() == frames[1]["step"]
    slide(tab, "#training input", len(frames) - 1)
    assert at() == frames[-1]["step"] and do["step"].is_disabled()
    regions = frames[-1]["regions"]
    read = "(path) => ['d', 'class', 'fill-opacity'].map((name) => path.getAttribute(name))"
    paths = tab.evaluate(f"[...document.querySelectorAll('.region')].map({read})")
    assert sum(d.count("z") for d, *_ in paths) == size**2 and len(paths) == len(set(regions))
    for place, (column, row) in {0: (0, size - 1), size - 1: (size - 1, size - 1), size**2 - 1: (size - 1, 0)}.items():
        ((_, classes, opacity),) = (path for path in paths if f"M{column} {row}h" in path[0])
        code = ord(regions[place]) - 48
        assert classes == f"region {('c1', 'c0', 'c2')[code // 8]}"
        assert float(opacity) == pytest.approx(0.08 + 0.06 * (code % 8))
    do["play"].click()  # from the end: from the beginning
    assert at() == 0 and do["play"].inner_text() == "Pause"
    tab.locator("#training output", has_not_text="step 0,").wait_for()
    do["play"].click()
    assert do["play"].inner_text() == "Play"
    do["reset"].click()
    assert at() == 0


def test_speed_shows_tables_or_how_to_make_them(show, data):
    tab = show()
    assert not tab.locator("#speed caption").is_visible()
    tab.click("#speed summary")
    assert tab.inner_text("#speed caption") == "Measured on cpu (cpu, 2 cores), jax 0.10.2"
    assert rows_of(tab.locator("#speed")) == [["mlp", "0.52"]]
    assert "python -m benchmarks run" in show({**data, "benchmarks": []}).inner_text("#speed")


COLOURS = """() => {
    const opaque = (colour) => !/, 0\\)$/.test(colour) && colour != "transparent";
    const ground = (one) => !one ? "rgb(255, 255, 255)" : opaque(getComputedStyle(one).backgroundColor)
        ? getComputedStyle(one).backgroundColor : ground(one.parentElement);
    const block = (one) => one.matches(".name") && one.parentElement.querySelector(".block");
    const own = (one) => [...one.childNodes].some((node) => node.nodeType == 3 && node.textContent.trim());
    const pairs = [...document.body.querySelectorAll("*")].filter((one) => own(one) && one.checkVisibility()
        && !one.matches("script, title, noscript *")).map((one) => [
            one instanceof SVGElement ? getComputedStyle(one).fill : getComputedStyle(one).color,
            block(one) ? getComputedStyle(block(one)).fill : ground(one instanceof SVGElement ? one.ownerSVGElement : one),
        ].join("|"));
    return [...new Set(pairs)].map((pair) => pair.split("|"));
}"""


def contrast(*colours):
    """The ratio of contrast of two colours, WCAG 2.2, success criterion 1.4.3."""

    def luminance(colour):
        parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)


def test_light_and_dark_can_be_read(show):
    tab = show(color_scheme="dark")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    pairs = tab.evaluate(COLOURS)
    assert tab.get_attribute("#theme", "aria-pressed") == "true"
    tab.click("#theme")
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert contrast(dark, "rgb(0, 0, 0)") < 1.5 and contrast(light, "rgb(255, 255, 255)") < 1.5
    for colours in (*pairs, *tab.evaluate(COLOURS)):
        assert contrast(*colours) >= 4.5, colours
    assert len(pairs) > 8
    tab.emulate_media(reduced_motion="reduce")
    assert tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_print_leaves_controls_out_and_opens_all(show):
    tab = show(color_scheme="dark", size=(700, 900))
    choose(tab, "linear")
    tab.emulate_media(media="print", color_scheme="dark")
    assert not any(one.is_visible() for one in tab.locator("button, input, nav").all())
    assert all(tab.locator(f"#{panel} .body").is_visible() for panel in PANELS)
    assert contrast(tab.evaluate("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)") < 1.1
    assert tab.evaluate("[...document.querySelectorAll('pre')].every((pre) => pre.scrollWidth <= pre.clientWidth)")
