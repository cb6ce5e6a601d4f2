"""The notebooks of the course: what they are about, and copies of them to work in, whose words may be French.

A folder notebooks/LANGUAGE has the cells of words of NAME.py in their order, in NAME.md, with `MARK` between them.  Code and
outputs are the same in every language.
"""

import dataclasses
import json
import os
import re
from pathlib import Path

from ..files import written_atomically
from ..languages import said

NOTEBOOKS = Path(__file__).parent / "notebooks"
WORDS = re.compile(r"^# %% \[markdown\]\n((?:#(?! %%).*\n)+)", re.M)  # a cell of words in a .py
MARK = "\n\n<!-- cell -->\n\n"


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
    language: str = "en"

    def to_json(self) -> list[dict]:
        return [dataclasses.asdict(example) for example in self.examples]

    def __rich_console__(self, console, options):
        from rich.table import Table
        from rich.text import Text

        grid = Table(title=said("the notebooks of the course", self.language), title_justify="left")
        for name in ("notebook", "title", "about"):
            grid.add_column(said(name, self.language), overflow="fold")
        for example in self.examples:
            grid.add_row(*map(Text, dataclasses.astuple(example)))
        yield grid
        yield Text(said("`jaxnets examples --copy FOLDER` copies them as .ipynb and .py.", self.language))


def examples(language: str = "en") -> Examples:
    """The notebooks in the order of their names."""
    return Examples(tuple(_example(path, language) for path in sorted(NOTEBOOKS.glob("*.py"))), language)


def _example(path: Path, language: str) -> Example:
    title, *rest = words_of(path.stem, language)[0].split("\n\n")
    words = " ".join(" ".join(rest).split())
    return Example(path.stem, title.removeprefix("# "), re.split(r"(?<=[.!?]) ", words)[0])


def words_of(name: str, language: str = "en") -> list[str]:
    """The cells of words of a notebook, in English where they are not there in the language."""
    translated = NOTEBOOKS / language / f"{name}.md"
    if translated.is_file():
        return translated.read_text(encoding="utf-8").strip().split(MARK)
    text = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    return [_uncommented(cell) for cell in WORDS.findall(text)]


def notebook(path: Path, language: str = "en") -> str:
    """The text of a notebook, a .py or an .ipynb, with its words in a language."""
    text = path.read_text(encoding="utf-8")
    translated = dict(zip(words_of(path.stem), words_of(path.stem, language), strict=True))
    if path.suffix == ".py":
        return WORDS.sub(lambda cell: f"# %% [markdown]\n{_commented(translated[_uncommented(cell[1])])}", text)
    found = json.loads(text)
    for cell in found["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            cell["source"] = translated.get(source, source).splitlines(keepends=True)
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def _uncommented(lines: str) -> str:
    return re.sub(r"^# ?", "", lines.strip(), flags=re.M)


def _commented(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.split("\n"))


def copy_examples(folder: str | os.PathLike, language: str = "en") -> list[Path]:
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
            part.write_bytes(notebook(source, language).encode())
    return copies
