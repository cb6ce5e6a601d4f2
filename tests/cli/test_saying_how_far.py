"""While a command runs, stderr says what it is doing and how far it is; results are printed as they are known."""

import contextlib
import dataclasses
import importlib
import json
import os
import pty
import subprocess
import sys

import jaxnets

from .running import run


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

    monkeypatch.setattr(report, "describe", lambda problem: {"diagram": {}})
    monkeypatch.setattr(report, "engine_data", lambda problem, diagram: {})
    monkeypatch.setattr(report, "comparisons", lambda problem: [])
    monkeypatch.setattr(report, "saturation", dict)
    monkeypatch.setattr(report, "replay", lambda problem: {})
    path = str(tmp_path / "page.html")
    status, out, err = run(capsys, "report", "linear(2)", "--input", "3", "-o", path)
    assert (status, out) == (0, f"{path}\n")
    assert [line.split(":")[0] for line in err.splitlines()] == [f"the page, part {i} of 4" for i in range(1, 5)]
