"""A cubic: networks whose variance shows their uncertainty, and the uncertainty that the curvature of one network gives."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...curvature.laplace import laplace
from ...learn.data import Dataset
from ...learn.evaluate import predict
from ...learn.models import Model
from ...learn.progress import stage
from ...losses.regression import squared_error
from .run import Run, StudyResult, nonlinearity_name, text_table

MEMBERS, INTERVAL, ASKED = 5, (-1.0, 1.0), (-4.0, 4.0)


def study(run: Run) -> StudyResult:
    """Networks that agree where they saw data, and how much they disagree where they saw none."""
    word = nonlinearity_name(run.model)
    names = [run.model.name if word in run.recipe.other_models else word, *run.recipe.other_models]
    chosen = [run.model, *map(run.other_model, run.recipe.other_models)]
    for model in chosen:
        run.initial_params(model)  # raises where one does not fit
    together = [_ensemble(model, MEMBERS) for model in chosen]
    wide = dataclasses.replace(
        run, training=_with_repeated_targets(run.training), held_out=_with_repeated_targets(run.held_out)
    )
    x = np.linspace(*ASKED, 401)
    inside = (x >= INTERVAL[0]) & (x <= INTERVAL[1])
    found: dict[str, dict[str, Any]] = {}
    predictions: dict[str, np.ndarray] = {}
    variances: dict[str, np.ndarray] = {}
    for i, (name, model, ensemble) in enumerate(zip(names, chosen, together, strict=True)):
        result = wide.fit(ensemble, wide.initial_params(ensemble), name if i else "")
        mean = predict(ensemble, result.params, run.held_out.x).mean(1)
        predictions[name] = predict(ensemble, result.params, x[:, None]).T
        deviation = predictions[name].std(0)
        with stage("the Laplace posterior", f"of the first network with {name}"):
            alone = _laplace_deviation(model, result.params, run.training, x)
        variances |= {f"{name}, {MEMBERS} networks": deviation**2, f"{name}, Laplace": alone**2}
        found[name] = {
            "model": model.name,
            "rmse": float(np.sqrt(np.mean((mean - run.held_out.y[:, 0]) ** 2))),
            "deviation_inside": float(deviation[inside].mean()),
            "deviation_outside": float(deviation[~inside].mean()),
            "laplace_inside": float(alone[inside].mean()),
            "laplace_outside": float(alone[~inside].mean()),
            "seconds": round(result.seconds, 2),
        }
    rows = [
        (
            f"{MEMBERS} × {values['model']}",
            f"{values['rmse']:.4f}",
            f"{values['deviation_inside']:.4f}",
            f"{values['deviation_outside']:.4f}",
            f"{values['deviation_outside'] / max(values['deviation_inside'], 1e-12):.0f}",
            f"{values['laplace_inside']:.4f}",
            f"{values['laplace_outside']:.4f}",
            f"{values['seconds']:.1f}",
        )
        for values in found.values()
    ]
    columns = (
        *("ensemble", "RMSE of the mean", "deviation inside", "deviation outside", "ratio"),
        *("Laplace inside", "Laplace outside", "seconds"),
    )
    lines = [
        text_table(
            f"{run.training.size} points on {INTERVAL[0]:g} … {INTERVAL[1]:g}, "
            f"networks asked on {ASKED[0]:g} … {ASKED[1]:g}",
            columns,
            rows,
        ),
        "Deviation: the standard deviation between the networks, averaged over x.  Where there were no data they disagree.",
        "Laplace: the standard deviation of the first network alone, from the Gauss-Newton matrix at its weights.",
    ]
    pictures = []
    if run.plots:
        titles = {
            f"{MEMBERS} × {run.space_chain(model)}, {name}": predictions[name]
            for name, model in zip(names, chosen, strict=True)
        }
        points = (run.training.x[:, 0], run.training.y[:, 0])
        pictures.append(run.save(run.plots.ensemble(x, titles, points, INTERVAL), "regression"))
        pictures.append(run.save(run.plots.variance(x, variances, INTERVAL), "variance"))
    return StudyResult({**run.description(), "ensembles": found}, lines, pictures)


def _laplace_deviation(model: Model, params, data: Dataset, x) -> np.ndarray:
    """The standard deviation of the first network at x, from the Laplace posterior whose prior makes the data most probable.

    The noise has the variance of the network's errors.  The matrices are close to singular, so this takes double precision.
    """
    with jax.enable_x64(True):
        first = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[0], "float64"), params)
        inputs, targets, points = (jnp.asarray(np.asarray(a), "float64") for a in (data.x, data.y, x[:, None]))

        noise = float(jnp.mean(squared_error(model.apply(first, inputs), targets)))
        posterior = laplace(model.apply, squared_error, prior_precision=1.0, scale=0.5 / noise)(first, inputs, targets)
        posteriors = [dataclasses.replace(posterior, prior_precision=10.0**power) for power in range(-3, 4)]
        best = max(posteriors, key=lambda posterior: float(posterior.log_evidence()))
        return np.sqrt(np.asarray(best.variance(points))[:, 0])


def _with_repeated_targets(dataset: Dataset) -> Dataset:
    """The data set with the same target for every network of an ensemble."""
    return dataclasses.replace(dataset, y=np.repeat(dataset.y, MEMBERS, 1))


def _ensemble(model: Model, count: int) -> Model:
    """Several networks that learn side by side, each from its own weights.

    Each predicts one number, so the predictions have the shape [batch, network].
    """

    def init(key, input_shape, dtype=jnp.float32):
        return jax.vmap(lambda key: _with_spread_biases(model.init(key, input_shape, dtype), key))(
            jax.random.split(key, count)
        )

    def apply(params, x, *, key=None, training=False):
        keys = None if key is None else jax.random.split(key, count)
        every = jax.vmap(lambda p, k: model.apply(p, x, key=k, training=training), (0, None if key is None else 0), 1)
        return every(params, keys)[..., 0]

    return Model(f"{count} × ({model.name})", init, apply, lambda shape: (count,))


def _with_spread_biases(params, key):
    """Parameters in which the biases of the first layer are drawn from −1 … 1.

    With biases of 0 the kinks of all its units would lie at x = 0.
    """
    if not (isinstance(params, list) and isinstance(params[0], dict) and "b" in params[0]):
        return params
    b = params[0]["b"]
    return [params[0] | {"b": jax.random.uniform(jax.random.fold_in(key, 1), b.shape, b.dtype, -1, 1)}, *params[1:]]
