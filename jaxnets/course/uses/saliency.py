"""Which pixels of a digit decide, by four kinds of maps, and whether the answer changes when these pixels are blanked."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...catalogue import LAYERS
from ...curvature.saliency import gradient_times_input, integrated_gradients, smooth_gradient
from ...curvature.saliency import saliency as gradient_map
from ...learn.data import digits, split
from ...learn.models import mlp
from ...learn.progress import stage
from ..experiments.panels import ImagesPanel, LinesPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import make_starts, train_at_best_rate

CROSS_ENTROPY = LAYERS["cross_entropy"]
CHANCE = "random pixels"
MAPS = ("gradient", "smooth gradient", "gradient × input", "integrated gradients", CHANCE)
NOISE, SHOWN = 0.2, 4


@experiment("Which map finds the pixels that decide what a digit is?")
def saliency(seeds: int, quick: bool) -> Finding:
    """Accuracy on held-out digits while the pixels that a map ranks highest are blanked, and the maps as pictures."""
    width, epochs, samples, every = (16, 5, 4, 8) if quick else (32, 30, 32, 2)
    counts = np.arange(0, 33, every)
    model, parts = mlp(width, 10, last=None), [split(digits(), 0.25, seed) for seed in range(seeds)]
    runs = train_at_best_rate(
        model, CROSS_ENTROPY, {"all": make_starts(model, parts)}, optax.adam, [3e-3], epochs=epochs, batch_size=64
    )["all"]

    @jax.jit
    def maps(params, x, key):
        def f(x):
            return model.apply(params, x)

        return [
            gradient_map(f)(x),
            smooth_gradient(f, noise=NOISE, samples=samples, key=key)(x),
            gradient_times_input(f)(x),
            integrated_gradients(f, steps=samples)(x),
            jax.random.uniform(key, x.shape),
        ]

    @jax.jit
    def accuracies(params, x, y, scores):
        """The accuracy in % with so many pixels of the largest scores blanked, for each of `counts`."""
        ranks = jnp.argsort(jnp.argsort(-scores, axis=1), axis=1)
        return jax.lax.map(
            lambda count: 100 * jnp.mean(model.apply(params, jnp.where(ranks < count, 0, x)).argmax(1) == y), counts
        )

    curves: dict[str, list] = {}
    pictures: dict[str, np.ndarray] = {}
    with stage("maps", total=seeds, unit="network") as told:
        for seed, (_, held_out) in enumerate(parts):
            told.next_part(f"of {held_out.size} digits")
            params = jax.tree.map(lambda leaf, seed=seed: jnp.asarray(leaf[seed]), runs.params)
            x, y = held_out.x.astype(np.float32), held_out.y.astype(np.int32)
            found = dict(zip(MAPS, maps(params, x, jax.random.key(seed)), strict=True))
            for name, scores in found.items():
                curves.setdefault(name, []).append(np.asarray(accuracies(params, x, y, scores)))
            if seed == 0:
                shown = [int(np.argmax(y == digit)) for digit in range(SHOWN)]
                kept = {"digit": x} | {name: scores for name, scores in found.items() if name != CHANCE}
                pictures = {name: np.asarray(a)[shown].reshape(-1, 8, 8) for name, a in kept.items()}
    values = {name: np.array(own) for name, own in curves.items()}
    columns = [f"accuracy without {counts[i]} pixels (%)" for i in (len(counts) // 4, len(counts) // 2)]
    return Finding(
        setting=f"held-out digits, 64-{width}-10, {epochs} epochs of Adam in mini-batches of 64 at η = 0.003; {samples} "
        f"noisy copies of deviation {NOISE}, {samples} steps from a blank image",
        columns=(*columns, "mean accuracy (%)"),
        rows={name: [own[:, len(counts) // 4], own[:, len(counts) // 2], own.mean(1)] for name, own in values.items()},
        claims=(Claim("mean accuracy (%)", "the accuracy falls most without the pixels of"),),
        panels=(
            ImagesPanel("Maps of the first network", pictures),
            LinesPanel("The highest pixels blanked", "blanked pixels of 64", "accuracy (%)", counts, values),
        ),
    )
