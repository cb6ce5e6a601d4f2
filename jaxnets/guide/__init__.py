"""The guide: one page of Markdown per file.  Every example in it runs as a test."""

from importlib.resources import files

PAGES = (
    "course", "start", "first_minutes", "concepts", "your_own_layer", "recipes", "many_devices", "performance", "accuracy",
    "conventions", "from_torch", "contributing", "changes",
)  # fmt: skip


def page_texts(language: str = "en") -> dict[str, str]:
    """The Markdown text of every page by its name, in the order in which one reads them.

    A page that is not there in the language, as NAME.LANGUAGE.md, is English.
    """
    return {name: _file(name, language).read_text(encoding="utf-8") for name in PAGES}


def _file(name: str, language: str):
    translated = files(__name__) / f"{name}.{language}.md"
    return translated if translated.is_file() else files(__name__) / f"{name}.md"
