"""The page of the course: the headings in their order, and every item carried out by a notebook or a command."""

import re
from pathlib import Path

import pytest

import jaxnets
from jaxnets.cli.main import _parse
from jaxnets.course.practicum import RECIPES
from jaxnets.course.tricks import TRICKS
from jaxnets.guide import page_texts

from ..languages.french import formulas

NOTEBOOKS = Path(jaxnets.__file__).parent / "course" / "notebooks"
PAGE = page_texts()["course"]
HEADINGS = {  # of the course, and of its notebooks, with the number of items that each has at least
    "Parametrised models": 6,
    "Block diagrams": 4,
    "Loss functions": 4,
    "Gradient descent": 9,
    "Advantages of stochastic gradient descent": 3,
    "Traditional neural networks": 5,
    "Backpropagation through a non-linear function": 3,
    "Backpropagation through a weighted sum": 3,
    "Block diagram of a traditional neural net": 2,
    "Backpropagation through a functional module": 4,
    "Backpropagation through a multi-stage graph": 3,
    "A worked example": 4,
    "Basic modules": 6,
    "LogSoftMax and SoftMax": 6,
    "Practical tricks": 17,
    "Supervised learning for classification": 4,
    "Training data": 2,
    "Fully connected layers, inference": 5,
    "Training": 10,
    "Spiral classification": 5,
    "Regression": 6,
    "Stretching space": 6,
    "Automatic differentiation": 5,
}


def items(section: str) -> list[list[str]]:
    """The rows of the section's table, without its head: what the course has, and where it runs."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", page, re.M | re.S))


SECTIONS = sections(PAGE)
ROWS = [row for section in SECTIONS.values() for row in items(section)]


def headings(notebook: str) -> list[str]:
    return re.findall(r"^# ## (.*)$", (NOTEBOOKS / f"{notebook}.py").read_text(), re.M)


def test_the_course_in_its_order():
    assert list(SECTIONS) == list(HEADINGS)
    assert not [name for name, least in HEADINGS.items() if len(items(SECTIONS[name])) < least]


@pytest.mark.parametrize("what, where", ROWS, ids=[what for what, _ in ROWS])
def test_an_item_is_carried_out(what, where):
    if cell := re.fullmatch(r"\[(\w+): (.+)\]\(\.\./course/notebooks/\1\.ipynb\)", where):
        notebook, heading = cell.groups()
        assert heading in headings(notebook)
    else:
        words = re.findall(r'"[^"]*"|\S+', re.fullmatch(r"`jaxnets (.+)`", where)[1])
        _parse([word.strip('"') for word in words])
        if words[0] in ("tricks", "train"):
            assert words[1] in {"tricks": TRICKS, "train": RECIPES}[words[0]]


def test_every_section_of_a_notebook_belongs_to_an_item():
    named = {where for _, where in ROWS}
    own = {"A module of one's own", "Cross-entropy", "Multi-stage graph", "More than gradients"}  # more than the course has
    for path in NOTEBOOKS.glob("[!_]*.py"):
        for heading in headings(path.stem):
            if heading not in own and not heading.startswith("Exercise"):
                assert f"[{path.stem}: {heading}](../course/notebooks/{path.stem}.ipynb)" in named


FRENCH = page_texts("fr")["course"]


def test_the_french_page_has_the_same_headings_and_rows():
    """Every row leads to the same place and has the same formulas, and every remark stands where the English one does."""
    assert [len(marks) for marks in re.findall(r"^(##+) ", FRENCH.split("## Glossaire")[0], re.M)] == [
        len(marks) for marks in re.findall(r"^(##+) ", PAGE, re.M)
    ]
    for (_, english), (name, french) in zip(SECTIONS.items(), sections(FRENCH).items(), strict=True):
        pairs = list(zip(items(english), items(french), strict=True))
        assert [there[1] for _, there in pairs] == [here[1] for here, _ in pairs], name
        assert [formulas(there[0]) for _, there in pairs] == [formulas(here[0]) for here, _ in pairs], name
        remarks = [[line for line in text.splitlines() if line and line[0] != "|"] for text in (english, french)]
        assert bool(remarks[1]) == bool(remarks[0]), name
        assert sorted(formulas(" ".join(remarks[1]))) == sorted(formulas(" ".join(remarks[0]))), name


def test_no_item_is_left_in_english():
    """A row is the same in both languages only where it is a formula."""
    same = [row[0] for row in ROWS if row in [row for text in sections(FRENCH).values() for row in items(text)]]
    assert [text for text in same if re.search(r"[a-z]{7,}", text) and "dimensions" not in text] == []
