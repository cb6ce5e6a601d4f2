"""Trains many small networks side by side: every contender with every seed at every learning rate, in one program."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...learn.data import Dataset, Statistics, digits, split
from ...learn.models import Model
from ...learn.progress import stage
from ...learn.train import fit
from .panels import LinesPanel

LOSS, ACCURACY = "training loss", "training accuracy (%)"  # both without penalty and without dropout
HELD_OUT_LOSS, HELD_OUT = "held-out loss", "held-out accuracy (%)"
CURVES = (LOSS, ACCURACY, HELD_OUT_LOSS, HELD_OUT)
RATE = "learning rate"


class Start(NamedTuple):
    """How one network starts: its parameters, its data, the strength of its penalty, and whether batches are shuffled."""

    params: Any
    training: Dataset
    held_out: Dataset
    strength: float = 0.0
    shuffle: bool = True

    @property
    def arrays(self) -> list[np.ndarray]:
        """The inputs and labels of the training set, then those of the held-out set."""
        parts = (self.training, self.held_out)
        return [array for part in parts for array in (part.x.astype(np.float32), part.y.astype(np.int32))]


class Runs(NamedTuple):
    """The networks of one contender at one learning rate, one per seed."""

    rate: float
    params: Any  # the first axis of every leaf counts seeds
    curves: Mapping[str, np.ndarray]  # [seed, epoch] for each of CURVES, beginning before the first epoch
    seconds: Any = None  # [seed, epoch], since the training began

    def final(self, *names) -> list[np.ndarray]:
        """The numbers of all seeds at the end, for each of the names, which are RATE or in CURVES."""
        rates = np.full(len(self.curves[LOSS]), self.rate)
        return [rates if name == RATE else self.curves[name][:, -1] for name in names]


def final_loss(runs: Runs) -> np.ndarray:
    return runs.curves[LOSS][:, -1]


def average_loss(runs: Runs) -> np.ndarray:
    """The loss averaged over the whole training, which is low if training is fast."""
    return runs.curves[LOSS].mean(1)


def epochs_until(goal: float, runs: Runs, name: str = ACCURACY) -> np.ndarray:
    """The first epoch at which the accuracy has risen to the goal, or the loss has fallen to it; infinity if none has."""
    curve = runs.curves[name]
    there = curve <= goal if name == LOSS else curve >= goal
    return np.where(there.any(1), there.argmax(1), np.inf)


def standardized_digits(seeds: int, held_out: int | float = 0.25) -> list[tuple[Dataset, Dataset]]:
    """A training set and a held-out set for every seed, scaled so that the training set has mean 0 and deviation 1.

    No pixel is divided by less than 0.1, because one that is blank in all training examples may not be blank in others.
    """
    found = []
    for seed in range(seeds):
        training, held = split(digits(), held_out, seed)
        by = Statistics.of(training.x)
        found.append((by.standardize(training, eps=0.1), by.standardize(held, eps=0.1)))
    return found


def make_starts(model: Model, splits: Sequence[tuple[Dataset, Dataset]], **options) -> list[Start]:
    """One start for every training and held-out set, with the parameters of its seed, so that contenders start equal."""
    keys = [jax.random.key(seed) for seed in range(len(splits))]
    return [Start(model.init(k, t.shape, jnp.float32), t, h, **options) for k, (t, h) in zip(keys, splits, strict=True)]


def train_at_best_rate(
    model: Model,
    loss: Callable,
    contenders: Mapping[str, Sequence[Start]],
    optimizer: Callable[[Any], optax.GradientTransformation],
    rates: Sequence[float],
    *,
    epochs: int,
    batch_size: int | None = None,
    penalty: Callable = lambda params: 0.0,
    score: Callable[[Runs], np.ndarray] = final_loss,
) -> dict[str, Runs]:
    """Train every contender at each of `rates`, and return its runs at the rate with the least median score over its seeds.

    `optimizer(rate)` is an optax optimizer, and `loss(predictions, labels)` is per example.  To its average a network adds
    its strength times `penalty(params)`.  Without `batch_size` a step takes all examples.  Numbers are float32.
    """
    networks = [(seed, start) for own in contenders.values() for seed, start in enumerate(own)]
    x, y, held_x, held_y = map(np.stack, zip(*(start.arrays for _, start in networks), strict=True))
    orders = np.stack(
        [_batch_indices(s.shuffle, seed, epochs, x.shape[1], batch_size or x.shape[1]) for seed, s in networks]
    )
    strength = np.array([start.strength for _, start in networks], np.float32)
    params = _stack_trees(start.params for _, start in networks)

    def begin(rate, params):
        return params, optimizer(rate).init(params)

    def epoch(rate, state, strength, places, x, y):
        update = optimizer(rate)

        def objective(params, places):
            return jnp.mean(loss(model.apply(params, x[places]), y[places])) + strength * penalty(params)

        def step(state, places):
            change, memory = update.update(jax.grad(objective)(state[0], places), state[1], state[0])
            return (optax.apply_updates(state[0], change), memory), None

        return jax.lax.scan(step, state, places)[0]

    def measure(params, *arrays):
        return _measure(model, loss, params, *arrays)

    # In front of every array of a state stand an axis of rates and one of networks.
    begin = jax.jit(jax.vmap(jax.vmap(begin, (None, 0)), (0, None)))
    epoch = jax.jit(jax.vmap(jax.vmap(epoch, (None, 0, 0, 0, 0, 0)), (0, 0, None, None, None, None)))
    measure = jax.jit(jax.vmap(jax.vmap(measure), (0, None, None, None, None)))
    every_rate = np.asarray(rates, np.float32)
    with stage(f"training {len(rates) * len(networks)} networks", "compiling", total=epochs, unit="epoch") as told:
        state = begin(every_rate, params)
        found = [np.asarray(measure(state[0], x, y, held_x, held_y))]
        for number in range(epochs):
            state = epoch(every_rate, state, strength, orders[:, number], x, y)
            found.append(np.asarray(measure(state[0], x, y, held_x, held_y)))
            told.at(number + 1, f"training loss {np.median(found[-1][..., 0]):.4f}")
    ends, curves = jax.tree.map(np.asarray, state[0]), np.stack(found, 2)
    best, first = {}, 0
    for name, own in contenders.items():
        mine = slice(first, first + len(own))
        first += len(own)
        runs = [
            Runs(rate, jax.tree.map(lambda leaf, at=(i, mine): leaf[at], ends), _curves_by_name(curves[i, mine]))
            for i, rate in enumerate(rates)
        ]
        best[name] = min(runs, key=lambda runs: _median_score(score(runs)))
    return best


def best_rates(model, loss, contenders, optimizer, rates, **options) -> dict[str, float]:
    """The rates that `train_at_best_rate` chooses; where there is only one rate, nothing is trained."""
    if len(rates) == 1:
        return dict.fromkeys(contenders, rates[0])
    return {
        name: runs.rate for name, runs in train_at_best_rate(model, loss, contenders, optimizer, rates, **options).items()
    }


def fit_one_by_one(
    model: Model,
    loss: Callable,
    own: Sequence[Start],
    optimizer: Callable[[Any], optax.GradientTransformation],
    rate: float,
    *,
    epochs: int,
    batch_size: int | None = None,
) -> Runs:
    """Train the networks of one contender by `jaxnets.fit`, one after the other, which gives the seconds of the library.

    Every epoch counts as the median epoch, which leaves out compilation, in the first one, and other work of the machine.
    """
    ends, curves, seconds = [], [], []
    with stage("training", total=len(own), unit="network") as told:
        for seed, start in enumerate(own):
            told.next_part(f"{epochs} epochs")
            arrays = [jnp.asarray(a) for a in start.arrays]
            curve = [_measure(model, loss, start.params, *arrays)]

            def note(epoch, params, metrics, curve=curve, arrays=arrays):
                curve.append(_measure(model, loss, params, *arrays))

            result = fit(
                model,
                loss,
                start.training,
                optimizer(rate),
                epochs=epochs,
                batch_size=batch_size,
                shuffle=start.shuffle,
                params=start.params,
                key=jax.random.key(seed),
                after_epoch=note,
            )
            ends.append(result.params)
            curves.append(np.array(curve))
            seconds.append(np.median([metrics["seconds"] for metrics in result.history]) * np.arange(epochs + 1))
    return Runs(rate, _stack_trees(ends), _curves_by_name(np.array(curves)), np.array(seconds))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measure(model, loss, params, x, y, held_x, held_y):
    """The numbers of CURVES."""
    found = []
    for inputs, labels in ((x, y), (held_x, held_y)):
        predictions = model.apply(params, inputs)
        found += [jnp.mean(loss(predictions, labels)), 100 * jnp.mean(jnp.argmax(predictions, -1) == labels)]
    return jnp.stack(found)


def _curves_by_name(curves):
    return dict(zip(CURVES, np.moveaxis(curves, -1, 0), strict=True))


def _stack_trees(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _batch_indices(shuffle, seed, epochs, examples, size):
    """The indices of the examples of every mini-batch, [epoch, step, size].

    Which examples are left over changes from epoch to epoch, if they are shuffled.
    """
    rng = np.random.default_rng(seed)
    steps = examples // size
    orders = [rng.permutation(examples) if shuffle else np.arange(examples) for _ in range(epochs)]
    return np.stack([order[: steps * size].reshape(steps, size) for order in orders]).astype(np.int32)


def _median_score(values) -> float:
    """The median score.  NaN counts as infinity, because the rate was too large."""
    return float(np.median(np.where(np.isfinite(values), values, np.inf)))


def curves_panel(title: str, runs: Mapping[str, Runs], name: str, xlabel: str = "epoch") -> LinesPanel:
    """A panel with one of CURVES over the epochs."""
    values = {contender: own.curves[name] for contender, own in runs.items()}
    epochs = next(iter(values.values())).shape[1]
    return LinesPanel(title, xlabel, name, range(epochs), values, "y" if name in (LOSS, HELD_OUT_LOSS) else "")
