"""Why LogSoftMax: what is left of the probabilities, their logarithms and gradients while one logit grows."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..autodiff.transforms import grad
from ..catalogue import LAYERS

POSITIONS = [*range(0, 20), *range(20, 88, 4), 88, 89, 90, 95, 100, 103, 104, 110, 150, 200, 500, 1000]
DEFINITION, LAYER, LOG, EXACT = "exp(z) / Σ exp(z)", "jn.softmax(z)", "jn.log_softmax(z)", "float64"


def saturation() -> dict[str, Any]:
    """The probabilities, logarithms and gradients at logits [t, 0, 0] in float32, with float64 as the reference."""
    softmax, log_softmax = LAYERS["softmax"], LAYERS["log_softmax"]
    by_definition, by_layer = _log(_softmax_by_definition), _log(softmax)
    by_hand = _gradient_of_first(grad, log_softmax)
    functions: list[dict[str, Callable]] = [
        {DEFINITION: _softmax_by_definition, LAYER: softmax},
        {f"log({DEFINITION})": by_definition, f"log({LAYER})": by_layer, LOG: log_softmax},
        {
            f"jax.grad of log({DEFINITION})": _gradient_of_first(jax.grad, by_definition),
            f"jax.grad of log({LAYER})": _gradient_of_first(jax.grad, by_layer),
            "jax.grad of jax.nn.log_softmax": _gradient_of_first(jax.grad, jax.nn.log_softmax),
            "jn.grad of jn.log_softmax": by_hand,
        },
    ]
    values = iter(_at_positions([function for group in functions for function in group.values()]))
    exact = _at_positions([softmax, log_softmax, by_hand], "float64")
    probabilities, logarithms, slopes = (
        {name: next(values) for name in group} | {EXACT: reference}
        for group, reference in zip(functions, exact, strict=True)
    )
    panels = [
        (
            "p₂, the probability of the second class",
            *(probabilities, 1),
            "exp(t) overflows float32 beyond 88.7; softmax subtracts the largest logit first.",
        ),
        (
            "log p₁, close to 0 where the network is sure",
            *(logarithms, 0),
            "1 + 10⁻⁸ rounds to 1, whose logarithm is 0; log_softmax takes log1p of what the other classes sum to.",
        ),
        (
            "log p₂, what a wrong answer costs",
            *(logarithms, 1),
            "p₂ falls below the smallest number of float32, and its logarithm to −∞; log_softmax never makes p₂.",
        ),
        (
            "∂ log p₁ / ∂z₁ = 1 − p₁, the gradient of the sure class",
            *(slopes, 0),
            "1 − p₁ vanishes once p₁ rounds to 1; the hand-written rule sums the other probabilities.",
        ),
    ]
    return {
        "dtype": "float32",
        "logits": "[t, 0, 0]",
        "positions": POSITIONS,
        "panels": [
            {"title": title, "note": note, "series": [{"name": n, "values": v[:, k].tolist()} for n, v in found.items()]}
            for title, found, k, note in panels
        ],
    }


def _softmax_by_definition(z):
    return jnp.exp(z) / jnp.sum(jnp.exp(z))


def _log(probabilities: Callable) -> Callable:
    return lambda z: jnp.log(probabilities(z))


def _gradient_of_first(differentiate: Callable, function: Callable) -> Callable:
    """∂ log p₁ / ∂z."""
    return lambda z: differentiate(lambda z: function(z)[0])(z)


def _at_positions(functions: Sequence[Callable], dtype: str = "float32") -> list[np.ndarray]:
    """The values [position, class] of functions of the logits, to six digits; one program computes them all."""
    logits = np.zeros((len(POSITIONS), 3))
    logits[:, 0] = POSITIONS
    with jax.enable_x64(dtype == "float64"):
        run = jax.jit(lambda logits: [jax.vmap(function)(logits) for function in functions])
        found = [np.asarray(values, np.float64) for values in run(jnp.asarray(logits, dtype))]
    return [np.vectorize(lambda x: float(f"{x:.6g}"))(values) for values in found]
