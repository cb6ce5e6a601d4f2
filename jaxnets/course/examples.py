"""The notebooks of the course: what they are about, and copies of them to work in."""

import dataclasses
import os
import re
from pathlib import Path

from ..files import written_atomically

NOTEBOOKS = Path(__file__).parent / "notebooks"


@dataclasses.dataclass(frozen=True)
class Example:
    """A notebook: its title, and the first sentence of its first cell."""

    name: str
    title: str
    about: str


@dataclasses.dataclass(frozen=True)
class Examples:
    """All notebooks.  It prints as a table."""

    examples: tuple[Example, ...]

    def to_json(self) -> list[dict]:
        return [dataclasses.asdict(example) for example in self.examples]

    def __rich_console__(self, console, options):
        from rich.table import Table
        from rich.text import Text

        grid = Table(title="the notebooks of the course", title_justify="left")
        for name in ("notebook", "title", "about"):
            grid.add_column(name, overflow="fold")
        for example in self.examples:
            grid.add_row(*map(Text, dataclasses.astuple(example)))
        yield grid
        yield Text("`jaxnets examples --copy FOLDER` copies them as .ipynb and .py.")


def examples() -> Examples:
    """The notebooks in the order of their names."""
    return Examples(tuple(_example(path) for path in sorted(NOTEBOOKS.glob("*.py"))))


def _example(path: Path) -> Example:
    first = path.read_text(encoding="utf-8").split("# %% [markdown]\n", 1)[1].split("\n\n", 1)[0]
    title, *rest = re.sub(r"^# ?", "", first, flags=re.M).split("\n\n")
    words = " ".join(" ".join(rest).split())
    return Example(path.stem, title.removeprefix("# "), re.split(r"(?<=[.!?]) ", words)[0])


def copy_examples(folder: str | os.PathLike) -> list[Path]:
    """Copy every notebook, as .ipynb and as .py, to a folder, which is made if it is missing.  Returns the paths.

    Raises FileExistsError, before anything is written, if one of the files is there.
    """
    sources = sorted(path for path in NOTEBOOKS.iterdir() if path.suffix in (".py", ".ipynb"))
    copies = [Path(folder, source.name) for source in sources]
    for path in copies:
        if os.path.lexists(path):
            raise FileExistsError(f"'{path}' exists, and nothing is overwritten; choose another folder")
    for source, path in zip(sources, copies, strict=True):
        with written_atomically(path) as part:
            part.write_bytes(source.read_bytes())
    return copies
