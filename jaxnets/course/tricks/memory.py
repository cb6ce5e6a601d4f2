"""What a recurrent network remembers: how much of its first state is left in the last one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import normal

from ...catalogue import LAYERS
from ...curvature.norms import jacobian_norm
from ...learn.data import Dataset, split
from ...learn.initializers import orthogonal
from ...learn.models import Model, linear, lstm, plain, rnn, serial
from ...learn.progress import stage
from ...show.formats import subscript
from ..experiments.panels import LinesPanel, PointsPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import HELD_OUT, LOSS, Runs, Start, curves_panel, make_starts, train_at_best_rate
from ..experiments.words import numbers_text

NLL = LAYERS["nll"]
SYMBOLS = 4  # two that come first, and two that come later
HELD_OUT_COUNT = 200
MEASURED = 64  # sequences over which norms are averaged


def rnn_step(params, h, x):
    """The state h [b, n] of `rnn` after a step with the input x [b, i]."""
    return LAYERS["tanh"](_pre_activations(params, h, x))


def lstm_step(params, state, x):
    """The state of `lstm` after a step with the input x [b, i]: h and c side by side, [b, 2 n]."""
    sigmoid, tanh = LAYERS["sigmoid"], LAYERS["tanh"]
    h, c = jnp.split(state, 2, -1)
    i, f, g, o = jnp.split(_pre_activations(params, h, x), 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return jnp.concatenate([sigmoid(o) * tanh(c), c], -1)


def _pre_activations(params, h, x):
    apply = LAYERS["linear"]
    return apply(x, params["w_ih"], params["b_ih"]) + apply(h, params["w_hh"], params["b_hh"])


def state_norms(step: Callable, params, x, size: int):
    """‖∂s_T/∂s_t‖ / √n for the states s_t after the steps t = 1, …, T on sequences x [b, t, i]: `[b, t]`.

    `step(params, s, x)` makes the next state from a state [b, n] of n = `size` numbers, which begins with 0.  To every state
    a shift of 0 is added, and a derivative by the shift is the derivative by the state.
    """

    def last_state(shifts):
        def shifted(state, now):
            x, shift = now
            return step(params, state, x) + shift, None

        start = jnp.zeros_like(shifts[:, 0])
        return jax.lax.scan(shifted, start, (jnp.swapaxes(x, 0, 1), jnp.swapaxes(shifts, 0, 1)))[0]

    return jacobian_norm(last_state, keep=1)(jnp.zeros((*x.shape[:2], size), x.dtype)) / np.sqrt(size)


def first_symbols(count: int, length: int, seed: int) -> Dataset:
    """Sequences [count, length, symbol] of one-hot symbols, and which of two the first one is; the others are random."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 2, count)
    symbols = np.concatenate([first[:, None], rng.integers(2, SYMBOLS, (count, length - 1))], 1)
    return Dataset(np.eye(SYMBOLS)[symbols], first, "first symbols", 2)


class Cell(NamedTuple):
    """A recurrent layer: its model, one step of it, and how many numbers a unit has in the state."""

    layer: Callable[[int], Model]
    step: Callable
    numbers: int  # 2 if the state is h and c

    def model(self, width: int) -> Model:
        """The layer, and the class from its last state alone."""
        return serial(self.layer(width), last_step(), linear(2), plain("log_softmax"))

    def norms(self, width: int, x, params: Sequence[Any]) -> np.ndarray:
        """`state_norms` averaged over the sequences x, in float64, for the parameters of several models: `[model, t]`."""
        with jax.enable_x64(True):  # in float32 the square of a norm below 10⁻¹⁹ is 0
            measure = jax.jit(lambda own, x: jnp.mean(state_norms(self.step, own, x, self.numbers * width), 0))
            return np.array([measure(*jax.tree.map(np.float64, (own[0], one))) for own, one in zip(params, x, strict=True)])


def last_step() -> Model:
    """The last of the states [t, n]."""

    def init(key, input_shape, dtype=jnp.float32):
        return {}

    return Model("last_step", init, lambda params, x, *, key=None, training=False: x[:, -1], lambda shape: shape[1:])


RNN, LSTM = Cell(rnn, rnn_step, 1), Cell(lstm, lstm_step, 2)


def with_state_weights(draw: Callable) -> Callable:
    """A change of a recurrent layer: `draw(key, shape, dtype)` makes the weights of its states."""

    def change(params, key):
        w = params["w_hh"]
        return {**params, "w_hh": draw(key, w.shape, w.dtype)}

    return change


def with_forget_bias(bias: float) -> Callable:
    """A change of an LSTM: the two biases of each forget gate are `bias` together."""

    def change(params, key):
        n = params["w_hh"].shape[1]
        b_ih, b_hh = (params[name].at[n : 2 * n].set(value) for name, value in (("b_ih", bias), ("b_hh", 0)))
        return {**params, "b_ih": b_ih, "b_hh": b_hh}

    return change


@experiment("Does a recurrent network learn what came first in a long sequence?")
def recurrence(seeds: int, quick: bool) -> Finding:
    """The norms of the Jacobian of the last state by the state after every step, and how well training goes from there.

    The first symbol of a sequence is its class, and all others are random, as in Bengio, Simard and Frasconi 1994.  An RNN
    begins as in PyTorch, with larger weights of its states, or with orthogonal ones.  The forget gates of an LSTM begin with
    a bias of 1, as in Jozefowicz, Zaremba and Sutskever 2015, or of log T: with that a gate keeps σ(log T) = T / (T + 1) of
    c at every step, so 1/e over T steps.  See Tallec and Ollivier 2018, arXiv:1804.11188.
    """
    width, length, count, epochs, rates = (8, 20, 128, 5, (0.01,)) if quick else (16, 80, 512, 12, (0.003, 0.01))
    gain = 3
    usual_rnn, usual_lstm = "uniform RNN", "LSTM of bias 1"
    ways: dict[str, tuple[Cell, Callable]] = {
        usual_rnn: (RNN, lambda params, key: params),
        f"RNN of gain {gain}": (RNN, with_state_weights(normal(gain / np.sqrt(width)))),
        "orthogonal RNN": (RNN, with_state_weights(orthogonal())),
        usual_lstm: (LSTM, with_forget_bias(1)),
        "LSTM of bias log T": (LSTM, with_forget_bias(float(np.log(length)))),
    }
    splits = [split(first_symbols(count + HELD_OUT_COUNT, length, seed), HELD_OUT_COUNT, seed) for seed in range(seeds)]
    runs: dict[str, Runs] = {}
    before, after = {}, {}
    for cell in (RNN, LSTM):
        begin = make_starts(cell.model(width), splits)
        contenders = {name: changed(begin, change) for name, (own, change) in ways.items() if own is cell}
        runs |= train_at_best_rate(cell.model(width), NLL, contenders, clipped_adam, rates, epochs=epochs, batch_size=32)
        x = [start.arrays[0][:MEASURED] for start in begin]
        with stage(f"norms of {2 * len(contenders) * seeds} networks", total=len(contenders), unit="contender") as told:
            for name, own in contenders.items():
                told.next_part(name)
                ends = [jax.tree.map(lambda leaf, seed=seed: leaf[seed], runs[name].params) for seed in range(seeds)]
                found = cell.norms(width, [*x, *x], [start.params for start in own] + ends)
                before[name], after[name] = found[:seeds], found[seeds:]
    last = subscript(length)
    norm, powers = f"‖∂s{last}/∂s₁‖ / √n", f"powers of ten from s{last} to s₁"
    ylabel = rf"$\|\partial s_{{{length}}}\,/\,\partial s_t\|\,/\,\sqrt{{n}}$"
    panels = [
        LinesPanel(title, "step t", ylabel, range(1, length + 1), values, "y")
        for title, values in (("At the start", before), ("After training", after))
    ]
    return Finding(
        setting=f"{count} sequences of T = {length} symbols, the first one is the class; {width} units, states s_t of n "
        f"numbers: h of an RNN, h and c of an LSTM; weights of h: uniform in ±1/√{width}, of deviation {gain}/√{width}, "
        f"or orthogonal; {epochs} epochs of Adam, gradients clipped at 1, the best rate of {numbers_text(rates)}",
        columns=(norm, powers, f"{norm}, trained", HELD_OUT),
        rows={
            name: [own[:, 0], np.abs(np.log10(own[:, 0])), after[name][:, 0], *runs[name].final(HELD_OUT)]
            for name, own in before.items()
        },
        claims=(
            Claim(powers, f"from step {length} back to step 1 a gradient changes by the fewest powers of ten with"),
            Claim(HELD_OUT, "training then reaches the highest held-out accuracy with", least=False),
            Claim(HELD_OUT, "from usual weights it is higher with", least=False, among=(usual_rnn, usual_lstm)),
        ),
        panels=(*panels, curves_panel("Training", runs, LOSS), PointsPanel(f"After {epochs} epochs", HELD_OUT)),
    )


def clipped_adam(rate) -> optax.GradientTransformation:
    """Adam on gradients of a norm of at most 1, as usual for recurrent networks: Pascanu, Mikolov and Bengio 2013."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def changed(begin: Sequence[Start], change: Callable) -> list[Start]:
    """The starts of a model with its first part, the recurrent layer, changed by `change(params, key)`."""
    return [
        start._replace(params=[change(start.params[0], jax.random.key(seed)), *start.params[1:]])
        for seed, start in enumerate(begin)
    ]
