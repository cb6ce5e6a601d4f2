"""What the commands print, write and return."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

import jaxnets
from jaxnets.course.tricks import TRICKS
from jaxnets.course.uses import USES

from .running import run, shell


def test_help_does_not_import_jax():
    code = """
import sys, jaxnets.cli
try:
    jaxnets.cli.main(["--help"])
except SystemExit as stop:
    assert not stop.code
assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


@pytest.mark.parametrize("command", ["layers", "shapes", "compare"])
def test_each_command_explains_itself(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert not status
    assert "--json" in out


def test_layers_is_the_whole_catalogue(capsys):
    status, out, _ = run(capsys, "layers", "--json")
    found = {entry["name"]: entry for entry in json.loads(out)}
    assert status == 0
    assert set(found) == set(jaxnets.LAYERS)
    assert found["linear"]["formulae"][0] == "∂y[b,o]/∂x[b,i] = w[o,i]"
    assert "rank-1 update" in run(capsys, "layers")[1]


def test_shapes_of_a_preset_and_of_a_description(capsys):
    status, out, _ = run(capsys, "shapes", "mynet", "--batch", "2")
    assert status == 0
    assert "chain: [10×10]·[10×40]·[40×40]·[40×60]·[60×60]·[60×600]·[600×600]" in out
    status, out, _ = run(capsys, "shapes", "linear(6) relu linear(3)", "--input", "5", "--json")
    assert status == 0
    assert [row["output"] for row in json.loads(out)["rows"]] == [[4, 6], [4, 6], [4, 3]]
    assert "nll" in run(capsys, "shapes", "digits", "--loss")[1]


def test_compare_a_layer_and_a_description(capsys):
    status, out, _ = run(capsys, "compare", "softmax", "--json")
    assert status == 0
    assert json.loads(out)["ok"]
    status, out, _ = run(capsys, "compare", "linear(2) tanh", "--input", "3", "--batch", "2")
    assert status == 0
    assert "the network on normal noise" in out
    assert "its average loss" in out
    status, out, _ = run(capsys, "compare", "tanh", "--dtype", "float32", "--seed", "3")
    assert status == 0
    assert "agree in float32" in out


@pytest.mark.sweep
def test_compare_a_preset(capsys):
    status, out, _ = run(capsys, "compare", "spiral", "--dtype", "float32", "--seed", "3")
    assert status == 0
    assert "agree in float32" in out


def test_a_failed_comparison_is_exit_status_1(capsys, monkeypatch):
    import jaxnets as jn

    monkeypatch.setattr(jn.tanh, "rule", lambda y, x: (jn.rules.diagonal(1 + y * y),))
    status, out, _ = run(capsys, "compare", "tanh")
    assert status == 1
    assert "differs from" in out
    status, out, _ = run(capsys, "compare", "tanh", "--json")
    assert status == 1
    assert json.loads(out)["ok"] is False


def test_a_task_is_trained_and_evaluated(capsys, tmp_path):
    model = ["--model", "flatten linear(10) log_softmax", "--epochs", "2", "--gradient", "manual"]
    status, out, _ = run(capsys, "train", "digits", *model, "--output", str(tmp_path), "--no-pictures", "--json")
    assert status == 0
    trained = json.loads(out)
    assert 0.4 < trained["held_out_accuracy"] < 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    status, out, _ = run(capsys, "evaluate", str(tmp_path), "--json")
    assert status == 0
    assert json.loads(out)["accuracy"] == trained["held_out_accuracy"]
    status, _, err = run(capsys, "train", "digits", *model, "--output", str(tmp_path), "--no-pictures")
    assert status == 2  # nothing is overwritten
    assert "holds checkpoints; resume, or choose another folder" in err
    status, out, _ = run(capsys, "train", "digits", *model, "--output", str(tmp_path), "--resume", "--no-pictures", "--json")
    assert status == 0
    assert json.loads(out)["held_out_accuracy"] == trained["held_out_accuracy"]
    faster = ["--output", str(tmp_path), "--no-pictures", "--json", "--learning-rate", "0.01", "--resume"]
    status, _, err = run(capsys, "train", "digits", *model, *faster)
    assert status == 2
    assert "learning_rate was cosine_decay_schedule(" in err and "init_value=0.003), now " in err
    assert err.splitlines()[-1].endswith("say --allow-changes, or resume='with changes' in Python")
    status, out, _ = run(capsys, "train", "digits", *model, *faster, "--allow-changes")
    assert status == 0
    assert run(capsys, "train", "digits", *model, "--allow-changes")[0] == 2  # without --resume


def test_training_that_meets_nan_is_exit_status_1(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_enable_x64", False)
    status, out, err = run(capsys, "train", "spiral", "--learning-rate", "1e38", "--no-pictures")
    assert status == 1
    assert out == ""
    assert err.startswith("training linear(100) relu linear(3) log_softmax: compiling\n")
    err = err[err.index("jaxnets: ") :]
    assert err.startswith("jaxnets: step 2: the output of part 2, linear(3), [100, 3] is NaN or infinite in")
    assert err.endswith("the state after step 1 is in runs/spiral/checkpoints/step-0000000001\n")
    assert err.count("\n") == 1


def test_ctrl_c_is_exit_status_130(tmp_path):
    options = ["--epochs", "99999", "--no-pictures", "--output", tmp_path]
    command = [sys.executable, "-m", "jaxnets", "train", "spiral", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert out == ""
    assert err.startswith("training linear(100) relu linear(3) log_softmax: compiling\n")
    err = err[err.index("jaxnets: ") :]
    assert err.startswith("jaxnets: interrupted after step ")
    assert err.count("\n") == 1
    assert err.split()[-1] == str(max((tmp_path / "checkpoints").iterdir()))


def test_space_and_tricks_tell_numbers(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "space", "--no-pictures", "--json")
    assert status == 0
    assert len(json.loads(out)["linear_maps"]) == 5
    status, out, _ = run(capsys, "tricks", "l2", "--quick")
    assert status == 0
    assert "The norm of the weights is least with" in out and out.endswith("pictures and numbers: runs/tricks\n")
    status, out, _ = run(capsys, "tricks")
    assert status == 0 and all(name in out for name in TRICKS) and "tricks all" in out
    assert [row["name"] for row in json.loads(run(capsys, "tricks", "--json")[1])] == list(TRICKS)
    assert sorted(path.name for path in (tmp_path / "runs" / "tricks").iterdir()) == ["l2.json", "l2.png"]


def test_uses_tell_numbers(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "uses", "saliency", "--quick")
    assert status == 0 and "maps, network 2 of 2" in err
    assert "The accuracy falls most without the pixels of" in out and out.endswith("pictures and numbers: runs/uses\n")
    assert sorted(path.name for path in (tmp_path / "runs" / "uses").iterdir()) == ["saliency.json", "saliency.png"]
    status, out, _ = run(capsys, "uses")
    assert status == 0 and all(name in out for name in USES) and "uses all" in out
    assert [row["name"] for row in json.loads(run(capsys, "uses", "--json")[1])] == list(USES)


def test_report_guide_and_reference(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "report", "linear(2) relu", "--input", "2", "--batch", "1", "-o", "pages/mine.html")
    assert (status, out) == (0, "pages/mine.html\n")
    text = Path("pages/mine.html").read_text()
    assert "∂y[b,o]/∂w[o,i] = x[b,i]" in text and len(text.encode()) < 400_000
    assert run(capsys, "guide")[1].startswith("pages: course, start, first_minutes")
    assert "Concepts: labels, structure, batch" in run(capsys, "guide", "concepts")[1]
    assert "`jacobian`" in run(capsys, "reference")[1]
    assert run(capsys, "reference", "-o", "reference.html")[:2] == (0, "reference.html\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages", "reference.html"]
    assert run(capsys, "reference", "-o", "pages")[0] == 2


def test_examples_are_listed_and_copied(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "examples", "--json")
    assert status == 0
    listed = {example["name"]: example for example in json.loads(out)}
    table = run(capsys, "examples")[1]
    assert all(name in table for name in listed) and "practical tricks" in table
    assert listed["lecture_b"]["title"].startswith("Lecture, part B")
    for example in listed.values():
        assert example["about"].endswith(".") and not example["about"].startswith("#")
    status, out, _ = run(capsys, "examples", "--copy", "mine/course")
    files = sorted(f"mine/course/{name}{suffix}" for name in listed for suffix in (".ipynb", ".py"))
    assert (status, out.split()) == (0, files)
    here = Path(jaxnets.__file__).parent / "course" / "notebooks"
    assert all(Path(file).read_bytes() == (here / Path(file).name).read_bytes() for file in files)
    assert json.loads(run(capsys, "examples", "--copy", "other", "--json")[1]) == [
        file.replace("mine/course", "other") for file in files
    ]


def test_copies_of_examples_overwrite_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tricks.py").write_text("mine")
    status, out, err = run(capsys, "examples", "--copy", ".")
    assert (status, out) == (2, "")
    assert err == "jaxnets: 'tricks.py' exists, and nothing is overwritten; choose another folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tricks.py"] and Path("tricks.py").read_text() == "mine"


def test_plain_text_under_a_pipe_and_no_colour():
    done = shell("shapes", "linear(2) relu", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "∂y[b,o]/∂x[b,i] = w[o,i]" in done.stdout  # not wrapped


def test_a_reader_that_leaves_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "jaxnets", "layers"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
