"""The command line, as a user meets it: exit status, one line for bad input, plain text, JSON."""

import contextlib
import dataclasses
import importlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

import jaxnets
from jaxnets import cli

from .sweeps import swept


@pytest.fixture(autouse=True)
def double_precision_afterwards():
    """The command chooses the precision of its process."""
    yield
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
    assert "The norm of the weights is least with" in out
    assert sorted(path.name for path in (tmp_path / "runs" / "tricks").iterdir()) == ["l2.json", "l2.png"]


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
    ["report"],
    ["report", "nosuch"],
    ["report", "linear(3)", "--batch", "0"],
    ["explore", "linear(3"],
    ["explore", "linear(3)", "--input", "3x4"],
    ["explore", "--port", "99999"],
    ["guide", "nosuch"],
]


COMMANDS = {  # a command that would work, the kinds of its options
    "layers": ([], {"--json": bool}),
    "shapes": (["digits"], {"--json": bool, "--seed": int, "--dtype": str, "--batch": int, "--input": str, "--loss": bool}),
    "compare": (["relu"], {"--json": bool, "--seed": int, "--dtype": str, "--batch": int, "--input": str}),
    "train": (
        ["spiral"],
        {
            "--output": None,
            "--model": str,
            "--epochs": int,
            "--batch-size": int,
            "--learning-rate": float,
            "--gradient": str,
            "--seed": int,
            "--resume": bool,
            "--pictures": bool,
            "--json": bool,
        },
    ),
    "evaluate": (["runs"], {"--json": bool}),
    "space": ([], {"--output": None, "--seed": int, "--pictures": bool, "--json": bool}),
    "report": (["digits"], {"--output": None, "--seed": int, "--dtype": str, "--batch": int, "--input": str}),
    "explore": (["spiral"], {"--port": int, "--input": str, "--browser": bool}),
    "guide": (["start"], {}),
    "reference": ([], {"--output": None}),
    "tricks": (["l2"], {"--output": None, "--seeds": int, "--quick": bool, "--pictures": bool, "--json": bool}),
}
WRONG = {  # values that are none of the kind
    bool: ["--=", "maybe"],
    int: ["", "x", "1.5", "1e3", "0x10", "nan", "--"],
    float: ["", "x", "1,5", "--", "1e", "0.1.2"],
    str: ["", "no such", "'", "\x00"],
    None: [],
}


def malformed():
    """Command lines that cannot be read, or hold a value that is impossible: hundreds, made of a table."""
    yield from BAD
    for command, (rest, options) in COMMANDS.items():
        for mistake in (["--bogus"], ["--bogus=1"], ["-x"], ["another", "one"], ["--json=maybe"], ["--no-such", "3"]):
            yield [command, *rest, *mistake]
        yield [command.upper(), *rest]
        yield [command[:-1], *rest]
        for option, kind in options.items():
            if kind is not bool:
                yield [command, *rest, option]  # the value is missing
            for value in WRONG[kind]:
                yield [command, *rest, option, value]
                if value not in ("--", "--="):
                    yield [command, *rest, f"{option}={value}"]
    for command in ("train", "evaluate", "tricks"):
        for name in ("nosuch", "spiral,digits", "../x", "\x00", "-1", "a" * 200):
            yield [command, name]
    for option, values in {
        "--epochs": ("0", "-1", "9" * 20),
        "--batch-size": ("-1", "9" * 20, "100000"),
        "--learning-rate": ("0", "-1", "nan", "inf", "-inf"),
        "--seed": ("9" * 40,),
        "--model": ("linear(2", "linear(2)", "relu", "conv(3) linear(3)", "linear(0)", "linear(4) bogus", "(", "residual()"),
        "--gradient": ("AUTODIFF", "jax", "none"),
        "--output": ("/dev/null/no", "/proc/no"),
    }.items():
        for value in values:
            yield ["train", "spiral", option, value]
            yield ["train", "spiral", f"{option}={value}"]
    yield ["train", "spiral", "--resume"]
    for seeds in ("0", "1", "-3"):
        yield ["tricks", "l2", "--seeds", seeds]


MALFORMED = list({tuple(line): list(line) for line in malformed()}.values())


def test_there_are_hundreds_of_malformed_lines():
    assert len(MALFORMED) >= 300


# `--option=value` fails as `--option value` does.
APART = [line for line in MALFORMED if not any(word.startswith("--") and "=" in word for word in line)]


@pytest.mark.parametrize(
    "arguments", swept(MALFORMED, APART), ids=lambda arguments: " ".join(arguments)[:60].replace("\0", "NUL")
)
def test_bad_input_is_one_line_and_exit_status_2(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("jaxnets: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert len(err) < 400
    assert not list(tmp_path.iterdir())  # nothing is half-written


def test_report_guide_and_reference(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "report", "linear(2) relu", "--input", "2", "--batch", "1", "-o", "pages/mine.html")
    assert (status, out) == (0, "pages/mine.html\n")
    text = Path("pages/mine.html").read_text()
    assert "∂y[b,o]/∂w[o,i] = x[b,i]" in text and len(text.encode()) < 400_000
    assert run(capsys, "guide")[1].startswith("pages: start, concepts")
    assert "Concepts: labels, structure, batch" in run(capsys, "guide", "concepts")[1]
    assert "`jacobian`" in run(capsys, "reference")[1]
    assert run(capsys, "reference", "-o", "reference.html")[:2] == (0, "reference.html\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages", "reference.html"]
    assert run(capsys, "reference", "-o", "pages")[0] == 2


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


def pretend_to_compare(monkeypatch, events):
    """Comparisons that compute nothing, and note when they begin: the networks' differ, the losses' and layers' agree."""
    module = importlib.import_module("jaxnets.show.compare")

    def comparing(function, *arguments, title):
        events.append(title)
        block = module.BlockReport(*("∂y/∂x", (2,), (2,), "diagonal", 16, 32, {}, 0, 0), "", None)
        yield module.Comparison(title, "float64", (block,), {})
        verdict = "differs from jacrev" if "network" in title else "ok"
        yield module.Comparison(title, "float64", (dataclasses.replace(block, verdict=verdict),), {})

    monkeypatch.setattr(module, "comparing", comparing)


def test_a_table_is_printed_before_the_next_function_is_looked_at(capsys, monkeypatch):
    events: list[str] = []
    pretend_to_compare(monkeypatch, events)
    monkeypatch.setattr("jaxnets.cli.jacobians.print_tables", lambda report, _: events.append(report.blocks[0].verdict))
    status, out, err = run(capsys, "compare", "linear(2)", "--input", "3")
    network, loss = "linear(2): the network on normal noise", "linear(2): its average loss"
    assert events == [network, "differs from jacrev", loss, "ok"]  # what differs is shown, too
    assert (status, out, err) == (1, "", "")


def test_compare_all_says_what_it_takes_and_how_far_it_is(capsys, monkeypatch):
    from jaxnets.cli.jacobians import Compare

    def functions_of(self, name):
        yield from [(title, None, ()) for title in ([f"layer {name}"] if name in jaxnets.LAYERS else ["one", "its loss"])]

    titles: list[str] = []
    pretend_to_compare(monkeypatch, titles)
    monkeypatch.setattr(Compare, "functions_of", functions_of)
    status, out, err = run(capsys, "compare", "all", "--json")
    layers, total = len(jaxnets.LAYERS), len(jaxnets.LAYERS) + 8
    assert status == 0
    assert [found["title"] for found in json.loads(out)["comparisons"]] == titles
    assert titles[-3:] == ["its loss", "one", "its loss"]
    tenths = [i for i in range(1, total + 1) if i * 10 // total > (i - 1) * 10 // total]
    assert err.splitlines() == [
        f"compare all: {total} functions: {layers} layers, 4 models, their losses",
        *(f"compare all, function {i} of {total}: {titles[i - 1]}" for i in tenths),
    ]


def test_results_can_be_piped_away_while_the_terminal_shows_what_is_done():
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "jaxnets", "compare", "relu", "--json"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        told = b""
        with contextlib.suppress(OSError):  # at its end
            while some := os.read(ours, 65536):
                told += some
        out = process.stdout.read()
    os.close(ours)
    assert json.loads(out)["comparisons"][0]["title"] == "layer relu"
    assert process.returncode == 0
    text = told.decode()
    assert text.index("loading JAX") < text.index("compare relu") < text.index("layer relu")
    assert "diagonal" in text  # of the table that is known so far
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_the_report_says_how_far_it_is_and_what_it_writes(capsys, tmp_path, monkeypatch):
    from jaxnets.report import report

    monkeypatch.setattr(report, "describe", lambda problem: {})
    monkeypatch.setattr(report, "comparisons", lambda problem: [])
    monkeypatch.setattr(report, "saturation", dict)
    monkeypatch.setattr(report, "replay", lambda problem: {})
    path = str(tmp_path / "page.html")
    status, out, err = run(capsys, "report", "linear(2)", "--input", "3", "-o", path)
    assert (status, out) == (0, f"{path}\n")
    assert [line.split(":")[0] for line in err.splitlines()] == [f"the page, part {i} of 4" for i in range(1, 5)]
