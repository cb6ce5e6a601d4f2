"""Why LogSoftMax: one logit grows, and what is left of its probability, logarithm and gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..catalogue import LAYERS
from ..transforms import grad

POSITIONS = [*range(0, 20), *range(20, 88, 4), 88, 89, 90, 95, 100, 103, 104, 110, 150, 200, 500, 1000]


def saturation() -> dict[str, Any]:
    """Probabilities, logarithms and gradients at logits [t, 0, 0] in float32, and in float64 as the reference."""
    softmax, log_softmax = LAYERS["softmax"], LAYERS["log_softmax"]

    def definition(z):
        return jnp.exp(z) / jnp.sum(jnp.exp(z))

    def log_of(probabilities):
        return lambda z: jnp.log(probabilities(z))

    logits = np.zeros((len(POSITIONS), 3))
    logits[:, 0] = POSITIONS

    def at(function, index, dtype=jnp.float32):
        """function(z)[index] for every position."""
        with jax.enable_x64(dtype == jnp.float64):
            found = jax.jit(jax.vmap(lambda z: function(z)[index]))(jnp.asarray(logits, dtype))
            return [float(f"{x:.6g}") for x in np.asarray(found, np.float64)]

    def slope(differentiate, function):
        """∂ log p₁ / ∂z₁ for every position, 1 − p₁."""
        return lambda z: differentiate(lambda z: function(z)[0])(z)

    def panel(title, note, **series):
        return {"title": title, "note": note, "series": [{"name": n, "values": v} for n, v in series.items()]}

    words = {"definition": "exp(z) / Σ exp(z)", "layer": "jn.softmax(z)"}
    return {
        "dtype": "float32",
        "logits": "[t, 0, 0]",
        "positions": POSITIONS,
        "panels": [
            panel(
                "p₂, the probability of the second class",
                "exp(t) overflows float32 beyond 88.7; softmax subtracts the largest logit first.",
                **{
                    words["definition"]: at(definition, 1),
                    words["layer"]: at(softmax, 1),
                    "float64": at(softmax, 1, jnp.float64),
                },
            ),
            panel(
                "log p₁, close to 0 where the network is sure",
                "1 + 10⁻⁸ rounds to 1, whose logarithm is 0; log_softmax takes log1p of what the other classes sum to.",
                **{
                    f"log({words['definition']})": at(log_of(definition), 0),
                    f"log({words['layer']})": at(log_of(softmax), 0),
                    "jn.log_softmax(z)": at(log_softmax, 0),
                    "float64": at(log_softmax, 0, jnp.float64),
                },
            ),
            panel(
                "log p₂, what a wrong answer costs",
                "p₂ falls below the smallest number of float32, and its logarithm to −∞; log_softmax never makes p₂.",
                **{
                    f"log({words['definition']})": at(log_of(definition), 1),
                    f"log({words['layer']})": at(log_of(softmax), 1),
                    "jn.log_softmax(z)": at(log_softmax, 1),
                    "float64": at(log_softmax, 1, jnp.float64),
                },
            ),
            panel(
                "∂ log p₁ / ∂z₁ = 1 − p₁, the gradient of the sure class",
                "1 − p₁ vanishes once p₁ rounds to 1; the hand-written rule sums the other probabilities.",
                **{
                    f"jax.grad of log({words['definition']})": at(slope(jax.grad, log_of(definition)), 0),
                    f"jax.grad of log({words['layer']})": at(slope(jax.grad, log_of(softmax)), 0),
                    "jax.grad of jax.nn.log_softmax": at(slope(jax.grad, jax.nn.log_softmax), 0),
                    "jn.grad of jn.log_softmax": at(slope(grad, log_softmax), 0),
                    "float64": at(slope(grad, log_softmax), 0, jnp.float64),
                },
            ),
        ],
    }
