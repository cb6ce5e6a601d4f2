"""How to keep a network from learning its examples by heart: penalties on its weights, and dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...catalogue import LAYERS
from ...learn import models, regularizers
from ...learn.models import linear, mlp, plain, serial
from ..experiments.panels import LinesPanel, PointsPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import (
    ACCURACY,
    HELD_OUT,
    LOSS,
    curves_panel,
    fit_one_by_one,
    make_starts,
    standardized_digits,
    train_at_best_rate,
)

NLL = LAYERS["nll"]
SMALL_WEIGHT = 1e-3
DIGITS = 1797


@experiment("Does an L1 penalty make weights zero?")
def l1(seeds: int, quick: bool) -> Finding:
    """loss + α Σ |w|, by steps that subtract ηα sign(w), which jump back and forth across 0, and by steps that stop at 0."""
    width, epochs, alpha, rate = (16, 8, 3e-3, 0.1) if quick else (32, 60, 1e-3, 0.1)
    model, splits = mlp(width, 10), standardized_digits(seeds)
    subtracted, stopped = "L1 by ηα sign(w)", "L1 stopped at 0"

    def descend(optimizer, **contenders):
        return train_at_best_rate(
            model, NLL, contenders, optimizer, [rate], epochs=epochs, batch_size=64, penalty=regularizers.l1
        )

    free = make_starts(model, splits)
    runs = descend(optax.sgd, **{"no penalty": free, subtracted: make_starts(model, splits, strength=alpha)})
    runs |= descend(lambda rate: optax.chain(optax.sgd(rate), towards_zero(rate * alpha)), **{stopped: free})
    sizes = {name: np.abs([flat_params(own.params, seed) for seed in range(seeds)]) for name, own in runs.items()}
    thresholds = np.logspace(-6, 0, 49)
    below = {name: 100 * np.mean(own[..., None] < thresholds, 1) for name, own in sizes.items()}
    small, zero = f"weights of |w| < {SMALL_WEIGHT} (%)", "weights of w = 0 (%)"
    return Finding(
        setting=f"digits, 64-{width}-10, {epochs} epochs of SGD in mini-batches of 64 at η = {rate}, α = {alpha}",
        columns=(small, zero, LOSS, HELD_OUT),
        rows={
            name: [100 * np.mean(own < SMALL_WEIGHT, 1), 100 * np.mean(own == 0, 1), *runs[name].final(LOSS, HELD_OUT)]
            for name, own in sizes.items()
        },
        claims=(
            Claim(small, f"the most weights below {SMALL_WEIGHT} come with", least=False),
            Claim(zero, "the most weights of exactly 0 with", least=False),
        ),
        panels=(
            LinesPanel("How small weights become", "threshold", "weights below the threshold (%)", thresholds, below, "x"),
            PointsPanel("Held-out examples", HELD_OUT),
        ),
    )


def towards_zero(amount) -> optax.GradientTransformation:
    """A transformation that, after each step, moves every parameter towards 0 by an amount, but not beyond 0."""

    def update(steps, state, params):
        def shrunk(step, w):
            moved = w + step
            return jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - amount, 0) - w

        return jax.tree.map(shrunk, steps, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def flat_params(params, seed) -> np.ndarray:
    """All parameters of the network of one seed, as a vector."""
    return np.concatenate([np.ravel(leaf[seed]) for leaf in jax.tree.leaves(params)])


@experiment("What does weight decay do?")
def l2(seeds: int, quick: bool) -> Finding:
    """loss + α ‖w‖² on few examples, and whether a step of descent on it is w (1 − 2ηα) − η ∇loss."""
    width, epochs, rate, examples = (16, 20, 0.1, 200) if quick else (64, 300, 0.1, 200)
    alphas = (0, 1e-2) if quick else (0, 1e-3, 1e-2, 1e-1)
    model, splits = mlp(width, 10), standardized_digits(seeds, DIGITS - examples)
    contenders = {f"α = {alpha:g}": make_starts(model, splits, strength=2 * alpha) for alpha in alphas}
    runs = train_at_best_rate(model, NLL, contenders, optax.sgd, [rate], epochs=epochs, penalty=regularizers.l2)  # ½ ‖w‖²
    rows = {}
    for (name, own), alpha in zip(runs.items(), alphas, strict=True):
        norms = [np.linalg.norm(flat_params(own.params, seed)) for seed in range(seeds)]
        differences = [decay_difference(model, start, rate, alpha) for start in contenders[name]]
        rows[name] = [norms, *own.final(LOSS, ACCURACY, HELD_OUT), differences]
    return Finding(
        setting=f"digits, {examples} examples, 64-{width}-10, {epochs} steps of full-batch descent at η = {rate}",
        columns=("‖w‖", LOSS, ACCURACY, HELD_OUT, "difference to w (1 − 2ηα) − η ∇loss (ULP)"),
        rows=rows,
        claims=(
            Claim("‖w‖", "the norm of the weights is least with"),
            Claim(HELD_OUT, "the held-out accuracy is highest with", least=False),
        ),
        panels=(
            PointsPanel("Weights", "‖w‖"),
            curves_panel("Training", runs, LOSS, "step"),
            PointsPanel("Held-out examples", HELD_OUT),
        ),
    )


def decay_difference(model, start, rate, alpha) -> float:
    """The largest difference between a step on loss + α ‖w‖² and w (1 − 2ηα) − η ∇loss, in ULP of the larger term."""

    def difference(w, slope, whole):
        step, direct = w - rate * whole, w * (1 - 2 * rate * alpha) - rate * slope
        return float(np.max(np.abs(step - direct) / np.spacing(np.maximum(np.abs(w), np.abs(rate * slope)))))

    slopes = jax.tree.map(np.asarray, _loss_gradients(model, start.params, *start.arrays[:2], np.float32(alpha)))
    return max(jax.tree.leaves(jax.tree.map(difference, jax.tree.map(np.asarray, start.params), *slopes)))


@functools.partial(jax.jit, static_argnums=0)
def _loss_gradients(model, params, x, y, alpha):
    """The gradients of the loss, and of loss + α ‖w‖²."""

    def loss(params):
        return jnp.mean(NLL(model.apply(params, x), y))

    return jax.grad(loss)(params), jax.grad(lambda params: loss(params) + 2 * alpha * regularizers.l2(params))(params)


@experiment("Does dropout help where examples are few?")
def dropout(seeds: int, quick: bool) -> Finding:
    """Two wide hidden layers and few examples, trained by `fit` with Adam, with dropout of half the units and without."""
    width, epochs, rate, examples = (32, 5, 0.003, 100) if quick else (256, 100, 0.001, 100)
    splits = standardized_digits(seeds, DIGITS - examples)
    hidden, output = [linear(width), plain("relu")], [linear(10), plain("log_softmax")]
    contenders = {
        "dropout of 0.5": serial(*2 * [*hidden, models.dropout(0.5)], *output),
        "no dropout": serial(*2 * hidden, *output),
    }
    runs = {
        name: fit_one_by_one(model, NLL, make_starts(model, splits), optax.adam, rate, epochs=epochs, batch_size=32)
        for name, model in contenders.items()
    }
    gap = "training above held-out accuracy (points)"
    return Finding(
        setting=f"digits, {examples} examples, 64-{width}-{width}-10, {epochs} epochs of Adam at {rate} by fit "
        "in mini-batches of 32",
        columns=(LOSS, ACCURACY, HELD_OUT, gap),
        rows={
            name: [*own.final(LOSS, ACCURACY, HELD_OUT), np.subtract(*own.final(ACCURACY, HELD_OUT))]
            for name, own in runs.items()
        },
        claims=(Claim(HELD_OUT, "the held-out accuracy is highest with", least=False),),
        panels=(curves_panel("Held-out examples", runs, HELD_OUT), PointsPanel("After training", HELD_OUT)),
    )
