"""Bad input on the command line is one line on stderr and exit status 2, and nothing is written."""

import os

import pytest

from jaxnets.cli.common import UsageError, output_folder
from jaxnets.report import explorer

from ..sweeps import swept
from .running import run

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
    ["examples", "--copy", ""],
    ["examples", "--copy", "/dev/null"],
    ["examples", "--copy", "/proc/no"],
    ["examples", "lecture_a"],
    ["shapes", "flatten linear(3)", "--input", "999999x999999x999999"],
    ["shapes", "digits", "--seed", "9" * 20],
    ["compare", "linear(100000) linear(100000)"],
    ["report", "linear(100000) linear(100000)"],
    ["report", "mynet", "--output", ""],
    ["reference", "--output", "."],
    ["train", "digits", "--output", ""],
    ["train", "digits", "--model", "flatten linear(100000) linear(100000) linear(10) log_softmax"],
    ["space", "--output", ""],
    ["tricks", "l2", "--output", ""],
    ["tricks", "l2", "--output", "/dev/null"],
    ["tricks", "--seeds", "-1"],
    ["uses", "influence", "--output", ""],
    ["uses", "influence", "--output", "/dev/null"],
    ["uses", "--seeds", "-1"],
    ["shapes", "linear(3)", "--input", "٣"],
    ["explore", "--port", "-1"],
    ["explore", "--link", "module=2"],
    ["space", "--seed", "-1"],
    ["train", "spiral", "--fsdp"],
    ["train", "spiral", "--processes", "2"],
    ["train", "spiral", "--processes", "2", "--process", "0", "--coordinator", "localhost:1"],
    ["train", "spiral", "--processes", "2", "--process", "2", "--coordinator", "localhost:1", "--output", "there"],
    ["train", "spiral", "--target", "x"],
    ["train", "spiral", "--held-out", "0.5"],
    ["train", "spiral", "--no-standardize"],
    ["train", "spiral", "--data", "nothing.csv"],
    ["train", "--data", "nothing.csv", "--target", "x"],
    ["train", "--data", "nothing"],
    ["train", "--data", "", "--target", "x"],
    ["train", "--data", "nothing", "--size", "3"],
    ["train", "--data", "nothing", "--size", "3x4x5"],
    ["train", "--data", "nothing", "--held-out", "2"],
    ["train", "--data", "nothing", "--classes", "few"],
    ["predict"],
    ["predict", "runs", "nothing.npz"],
    ["predict", "runs", "nothing.npz", "-o", ""],
    ["export", "runs"],
    ["export", "runs", "-o", "model.jax"],
]


MEASURED = {"--output": None, "--seeds": int, "--quick": bool, "--pictures": bool, "--format": str, "--json": bool}
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
            "--devices": int,
            "--resume": bool,
            "--pictures": bool,
            "--format": str,
            "--classes": int,
            "--held-out": float,
            "--standardize": bool,
            "--size": str,
            "--json": bool,
        },
    ),
    "evaluate": (["runs"], {"--data": str, "--json": bool}),
    "predict": (["runs", "new.csv"], {"--output": None}),
    "export": (["runs"], {"--output": None}),
    "space": ([], {"--output": None, "--seed": int, "--pictures": bool, "--format": str, "--json": bool}),
    "report": (["digits"], {"--output": None, "--seed": int, "--dtype": str, "--batch": int, "--input": str, "--lang": str}),
    "explore": (["spiral"], {"--port": int, "--input": str, "--browser": bool, "--link": str, "--lang": str}),
    "guide": (["start"], {"--lang": str}),
    "examples": ([], {"--copy": None, "--json": bool, "--lang": str}),
    "reference": ([], {"--output": None}),
    "tricks": (["l2"], MEASURED),
    "uses": (["influence"], MEASURED),
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
    for command in ("train", "evaluate", "tricks", "uses"):
        for name in ("nosuch", "spiral,digits", "../x", "\x00", "-1", "a" * 200):
            yield [command, name]
    for option, values in {
        "--epochs": ("0", "-1", "9" * 20),
        "--batch-size": ("-1", "9" * 20, "100000"),
        "--learning-rate": ("0", "-1", "nan", "inf", "-inf"),
        "--seed": ("9" * 40,),
        "--devices": ("0", "-1"),
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
        yield ["uses", "influence", "--seeds", seeds]


def test_folders_of_commands_that_run_at_once_are_others(tmp_path, monkeypatch):
    """The first free folder is taken by its making, and removed where nothing was written."""
    monkeypatch.chdir(tmp_path)
    with output_folder(None, "spiral") as one, output_folder(None, "spiral") as other:
        assert (str(one), str(other)) == (os.path.join("runs", "spiral"), os.path.join("runs", "spiral-2"))
        (other / "file").touch()
    assert os.listdir("runs") == ["spiral-2"]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="must name a folder"), output_folder("file", "spiral"):
        pass


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
    monkeypatch.setattr(explorer, "explore", lambda *_: pytest.fail("the explorer would begin to serve"))
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("jaxnets: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert len(err) < 400
    assert not list(tmp_path.iterdir())  # nothing is half-written
