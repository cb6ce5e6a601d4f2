"""The notebooks in French: words of every cell are translated; code, outputs and formulas are those of the English ones."""

import json
import re

import pytest

from jaxnets.course.examples import NOTEBOOKS, copy_examples, examples, words_of

from ..languages.french import formulas
from .exercises import cells

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.py"))


def shape(text: str) -> list[str]:
    """The marks of a cell in their order: headings with their level, where hints and solutions begin and end, code."""
    return re.findall(
        r"^#+ |^```\w*|</?details>|<summary>(?=Hint|Indice)|<summary>(?=Solution)|\d(?=</summary>)", text, re.M
    )


def test_every_notebook_is_translated_and_no_translation_is_left_over():
    assert sorted(path.stem for path in (NOTEBOOKS / "fr").iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_those_of_the_english_notebook(name):
    english, french = words_of(name), words_of(name, "fr")
    assert english == [text for is_words, text in cells(NOTEBOOKS / f"{name}.py") if is_words]
    for ours, theirs in zip(french, english, strict=True):
        assert shape(ours) == shape(theirs), ours
        assert formulas(ours) == formulas(theirs), ours
        assert ours != theirs


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    assert len(copy_examples(folder, "fr")) == 2 * len(NAMES)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_copies_have_french_words_and_the_same_code_and_outputs(copies, name):
    own, theirs = cells(copies / f"{name}.py"), cells(NOTEBOOKS / f"{name}.py")
    assert [text for is_words, text in own if is_words] == words_of(name, "fr")
    assert [text for is_words, text in own if not is_words] == [text for is_words, text in theirs if not is_words]
    compile((copies / f"{name}.py").read_text(encoding="utf-8"), name, "exec")
    found, stored = (json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8")) for folder in (copies, NOTEBOOKS))
    words = ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "markdown"]
    assert words[-len(words_of(name)) :] == words_of(name, "fr")
    for notebook in (found, stored):
        notebook["cells"] = [cell for cell in notebook["cells"] if cell["cell_type"] != "markdown"]
    assert found == stored


def test_english_copies_are_the_files_themselves(tmp_path):
    for path in copy_examples(tmp_path):
        assert path.read_bytes() == (NOTEBOOKS / path.name).read_bytes()


def test_the_list_is_french():
    found = {example.name: example for example in examples("fr").examples}
    assert list(found) == NAMES
    assert found["tricks"].title.endswith("astuces pratiques") and found["tricks"].about.startswith("D’après la fin")
