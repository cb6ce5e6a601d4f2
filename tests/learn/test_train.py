"""Training: the numbers of plain loops, what it tells, errors that name an argument, nothing copied."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.learn import descent
from jaxnets.learn.data import Dataset, batches, spiral
from jaxnets.learn.evaluate import evaluate
from jaxnets.learn.models import dropout, linear, plain, serial
from jaxnets.learn.train import fit

from .runs import DATA, IMAGE_NET, MODEL, POINTS, VALIDATION, bits, images, lines, newest, run

pytestmark = pytest.mark.usefixtures("kept_programs")

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
            predictions = model.apply(params, x, key=jax.random.fold_in(dropping, n), training=True)
            return jnp.mean(loss(predictions, y)), jnp.mean(jnp.argmax(predictions, 1) == y)

        metrics, gradient = jax.value_and_grad(average, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, metrics

    state, n, history = jax.jit(optimizer.init)(params), 0, []
    for epoch in range(epochs):
        found = []
        for places in np.asarray(batches(shuffling, epoch, data.size, batch)):
            params, state, metrics = step(n, params, state, data.x[places], data.y[places])
            found.append(metrics)
            n += 1
        history.append(np.mean(found, 0))
    return params, history


NET = serial(linear(4), plain("tanh"), dropout(0.2), linear(3), plain("log_softmax"))


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
    params = jax.jit(model.init, static_argnums=(1, 2))(key, data.shape, float)
    expected, history = plain_loop(model, jn.nll, data, optimizer, params, key, 3, 4)
    for gradient in ("manual", "autodiff") if name == "convolutions" else ("manual",):
        found = fit(model, jn.nll, data, optimizer, epochs=3, batch_size=4, key=key, params=params, gradient=gradient)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found.params, expected)
        np.testing.assert_allclose([[m["loss"], m["accuracy"]] for m in found.history], history, rtol=1e-6)


def test_optimizers_that_search_along_a_line_and_that_hold_keys(tmp_path):
    noise, search = optax.add_noise(1e-3, 0.5, jax.random.key(0)), optax.scale_by_backtracking_linesearch(5)
    optimizer = optax.chain(noise, optax.sgd(1.0), search)
    found = fit(linear(1), jn.squared_error, POINTS, optimizer, epochs=5, checkpoint=tmp_path)
    losses = [metrics["loss"] for metrics in found.history]
    assert losses == sorted(losses, reverse=True)
    assert newest(tmp_path)[0] == 5


@pytest.mark.parametrize("opaque", [False, True])
def test_optimizers_that_ask_for_gradients_at_parameters_nearby(opaque):
    """Sharpness-aware minimisation (Foret et al. 2021): up by ρ along the gradient, then down from where it began."""
    up = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    sam = optax.contrib.sam(optax.sgd(0.01), up, opaque_mode=opaque)
    w, b = np.array([[0.5, -0.2]]), np.array([0.1])

    def gradient(w, b):
        error = 2 * (POINTS.x @ w.T + b - POINTS.y) / len(POINTS.y)
        return error.T @ POINTS.x, error.sum(0)

    expected = w, b
    for _ in range(2):
        slopes = gradient(*expected)
        norm = np.sqrt(sum((g**2).sum() for g in slopes))
        nearby = gradient(*(p + 0.05 * g / norm for p, g in zip(expected, slopes, strict=True)))
        expected = tuple(p - 0.01 * g for p, g in zip(expected, nearby, strict=True))
    steps = 2 if opaque else 4  # unless its inside is hidden, going up is a step of its own
    found = fit(linear(1), jn.squared_error, POINTS, sam, epochs=steps, params={"w": w, "b": b})
    np.testing.assert_allclose(found.params["w"], expected[0], rtol=1e-9)
    np.testing.assert_allclose(found.params["b"], expected[1], rtol=1e-9)


def test_data_without_features_trains_the_bias():
    nothing = Dataset(np.zeros((24, 0)), POINTS.y)
    found = fit(linear(1), jn.squared_error, nothing, optax.sgd(0.5), epochs=1)
    np.testing.assert_allclose(found.params["b"], np.mean(POINTS.y, 0), rtol=1e-6)


# --- what is told -------------------------------------------------------------------------------------------------


def test_patience_metrics_progress_and_calls_after_an_epoch(tmp_path, capsys):
    """Of a validation set with wrong labels, whose loss is best early."""
    wrong = Dataset(VALIDATION.x, (VALIDATION.y + 1) % 3, classes=3)
    epochs, kept, given = [], [], []

    def after_epoch(epoch, params, metrics):
        epochs.append(epoch)
        given.append(params)
        kept.append(jax.tree.map(np.array, params))
        found = evaluate(MODEL, params, wrong, jax.jit(jn.nll))
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
    ({"epochs": None}, TypeError, "epochs"),
    ({"epochs": 1.5}, TypeError, "epochs"),
    ({"batch_size": 0}, ValueError, "batch_size must be 1 to 28"),
    ({"batch_size": 29}, ValueError, "batch_size must be 1 to 28"),
    ({"batch_size": 2.0}, TypeError, "batch_size"),
    ({"gradient": "numeric"}, ValueError, "gradient must be one of autodiff, manual"),
    ({"patience": 0}, ValueError, "patience"),
    ({"save_every": 0}, ValueError, "save_every"),
    ({"keep": 0}, ValueError, "keep"),
    ({"keep": None}, TypeError, "keep"),
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
