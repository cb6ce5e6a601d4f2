"""The tricks: findings whose table, picture and sentence follow from their numbers, and the parts they are measured with."""

import dataclasses
import functools
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets import LAYERS, data, models
from jaxnets.course.experiments import training
from jaxnets.course.experiments.panels import LinesPanel, PointsPanel
from jaxnets.course.experiments.result import Claim, Finding, beats, verdict
from jaxnets.course.experiments.words import median_and_range, number_text
from jaxnets.course.tricks import TRICKS, memory, restraint, signals
from jaxnets.learn.initializers import kaiming_normal

from ..sweeps import swept

CHEAP = ("log_softmax", "l2")
SWEPT = swept(TRICKS, CHEAP)
FASTER = Claim("time (ms)", "the goal comes soonest with")


@functools.cache
def found(name):
    return TRICKS.measure(name, quick=True)


def made(one, other, **more):
    rows = {"one": [one, [1, 1, 1]], "other": [other, [2, 2, 2]]}
    panels = (
        LinesPanel("curves", "x", "y", [1, 2], {"one": [[1, 2]] * 3, "other": [[math.nan, 1], [3, math.inf], [0, 2]]}, "xy"),
        PointsPanel("times", "time (ms)"),
    )
    return Finding("a network, 2-3", ("time (ms)", "width"), rows, (FASTER,), panels, "made", "Which one?", **more)


# --- every trick --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SWEPT)
def test_a_trick_gives_rows_and_a_sentence_with_numbers(name):
    finding = found(name)
    assert (finding.name, finding.question) == (name, TRICKS[name].question)
    assert len(finding.rows) == finding.table().row_count >= 2
    for row in finding.rows.values():
        assert [len(values) for values in row] == [2] * len(finding.columns)
    for claim in finding.claims:
        for values in finding.column(claim.column, claim.among).values():
            assert number_text(np.median(values)) in finding.sentence
    assert finding.sentence.split() == str(finding).split()[-len(finding.sentence.split()) :]
    as_json = finding.to_json()
    assert json.loads(json.dumps(as_json, allow_nan=False)) == as_json


@pytest.mark.parametrize("name", SWEPT)
def test_its_sentence_follows_from_its_numbers(name):
    finding = found(name)
    contenders = list(finding.rows)
    alike = dataclasses.replace(finding, rows=dict.fromkeys(contenders, finding.rows[contenders[0]]))
    assert alike.sentence.lower().count("no difference") == len(finding.claims)
    for claim in finding.claims:
        among = claim.among or contenders
        for best in (among[0], among[-1]):
            rows = {c: [[1 if (c == best) == claim.least else 2] * 2] * len(finding.columns) for c in contenders}
            first = dataclasses.replace(finding, rows=rows, claims=(claim,)).sentence
            assert f" {best}: " in first and "no difference" not in first


@pytest.mark.parametrize("name", SWEPT)
def test_its_picture_has_all_panels(name):
    finding = found(name)
    figure = finding.figure()
    figure.draw_without_rendering()
    assert [axes.get_title() for axes in figure.axes] == [panel.title for panel in finding.panels]


def test_an_unknown_trick_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown trick 'nonsense'; known: activations, depth, cross_entropy"):
        TRICKS.measure("nonsense")


@pytest.mark.parametrize("seeds", [1, 0, -3, 2.5])
def test_a_spread_needs_two_seeds(seeds):
    with pytest.raises(ValueError, match="at least 2"):
        TRICKS.measure("l2", seeds=seeds)


def test_a_folder_gets_picture_and_numbers(tmp_path):
    finding = TRICKS.measure("log_softmax", quick=True, output=tmp_path / "new")
    assert (tmp_path / "new" / "log_softmax.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "new" / "log_softmax.json").read_text()) == finding.to_json()


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path):
    import jaxnets.show.plots

    monkeypatch.delattr(jaxnets.show, "plots")
    monkeypatch.setitem(sys.modules, "jaxnets.show.plots", None)
    for action in (made([1, 2, 3], [4, 5, 6]).figure, lambda: TRICKS.measure("batch_size", output=tmp_path)):
        with pytest.raises(ModuleNotFoundError, match=r"jaxnets\[plot\]"):
            action()


# --- sentences, tables, pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one, other, said",
    [
        ([1, 2, 3], [4, 5, 6], "soonest with one: 2 ms (1 – 3), against 5 ms (4 – 6) with other, a factor of 2.5"),
        ([4, 5, 6], [1, 2, 3], "soonest with other: 2 ms (1 – 3), against 5 ms (4 – 6) with one, a factor of 2.5"),
        ([1, 2, 3], [3, 2, 1], "no difference in time beyond the spread between seeds: 2 ms (1 – 3) with one and 2 ms"),
        ([1, 2, 3], [3, 3, 4], "no difference in time"),
        ([1, 5, 9], [2, 6.5, 10], "no difference in time beyond the spread between seeds: 5 ms (1 – 9) with one"),
        ([1, 2, 2], [math.inf] * 3, "soonest with one: 2 ms (1 – 2), against never with other"),
        ([math.nan] * 3, [7, 7, 7], "soonest with other: 7 ms, against NaN with one"),
        ([math.inf] * 3, [math.inf] * 3, "no difference in time beyond the spread between seeds: never with one and never"),
    ],
)
def test_a_verdict_says_what_the_numbers_support(one, other, said):
    text = verdict({"one": one, "other": other}, FASTER)
    assert said in text
    assert made(one, other).sentence == f"{text[0].upper()}{text[1:]}."


def test_contenders_that_tie_share_a_place():
    values = {"a": [1, 2, 3], "b": [8, 9, 9.5], "c": [2, 7, 9]}
    text = verdict(values, Claim("accuracy (%)", "the accuracy is highest with", least=False))
    assert text == (
        "the accuracy is highest with b and c: 9 % (8 – 9.5) and 7 % (2 – 9), no difference beyond the spread "
        "between seeds, against 2 % (1 – 3) with a"
    )


def test_of_equal_medians_the_best_worst_seed_wins():
    values = {"a": [100, 50, 100], "b": [100, 100, 99], "c": [55, 54, 53]}
    text = verdict(values, Claim("accuracy (%)", "the accuracy is highest with", least=False))
    assert text == (
        "the accuracy is highest with b and a: 100 % (99 – 100) and 100 % (50 – 100), no difference beyond the spread "
        "between seeds, against 54 % (53 – 55) with c"
    )


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ([2, 3], [0, 1], True),
        ([2, 3], [1, 2], False),  # larger in both seeds, but their ranges touch
        ([2, 3], [2, 1], False),
        ([1, 1], [1, 1], False),
        ([5, 9], [1, 8], False),
        ([5, 5], [-math.inf, -math.inf], True),
        ([-math.inf] * 2, [-math.inf] * 2, False),
    ],
)
def test_a_difference_must_exceed_the_spread(a, b, expected):
    assert beats(a, b) is expected
    assert not beats(b, a)


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"), (1, "1"), (2.5, "2.5"), (97.6543, "97.7"), (1234567, "1.2·10⁶"), (12345, "12,345"), (0.001, "0.001"),
        (3.44e-10, "3.4·10⁻¹⁰"), (1e-6, "1·10⁻⁶"), (math.inf, "never"), (math.nan, "NaN"), (100.0, "100"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert number_text(value) == text


def test_cells_show_median_and_range():
    assert median_and_range([3, 1, 2], "ms") == "2 ms (1 – 3)"
    assert median_and_range([2, 2], "ms") == "2 ms"
    lines = str(made([1, 2, 3], [4, 5, 6])).splitlines()
    row = next(i for i, line in enumerate(lines) if "│ one" in line)
    assert lines[row].split() == ["│", "one", "│", "2", "│", "1", "│"]
    assert lines[row + 1].split() == ["│", "│", "(1", "–", "3)", "│", "│"]


def test_pictures_survive_what_is_no_number():
    figure = made([1, math.inf, math.nan], [math.inf] * 3).figure()
    figure.draw_without_rendering()
    assert "never" in [text.get_text() for text in figure.axes[1].texts]


# --- what they are measured with ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A model and two starts of it, on half of a small spiral each."""
    model = models.mlp(6, 3)
    splits = [data.split(data.spiral(points=20, seed=seed), 0.5, seed) for seed in range(2)]
    return model, training.make_starts(model, splits)


def test_training_takes_the_best_rate(small):
    model, own = small
    runs = training.train_at_best_rate(
        model, LAYERS["nll"], {"a": own, "b": own}, optax.sgd, [0.0, 0.5, 1e30], epochs=3, batch_size=10
    )
    assert runs["a"].rate == runs["b"].rate == 0.5
    for name, curve in runs["a"].curves.items():
        assert curve.shape == (2, 4)
        np.testing.assert_array_equal(curve, runs["b"].curves[name])
    assert (runs["a"].curves[training.LOSS][:, -1] < runs["a"].curves[training.LOSS][:, 0]).all()


def test_fit_and_training_side_by_side_agree(small):
    model, own = small
    side_by_side = training.train_at_best_rate(model, LAYERS["nll"], {"a": own}, optax.sgd, [0.5], epochs=3)["a"]
    one_by_one = training.fit_one_by_one(model, LAYERS["nll"], own, optax.sgd, 0.5, epochs=3)
    for name, curve in side_by_side.curves.items():
        np.testing.assert_allclose(one_by_one.curves[name], curve, rtol=1e-4, atol=1e-5)
    assert one_by_one.seconds.shape == (2, 4)
    assert (np.diff(one_by_one.seconds) >= 0).all()


def test_the_first_epoch_that_reaches_a_goal():
    curves = {training.ACCURACY: np.array([[10, 50, 90], [10, 20, 30]]), training.LOSS: np.array([[3, 2, 1], [0.5, 2, 1]])}
    runs = training.Runs(0.1, None, curves)
    np.testing.assert_array_equal(training.epochs_until(50, runs), [1, math.inf])
    np.testing.assert_array_equal(training.epochs_until(1, runs, training.LOSS), [2, 0])


def test_norms_of_gradients_and_jacobians_by_layer():
    model = models.mlp(5, 4, 3, activation="tanh", weights=kaiming_normal("tanh"))
    params = jax.jit(model.init, static_argnums=(1, 2))(jax.random.key(0), (6,), jnp.float64)
    x = np.random.default_rng(1).normal(size=(7, 6))
    labels = np.arange(7) % 3
    factors, norms = jax.jit(functools.partial(signals.layer_norms, model))(params, x, labels)
    (w1, w2, w3), (b1, b2, b3) = ([np.asarray(params[i][name]) for i in (0, 2, 4)] for name in ("w", "b"))
    z1 = np.tanh(x @ w1.T + b1)
    z2 = np.tanh(z1 @ w2.T + b2)
    p = np.exp(z2 @ w3.T + b3)
    by_z2 = (p / p.sum(1, keepdims=True) - np.eye(3)[labels]) @ w3 / 7
    by_z1 = (by_z2 * (1 - z2**2)) @ w2
    np.testing.assert_allclose(norms, [np.linalg.norm(by_z1), np.linalg.norm(by_z2)], rtol=1e-12)
    expected = [
        np.mean([np.linalg.norm((1 - z[b] ** 2)[:, None] * w) for b in range(7)]) / np.sqrt(w.shape[1])
        for z, w in ((z1, w1), (z2, w2))
    ]
    np.testing.assert_allclose(factors, expected, rtol=1e-12)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn_by_hand(w, a, h):
    """The state of one RNN after a step, and its Jacobian by the state before it, from what comes in from the input."""
    new = np.tanh(a + w @ h)
    return new, (1 - new**2)[:, None] * w


def lstm_by_hand(w, a, state):
    h, c = np.split(state, 2)
    w_i, w_f, w_g, w_o = np.split(w, 4)
    a_i, a_f, a_g, a_o = np.split(a + w @ h, 4)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    new_c = f * c + i * g
    by_h = (c * f * (1 - f))[:, None] * w_f + (g * i * (1 - i))[:, None] * w_i + (i * (1 - g**2))[:, None] * w_g
    y, slope = np.tanh(new_c), (o * (1 - np.tanh(new_c) ** 2))[:, None]
    by_own = (y * o * (1 - o))[:, None] * w_o
    return np.concatenate([o * y, new_c]), np.block([[by_own + slope * by_h, slope * np.diag(f)], [by_h, np.diag(f)]])


RECURRENT = pytest.mark.parametrize(
    "cell, by_hand", [(memory.RNN, rnn_by_hand), (memory.LSTM, lstm_by_hand)], ids=["rnn", "lstm"]
)


def recurrent_example(cell, n=3, steps=5):
    """Parameters of a recurrent layer of n units, in float64, and sequences [b, t, i]."""
    params = jax.jit(cell.layer(n).init, static_argnums=(1, 2))(jax.random.key(0), (steps, 4), jnp.float64)
    return jax.tree.map(lambda a: 2 * np.asarray(a), params), np.random.default_rng(1).normal(size=(2, steps, 4))


def unrolled(cell, params, x, t, state):
    """The last state of one sequence x, if the state after step t is this one."""
    for now in x[t:]:
        state = cell.step(params, state[None], now[None])[0]
    return state


@RECURRENT
def test_norms_by_the_state_at_every_step(cell, by_hand):
    params, x = recurrent_example(cell)
    size = 3 * cell.numbers

    @jax.jit
    def both(params, x):
        states = [jnp.zeros((len(x), size))]
        for now in x.swapaxes(0, 1):
            states.append(cell.step(params, states[-1], now))

        def by_state(t):
            return jax.vmap(jax.jacrev(lambda s, one: unrolled(cell, params, one, t, s)))(states[t], x)

        blocks = jnp.stack([by_state(t) for t in range(1, x.shape[1] + 1)], 1)
        return memory.state_norms(cell.step, params, x, size), jnp.linalg.norm(blocks, axis=(2, 3)) / np.sqrt(size)

    found, by_jax = both(params, x)
    expected = np.zeros(x.shape[:2])
    for b, inputs in enumerate(x @ params["w_ih"].T + params["b_ih"] + params["b_hh"]):
        state, steps = np.zeros(size), []
        for a in inputs:
            state, jacobian = by_hand(params["w_hh"], a, state)
            steps.append(jacobian)
        for t in range(1, len(steps) + 1):
            product = functools.reduce(lambda whole, one: one @ whole, steps[t:], np.eye(size))
            expected[b, t - 1] = np.linalg.norm(product) / np.sqrt(size)
    np.testing.assert_allclose(found, by_jax, rtol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found[:, -1], 1, rtol=1e-12)


@RECURRENT
def test_the_steps_that_are_measured_are_those_of_the_layer(cell, by_hand):
    params, x = recurrent_example(cell)

    @jax.jit
    def both(params, x):
        def step(state, now):
            state = cell.step(params, state, now)
            return state, state[:, :3]  # of an LSTM, h stands before c

        states = jax.lax.scan(step, jnp.zeros((len(x), 3 * cell.numbers)), x.swapaxes(0, 1))[1]
        return states.swapaxes(0, 1), cell.layer(3).apply(params, x)

    np.testing.assert_allclose(*both(params, x), rtol=1e-12)


def test_norms_that_float32_could_not_square_are_measured():
    """Weights of 10⁻⁶ leave 10⁻³⁶ after six steps."""
    params, x = recurrent_example(memory.RNN, steps=7)
    small = {name: (1e-6 if name == "w_hh" else 1) * a.astype(np.float32) for name, a in params.items()}
    (norms,) = memory.RNN.norms(3, [x.astype(np.float32)], [[small]])
    assert norms.shape == (7,)
    assert (np.diff(np.log10(norms)) > 5).all() and 1e-45 < norms[0] < 1e-34


def test_recurrent_layers_begin_as_the_trick_says():
    key = jax.random.key(0)
    rnn, lstm = (recurrent_example(cell)[0] for cell in (memory.RNN, memory.LSTM))
    w = memory.with_state_weights(lambda key, shape, dtype: jnp.full(shape, 7, dtype))(rnn, key)
    np.testing.assert_array_equal(w.pop("w_hh"), np.full((3, 3), 7))
    assert all(w[name] is rnn[name] for name in w)
    forgetting = memory.with_forget_bias(math.log(80))(jax.tree.map(jnp.asarray, lstm), key)
    total = np.asarray(forgetting["b_ih"] + forgetting["b_hh"])
    np.testing.assert_allclose(sigmoid(total[3:6]), 80 / 81, rtol=1e-12)
    others = np.r_[0:3, 6:12]
    np.testing.assert_array_equal(total[others], (lstm["b_ih"] + lstm["b_hh"])[others])


def test_the_first_symbol_is_the_class_and_the_others_tell_nothing():
    found = memory.first_symbols(50, 6, seed=0)
    symbols = found.x.argmax(-1)
    np.testing.assert_array_equal(found.x.sum(-1), np.ones((50, 6)))
    np.testing.assert_array_equal(symbols[:, 0], found.y)
    assert set(found.y) == {0, 1} and set(symbols[:, 1:].ravel()) == {2, 3}


@pytest.mark.sweep
def test_the_table_of_recurrence_has_the_norms_of_its_pictures_and_of_jax():
    finding = found("recurrence")
    before, after, training_loss, accuracy = finding.panels
    start, powers, trained, held_out = finding.columns
    assert held_out == accuracy.column
    for name in finding.rows:
        np.testing.assert_array_equal(finding.column(start)[name], before.values[name][:, 0])
        np.testing.assert_allclose(10 ** finding.column(powers)[name], np.exp(np.abs(np.log(before.values[name][:, 0]))))
        np.testing.assert_array_equal(finding.column(trained)[name], after.values[name][:, 0])
        np.testing.assert_allclose(before.values[name][:, -1], 1, rtol=1e-6)
        assert training_loss.values[name].shape == (2, 6)
    length, width, cell = before.x[-1], 8, memory.RNN
    splits = [data.split(memory.first_symbols(328, length, seed), 200, seed) for seed in range(2)]
    for seed, begin in enumerate(training.make_starts(cell.model(width), splits)):
        params, x = jax.tree.map(np.float64, (begin.params[0], begin.arrays[0][: memory.MEASURED]))
        states = cell.step(params, np.zeros((len(x), width)), x[:, 0])
        blocks = jax.vmap(jax.jacrev(lambda s, one, params=params: unrolled(cell, params, one, 1, s)))(states, x)
        expected = np.mean(np.linalg.norm(blocks, axis=(1, 2))) / np.sqrt(width)
        np.testing.assert_allclose(finding.column(start)["uniform RNN"][seed], expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0, 1e-3, 0.1, 1])
def test_weight_decay_shrinks_by_a_factor(small, alpha):
    model, own = small
    assert max(restraint.decay_difference(model, start, 0.1, alpha) for start in own) <= (4 if alpha else 0)


def test_steps_towards_zero_stop_there():
    w = np.array([1.0, 0.1, 0.02, -0.02, -1.0, 0.0])
    update = restraint.towards_zero(0.05)

    @jax.jit
    def moved(w):
        steps, _ = update.update(jnp.zeros(6), update.init(w), w)
        return optax.apply_updates(w, steps)

    np.testing.assert_allclose(moved(w), [0.95, 0.05, 0, 0, -0.95, 0], atol=1e-15)
