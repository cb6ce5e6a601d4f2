"""One self-contained HTML file from the data of the page."""

import json
from importlib.resources import files

from ..show.formats import replace_nonfinite


def page_html(data: dict) -> str:
    """The page that shows `data`: its style and script inside, no request to anywhere; NaN and infinity as texts."""
    here = files(__package__)
    # Within a script element HTML knows only "<": escaped, no text in the data can end it.
    text = json.dumps(replace_nonfinite(data, str), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    whole = here.joinpath("page.html").read_text(encoding="utf-8")
    parts = {"/*STYLE*/": here.joinpath("page.css"), "/*SCRIPT*/": here.joinpath("page.js")}
    for mark, file in parts.items():
        whole = whole.replace(mark, file.read_text(encoding="utf-8"))
    return whole.replace("__DATA__", text.replace("<", "\\u003c"))
