"""Training that was interrupted: the same bits after any interruption, and what is no run to go on with is left alone."""

import collections
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from safetensors.numpy import load as numpy_arrays
from safetensors.numpy import save as bytes_of

import jaxnets as jn
from jaxnets.learn.checkpoint import ARRAYS, CONFIG, SUMS, Checkpoint, checkpoints, load, read_config
from jaxnets.learn.data import Dataset
from jaxnets.learn.descent import State
from jaxnets.learn.records import Records
from jaxnets.learn.train import fit, restore

from .runs import DATA, EPOCHS, MODEL, STEPS, bits, checksums, lines, newest, run, timeless

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
    ({"patience": None}, "patience was 4, now None"),
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
    (path / SUMS).write_bytes(checksums({name: (path / name).read_bytes() for name in (ARRAYS, CONFIG)}))
    with pytest.raises(jn.CheckpointError, match="not written by fit: run is not a description"):
        run(checkpoint=tmp_path / "of", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(jn.CheckpointError, match="checkpoint .*file is not a folder"):
        run(checkpoint=tmp_path / "file")


def forged(path, config):
    """Another description with the right checksums."""
    (path / CONFIG).write_text(json.dumps(config))
    (path / SUMS).write_bytes(checksums({name: (path / name).read_bytes() for name in (ARRAYS, CONFIG)}))


def short(**changes):
    """Two epochs at a constant rate, in which everything may be changed."""
    usual = {"optimizer": optax.adam(0.1), "loss": jn.nll, "epochs": 2, "batch_size": 5, "key": jax.random.key(3)} | changes
    return fit(MODEL, usual.pop("loss"), DATA, usual.pop("optimizer"), **usual)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    short(epochs=1, checkpoint=folder, penalty=lambda params: 0.01 * jn.regularizers.l2(params))
    return folder


OTHER_SETTINGS = [
    ({"optimizer": optax.adam(0.2)}, "learning_rate was 0.1, now 0.2"),
    ({"optimizer": optax.adam(optax.constant_schedule(0.1))}, r"learning_rate was 0.1, now constant_schedule\(value=0.1\)"),
    ({"optimizer": optax.adam(0.1, b1=0.8)}, r"optimizer was .*b1=0.9.*now .*b1=0.8"),
    ({"optimizer": optax.adabelief(0.1)}, "optimizer was .*scale_by_adam.*now .*scale_by_belief"),
    ({"loss": lambda p, y: 2 * jn.nll(p, y)}, r"loss was nll, now <lambda>\(constant=2, names=jn nll\)"),
    ({"penalty": None}, r"penalty was <lambda>\(constant=0.01, .*, now none"),
    ({"penalty": lambda params: 0.02 * jn.regularizers.l2(params)}, "penalty was .*0.01.*now .*0.02"),
]


@pytest.mark.parametrize(("changes", "words"), OTHER_SETTINGS, ids=[words for _, words in OTHER_SETTINGS])
def test_other_settings_are_refused_or_allowed_by_a_word(begun, tmp_path, changes, words):
    folder = shutil.copytree(begun, tmp_path / "mine")
    usual = {"penalty": lambda params: 0.01 * jn.regularizers.l2(params)}
    with pytest.raises(jn.CheckpointError, match=words) as raised:
        short(checkpoint=folder, resume=True, **usual | changes)
    assert "--allow-changes" in str(raised.value) and "\n" not in str(raised.value)
    assert newest(folder) == newest(begun)
    if not any(name in words for name in ("belief", "schedule")):  # their states are others
        assert short(checkpoint=folder, resume="with changes", **usual | changes).step == 2 * STEPS
        short(checkpoint=folder, resume=True, epochs=3, **usual | changes)  # the new settings are recorded


def test_the_same_settings_go_on_although_they_are_other_objects(begun, tmp_path):
    folder = shutil.copytree(begun, tmp_path / "mine")
    assert short(checkpoint=folder, resume=True, penalty=lambda params: 0.01 * jn.regularizers.l2(params)).step == 2 * STEPS


def test_checkpoints_without_settings_go_on(begun, tmp_path):
    folder = shutil.copytree(begun, tmp_path / "mine")
    config = read_config(folder)
    del config["settings"]
    forged(checkpoints(folder)[-1], config)
    assert short(checkpoint=folder, resume=True, optimizer=optax.adam(0.2)).step == 2 * STEPS


def test_changes_that_break_the_training_are_told_with_the_last_good_state(begun, tmp_path):
    folder = shutil.copytree(begun, tmp_path / "mine")
    with pytest.raises(jn.NonFiniteError, match=f"the state after step {STEPS} is in {checkpoints(folder)[-1]}"):
        short(checkpoint=folder, resume="with changes", loss=lambda p, y: jn.nll(p, y) * np.inf)


@pytest.mark.parametrize("word", ["yes", 2, None])
def test_resume_is_one_of_three(tmp_path, word):
    with pytest.raises(TypeError, match="fit: resume must be True or False or 'with changes', got"):
        short(checkpoint=tmp_path, resume=word)


def test_arrays_of_another_step_than_their_folder_says_are_refused(begun, tmp_path):
    folder = Path(shutil.copytree(begun, tmp_path / "copy"))
    path = checkpoints(folder)[-1]
    arrays = numpy_arrays((path / ARRAYS).read_bytes()) | {".step": np.array(-1, np.int32)}
    contents = {ARRAYS: bytes_of(arrays), CONFIG: (path / CONFIG).read_bytes()}
    for name, content in (contents | {SUMS: checksums(contents)}).items():
        (path / name).write_bytes(content)
    with pytest.raises(jn.CheckpointError, match="its arrays are of step -1"):
        short(checkpoint=folder, resume="with changes")


def test_a_link_to_a_missing_folder_is_a_folder_for_checkpoints(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    run(checkpoint=tmp_path / "link", epochs=1)
    assert checkpoints(tmp_path / "missing")


def test_results_and_states_say_in_a_line_what_they_are(whole):
    result, folder = whole
    params = "params [3] [3, 2] with 9 numbers"
    assert repr(result).startswith(f"Result({params}, {len(result.history)} epochs, step {result.step}, stopped by ")
    state = State(result.params, optax.adam(0.1).init(result.params), 0, 0.0, 0)
    assert repr(state) == f"State({params}, optimizer of 5 arrays with 19 numbers)"
    assert repr(Checkpoint(state, {}, folder)) == f"Checkpoint({folder}: of 7 arrays with 28 numbers)"


# --- forged descriptions ------------------------------------------------------------------------------------------

RUBBISH = [None, True, False, 0, 1, -1, 3.5, -0.0, 1e308, 2**31, 2**63, 10**30, 10**400, "", "x", "5", "linear(3)", "nan"]
RUBBISH += ["residual(" * 101, "linear(1000000) " * 3, "conv(3) linear(2)", "float64", [], {}, [[]], [None], [0], [-1]]
RUBBISH += [[2**40], [2] * 100, [0, 2**62], [1, "2"], {"": None}, {"loss": "x"}, [{"loss": -1}], ["float64", [2**70]]]
RUBBISH += [["float64", [3, 2.0]], ["int8", [[]]], {"shape": [2, 2]}, [[[[[[[]]]]]]], "\0", "⁷", float("nan"), float("inf")]


def places(value, at=()):
    """The way to everything in nested lists and dicts."""
    yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def changed(config, chance):
    """The description with one to three things removed, exchanged or replaced."""
    config = json.loads(json.dumps(config))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        found = list(places(config))[1:]
        if not found:
            break
        *way, last = chance.choice(found)
        inside = functools.reduce(lambda value, key: value[key], way, config)
        how = chance.randrange(4)
        if how == 0:
            del inside[last]
        elif how == 1:
            *other, end = chance.choice(found)
            value = functools.reduce(lambda value, key: value[key] if key in places_of(value) else {}, other, config)
            inside[last] = json.loads(json.dumps(value[end])) if end in places_of(value) else None
        elif how == 2 and isinstance(inside[last], (int, float, str)):
            was = inside[last]
            inside[last] = str(was) if isinstance(was, (int, float)) else chance.choice((0, -1, 2**64, 1e300))
        else:
            inside[last] = chance.choice(RUBBISH)
    return config


def places_of(value):
    return value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()


def test_800_forged_descriptions_load_or_are_refused_in_one_line(tmp_path, monkeypatch):
    """By every way of reading them.  The checksums are right, so that only what the descriptions say is wrong."""
    kept = []
    monkeypatch.setattr(Records, "_begin", lambda *args, begin=Records._begin: kept.append(args) or begin(*args))
    run(checkpoint=tmp_path, epochs=1)
    path, (records, state, *_) = checkpoints(tmp_path)[-1], kept[0]
    good = read_config(path)
    chance, outcomes = random.Random(0), collections.Counter()
    ways = {
        "read": lambda: read_config(path),
        "load": lambda: load(path, state),
        "restore": lambda: restore(path),
        "resume": lambda: Records._begin(records, state, "with changes"),
    }
    for _ in range(800):
        config = changed(good, chance)
        forged(path, config)
        for name, way in ways.items():
            try:
                way()
                outcomes[name, "good"] += 1
            except jn.CheckpointError as error:
                assert "\n" not in str(error), config
                outcomes[name, "refused"] += 1
            except Exception as error:
                raise AssertionError(f"{name} of {config}") from error
    assert all(outcomes[name, "good"] > 20 and outcomes[name, "refused"] > 50 for name in ways), outcomes
