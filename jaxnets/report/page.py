"""One self-contained HTML file, put together from the data, page.html and the files in the folders style and script."""

import json
from importlib.resources import files

from ..show.formats import replace_nonfinite

STYLES = ("base", "layout", "tables", "graph", "module", "order", "charts", "forms", "media")  # in the order of the cascade
SCRIPTS = (  # the first ones help the panels, and the last one begins
    "elements",
    "numbers",
    "graph",
    "module",
    "heat_map",
    "order",
    "comparison",
    "charts",
    "saturation",
    "training",
    "speed",
    "live",
    "start",
)


def page_html(data: dict) -> str:
    """The page that shows `data`.  It holds its style and script and asks no server for anything.

    NaN and infinity, which JSON does not have, are texts in it.
    """
    # Within a script element "<" is the only character that HTML reads, so once it is escaped no text can end the element.
    text = json.dumps(replace_nonfinite(data, str), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    page = _text("page.html").replace("/*STYLE*/", style()).replace("/*SCRIPT*/", script())
    return page.replace("__DATA__", text.replace("<", "\\u003c"))


def style() -> str:
    """The style sheet of the page."""
    return "\n".join(_text(f"style/{name}.css") for name in STYLES)


def script() -> str:
    """The script of the page."""
    return "\n".join(_text(f"script/{name}.js") for name in SCRIPTS)


def _text(path: str) -> str:
    return files(__package__).joinpath(path).read_text(encoding="utf-8")
