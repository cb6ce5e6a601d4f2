"""How to descend: how many examples per step, in which order, with inputs of which scale, and at which learning rate."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

from ...catalogue import LAYERS
from ...learn.data import Statistics, digits, spiral, split, table
from ...learn.models import mlp
from ..experiments.panels import LinesPanel, PointsPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import (
    ACCURACY,
    HELD_OUT,
    LOSS,
    RATE,
    average_loss,
    best_rates,
    curves_panel,
    epochs_until,
    fit_one_by_one,
    make_starts,
    standardized_digits,
    train_at_best_rate,
)
from ..experiments.words import numbers_text

NLL = LAYERS["nll"]


@experiment("How many examples should a step of gradient descent look at?")
def batch_size(seeds: int, quick: bool) -> Finding:
    """How long `fit` takes until the training loss reaches a goal, without compilation.

    Each batch size trains at the learning rate with which it needs the fewest epochs.
    """
    width, goal = (16, 0.5) if quick else (64, 0.02)
    ways = {  # batch size, epochs, rates
        "single examples": (1, 3, (0.01,)) if quick else (1, 10, (0.01, 0.03, 0.1)),
        "mini-batches of 32": (32, 4, (0.1,)) if quick else (32, 20, (0.3, 1.0, 3.0)),
        "full batches": (None, 40, (0.5,)) if quick else (None, 120, (1.0, 3.0, 10.0)),
    }
    model, splits = mlp(width, 10), standardized_digits(seeds)
    begin, examples = make_starts(model, splits), splits[0][0].size
    rows, times, work = {}, {}, {}

    def reaching(runs):
        return epochs_until(goal, runs, LOSS)

    for name, (size, epochs, rates) in ways.items():
        options: dict[str, Any] = {"epochs": epochs, "batch_size": size}
        chosen = best_rates(model, NLL, {name: begin[:2]}, optax.sgd, rates, score=reaching, **options)
        runs = fit_one_by_one(model, NLL, begin, optax.sgd, chosen[name], **options)
        reached = reaching(runs)
        milliseconds = 1000 * runs.seconds
        seen = np.broadcast_to(np.arange(epochs + 1) * examples, milliseconds.shape)
        taken = [own[int(n)] if n < np.inf else np.inf for own, n in zip(milliseconds, reached, strict=True)]
        rows[name] = [taken, reached * examples, *runs.final(RATE)]
        times[name], work[name] = ((x, runs.curves[LOSS]) for x in (milliseconds, seen))
    columns = (f"time to a training loss of {goal} (ms)", "examples seen by then", RATE)
    return Finding(
        setting=f"digits, 64-{width}-10, {examples:,} examples, SGD by fit on one {jax.devices()[0].device_kind}, "
        "each at its best rate",
        columns=columns,
        rows=rows,
        claims=(
            Claim(columns[0], f"a training loss of {goal} comes soonest with"),
            Claim(columns[1], "it takes the fewest examples with"),
        ),
        panels=(
            _loss_panel("Time, compilation left out", "milliseconds", times),
            _loss_panel("Work", "examples seen", work),
        ),
    )


def _loss_panel(title, xlabel, curves) -> LinesPanel:
    """The training loss over an x that differs between contenders and seeds: `{name: (x, loss)}`, both [seed, epoch]."""
    ends = [x[:, [1, -1]] for x, _ in curves.values()]
    grid = np.geomspace(np.min(ends), np.max(ends), 200)
    values = {
        name: [np.interp(grid, *pair, np.nan, np.nan) for pair in zip(x[:, 1:], y[:, 1:], strict=True)]
        for name, (x, y) in curves.items()
    }
    return LinesPanel(title, xlabel, LOSS, grid, values, "xy")


@experiment("Should the examples be shuffled, and how often?")
def shuffling(seeds: int, quick: bool) -> Finding:
    """Digits one at a time: in an order that is new in every epoch, in one that is drawn once, and sorted by label."""
    width, epochs, rates = (8, 1, (0.03,)) if quick else (32, 5, (0.001, 0.003, 0.01, 0.03, 0.1))
    model = mlp(width, 10)
    drawn = [split(digits(), 0.25, seed) for seed in range(seeds)]
    by_label = [(t.take(np.argsort(t.y, kind="stable")), h) for t, h in drawn]
    contenders = {
        "shuffled every epoch": make_starts(model, drawn),
        "shuffled once": make_starts(model, drawn, shuffle=False),
        "sorted by label": make_starts(model, by_label, shuffle=False),
    }
    runs = train_at_best_rate(model, NLL, contenders, optax.sgd, rates, epochs=epochs, batch_size=1)
    columns = (LOSS, ACCURACY, HELD_OUT, RATE)
    return Finding(
        setting=f"digits with pixels from 0 to 1, 64-{width}-10, {epochs} epochs of SGD with one example per step, "
        f"the best rate of {numbers_text(rates)}",
        columns=columns,
        rows={name: own.final(*columns) for name, own in runs.items()},
        claims=(
            Claim(LOSS, f"after {epochs} epochs the training loss is least with"),
            Claim(HELD_OUT, "the held-out accuracy is highest with", least=False),
        ),
        panels=(curves_panel("Training", runs, LOSS), curves_panel("Held-out examples", runs, HELD_OUT)),
    )


@experiment("Should inputs be normalised?")
def normalisation(seeds: int, quick: bool) -> Finding:
    """The wine data, whose features range from 0.1 to 1,700, with one more feature that is constant and so has σ = 0."""
    width, epochs = (8, 50) if quick else (16, 300)
    rates = (1e-3, 1e-1) if quick else (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    goal, model = 95, mlp(width, 3)
    wine = table("wine")
    wine = dataclasses.replace(wine, x=np.concatenate([wine.x, np.ones((wine.size, 1))], 1))
    ways = {
        "inputs as they are": lambda data, by: data,
        "(x−μ) / σ": _standardize_without_floor,
        "(x−μ) / max(σ, ε)": lambda data, by: by.standardize(data),
    }
    splits = [(*parts, Statistics.of(parts[0].x)) for parts in (split(wine, 0.25, seed) for seed in range(seeds))]
    contenders = {name: make_starts(model, [(way(t, by), way(h, by)) for t, h, by in splits]) for name, way in ways.items()}
    runs = train_at_best_rate(model, NLL, contenders, optax.sgd, rates, epochs=epochs, score=average_loss)
    steps = f"steps to {goal} % training accuracy"
    return Finding(
        setting=f"wine and a constant feature, 14-{width}-3, {epochs} steps of full-batch descent, the best rate of "
        f"{numbers_text(rates)}",
        columns=(steps, LOSS, HELD_OUT, RATE),
        rows={name: [epochs_until(goal, own), *own.final(LOSS, HELD_OUT, RATE)] for name, own in runs.items()},
        claims=(
            Claim(steps, f"{goal} % training accuracy takes the fewest steps with"),
            Claim(HELD_OUT, "the held-out accuracy is highest with", least=False),
        ),
        panels=(curves_panel("Training", runs, LOSS, "step"), PointsPanel("Held-out examples", HELD_OUT)),
    )


def _standardize_without_floor(data, by):
    with np.errstate(divide="ignore", invalid="ignore"):
        return dataclasses.replace(data, x=(data.x - by.mean) / by.std)


@experiment("Should the learning rate decrease?")
def learning_rate(seeds: int, quick: bool) -> Finding:
    """SGD and Adam at a constant rate, and at one that falls to 0 along a cosine; each starts from its own best rate."""
    width, epochs, points = (16, 4, 100) if quick else (64, 40, 300)
    size, model = 8, mlp(width, 3)
    splits = [split(spiral(points=points, noise=0.4, seed=seed), 0.25, seed) for seed in range(seeds)]
    begin, steps = make_starts(model, splits), epochs * (splits[0][0].size // size)

    def falling(optimizer):
        return lambda rate: optimizer(optax.cosine_decay_schedule(rate, steps))

    sgd, adam = ((0.3,), (0.01,)) if quick else ((0.1, 0.3, 1.0, 3.0), (0.01, 0.03, 0.1, 0.3))
    ways = {
        "constant SGD": (optax.sgd, sgd),
        "decreasing SGD": (falling(optax.sgd), sgd),
        "constant Adam": (optax.adam, adam),
        "decreasing Adam": (falling(optax.adam), adam),
    }
    runs = {
        name: train_at_best_rate(model, NLL, {name: begin}, optimizer, rates, epochs=epochs, batch_size=size)[name]
        for name, (optimizer, rates) in ways.items()
    }
    columns, names = (LOSS, HELD_OUT, RATE), tuple(ways)
    return Finding(
        setting=f"spiral of {3 * points} points and noise of 0.4, 2-{width}-3, {epochs} epochs of mini-batches of {size}; "
        f"the best rate of {numbers_text(sgd)} for SGD, {numbers_text(adam)} for Adam",
        columns=columns,
        rows={name: own.final(*columns) for name, own in runs.items()},
        claims=(
            Claim(LOSS, f"after {epochs} epochs the training loss is less with", among=names[:2]),
            Claim(LOSS, "it is less with", among=names[2:]),
        ),
        panels=(curves_panel("Training", runs, LOSS), PointsPanel("After training", LOSS)),
    )
