"""The guide, the reference and the README say what is so: their code runs, their links exist, no public name is missing."""

import contextlib
import doctest
import html.parser
import importlib.util
import inspect
import io
import json
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from markdown_it import MarkdownIt

import jaxnets
from benchmarks import report
from jaxnets import cli
from jaxnets.cli.main import _parse
from jaxnets.guide import page_texts
from jaxnets.reference import reference, reference_html

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "jaxnets"
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.S)  # and what it prints, where that is shown
OR_COMMANDS = re.compile(rf"{BLOCK.pattern}|```sh\n(.*?)```\n", re.S)
LEFT_OUT = {"dp_accounting"}  # packages that the extra "test" lacks: where they are missing, code with them does not run
PAGES_WITH_COMMANDS = ("recipes",)  # those of other pages install things, or take minutes


def stripped(text):
    return [line.rstrip() for line in text.splitlines()]


def run_command(line: str):
    """Run a command of a page, a training for fewer epochs and without pictures."""
    program, *arguments = shlex.split(line)
    assert program == "jaxnets"
    fewer = ["--epochs", "40", "--no-pictures"] if arguments[0] == "train" else []
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main([*arguments, *fewer]) == 0, line


@pytest.mark.parametrize("name", [name for name, text in page_texts().items() if BLOCK.search(text)])
def test_code_of_a_page_runs_and_prints_what_the_page_shows(name, as_users, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": name}
    for code, shown, commands in OR_COMMANDS.findall(page_texts()[name]):
        for line in commands.splitlines() if name in PAGES_WITH_COMMANDS else ():
            if not line.startswith("jaxnets explore"):  # which serves until Ctrl-C
                run_command(line)
        if any(f"import {package}\n" in code and importlib.util.find_spec(package) is None for package in LEFT_OUT):
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{name}.md", "exec"), namespace)
        if shown:
            assert stripped(printed.getvalue()) == stripped(shown)


@pytest.mark.parametrize("name", page_texts())
def test_commands_of_a_page_can_be_read(name):
    """Each line of a block for the shell that calls jaxnets, but for those that write scripts for the tab key."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", page_texts()[name], re.S))
    for line in re.findall(r"^jaxnets (?!--tyro)(.*)", blocks, re.M):
        _parse(shlex.split(line, comments=True))


EXAMPLES = {path: len(re.findall(r"^ +>>> ", path.read_text(), re.M)) for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize(
    "path", [path for path, count in EXAMPLES.items() if count], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_examples_in_docstrings_give_what_they_show(path, as_users):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(module, globs={"jax": jax, "jnp": jnp, "jn": jaxnets}):
        runner.run(test)
    assert runner.summarize(verbose=False) == (0, EXAMPLES[path])  # failed, tried


def test_every_public_function_has_an_example():
    found = {name: getattr(jaxnets, name) for name in jaxnets.__all__}
    functions = {
        name: value
        for name, value in found.items()
        if inspect.isfunction(value) and name not in ("swish", "multi_head_attention", "reduce")  # layers and losses
    }
    assert {"jacobian", "ntk", "fit"} <= set(functions)
    assert not [name for name, function in functions.items() if ">>> " not in function.__doc__]


# pages


def test_every_page_is_read_and_listed():
    names = {path.stem for path in (PACKAGE / "guide").glob("*.md")}
    translations = {f"{name}.fr" for name in page_texts()} & names
    assert set(page_texts()) | translations == names
    assert [name for name, text in page_texts("fr").items() if text != page_texts()[name]] == ["course"]
    for name, text in page_texts().items():
        assert text.startswith("# ")
        assert f"(jaxnets/guide/{name}.md)" in (ROOT / "README.md").read_text()
        assert name == "start" or f"({name}.md)" in page_texts()["start"]


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((PACKAGE / "guide").glob("*.md"))], ids=lambda p: p.name)
def test_relative_links_and_pictures_exist(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_tables_of_benchmarks_have_their_marks_and_say_where_they_were_measured():
    texts = {name: (ROOT / name).read_text() for name in report.FILES}
    tables = {
        mark: rows for text in texts.values() for mark, rows in re.findall(r"<!-- (\w+) -->(.*?)<!-- end of \1", text, re.S)
    }
    known = {
        "headlines",
        "benchmarks",
        "models",
        "optimizers",
        "compile",
        "programs",
        "scaling",
        "roofline",
        "devices",
        "accuracy",
    }
    assert set(tables) == known
    for mark, rows in tables.items():
        assert rows.count("\n|--") == (1 if mark == "headlines" else rows.count("\nMeasured on ")) >= 1


# reference


def public() -> dict[str, object]:
    found = {name: getattr(jaxnets, name) for name in jaxnets.__all__}
    for name in ("rules", "initializers", "regularizers", "models", "data"):
        module = found.pop(name)
        for own, value in inspect.getmembers(module, lambda v: inspect.isfunction(v) or inspect.isclass(v)):
            if value.__module__ == module.__name__ and not own.startswith("_"):
                found[f"{name}.{own}"] = value
    for name, cls in list(found.items()):
        for own in vars(cls) if inspect.isclass(cls) else ():
            value = getattr(cls, own)
            if not own.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                found[f"{name}.{own}"] = value
    del found["LAYERS"]  # a dict
    return found


def first_line(value) -> str:
    return inspect.getdoc(value).splitlines()[0]


def test_no_public_name_lacks_a_docstring():
    assert not [name for name, value in public().items() if not (inspect.getdoc(value) or "").strip()]


class Page(html.parser.HTMLParser):
    """The text under every heading of a page, where its links lead, which tags are open."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.links, self.open, self.at = {}, [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links.append(attrs.get("href", attrs.get("src")))
        if tag != "meta":
            self.open.append(tag)
        if "id" in attrs:
            assert attrs["id"] not in self.texts
            self.at = attrs["id"]
            self.texts[self.at] = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts[self.at] = self.texts.get(self.at, "") + data


def test_the_reference_page_has_every_public_name_with_its_docstring():
    page = Page(reference_html())
    assert not page.open
    for name, value in public().items():
        text = page.texts[name]
        assert first_line(value).replace("`", "") in text.replace("`", ""), name
        if not isinstance(value, property) and not (inspect.isclass(value) and issubclass(value, BaseException)):
            assert all(parameter in text for parameter in inspect.signature(value).parameters if parameter != "self")
    assert {link for link in page.links if link} <= {f"#{name}" for name in page.texts}  # no request to anywhere
    assert "light dark" in page.texts[""]


def test_the_reference_as_markdown_has_every_public_name_with_its_docstring():
    _, *entries = re.split(r'^#+ <a id="', reference(), flags=re.M)
    texts = {entry.partition('"')[0]: re.sub(r"\\(\W|_)", r"\1", entry) for entry in entries}
    assert len(texts) == len(entries)
    for name, value in public().items():
        assert first_line(value) in texts[name], name
    assert "```python\n>>> J = jn.jacobian(jn.softmax)" in texts["jacobian"]


def test_the_reference_as_markdown_has_no_markup_by_accident():
    inline = [token for token in MarkdownIt().parse(reference()) if token.type == "inline"]
    kinds = {child.type for token in inline for child in token.children} - {"link_open", "link_close"}
    assert kinds == {"text", "code_inline", "softbreak", "html_inline"}  # no *emphasis* made of `*axes` or `w[o]_i`
    assert {c.content[:7] for t in inline for c in t.children if c.type == "html_inline"} == {'<a id="', "</a>"}
    links = {c.attrs["href"] for t in inline for c in t.children if c.type == "link_open"}
    assert links == {f"#{name}" for name in re.findall(r'<a id="([^"]+)', reference())}


def test_a_long_signature_in_the_reference_has_a_line_for_each_argument():
    text = reference()
    assert "```python\nrelu(x: Float[Array, '...']) -> Float[Array, '...']\n```" in text
    assert "\nmax_pool(\n    x: " in text and "\n    *,\n" in text
    on_one_line = re.findall(r"^```python\n((?!>>>).+)\n```", text, re.M)
    assert len(on_one_line) > 100 and max(map(len, on_one_line)) <= 90


def test_layers_of_users_are_not_in_the_reference(as_users):
    exec("import jaxnets\n@jaxnets.layer\ndef mine(x):\n    'Mine.'\n    return x", {"__name__": "elsewhere"})
    assert "mine" in jaxnets.LAYERS
    assert 'id="mine"' not in reference_html()


# tables of benchmarks


def test_headlines_sum_up_the_newest_results(tmp_path, monkeypatch, capsys):
    about = {"device": "abacus", "platform": "cpu", "cores": "2", "dtype": "float32", "python": "3.12", "jax": "0.12"}

    def stored(day, *cases, **changed):
        results = [
            {"question": "gradient", "case": str(i), "milliseconds": times, **changed} for i, times in enumerate(cases)
        ]
        (tmp_path / f"{day}.json").write_text(json.dumps({"environment": about, "results": results}))

    class Question:
        """How long?"""

    stored("2026-01-01", {"jaxnets": 9.0, "other": 1.0})
    stored(
        "2026-01-02",
        {"jaxnets": 1.0, "jaxnets, again": 0.1, "worse": 4.0, "best": 2.0, "unit": 0.5},
        {"jaxnets": 3.0, "best": 2.0},
        {"jaxnets": 3.0, "unit": 1.0},
        references=["unit"],
    )
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "FILES", ("A.md", "B.md"))
    (tmp_path / "A.md").write_text("before\n<!-- headlines -->\nold\n<!-- end of headlines -->\nafter\n")
    (tmp_path / "B.md").write_text("<!-- benchmarks --><!-- end of benchmarks -->\n")
    report.report({"gradient": Question})
    first, *table, last = (tmp_path / "A.md").read_text().splitlines()
    assert (first, last) == ("before", "after")
    assert table[3:-1] == ["| `gradient` | How long? | abacus | 2 | 0.50 to 1.50 |"]
    page = (tmp_path / "B.md").read_text()
    assert "\nMeasured on abacus (cpu, 2 cores), float32, Python 3.12, jax 0.12.\n" in page
    assert [line.split("|")[-2].strip() for line in page.splitlines() if line.startswith("| gradient")] == [
        "0.50",
        "1.50",
        "–",
    ]
    assert not capsys.readouterr().out

    (tmp_path / "B.md").write_text("")
    report.report({"gradient": Question})
    assert "benchmarks: skipped, no marks" in capsys.readouterr().out
