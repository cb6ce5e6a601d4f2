"""Commands in another language: by --lang, or as the environment asks for."""

import json
from pathlib import Path

import pytest

from jaxnets.report import explorer
from jaxnets.report.explorer import Explorer

from .running import run, shell


@pytest.fixture
def french(monkeypatch):
    """An environment that asks for French."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")


def test_pages_of_the_guide(capsys, monkeypatch, french):
    by_environment = run(capsys, "guide", "course")
    assert by_environment[0] == 0 and "Glossaire" in by_environment[1] and "descente de gradient" in by_environment[1]
    assert run(capsys, "guide", "course", "--lang", "en")[1].split("\n")[0].strip("┃ ┏━┓") != "Le cours"
    assert "Glossaire" not in run(capsys, "guide", "course", "--lang", "en")[1]
    assert run(capsys, "guide")[1].startswith("pages\N{NO-BREAK SPACE}: course, start")
    accuracy = run(capsys, "guide", "accuracy")
    monkeypatch.setenv("LC_ALL", "C")
    assert run(capsys, "guide", "course", "--lang", "fr") == by_environment
    assert run(capsys, "guide", "accuracy") == accuracy  # a page that is not translated
    assert "Glossaire" not in run(capsys, "guide", "course")[1]


def test_the_variables_of_a_process(tmp_path):
    done = shell("guide", LC_ALL="", LC_MESSAGES="", LANG="fr_BE.UTF-8", PYTHONIOENCODING="utf-8")
    assert done.returncode == 0 and done.stdout.startswith("pages\N{NO-BREAK SPACE}: course")


def test_a_report(capsys, tmp_path, monkeypatch, french):
    monkeypatch.chdir(tmp_path)
    command = ["report", "linear(2) relu", "--input", "2", "--batch", "1", "-o"]
    assert run(capsys, *command, "french.html")[0] == 0
    assert '<html lang="fr">' in Path("french.html").read_text(encoding="utf-8")
    assert run(capsys, *command, "english.html", "--lang", "en")[0] == 0
    assert '<html lang="en">' in Path("english.html").read_text(encoding="utf-8")


def test_the_explorer(capsys, monkeypatch, french):
    asked = []
    monkeypatch.setattr(explorer, "explore", lambda *arguments: asked.append(arguments[-2]))
    for options in ([], ["--lang", "en"], ["--lang", "fr"]):
        assert run(capsys, "explore", *options)[0] == 0
    assert asked == ["fr", "en", "fr"]
    for language, ending in (("fr", "&lang=fr"), ("en", "")):
        found = Explorer(language=language)
        found._server.server_close()
        assert found.url.partition(found.token)[2] == ending


def test_the_list_of_notebooks_and_their_copies(capsys, tmp_path, monkeypatch, french):
    monkeypatch.chdir(tmp_path)
    table = run(capsys, "examples")[1]
    assert "les carnets du cours" in table and "astuces pratiques" in table and "--copy DOSSIER" in table
    assert json.loads(run(capsys, "examples", "--json", "--lang", "en")[1])[0]["title"] == "Automatic differentiation"
    assert run(capsys, "examples", "--copy", "cours")[0] == 0
    assert "# # Différentiation automatique\n" in Path("cours/automatic_differentiation.py").read_text(encoding="utf-8")
