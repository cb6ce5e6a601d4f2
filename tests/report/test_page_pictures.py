"""Every picture can be saved: an SVG that opens by itself, and a PNG of its size."""

import re
import struct
from xml.etree import ElementTree

import pytest

from .tabs import choose

NAMESPACE = "{http://www.w3.org/2000/svg}"


def saved(tab, click):
    with tab.expect_download(timeout=30_000) as download:
        click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_every_figure_has_its_two_buttons(show):
    tab = show()
    choose(tab, "linear")
    pictures = tab.locator("svg.graph, svg.heat, svg.chart, svg.map").count()
    names = [one.get_attribute("aria-label") for one in tab.locator(".save button").all()]
    assert len(names) == 2 * pictures and len(set(names)) == len(names) >= 18
    assert names[0].startswith("Save as SVG: ") and names[1].startswith("Save as PNG: ")


@pytest.mark.sweep
def test_every_button_saves_a_file_of_its_own(show):
    tab = show()
    choose(tab, "linear")
    files = [saved(tab, one.click) for one in tab.locator(".save button").all()]
    assert len({name for name, _ in files}) == len(files) >= 18 and all(len(content) > 1000 for _, content in files)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_svg_has_its_colours_and_fonts_inside(show, browser, scheme):
    tab = show(color_scheme=scheme)
    choose(tab, "linear", argument="w")
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    for figure, name in {
        ".graph": "jaxnets-values-and-jacobians.svg",
        ".heat": "jaxnets-y-w-linear-hand-written.svg",
    }.items():
        button = tab.locator(f"figure:has({figure}) .save button").first
        found, content = saved(tab, button.click)
        assert found == name and found in tab.inner_text("#told")
        root = ElementTree.fromstring(content)
        assert root.tag == f"{NAMESPACE}svg" and float(root.get("width")) > 100
        assert root.find(f"{NAMESPACE}rect").get("fill") == paper
        text = content.decode()
        assert not re.search(r"class=|var\(|light-dark|href=|src=|data-|tabindex", text)
        styles = [one.get("style") for one in root.iter(f"{NAMESPACE}text")]
        assert styles and all("font-family:" in style and "fill:rgb" in style for style in styles)
        used = set(re.findall(r"url\(&quot;#([\w-]+)|url\(#([\w-]+)", text))
        ids = {one.get("id") for one in root.iter() if one.get("id")}
        assert {a or b for a, b in used} <= ids
    heat = [one for one in root.iter(f"{NAMESPACE}rect") if re.match(r"rgb", one.get("fill") or "")]
    assert len(heat) > 20 and tab.locator(".cursor").count() == 1  # the page's own is as it was
    drawn = browser.new_page()
    drawn.set_content(text)
    assert drawn.locator("svg").bounding_box()["width"] == float(root.get("width"))
    drawn.close()


def test_a_png_has_the_pixels_of_the_picture(show):
    tab = show()
    for figure in (".map", ".chart"):
        found, content = saved(tab, tab.locator(f"#training figure:has({figure}) .save button").nth(1).click)
        assert found.endswith(".png") and content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">2I", content[16:24])
        x, y, w, h = map(float, tab.locator(f"#training {figure}").first.get_attribute("viewBox").split())
        assert (width, height) == (2 * (w + 16), 2 * (h + 16)) and len(content) > 2000
