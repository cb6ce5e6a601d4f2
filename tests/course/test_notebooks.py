"""The notebooks under jaxnets/course/notebooks/ run from top to bottom, and say which part of the course they carry out."""

import re
from pathlib import Path

import jax
import pytest

import jaxnets

from ..sweeps import swept

FOLDER = Path(jaxnets.__file__).parent / "course" / "notebooks"
COURSE = {  # a notebook and the headings that it has at least
    "lecture_a": [
        *("Parametrised models", "Loss of an example", "Gradient descent", "Backpropagation through a non-linear function"),
        *("Backpropagation through a weighted sum", "A traditional neural net", "Multi-stage graph"),
        *("A directed acyclic graph", "A graph that depends on the data"),
    ],
    "lecture_b": [
        *("Linear", "ReLU", "Duplicate and Add", "Max", "Softmax and LogSoftmax", "Softmax saturates", "Cross-entropy"),
        *("Multi-stage graph", "A module of one's own"),
    ],
    "tricks": ["Normalise", "Kaiming", "Shuffle", "Decrease the learning rate", "L1 and L2", "Dropout"],
    "practicum": ["The data, and one-hot labels", "A linear model", "A hidden layer", "Regression with an ensemble"],
}


def cells(path):
    """Pairs of whether a cell is of words, and its text."""
    _, *parts = re.split(r"^# %%(.*)$", path.read_text(), flags=re.M)
    return [(kind.strip() == "[markdown]", text.strip()) for kind, text in zip(parts[::2], parts[1::2], strict=True)]


def test_every_notebook_is_known():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(COURSE)


@pytest.mark.parametrize("name", COURSE)
def test_cells_say_what_of_the_course_they_carry_out(name):
    found = cells(FOLDER / f"{name}.py")
    words = [text for is_text, text in found if is_text]
    headings = re.findall(r"^# ## (.*)$", "\n".join(words), re.M)
    for part in COURSE[name]:
        assert any(heading.startswith(part) for heading in headings), part
    for text in words:
        assert all(line.startswith("#") for line in text.splitlines())
    code = [text for is_text, text in found if not is_text]
    assert sum("# Exercise" in text for text in code) == sum(text.startswith("# Solution") for text in words) >= 1


@pytest.mark.parametrize("name", swept(COURSE, ["lecture_b"]))
def test_notebooks_run(name, monkeypatch, tmp_path, capsys):
    path, known = FOLDER / f"{name}.py", dict(jaxnets.LAYERS)
    monkeypatch.chdir(tmp_path)
    try:
        with jax.enable_x64(False):
            exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__"})
    finally:  # its layers are not ours
        for layer in set(jaxnets.LAYERS) - set(known):
            del jaxnets.LAYERS[layer]
    assert list(tmp_path.iterdir()) == []
    reports = re.findall(r"(\d+) of (\d+) right", capsys.readouterr().out)
    assert {given == right for given, right in reports} == {True, False}  # stubs are found out, solutions pass
