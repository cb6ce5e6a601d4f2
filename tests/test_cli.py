"""The command line, as a user meets it: exit status, one line for bad input, plain text, JSON."""

import json
import os
import subprocess
import sys

import pytest

from jaxnets import cli


@pytest.fixture(autouse=True)
def double_precision_afterwards():
    """The command chooses the precision of its process."""
    yield
    import jax

    jax.config.update("jax_enable_x64", True)


def shell(*arguments, **environment):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "jaxnets", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


def run(capsys, *arguments):
    """Exit status, output, errors."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


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
    import jaxnets

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


def test_compare_a_layer_a_description_and_a_preset(capsys):
    status, out, _ = run(capsys, "compare", "softmax", "--json")
    assert status == 0
    assert json.loads(out)["ok"]
    status, out, _ = run(capsys, "compare", "linear(4) tanh linear(2) softmax", "--input", "3", "--batch", "2")
    assert status == 0
    assert "the network on normal noise" in out
    assert "its average loss" in out
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


BAD = [
    [],
    ["bogus"],
    ["layers", "extra"],
    ["layers", "--bogus"],
    ["shapes"],
    ["shapes", ""],
    ["shapes", "nosuch"],
    ["shapes", "digits", "--input", "3"],
    ["shapes", "digits", "--batch", "0"],
    ["shapes", "digits", "--batch", "-1"],
    ["shapes", "digits", "--batch", "many"],
    ["shapes", "digits", "--batch", "5000"],
    ["shapes", "linear(3)", "--batch", "0"],
    ["shapes", "linear(3)", "--input", "0"],
    ["shapes", "linear(3)", "--input", "3x"],
    ["shapes", "linear(3)", "--input", "3x4"],
    ["shapes", "linear(3)", "--input", "-3"],
    ["shapes", "linear(3)", "--input", "threexfour"],
    ["shapes", "linear(3) bogus"],
    ["shapes", "residual(linear(3))"],
    ["compare"],
    ["compare", "nosuch"],
    ["compare", "digits", "digits"],
    ["compare", "digits", "--dtype", "int8"],
    ["compare", "digits", "--seed", "x"],
    ["compare", "linear(0)"],
    ["compare", "ALL"],
    ["compare", "relu", "--json", "maybe"],
    ["compare", "digits", "--seed"],
    ["compare", "spiral", "--seed", "9" * 30],
    ["compare", "softmax", "--batch", "3"],
    ["compare", "softmax", "--input", "5"],
]


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_input_is_one_line_and_exit_status_2(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("jaxnets: ")
    assert err.count("\n") == 1
    assert len(err) < 400


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
