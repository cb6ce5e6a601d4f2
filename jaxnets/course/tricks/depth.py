"""Why a deep network of ReLUs trains worse than one of tanh, and what mends it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ...autodiff.transforms import jacobian
from ...catalogue import LAYERS
from ...learn.initializers import gain, kaiming_normal, orthogonal, xavier_normal
from ...learn.models import Model, linear, plain, residual, serial
from ..experiments.panels import LinesPanel, PointsPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import ACCURACY, LOSS, curves_panel, make_starts, standardized_digits, train_at_best_rate
from ..experiments.words import numbers_text

WIDTH = 32
NLL = LAYERS["nll"]


@experiment("What does a deep network of ReLUs lack, and what mends it?")
def depth(seeds: int, quick: bool) -> Finding:
    """At the start: how alike two examples become from layer to layer, and how large the Jacobian by the input is."""
    hidden, epochs, rates = (4, 2, (0.03,)) if quick else (16, 15, (0.003, 0.01, 0.03, 0.1, 0.3))
    contenders = {
        "tanh": _network(hidden, "tanh", kaiming_normal("tanh")),
        "ReLU": _network(hidden, "relu", kaiming_normal("relu")),
        "ReLU, orthogonal weights": _network(hidden, "relu", orthogonal(gain("relu"))),
        "ReLU after a layer norm": _network(hidden, "relu", kaiming_normal("relu"), normalized=True),
        "ReLU, residual": _residual_network(hidden),
    }
    splits = standardized_digits(seeds)
    alike, runs, rows = {}, {}, {}
    for name, model in contenders.items():
        begin = make_starts(model, splits)
        found = [jax.jit(lambda p, x, m=model: at_start(m, p, x))(start.params, start.arrays[0][:64]) for start in begin]
        alike[name] = jnp.array([cosines for cosines, _ in found])
        norms = [float(norm) for _, norm in found]
        trained = train_at_best_rate(model, NLL, {name: begin}, optax.sgd, rates, epochs=epochs, batch_size=64)
        runs[name] = trained[name]
        rows[name] = [alike[name][:, -1], norms, *runs[name].final(ACCURACY)]
    columns = ("cosine of two examples", "norm of the Jacobian", ACCURACY)
    return Finding(
        setting=f"digits, 64-{WIDTH}-…-{WIDTH}-10 with {hidden} hidden layers; the last hidden state of new networks; "
        f"training: {epochs} epochs of SGD, the best rate of {numbers_text(rates)}",
        columns=columns,
        rows=rows,
        claims=(
            Claim(columns[0], "in the last hidden layer two examples differ most with"),
            Claim(columns[2], f"after {epochs} epochs the training accuracy is highest with", least=False),
        ),
        panels=(
            LinesPanel("Two examples become alike", "layer k", "cosine of their states", range(1, hidden + 1), alike),
            PointsPanel("Jacobian by the input", columns[1]),
            curves_panel("Training", runs, LOSS),
        ),
    )


def _network(hidden: int, activation: str, weights: Callable, normalized=False) -> Model:
    """Parts of which all but the last two give one hidden state each."""
    norm = [plain("layer_norm")] if normalized else []
    layers = (serial(linear(WIDTH, weights=weights), *norm, plain(activation)) for _ in range(hidden))
    return serial(*layers, linear(10), plain("log_softmax"))


def _residual_network(hidden: int) -> Model:
    """After a first linear layer z + w relu(z), with weights so small that all layers together double the mean square."""
    weights = xavier_normal(gain("relu") / hidden**0.5)
    layers = (residual(plain("relu"), linear(WIDTH, weights=weights)) for _ in range(hidden - 1))
    return serial(linear(WIDTH), *layers, linear(10), plain("log_softmax"))


def at_start(model: Model, params, x):
    """Of every hidden state the average cosine of two examples, and of the last one the norm of the Jacobian by the input.

    The norm is |∂z/∂x| / √n with n inputs, averaged over the examples: the factor by which a small change of random
    direction grows on its way.
    """

    def states(x):
        found = []
        for part, own in zip(model.parts[:-2], params[:-2], strict=True):
            x = part.apply(own, x)
            found.append(x)
        return found

    cosines = []
    for z in states(x):
        unit = z / jnp.maximum(jnp.linalg.norm(z, axis=1, keepdims=True), 1e-9)
        cosines.append((jnp.sum(unit.sum(0) ** 2) - jnp.sum(unit**2)) / (len(x) * (len(x) - 1)))
    by_input = jacobian(lambda x: states(x)[-1])(x).per_example()
    return jnp.stack(cosines), jnp.mean(jnp.linalg.norm(by_input, axis=(1, 2))) / x.shape[1] ** 0.5
