"""The notebooks under jaxnets/course/notebooks/ run from top to bottom, and say which part of the course they carry out."""

import re
from pathlib import Path

import jax
import pytest

import jaxnets

from ..sweeps import swept

FOLDER = Path(jaxnets.__file__).parent / "course" / "notebooks"
COURSE = {  # a notebook and the parts of the course that its headings name
    "gradient_descent_by_hand": [
        *("Lecture, A: parametrised models", "Lecture, A: loss", "Lecture, A: gradient descent"),
        *("Lecture, A: backpropagation through a non-linear function", "Lecture, A: backpropagation through a weighted sum"),
        *("Lecture, A: a traditional neural net", "Lecture, B: multi-stage graph", "Lecture, B: a directed acyclic graph"),
        "Lecture, B: a graph that depends on the data",
    ],
    "modules_and_jacobians": [
        *("Lecture, B: Linear", "Lecture, B: ReLU", "Lecture, B: Duplicate and Add", "Lecture, B: Max"),
        *("Lecture, B: Softmax and LogSoftmax", "Lecture, B: multi-stage graph", "Lecture, B: a module of one's own"),
    ],
    "softmax_and_tricks": [
        *("Lecture, B: Softmax saturates", "Lecture, B: cross-entropy"),
        *("Lecture, B: tricks, normalise", "Lecture, B: tricks, Kaiming", "Lecture, B: tricks, shuffle"),
        *("Lecture, B: tricks, decrease the learning rate", "Lecture, B: tricks, L1 and L2", "Lecture, B: tricks, dropout"),
    ],
    "spiral_and_regression": [
        *("Practicum: the data, and one-hot labels", "Practicum: a linear model", "Practicum: a hidden layer"),
        "Practicum: regression with an ensemble",
    ],
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
    assert all(heading.startswith(("Lecture, ", "Practicum: ", "Exercise: ")) for heading in headings)
    for text in words:
        assert all(line.startswith("#") for line in text.splitlines())
    code = [text for is_text, text in found if not is_text]
    assert sum("# Exercise" in text for text in code) == sum(text.startswith("# Solution") for text in words) >= 2


@pytest.mark.parametrize("name", swept(COURSE, ["modules_and_jacobians"]))
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
