"""What people type next: the example of every command, what an error ends with, what the tab key completes."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import jaxnets
from jaxnets.cli.common import example_of
from jaxnets.cli.main import COMMANDS, _parse

from ..sweeps import swept
from .running import run

EXAMPLES = {name: shlex.split(example_of(command)) for name, command in COMMANDS.items()}
AFTER_TRAIN = ["evaluate", "export"]
# One serves until Ctrl-C, some follow `train`, and the example of `predict` runs with those of the recipes.
RUN = [name for name in COMMANDS if name not in ("explore", "predict", *AFTER_TRAIN)]
README = (Path(jaxnets.__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_is_a_line_of_this_command(capsys, name):
    status, out, _ = run(capsys, name, "--help")
    assert not status and f"\nExample: {shlex.join(EXAMPLES[name])}\n" in out
    assert EXAMPLES[name][0] == "jaxnets" and type(_parse(EXAMPLES[name][1:])) is COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_lists_the_command(name):
    assert f"\njaxnets {name} " in README.partition("## Command line")[2]


@pytest.mark.parametrize("name", swept(RUN, ["shapes", "examples", "guide"]))
def test_the_example_runs(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for line in [EXAMPLES[name], *(EXAMPLES[after] for after in AFTER_TRAIN if name == "train")]:
        status, out, _ = run(capsys, *line[1:])
        assert status == 0 and out


@pytest.mark.parametrize(
    "line, next_line",
    [
        ("", "see: jaxnets --help"),
        ("bogus", "see: jaxnets --help"),
        ("train digits --bogus", "see: jaxnets train --help"),
        ("shapes", "as in: jaxnets shapes mynet"),
        ("compare", "as in: jaxnets compare softmax"),
        ("train", "as in: jaxnets train digits"),
        ("train spiral --resume", "name it: --output runs/spiral"),
        ("evaluate", "as in: jaxnets evaluate runs/digits"),
        ("evaluate nosuch", "one is made by: jaxnets train digits"),
        ("report", "as in: jaxnets report digits -o report.html"),
        ("shapes linear(3) --input 0", "such as --input 3x10x20"),
    ],
)
def test_an_error_ends_with_what_to_type(capsys, line, next_line):
    status, _, err = run(capsys, *line.split())
    assert status == 2 and err.endswith(f"{next_line}\n")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_tab_key_completes_commands_options_and_values(capsys, tmp_path):
    """The script that tyro writes for bash, asked as bash asks it: with the words so far; the last one is incomplete."""
    path = tmp_path / "jaxnets"
    assert run(capsys, "--tyro-write-completion", "bash", str(path))[0] == 0

    def completed(*words):
        script = f'. {path}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${{#COMP_LINE}}; '
        script += 'eval "$(complete -p jaxnets | grep -o "_tyro[a-z_]*")"; echo "${COMPREPLY[@]}"'
        command = ["bash", "-c", script, "bash", "jaxnets", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert set(COMMANDS) <= set(completed(""))
    assert completed("com") == ["compare"]
    assert completed("train", "--learn") == ["--learning-rate"]
    assert sorted(completed("train", "--gradient", "")) == ["autodiff", "manual"]
