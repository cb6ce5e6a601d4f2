"""The guide: one page of Markdown per file.  Every example in it runs as a test."""

from importlib.resources import files

PAGES = (
    "course", "start", "concepts", "your_own_layer", "recipes", "performance", "accuracy", "conventions", "from_torch",
    "contributing", "changes",
)  # fmt: skip


def page_texts() -> dict[str, str]:
    """The Markdown text of every page by its name, in the order in which one reads them."""
    return {name: (files(__name__) / f"{name}.md").read_text(encoding="utf-8") for name in PAGES}
