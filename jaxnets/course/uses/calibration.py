"""How far a classifier can be believed, also of digits that are turned, before and after Laplace's approximation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.ndimage import rotate
from scipy.special import log_softmax

from ...catalogue import LAYERS
from ...curvature.laplace import Posterior, laplace
from ...learn import regularizers
from ...learn.data import Dataset, digits, split
from ...learn.models import Model, mlp
from ...learn.progress import stage
from ...learn.scores import auroc, confidence_of, expected_calibration_error, reliability
from ..experiments.panels import LinesPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import make_starts, train_at_best_rate
from ..experiments.words import median_and_range

NLL = LAYERS["nll"]
BINS = 15
ENOUGH = 20  # examples in a bin of the reliability diagram
NETWORK, TEMPERATURE, VALIDATED = "network", "temperature", "validated"
STRUCTURES = {"last layer": ("full", "last_layer"), "K-FAC": ("kfac", None), "whole GGN": ("full", None)}
COLUMNS = ("NLL", "ECE (%)", "turned: NLL", "turned: ECE (%)", "turned: AUROC of errors (%)", "AUROC of 90° (%)")
TEMPERATURES = np.logspace(-1, 1, 81)
PRIORS = np.logspace(-1, 4, 16, dtype=np.float32)  # precisions to choose from by validation


class Digits(NamedTuple):
    """What a network learns from, what chooses temperature and prior, and held-out digits at every angle."""

    training: Dataset
    validation: Dataset
    held_out: Dataset
    turned: np.ndarray  # [angle, example, 64]


@experiment("Does Laplace's approximation make a network less sure where it is wrong?")
def calibration(seeds: int, quick: bool) -> Finding:
    """The confidence of a network on digits, upright and turned, beside that of its posteriors."""
    width, epochs, step = (8, 15, 45) if quick else (16, 60, 15)
    angles = np.arange(0, 91, step)
    model, parts = mlp(width, 10), [_digits(seed, angles) for seed in range(seeds)]
    starts = make_starts(model, [(own.training, own.held_out) for own in parts], strength=1 / parts[0].training.size)
    runs = train_at_best_rate(
        model, NLL, {NETWORK: starts}, optax.adam, [3e-3], epochs=epochs, batch_size=64, penalty=regularizers.l2
    )
    params = [jax.tree.map(lambda leaf, seed=seed: jnp.asarray(leaf[seed]), runs[NETWORK].params) for seed in range(seeds)]
    found: dict[str, list] = {name: [] for name in (NETWORK, TEMPERATURE, *STRUCTURES, VALIDATED)}
    apply = jax.jit(model.apply)
    for own, p in zip(parts, params, strict=True):
        before = np.asarray(apply(p, _float(own.validation.x)), np.float64)
        best = TEMPERATURES[np.argmin([_nll(before / t, own.validation.y) for t in TEMPERATURES])]
        log_p = np.stack([np.asarray(apply(p, x), np.float64) for x in own.turned])
        found[NETWORK].append(log_p)
        found[TEMPERATURE].append(log_softmax(log_p / best, -1))
    with stage("posteriors", total=seeds * (len(STRUCTURES) + 1), unit="posterior") as told:
        for name in (*STRUCTURES, VALIDATED):
            predict = jax.jit(_predictor(model, *STRUCTURES.get(name, STRUCTURES["K-FAC"]), validated=name == VALIDATED))
            for own, p in zip(parts, params, strict=True):
                told.next_part(name)
                arrays = [a for data in (own.training, own.validation) for a in (_float(data.x), data.y.astype(np.int32))]
                found[name].append(np.asarray(predict(p, *arrays, own.turned), np.float64))
    labels = [own.held_out.y for own in parts]
    scores = {name: [_scores(*pair) for pair in zip(log_p, labels, strict=True)] for name, log_p in found.items()}
    by_angle = {
        name: np.array([_by_angle(*pair) for pair in zip(log_p, labels, strict=True)]) for name, log_p in found.items()
    }
    centres = (np.arange(BINS) + 0.5) / BINS
    upright, turned = (
        {name: _reliability([own[places] for own in log_p], labels) for name, log_p in found.items()}
        for places in (slice(1), slice(1, None))
    )
    upright_accuracy, turned_accuracy = (
        median_and_range([own for log_p in found.values() for own in _accuracies(log_p, labels, places)], "%")
        for places in (slice(1), slice(1, None))
    )
    share, sure = "share that is right", "confidence"
    return Finding(
        setting=f"digits, 64-{width}-10, {epochs} epochs of Adam at η = 0.003 with weight decay 1/N; turned by {step}° to "
        f"90°; accuracy of all contenders {upright_accuracy} upright and {turned_accuracy} turned; priors by the evidence, "
        "the temperature and, for K-FAC, the validated prior by 15 % of the training digits",
        columns=COLUMNS,
        rows={name: list(np.transpose(own)) for name, own in scores.items()},
        claims=(
            Claim("ECE (%)", "of upright digits the calibration error is least with"),
            Claim("turned: ECE (%)", "of turned ones it is least with"),
            Claim("turned: AUROC of errors (%)", "errors on these are told best by", least=False),
        ),
        panels=(
            LinesPanel("Upright digits", sure, share, centres, upright, diagonal=True),
            LinesPanel(f"Digits turned by {step}° to 90°", sure, share, centres, turned, diagonal=True),
            LinesPanel("Negative log-likelihood", "angle (°)", "NLL", angles, {k: v[:, 0] for k, v in by_angle.items()}),
            LinesPanel("Calibration error", "angle (°)", "ECE (%)", angles, {k: v[:, 1] for k, v in by_angle.items()}),
        ),
    )


def _digits(seed: int, angles) -> Digits:
    rest, held_out = split(digits(), 0.25, seed)
    training, validation = split(rest, 0.15, seed)
    return Digits(training, validation, held_out, np.stack([turned(held_out.x, angle) for angle in angles]))


def turned(x, angle: float) -> np.ndarray:
    """Digits [example, 64] turned by an angle in degrees, with what lies between pixels interpolated linearly."""
    images = rotate(x.reshape(-1, 8, 8), angle, axes=(2, 1), reshape=False, order=1)
    return _float(np.clip(images, 0, 1).reshape(x.shape))


def _predictor(model: Model, structure: str, subset, validated: bool):
    """A function that returns a posterior's log-probabilities of inputs [angle, example, 64].

    The evidence chooses the prior, or the likelihood of a validation set.
    """

    def run(params, x, y, validation_x, validation_y, inputs):
        posterior = laplace(model.apply, NLL, prior_precision=1.0, structure=structure, subset=subset)(params, x, y)
        chosen = _by_validation(posterior, validation_x, validation_y) if validated else posterior.with_best_prior()
        return chosen.log_probabilities(inputs.reshape(-1, inputs.shape[-1])).reshape(*inputs.shape[:2], -1)

    return run


def _by_validation(posterior: Posterior, x, y) -> Posterior:
    losses = jax.lax.map(lambda t: jnp.mean(NLL(posterior.with_prior(t).log_probabilities(x), y)), jnp.asarray(PRIORS))
    return posterior.with_prior(jnp.asarray(PRIORS)[jnp.argmin(losses)])


def _scores(log_p, labels) -> list[float]:
    """The numbers of COLUMNS for log-probabilities [angle, example, class], the first of which is of upright digits."""
    sideways, repeated = log_p[1:].reshape(-1, log_p.shape[-1]), np.tile(labels, len(log_p) - 1)
    ends = np.concatenate([log_p[0], log_p[-1]])
    return [
        _nll(log_p[0], labels),
        100 * expected_calibration_error(log_p[0], labels, bins=BINS),
        _nll(sideways, repeated),
        100 * expected_calibration_error(sideways, repeated, bins=BINS),
        100 * auroc(-confidence_of(sideways), sideways.argmax(1) != repeated),
        100 * auroc(-confidence_of(ends), np.arange(len(ends)) >= len(labels)),
    ]


def _accuracies(log_p, labels, places) -> list[float]:
    """The accuracy in % of every seed at some of the angles."""
    return [100 * np.mean(own[places].argmax(-1) == y) for own, y in zip(log_p, labels, strict=True)]


def _by_angle(log_p, labels):
    """The negative log-likelihood and the calibration error in %, `[2, angle]`."""
    errors = [100 * expected_calibration_error(own, labels, bins=BINS) for own in log_p]
    return [[_nll(own, labels) for own in log_p], errors]


def _reliability(log_p, labels) -> np.ndarray:
    """The share of right answers in every bin of confidence, over all seeds, `[1, bin]`; NaN where examples are few."""
    p = np.concatenate([own.reshape(-1, own.shape[-1]) for own in log_p])
    y = np.concatenate([np.tile(own, len(q)) for own, q in zip(labels, log_p, strict=True)])
    _, right, count = reliability(confidence_of(p), p.argmax(1) == y, BINS).T
    return np.where(count >= ENOUGH, right, np.nan)[None]


def _nll(log_p, labels) -> float:
    """The mean of −log p[label], p normalized."""
    return float(-np.mean(log_softmax(log_p, -1)[np.arange(len(labels)), labels]))


def _float(x) -> np.ndarray:
    return np.asarray(x, np.float32)
