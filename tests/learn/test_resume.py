"""Training that was interrupted: the same bits after any interruption, and what is no run to go on with is left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnets as jn
from jaxnets.learn.checkpoint import ARRAYS, CONFIG, SUMS, checkpoints, read_config
from jaxnets.learn.checkpoint import _checksums as sums
from jaxnets.learn.data import Dataset
from jaxnets.learn.train import restore

from .runs import DATA, EPOCHS, MODEL, STEPS, bits, lines, newest, run, timeless

pytestmark = pytest.mark.usefixtures("kept_programs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, with a checkpoint of every step."""
    folder = tmp_path_factory.mktemp("whole")
    return run(checkpoint=folder, save_every=1, keep=1000, log=folder / "log"), folder


def test_resume_from_any_step_to_the_same_bits(whole, tmp_path, request):
    """The folder of a run killed at a step: its checkpoint, and a log that has more, with half a line at the end."""
    result, folder = whole
    assert [int(path.name[5:]) for path in checkpoints(folder)] == list(range(1, STEPS * EPOCHS + 1))
    steps = np.random.default_rng(0).permutation(np.arange(1, STEPS * EPOCHS + 1))
    for step in steps[: 20 if request.config.getoption("--all") else 4]:
        mine = tmp_path / str(step)
        shutil.copytree(folder / f"step-{step:010}", mine / f"step-{step:010}")
        (mine / "log").write_text((folder / "log").read_text() + '{"epoch": 7, "lo')
        found = run(checkpoint=mine, resume=True, log=mine / "log")
        assert newest(mine) == newest(folder)  # parameters, optimizer, sums, the best: all that a step changes
        assert bits(found.params) == bits(result.params)
        assert timeless(found.history) == timeless(result.history)
        assert lines(mine / "log") == found.history
        assert [metrics["epoch"] for metrics in found.history] == list(range(1, EPOCHS + 1))


def test_where_calls_into_the_program_end_changes_nothing(whole, tmp_path):
    found = run(checkpoint=tmp_path)
    assert newest(tmp_path) == newest(whole[1])
    assert timeless(found.history) == timeless(whole[0].history)
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{step:010}" for step in (20, 25, 30)]  # of 3 epochs


def test_a_finished_run_can_be_prolonged(whole, tmp_path):
    run(checkpoint=tmp_path, epochs=2, config={"why": "short"})
    assert read_config(tmp_path)["why"] == "short"
    run(checkpoint=tmp_path, resume=True, save_every=7)
    assert newest(tmp_path) == newest(whole[1])
    assert [int(path.name[5:]) for path in checkpoints(tmp_path)] == [21, 28, 30]


CHILD = """
import sys
import jax, optax
jax.config.update("jax_enable_x64", True)
from tests.learn.runs import run
from jaxnets.errors import TrainingInterrupted
try:
    run(epochs=10**6, patience=None, checkpoint=sys.argv[1], log=sys.argv[1] + "/log", save_every=1)
except KeyboardInterrupt as interrupt:
    assert isinstance(interrupt, TrainingInterrupted)
    sys.exit(str(interrupt))
"""


def test_ctrl_c_saves_and_the_rest_follows_to_the_same_bits(tmp_path, kept_programs):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "cut")]
    surroundings = {"cwd": Path(__file__).parents[2], "env": {**os.environ, **kept_programs}}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **surroundings) as child:
        for _ in range(6000):
            if len(checkpoints(tmp_path / "cut")) > 1 or child.poll() is not None:
                break
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        try:
            _, error = child.communicate(timeout=60)
        finally:
            child.kill()
    step, _ = newest(tmp_path / "cut")
    assert child.returncode == 1
    assert f"interrupted after step {step}; the state after step {step} is in {tmp_path}/cut/step-{step:010}" in error
    epochs = step // STEPS + 2
    found = run(epochs=epochs, patience=None, checkpoint=tmp_path / "cut", log=tmp_path / "cut" / "log", resume=True)
    expected = run(epochs=epochs, patience=None, checkpoint=tmp_path / "whole")
    assert newest(tmp_path / "cut") == newest(tmp_path / "whole")
    assert timeless(found.history) == timeless(expected.history)
    assert [line["epoch"] for line in lines(tmp_path / "cut" / "log")] == list(range(1, epochs + 1))


def test_restore_is_the_model_and_the_parameters_of_the_result(whole, tmp_path):
    """Of the best epoch, where patience was given; in the dtype that they were saved in."""
    for result, folder in whole, (run(checkpoint=tmp_path, epochs=1, patience=None), tmp_path):
        model, params, config = restore(folder)
        assert model.name == MODEL.name
        assert bits(params) == bits(result.params)
        assert timeless(config["history"]) == timeless(result.history)


OTHER_RUNS = [
    ({"resume": False}, "holds checkpoints; resume"),
    ({"batch_size": 4}, "batch_size was 5, now 4"),
    ({"gradient": "manual"}, "gradient was autodiff, now manual"),
    ({"shuffle": False}, "shuffle was True, now False"),
    ({"key": jax.random.key(4)}, "key was"),
    ({"key": jax.random.key(3, impl="rbg")}, "key was"),
    ({"patience": 5}, "patience was 4, now 5"),
    ({"patience": None}, "not expected"),
    ({"data": Dataset(DATA.x + 1e-9, DATA.y, DATA.name, 3)}, "data was"),
]


@pytest.mark.parametrize(("changes", "words"), OTHER_RUNS, ids=[words for _, words in OTHER_RUNS])
def test_the_folder_of_another_run_is_left_alone(whole, changes, words):
    folder = whole[1]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(jn.CheckpointError, match=words) as raised:
        run(**{"checkpoint": folder, "resume": True, "log": folder / "log"} | changes)
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_is_no_run_of_training_is_refused(whole, tmp_path):
    path = shutil.copytree(checkpoints(whole[1])[-1], tmp_path / "of" / "step-0000000030")
    config = json.loads((path / CONFIG).read_text())
    del config["run"]
    (path / CONFIG).write_text(json.dumps(config))
    (path / SUMS).write_bytes(sums({name: (path / name).read_bytes() for name in (ARRAYS, CONFIG)}))
    with pytest.raises(jn.CheckpointError, match="cannot go on: model was None"):
        run(checkpoint=tmp_path / "of", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(jn.CheckpointError, match="checkpoint .*file is not a folder"):
        run(checkpoint=tmp_path / "file")
