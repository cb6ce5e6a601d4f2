"""Training on one's own file, and the commands that go on from there."""

import json

import jax
import numpy as np
import pytest

from .running import run

MODEL = ["--model", "linear(2) log_softmax", "--epochs", "3"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two tables: one to learn from, and one without answers and with a new word."""
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_enable_x64", False)
    rows = [f"{i},{'red' if i % 2 else 'blue'},{'odd' if i % 2 else 'even'}" for i in range(20)]
    (tmp_path / "my table.csv").write_text("\n".join(["n,colour,kind", *rows]) + "\n")
    (tmp_path / "new.csv").write_text("n,colour\n3,red\n4,green\n")
    return tmp_path


def test_train_evaluate_predict_export(capsys, folder):
    status, out, _ = run(capsys, "train", "--data", "my table.csv", "--target", "kind", *MODEL, "--no-pictures")
    assert status == 0
    assert "16 examples to learn from, 4 held out" in out
    assert (
        "next: jaxnets evaluate 'runs/my table'\n" in out.replace(" \n", "\n").replace("  ", " ") or "evaluate 'runs" in out
    )
    status, out, _ = run(capsys, "evaluate", "runs/my table", "--json")
    assert status == 0
    assert json.loads(out)["names"] == ["even", "odd"]
    assert "even" in run(capsys, "evaluate", "runs/my table", "--data", "my table.csv")[1]
    status, out, err = run(capsys, "predict", "runs/my table", "new.csv")
    assert status == 0
    assert out.splitlines()[0] == "predicted,even,odd" and len(out.splitlines()) == 3
    (warning,) = [line for line in err.splitlines() if line.startswith("jaxnets: ")]
    assert warning.startswith("jaxnets: warning: new.csv: column 'colour': 1 cells hold words")
    assert run(capsys, "predict", "runs/my table", "new.csv", "-o", "out.csv")[:2] == (0, "out.csv\n")
    assert (folder / "out.csv").read_text() == out
    assert run(capsys, "export", "runs/my table", "-o", "model.jax")[:2] == (0, "model.jax\n")
    function = jax.export.deserialize(bytearray((folder / "model.jax").read_bytes()))
    given = np.exp(function.call(np.array([[3, 0, 1], [4, 0, 0]], np.float32)))
    expected = [[float(cell) for cell in line.split(",")[1:]] for line in out.splitlines()[1:]]
    np.testing.assert_allclose(given, expected, rtol=1e-4)
    assert run(capsys, "export", "runs/my table", "-o", "m.safetensors")[0] == 0


def test_training_goes_on_and_evaluation_tells_what_is_wrong(capsys, folder):
    train = ["train", "--data", "my table.csv", "--target", "kind", *MODEL, "--no-pictures", "--output", "mine", "--json"]
    first = json.loads(run(capsys, *train)[1])
    again = json.loads(run(capsys, *train, "--resume")[1])
    assert again["held_out_loss"] == first["held_out_loss"]
    (folder / "my table.csv").unlink()
    status, out, err = run(capsys, "evaluate", "mine")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith(
        "my table.csv: the file of the training is no longer there; name the file to evaluate on with --data"
    )
    for arguments, words in (
        (["predict", "mine", "nothing.csv"], "no such file"),
        (["predict", "runs/no", "new.csv"], "predict: no folder 'runs/no'. A folder that `jaxnets train`"),
        (["predict", "mine"], "for which FILE? Say: jaxnets predict mine FILE"),
        (["predict", "mine", "new.csv", "-o", "."], "must name a file"),
        (["evaluate", "mine", "--data", "new.csv"], "no answers to compare with"),
        (["export", "mine"], "Say: jaxnets export mine -o model.jax"),
        (["export", "mine", "-o", "model.onnx"], "path must end in .jax or .safetensors"),
        (
            ["train", "--data", "new.csv"],
            "which column holds the answers? Name it by target= (--target); columns: n, colour",
        ),
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (2, "")
        assert words in err.splitlines()[-1]
    assert sorted(path.name for path in folder.iterdir()) == ["mine", "new.csv"]


def test_pictures_have_the_format_that_is_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "tricks", "l2", "--quick", "--format", "pdf")
    assert status == 0
    assert (tmp_path / "runs" / "tricks" / "l2.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.sweep
def test_pictures_of_the_plane_have_the_format_that_is_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "space", "--format", "svg", "--json")
    assert status == 0
    assert json.loads(out)["pictures"] == [f"runs/space/{name}.svg" for name in ("linear_maps", "tanh", "networks")]
    assert all((tmp_path / path).read_bytes().startswith(b"<?xml") for path in json.loads(out)["pictures"])
