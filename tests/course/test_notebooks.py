"""The notebooks run from top to bottom, say which part of the course they carry out, and show what they do now."""

import ast
import contextlib
import io
import json
import re

import pytest

from .. import notebooks
from ..sweeps import swept
from .exercises import FOLDER, cells

COURSE = {  # a notebook and the headings that it has at least
    "lecture_a": [
        *("Parametrised models", "Loss of an example", "Gradient descent", "Backpropagation through a non-linear function"),
        *("Backpropagation through a weighted sum", "A traditional neural net"),
        *("Backpropagation through a functional module", "Backpropagation through a multi-stage graph"),
    ],
    "lecture_b": [
        *("Linear", "ReLU", "Duplicate and Add", "Max", "Softmax and LogSoftmax", "Softmax saturates", "Cross-entropy"),
        *("Multi-stage graph", "A directed acyclic graph", "A graph that depends on the data", "A module of one's own"),
    ],
    "tricks": ["Normalise", "Kaiming", "Shuffle", "Decrease the learning rate", "L1 and L2", "Dropout"],
    "space_stretching": ["Linear maps", "Five affine things", "Random networks"],
    "automatic_differentiation": ["Which arguments have a gradient", "More than gradients"],
    "practicum": ["Training data, and one-hot labels", "Spiral classification", "Regression with an ensemble"],
}
CHAOTIC = ["Decrease the learning rate"]  # its steps are so large that training makes other numbers of another rounding
NUMBER = re.compile(r"[-−+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
ROUNDING = 1e-6  # of float32
LARGEST = 2_000_000  # bytes of all notebooks with their outputs


def stored(name) -> dict:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def source(cell) -> str:
    return "".join(cell["source"])


def test_every_notebook_is_known():
    assert {path.stem for path in FOLDER.glob("*.py")} == {path.stem for path in FOLDER.glob("*.ipynb")} == set(COURSE)


@pytest.mark.parametrize("name", COURSE)
def test_cells_say_what_of_the_course_they_carry_out(name):
    text = (FOLDER / f"{name}.py").read_text()
    assert text.startswith(notebooks.HEADER)
    words = [text for is_words, text in cells(FOLDER / f"{name}.py") if is_words]
    headings = re.findall(r"^## (.*)$", "\n".join(words), re.M)
    for part in COURSE[name]:
        assert any(heading.startswith(part) for heading in headings), part
    for cell in re.findall(r"^# %% \[markdown\]\n(.*?)(?=^# %%|\Z)", text, re.M | re.S):
        assert all(line.startswith("#") for line in cell.strip().splitlines())


# with outputs


@pytest.mark.parametrize("name", COURSE)
def test_the_stored_notebook_has_the_cells_of_the_source(name):
    path = FOLDER / f"{name}.py"
    own = [("markdown" if is_words else "code", text) for is_words, text in cells(path)]
    found = [(cell["cell_type"], source(cell)) for cell in stored(name)["cells"]]
    expected = notebooks.first_cells(path, notebooks.repository()) + own
    assert found == expected, f"out of date: run python -m tests.notebooks {name}"


@pytest.mark.parametrize("name", COURSE)
def test_the_stored_notebook_ran_without_errors_and_says_nothing_of_the_machine(name):
    notebook = stored(name)
    assert (notebook["nbformat"], notebook["nbformat_minor"], notebook["metadata"]) == (4, 5, notebooks.METADATA)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["metadata"] == {} and cell["id"].startswith(notebooks.digest(source(cell)))
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error" and output.get("name") != "stderr", source(cell)
            assert output.get("metadata", {}) == {}
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r" at 0x[0-9a-f]{6}|/tmp/|/home/|/root/|is not installed\\n", text)


def test_the_stored_notebooks_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) < LARGEST


def run_cell(text, name, scope) -> tuple[str, object]:
    """What a cell prints, and the value of its last line if that is an expression."""
    body = ast.parse(text, name).body
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), name, "exec"), scope)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), scope)
    return printed.getvalue(), value


def shown(cell) -> tuple[str, str | None]:
    """What a stored cell printed, and its value as text; None for a picture, whose size depends on a setting."""
    outputs = cell["outputs"]
    printed = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    values = [output["data"] for output in outputs if output["output_type"] == "execute_result"]
    if any("image/png" in data for data in values):
        return printed, None
    return printed, "".join("".join(data["text/plain"]) for data in values)


def assert_same_text(found: str, expected: str, where: str, numbers=True):
    """Two texts are equal but for spaces, the lines of tables, and the last digits of numbers or, if asked for, all."""
    found, expected = (re.sub(r"[\s─-╿]", " ", text) for text in (found, expected))
    words = [[" ".join(part.split()) for part in NUMBER.split(text)] for text in (found, expected)]
    assert words[0] == words[1], where
    if not numbers:
        return
    for ours, theirs in zip(NUMBER.findall(found), NUMBER.findall(expected), strict=True):
        assert are_close(ours, theirs), f"{where}: {ours} where the notebook has {theirs}"


def are_close(a: str, b: str) -> bool:
    """Whether two numbers differ by a twentieth or by three units of the last digit shown, or are both rounding errors."""
    x, y = (float(text.replace("−", "-").replace(",", "")) for text in (a, b))
    units = []
    for text in (a, b):
        digits, _, power = text.partition("e")
        units.append(10.0 ** (int(power or 0) - len(digits.partition(".")[2])))
    return abs(x - y) <= max(0.05 * max(abs(x), abs(y)), 3.01 * max(units)) or max(abs(x), abs(y)) < ROUNDING


def test_numbers_may_differ_in_their_last_digits_only():
    assert_same_text("a  1.23e-4 and [ 0.5\n 0.25]", "a 1.24e-04 and [0.5 0.25]", "")
    for found, expected in (
        ("a 1.2", "b 1.2"),
        ("1.2", "2.2"),
        ("1.0e-4", "1.0e-6"),
        ("−3", "3"),
        ("1 2", "1"),
        ("0.10", "0.20"),
    ):
        with pytest.raises(AssertionError):
            assert_same_text(found, expected, "")


@pytest.mark.parametrize("name", swept(COURSE, ["lecture_b"]))
def test_notebooks_print_what_is_stored(name, as_users, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    scope, heading = {"__name__": "__main__"}, ""
    for cell in stored(name)["cells"]:
        if cell["cell_type"] == "markdown":
            heading = source(cell).splitlines()[0].lstrip("# ")
        elif "%pip" not in source(cell):
            printed, value = run_cell(source(cell), name, scope)
            text, kept = shown(cell)
            if not printed.endswith("is not installed\n"):
                assert_same_text(printed, text, f"{name}, {heading}", heading not in CHAOTIC)
            if kept is not None:
                assert_same_text("" if value is None else repr(value), kept, f"{name}, {heading}")
    assert list(tmp_path.iterdir()) == []


# the command that writes them

CELLS = """\
# mypy: ignore-errors
# %% [markdown]
# # A title
#
# Words.

# %%
print(1)
print(2)

# %%
from jaxnets.show.plots.figures import new_figure

picture = new_figure(3, 2)
picture.add_subplot().plot([1, 2])
picture

# %%
print(1)
print(2)

# %%
object()
"""


def test_cells_are_read_run_and_tidied(tmp_path):
    for tool in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(tool, reason="needs pip install -e '.[notebooks]'")
    path = tmp_path / "small.py"
    path.write_text(CELLS)
    notebook = notebooks.run(notebooks.read(path, None))
    words, numbers, picture, again, thing = notebook.cells
    assert words.source == "# A title\n\nWords." and words.cell_type == "markdown"
    assert [output.text for output in numbers.outputs] == ["1\n2\n"]
    assert again.source == numbers.source and again.id == f"{numbers.id}-1"
    (shown_picture,) = picture.outputs
    assert len(shown_picture.data["image/png"]) < 8000
    assert thing.outputs[0].data["text/plain"] == "<object>"
    assert notebooks.text(notebook) == notebooks.text(notebooks.run(notebooks.read(path, None)))


def test_what_is_printed_in_pieces_becomes_one():
    new_output = pytest.importorskip("nbformat", reason="needs pip install -e '.[notebooks]'").v4.new_output
    pieces = [("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")]
    found = notebooks.tidy([new_output("stream", name=name, text=text) for name, text in pieces])
    assert [(output.name, output.text) for output in found] == [("stdout", "ab"), ("stderr", "c"), ("stdout", "d")]


def test_a_notebook_that_leaves_files_is_refused(tmp_path):
    for tool in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(tool, reason="needs pip install -e '.[notebooks]'")
    path = tmp_path / "small.py"
    path.write_text("# %%\nopen('left.txt', 'w').close()\n")
    with pytest.raises(RuntimeError, match="leaves files behind: left.txt"):
        notebooks.run(notebooks.read(path, None))


@pytest.mark.parametrize("host", ["github.com", "example.org"])
def test_where_the_repository_has_an_address_colab_installs_from_it(host):
    address = f"https://{host}/owner/jaxnets"
    *badge, (kind, install) = notebooks.first_cells(FOLDER / "tricks.py", address)
    assert kind == "code"
    assert install.splitlines()[1] == "try:" and install.count("%pip") == 1
    assert re.findall(r"https?://[^\s\"]+", install) == [address]
    if host == "github.com":
        opened = "https://colab.research.google.com/github/owner/jaxnets/blob/main/jaxnets/course/notebooks/tricks.ipynb"
        assert badge[0][0] == "markdown" and badge[0][1].endswith(f"({opened})")
    else:
        assert not badge
    assert notebooks.first_cells(FOLDER / "tricks.py", None) == []


def test_the_cells_for_colab_come_first():
    pytest.importorskip("jupytext", reason="needs pip install -e '.[notebooks]'")
    address = "https://github.com/owner/jaxnets"
    badge, install, title, *_ = notebooks.read(FOLDER / "tricks.py", address).cells
    assert [cell.cell_type for cell in (badge, install, title)] == ["markdown", "code", "markdown"]
    assert address in install.source and title.source.startswith("# ")
