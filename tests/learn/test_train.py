"""Training: the numbers of plain loops, the same bits after any interruption, errors that say where, nothing copy_tree."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from jax.experimental.compilation_cache import compilation_cache

import jaxnets as jn
from jaxnets.learn import descent
from jaxnets.learn.checkpoint import ARRAYS, CONFIG, SUMS, checkpoints, read_config
from jaxnets.learn.checkpoint import _checksums as sums
from jaxnets.learn.data import Dataset, batches, spiral, split
from jaxnets.learn.evaluate import evaluate
from jaxnets.learn.models import Model, conv, dropout, linear, max_pool, plain, serial
from jaxnets.learn.train import fit, restore

from ..sweeps import swept

CACHE = {"jax_persistent_cache_min_compile_time_secs": 0.05, "jax_persistent_cache_min_entry_size_bytes": -1}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """A program that occurs again, in a resumed run or in another process, is compiled once."""
    settings = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")), **CACHE}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield {name.upper(): str(value) for name, value in settings.items()}
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def timeless(history):
    return [{k: v for k, v in metrics.items() if k not in ("seconds", "examples_per_second")} for metrics in history]


def bits(tree):
    return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def newest(folder):
    """The step and the arrays of the newest checkpoint."""
    path = checkpoints(folder)[-1]
    return int(path.name[5:]), (path / ARRAYS).read_bytes()


# --- the same numbers as plain loops ------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 4])  # 4 of 10: two are left over
def test_descent_is_its_formula(batch_size):
    """w ← w − η/B Σ_b 2 (w x_b + c − y_b) x_bᵀ, with mini-batches in the order of `data.batches`."""
    rng = np.random.default_rng(0)
    x, y, w, c = rng.normal(size=(10, 3)), rng.normal(size=(10, 2)), rng.normal(size=(2, 3)), rng.normal(size=2)
    key, rate = jax.random.key(5), 0.05
    shuffling = jax.random.split(key, 3)[1]
    found = fit(
        linear(2),
        lambda predictions, targets: jnp.sum(jnp.square(predictions - targets), -1),
        Dataset(x, y),
        optax.sgd(rate),
        epochs=3,
        batch_size=batch_size,
        key=key,
        params={"w": w, "b": c},
    )
    for epoch in range(3):
        losses = []
        for places in np.asarray(batches(shuffling, epoch, 10, batch_size or 10)):
            error = x[places] @ w.T + c - y[places]
            losses.append((error**2).sum(1).mean())
            w, c = w - rate * 2 * error.T @ x[places] / len(places), c - rate * 2 * error.mean(0)
        np.testing.assert_allclose(found.history[epoch]["loss"], np.mean(losses), rtol=1e-6)
        assert found.history[epoch]["step"] == (epoch + 1) * len(losses)
    np.testing.assert_allclose(found.params["w"], w, rtol=1e-12)
    np.testing.assert_allclose(found.params["b"], c, rtol=1e-12)


def plain_loop(model, loss, data, optimizer, params, key, epochs, batch):
    """The parameters, and loss and accuracy of every epoch: averages over its steps, before each of them."""
    _, shuffling, dropping = jax.random.split(key, 3)

    @jax.jit
    def step(n, params, state, x, y):
        def average(params):
            predictions = model.apply(params, x, key=jax.random.fold_in(dropping, n), train=True)
            return jnp.mean(loss(predictions, y)), jnp.mean(jnp.argmax(predictions, 1) == y)

        metrics, gradient = jax.value_and_grad(average, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, metrics

    state, n, history = optimizer.init(params), 0, []
    for epoch in range(epochs):
        found = []
        for places in np.asarray(batches(shuffling, epoch, data.size, batch)):
            params, state, metrics = step(n, params, state, data.x[places], data.y[places])
            found.append(metrics)
            n += 1
        history.append(np.mean(found, 0))
    return params, history


def images(count=12):
    rng = np.random.default_rng(1)
    return Dataset(rng.normal(size=(count, 1, 4, 4)), rng.integers(0, 2, count), "images", 2)


NET = serial(linear(4), plain("tanh"), dropout(0.2), linear(3), plain("log_softmax"))
IMAGE_NET = serial(conv(1), plain("relu"), max_pool(2), plain("flatten"), linear(2), plain("log_softmax"))
OPTIMIZERS = {
    "momentum": (NET, optax.sgd(optax.piecewise_constant_schedule(0.1, {3: 0.5}), momentum=0.9, nesterov=True)),
    "clipped adamw": (
        NET,
        optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(optax.warmup_cosine_decay_schedule(0, 0.1, 3, 9))),
    ),
    "convolutions": (IMAGE_NET, optax.adam(optax.cosine_decay_schedule(0.1, 8))),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_by_both_gradients(name):
    """By hand for each of them, whose gradients the plain loop takes by autodiff."""
    model, optimizer = OPTIMIZERS[name]
    data = images() if name == "convolutions" else spiral(4)
    key = jax.random.key(2)
    params = model.init(key, data.shape, float)
    expected, history = plain_loop(model, jn.nll, data, optimizer, params, key, 3, 4)
    for gradient in ("manual", "autodiff") if name == "convolutions" else ("manual",):
        found = fit(model, jn.nll, data, optimizer, epochs=3, batch_size=4, key=key, params=params, gradient=gradient)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found.params, expected)
        np.testing.assert_allclose([[m["loss"], m["accuracy"]] for m in found.history], history, rtol=1e-6)


rng = np.random.default_rng(0)
POINTS = Dataset(rng.normal(size=(24, 2)), rng.normal(size=(24, 1)))


def test_optimizers_that_search_along_a_line_and_that_hold_keys(tmp_path):
    noise, search = optax.add_noise(1e-3, 0.5, jax.random.key(0)), optax.scale_by_backtracking_linesearch(5)
    optimizer = optax.chain(noise, optax.sgd(1.0), search)
    found = fit(linear(1), jn.squared_error, POINTS, optimizer, epochs=5, checkpoint=tmp_path)
    losses = [metrics["loss"] for metrics in found.history]
    assert losses == sorted(losses, reverse=True)
    assert newest(tmp_path)[0] == 5


# --- interruptions ------------------------------------------------------------------------------------------------

MODEL = serial(dropout(0.25), linear(3), plain("log_softmax"))
DATA, VALIDATION = split(spiral(12), 8)  # 28 and 8 examples: 5 steps of 5 an epoch, and 3 left over
STEPS, EPOCHS = 5, 6


def run(**changes):
    """Dropout, shuffling, a schedule, validation and patience at once."""
    usual = {"epochs": EPOCHS, "batch_size": 5, "validation": VALIDATION, "patience": 4, "key": jax.random.key(3)}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 40))
    return fit(MODEL, jn.nll, changes.pop("data", DATA), optimizer, **usual | changes)


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
from tests.learn.test_train import run
from jaxnets.errors import TrainingInterrupted
try:
    run(epochs=10**6, patience=None, checkpoint=sys.argv[1], log=sys.argv[1] + "/log", save_every=1)
except KeyboardInterrupt as interrupt:
    assert isinstance(interrupt, TrainingInterrupted)
    sys.exit(str(interrupt))
"""


def test_ctrl_c_saves_and_the_rest_follows_to_the_same_bits(tmp_path, cache):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "cut")]
    surroundings = {"cwd": Path(__file__).parents[2], "env": {**os.environ, **cache}}
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


# --- what is told -------------------------------------------------------------------------------------------------


def test_patience_metrics_progress_and_calls_after_an_epoch(tmp_path, capsys):
    """Of a validation set with wrong labels, whose loss is best early."""
    wrong = Dataset(VALIDATION.x, (VALIDATION.y + 1) % 3, classes=3)
    epochs, kept, given = [], [], []

    def after_epoch(epoch, params, metrics):
        epochs.append(epoch)
        given.append(params)
        kept.append(jax.tree.map(np.array, params))
        found = evaluate(MODEL, params, wrong, jn.nll)
        assert metrics["validation_loss"] == found.loss
        assert metrics["validation_accuracy"] == found.accuracy

    arguments = {"validation": wrong, "patience": 2, "epochs": 50, "checkpoint": tmp_path, "save_every": 1000}
    found = run(**arguments, log=tmp_path / "log", progress=True, after_epoch=after_epoch)
    losses = [metrics["validation_loss"] for metrics in found.history]
    best = int(np.argmin(losses))
    assert found.stopped == "patience"
    assert len(losses) == best + 1 + 2 < 50
    assert bits(found.params) == bits(kept[best]) != bits(kept[-1])
    assert epochs == [metrics["epoch"] for metrics in found.history] == list(range(1, len(losses) + 1))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given[0]))  # its buffers were used again
    assert lines(tmp_path / "log") == found.history
    out, err = capsys.readouterr()
    assert out == ""
    for word in ("loss", "accuracy", "held out", "examples/s"):
        assert word in err
    again = run(**arguments, resume=True)
    assert (again.stopped, again.step, bits(again.params)) == ("patience", found.step, bits(found.params))


NOTHING = [
    ({"epochs": -1}, ValueError, "epochs"),
    ({"epochs": None}, ValueError, "epochs"),
    ({"epochs": 1.5}, ValueError, "epochs"),
    ({"batch_size": 0}, ValueError, "batch_size must be 1 to 28"),
    ({"batch_size": 29}, ValueError, "batch_size must be 1 to 28"),
    ({"batch_size": 2.0}, ValueError, "batch_size"),
    ({"gradient": "numeric"}, ValueError, "gradient must be one of autodiff, manual"),
    ({"patience": 0}, ValueError, "patience"),
    ({"save_every": 0}, ValueError, "save_every"),
    ({"keep": 0}, ValueError, "keep"),
    ({"keep": None}, ValueError, "keep"),
    ({"checkpoint": None, "resume": True}, ValueError, "resume needs checkpoint"),
    ({"config": {"a": object()}}, ValueError, "config is not JSON"),
    ({"config": {"a": np.nan}}, ValueError, "config is not JSON"),
    ({"validation": spiral(3, 4)}, jn.ShapeError, "validation"),
    ({"data": images()}, jn.ShapeError, "validation"),
    (
        {"data": spiral(5, 2), "validation": None},
        jn.ShapeError,
        r"predictions have shape \(batch, 3\), expected \(batch, 2\)",
    ),
    ({"mesh": jax.make_mesh((1,), ("batch",)), "batch_size": 0}, ValueError, "batch_size"),
    ({"log": "."}, ValueError, "log . is a folder"),
]


@pytest.mark.parametrize(("changes", "error", "words"), NOTHING, ids=[str(i) for i in range(len(NOTHING))])
def test_bad_arguments_are_named_and_write_nothing(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        run(**{"checkpoint": tmp_path / "to", "log": tmp_path / "log"} | changes)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_per_example_is_refused():
    with pytest.raises(jn.ShapeError, match=r"loss has shape \(\)"):
        fit(MODEL, lambda predictions, labels: jnp.mean(jn.nll(predictions, labels)), DATA, optax.sgd(0.1), epochs=1)


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


# --- NaN and ∞ ----------------------------------------------------------------------------------------------------


def spoilt(data, field, value):
    """A data set with a bad number in its tenth example, which the third step takes."""
    array = getattr(data, field).copy()
    array[9].flat[0] = value
    return dataclasses.replace(data, **{field: array})


def part(name, function):
    return Model(name, lambda key, shape, dtype: {}, lambda params, x, **_: function(x), lambda shape: shape)


def counting(params):
    return {"n": jnp.zeros((), int), "spread": jnp.ones(())}


def count(updates, state, params=None):
    return updates, {"n": state["n"] + 1, "spread": jnp.where(state["n"] >= 8, jnp.nan, 1.0)}


IMAGES = images(24)
CURVE = serial(linear(3), plain("tanh"), linear(1))
STRANGE = serial(part("strange", lambda x: jnp.where(x == 9, jnp.nan, x)), linear(1))
ROOT = serial(linear(1), part("root", jnp.sqrt))
ZEROS = [{"w": np.zeros((1, 2)), "b": np.zeros(1)}, {}]
INFINITE_AT_9 = optax.adam(lambda n: jnp.where(n == 8, jnp.inf, 0.01))
NOT_FINITE = {
    "input NaN": (CURVE, {"data": spoilt(POINTS, "x", np.nan)}, 3, "the inputs [4, 2] is NaN or infinite in 1 of 8 entries"),
    "input ∞": (CURVE, {"data": spoilt(POINTS, "x", -np.inf)}, 3, "the inputs [4, 2] is"),  # its loss is finite: tanh(∞) is
    "target NaN": (CURVE, {"data": spoilt(POINTS, "y", np.nan)}, 3, "the targets [4, 1] is"),
    "part": (
        STRANGE,
        {"data": spoilt(POINTS, "x", 9)},
        3,
        "the output of part 0, strange, [4, 2] is NaN or infinite in 1 of 8",
    ),
    "penalty": (linear(1), {"penalty": lambda params: jnp.log(-jnp.sum(params["w"] ** 2))}, 1, "the penalty [] is"),
    "gradient": (ROOT, {"params": ZEROS}, 1, "the gradient by params[0]['b'] [1] is"),
    "optimizer": (
        linear(1),
        {"optimizer": optax.chain(optax.sgd(0.01), optax.GradientTransformation(counting, count))},
        9,
        "the optimizer's state[1]['spread'] [] is NaN or infinite in 1 of 1 entries",
    ),
    "learning rate": (CURVE, {}, 9, "the updated parameter params[0]['b'] [3] is"),
    "image NaN": (IMAGE_NET, {"data": spoilt(IMAGES, "x", np.nan)}, 3, "the inputs [4, 1, 4, 4] is"),
    "learning rate, images": (
        IMAGE_NET,
        {"data": IMAGES},
        9,
        "the updated parameter",
    ),
}


@pytest.mark.parametrize("name", swept(NOT_FINITE, 3))
def test_nan_is_met_at_its_step_and_the_last_good_state_is_kept(tmp_path, name):
    model, changes, step, words = NOT_FINITE[name]
    arguments = {"data": POINTS, "optimizer": INFINITE_AT_9, "epochs": 3, "batch_size": 4, "shuffle": False} | changes
    loss = jn.nll if arguments["data"].classes else jn.squared_error
    for folder, more in ("many steps a call", {}), ("one", {"save_every": 1, "keep": 100}):
        with pytest.raises(jn.NonFiniteError, match=re.escape(f"step {step}: {words}")) as raised:
            fit(model, loss, **arguments, **more, checkpoint=tmp_path / folder)
        assert str(raised.value).endswith(f"the state after step {step - 1} is in {checkpoints(tmp_path / folder)[-1]}")
    kept, arrays = newest(tmp_path / "many steps a call")
    assert (kept, arrays) == newest(tmp_path / "one")
    assert kept == step - 1
    assert all(np.isfinite(array).all() for array in safetensors.numpy.load(arrays).values())


def test_the_loop_ends_at_the_first_bad_loss(monkeypatch):
    ends, run = [], descent.Descent._run_until

    def spy(self, *arguments):
        state = run(self, *arguments)
        ends.append(int(state.step))
        return state

    monkeypatch.setattr(descent.Descent, "_run_until", spy)
    with pytest.raises(jn.NonFiniteError):
        fit(CURVE, jn.squared_error, spoilt(POINTS, "x", np.nan), INFINITE_AT_9, epochs=1, batch_size=4, shuffle=False)
    assert ends == [3, 1, 2, 3]  # all six, which end at the third; then one by one


def test_nan_in_validation_is_an_error_too():
    with pytest.raises(jn.NonFiniteError, match="step 6: the loss of the validation set is nan"):
        fit(
            linear(1),
            jn.squared_error,
            POINTS,
            optax.sgd(0.1),
            epochs=1,
            batch_size=4,
            validation=spoilt(POINTS, "x", np.nan),
        )


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 10, "convolutions"])
def test_a_step_copies_neither_its_state_nor_the_data(monkeypatch, batch_size):
    rng = np.random.default_rng(0)
    data = Dataset(rng.normal(size=(1000, 1, 16, 16)), rng.integers(0, 2, 1000), classes=2)
    model = serial(plain("flatten"), linear(2), plain("log_softmax"))
    if batch_size == "convolutions":
        model, batch_size = IMAGE_NET, 4
    seen, advance = [], descent.Descent.advance

    def spy(self, state, *others):
        found = advance(self, jax.tree.map(jnp.copy, state) if not seen else state, *others)
        if not seen:
            program = self.run_loop.lower(state, *others) if self.in_one_loop else self.run_step.lower(state, *others[:-1])
            seen.append((self.in_one_loop, state, program.compile().memory_analysis()))
        return found

    monkeypatch.setattr(descent.Descent, "advance", spy)
    fit(model, jn.nll, data, optax.adam(0.01), epochs=1, batch_size=batch_size)
    loops, state, memory = seen[0]
    assert loops == (model.parts[0].name == "flatten")
    assert memory.alias_size_in_bytes >= sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert memory.temp_size_in_bytes < data.x.nbytes / 8
