"""How to ask a network for the right class: with which loss, and in which form of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...autodiff.transforms import grad
from ...catalogue import LAYERS
from ...learn.models import mlp
from ..experiments.panels import LinesPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import (
    ACCURACY,
    HELD_OUT,
    average_loss,
    curves_panel,
    epochs_until,
    make_starts,
    standardized_digits,
    train_at_best_rate,
)
from ..experiments.words import numbers_text

CLASSES = 10
NLL = LAYERS["nll"]


@experiment("Why is cross-entropy the loss of a classifier, and not the squared error?")
def cross_entropy(seeds: int, quick: bool) -> Finding:
    """Both losses on softmax outputs, from usual weights, and from weights with which the network is sure and mostly wrong.

    Also the gradients of both losses by the logits, where a wrong class leads by a margin.
    """
    width, epochs, rates = (16, 10, (0.3,)) if quick else (32, 30, (0.03, 0.1, 0.3, 1.0, 3.0))
    goal, wrong = 99, 20
    margins = range(0, 41, 2)
    splits = standardized_digits(seeds)
    rows, saturated, gradients = {}, {}, {}
    for name, last, loss in (("cross-entropy", "log_softmax", NLL), ("squared error", "softmax", squared_error)):
        model = mlp(width, CLASSES, last=last)
        begin = make_starts(model, splits)
        contenders = {
            "usual": begin,
            "saturated": [start._replace(params=_with_larger_last_weights(start.params)) for start in begin],
        }
        runs = train_at_best_rate(
            model, loss, contenders, optax.sgd, rates, epochs=epochs, batch_size=64, score=average_loss
        )
        saturated[name] = runs["saturated"]
        slope = jax.jit(lambda z, loss=loss, last=last: _gradient_norm(loss, LAYERS[last], z))
        gradients[name] = [[float(slope(_logits_wrong_by(margin, seed))) for margin in margins] for seed in range(seeds)]
        rows[name] = [
            epochs_until(goal, runs["usual"]),
            *runs["usual"].final(HELD_OUT),
            [own[margins.index(wrong)] for own in gradients[name]],
            *runs["saturated"].final(ACCURACY),
        ]
    columns = (
        f"epochs to {goal} % training accuracy",
        HELD_OUT,
        f"‖∂loss/∂logits‖, wrong by {wrong}",
        "training accuracy from saturated outputs (%)",
    )
    one_example = LinesPanel(
        "One example, wrong by a margin",
        "lead of a wrong class over all other logits",
        r"$\|\partial\,loss\,/\,\partial\,logits\|$",
        margins,
        gradients,
        "y",
    )
    return Finding(
        setting=f"digits, 64-{width}-{CLASSES}, {epochs} epochs of SGD, the best rate of {numbers_text(rates)}; "
        "saturated outputs: last weights × 20",
        columns=columns,
        rows=rows,
        claims=(
            Claim(columns[0], f"{goal} % training accuracy takes the fewest epochs with"),
            Claim(columns[3], "from saturated outputs the highest training accuracy comes with", least=False),
        ),
        panels=(one_example, curves_panel("From saturated outputs", saturated, ACCURACY)),
    )


def squared_error(probabilities, labels):
    """Σ_k (p[k] − t[k])²  per example."""
    targets = jax.nn.one_hot(labels, probabilities.shape[-1], dtype=probabilities.dtype)
    return LAYERS["sum"](LAYERS["squared_error"](probabilities, targets), axis=-1)


def _with_larger_last_weights(params):
    *hidden, output, last = params
    return [*hidden, {**output, "w": 20 * output["w"]}, last]


def _logits_wrong_by(margin, seed):
    """Normal logits [1, class] in which that of class 1 exceeds all others by a margin."""
    logits = np.random.default_rng(seed).standard_normal((1, CLASSES)).astype(np.float32)
    logits[0, 1] = np.delete(logits, 1).max() + margin
    return logits


def _gradient_norm(loss, last, logits):
    """The norm of the gradient by the logits, where class 0 is right."""
    return jnp.linalg.norm(grad(lambda z: LAYERS["sum"](loss(last(z), jnp.zeros(1, jnp.int32))))(logits))


@experiment("Why log_softmax(z), and not log(softmax(z))?")
def log_softmax(seeds: int, quick: bool) -> Finding:
    """Both forms in float32, on normal logits times a scale, compared with float64.

    The numbers count the log-probabilities of a random class, and their gradients by the logits, that are wrong by more
    than 0.1 %.
    """
    examples = 100 if quick else 1000
    scales = np.logspace(0, 4, 5 if quick else 17)
    forms = {"log_softmax(z)": LAYERS["log_softmax"], "log(softmax(z))": lambda z: jnp.log(LAYERS["softmax"](z))}
    values, gradients, rows = {}, {}, {}
    for name, form in forms.items():
        found = np.array([[_percentages_wrong(form, scale, examples, seed) for scale in scales] for seed in range(seeds)])
        values[name], gradients[name], infinite, missing = np.moveaxis(found, -1, 0)
        right = np.logical_and.accumulate(values[name] + gradients[name] == 0, 1).sum(1)
        rows[name] = [scales[np.maximum(right, 1) - 1], infinite[:, -1], gradients[name][:, -1], missing[:, -1]]
    columns = (
        "scale of logits up to which all is right",
        "values of −∞ at 10⁴ (%)",
        "wrong gradients at 10⁴ (%)",
        "gradients of NaN at 10⁴ (%)",
    )
    return Finding(
        setting=f"{examples:,} examples of {CLASSES} normal logits times a scale, in float32; wrong: off by more than 0.1 %",
        columns=columns,
        rows=rows,
        claims=(
            Claim(columns[0], "values and gradients are right up to the largest scale of logits with", least=False),
            Claim(columns[2], "at 10⁴ the fewest gradients are wrong with"),
        ),
        panels=(
            LinesPanel("Log-probabilities", "scale of the logits", "values that are wrong (%)", scales, values, "x"),
            LinesPanel("Their gradients", "scale of the logits", "gradients that are wrong (%)", scales, gradients, "x"),
        ),
    )


def _percentages_wrong(form, scale, examples, seed):
    """The percentages of wrong values, of wrong gradients, of values that are −∞, and of gradients that contain NaN."""
    rng = np.random.default_rng(seed)
    z = (scale * rng.standard_normal((examples, CLASSES))).astype(np.float32)
    labels = rng.integers(0, CLASSES, examples).astype(np.int32)

    def chosen(z):
        return -NLL(form(z), labels)

    value, gradient = (np.asarray(a, np.float64) for a in (chosen(z), grad(lambda z: LAYERS["sum"](chosen(z)))(z)))
    below = z.astype(np.float64) - z.max(1, keepdims=True)
    total = np.exp(below).sum(1, keepdims=True)
    true_value = below[np.arange(examples), labels] - np.log(total[:, 0])
    true_gradient = np.eye(CLASSES)[labels] - np.exp(below) / total
    off = np.linalg.norm(gradient - true_gradient, axis=1)
    right = np.abs(value - true_value) <= 1e-3 * np.abs(true_value) + 1e-6
    straight = off <= 1e-3 * np.linalg.norm(true_gradient, axis=1) + 1e-6
    kinds = (~right, ~straight, value == -np.inf, np.isnan(gradient).any(1))  # a NaN is never right
    return [100 * np.mean(kind) for kind in kinds]
