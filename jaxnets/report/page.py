"""One self-contained HTML file, put together from the data, page.html and the files in the folders style and script."""

import json
from importlib.resources import files

from ..languages import LANGUAGES, NAMES, said, texts
from ..show.formats import replace_nonfinite

STYLES = ("base", "layout", "tables", "graph", "module", "order", "charts", "forms", "media")  # in the order of the cascade
SCRIPTS = (  # the first ones help the panels, and the last one begins
    "elements",
    "language",
    "numbers",
    "save",
    "address",
    "graph",
    "backward",
    "module",
    "heat_map",
    "order",
    "comparison",
    "charts",
    "saturation",
    "data",
    "csv",
    "descent",
    "replay",
    "training",
    "operations",
    "engine",
    "optimizers",
    "own_training",
    "weights",
    "speed",
    "live",
    "tour",
    "start",
)


WITHOUT_SCRIPT = "A script draws the pictures on this page; please allow it to run."


def page_html(data: dict, language: str = "en") -> str:
    """The page that shows `data`, at first in a language.  It holds its style and script and asks no server for anything.

    NaN and infinity, which JSON does not have, are texts in it.
    """
    page = _text("page.html").replace("/*STYLE*/", style()).replace("/*SCRIPT*/", script())
    page = page.replace("__LANGUAGE__", language).replace("__WITHOUT_SCRIPT__", _without_script())
    page = page.replace("__TEXTS__", _json(_texts()))
    return page.replace("__DATA__", _json(replace_nonfinite(data, str)))


def _texts() -> dict[str, dict]:
    """The name of every language, and its texts for the script by the English ones."""
    sections = ("page", "computed")
    return {
        language: {"name": NAMES[language], **{section: texts(language).get(section, {}) for section in sections}}
        for language in LANGUAGES
    }


def _without_script() -> str:
    """What the page says where no script can change its language: the same in every language."""
    lines = {language: said(WITHOUT_SCRIPT, language, "page") for language in LANGUAGES}
    return "".join(f'<p class="alert" lang="{language}">{line}</p>' for language, line in lines.items())


def _json(data) -> str:
    """Data for a script element, in which HTML reads only "<": without it no text can end the element."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def style() -> str:
    """The style sheet of the page."""
    return "\n".join(_text(f"style/{name}.css") for name in STYLES)


def script() -> str:
    """The script of the page."""
    return "\n".join(_text(f"script/{name}.js") for name in SCRIPTS)


def _text(path: str) -> str:
    return files(__package__).joinpath(path).read_text(encoding="utf-8")
