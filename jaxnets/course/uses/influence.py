"""Whether digits with wrong labels can be found by how far each example moves its own loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...catalogue import LAYERS
from ...curvature.influence import self_influence
from ...curvature.per_example import per_example_grad_norms
from ...learn.data import Dataset, digits, split
from ...learn.models import Model, mlp
from ...learn.progress import stage
from ...learn.scores import auroc
from ..experiments.panels import LinesPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import make_starts, train_at_best_rate

NLL = LAYERS["nll"]
SHARE, DAMPING = 0.05, 0.01
INFLUENCE, LOSS, NORM, CHANCE = "influence", "loss", "gradient norm", "random order"


@experiment("Does influence find digits with wrong labels?")
def influence(seeds: int, quick: bool) -> Finding:
    """The digits in the order of four scores, and how many of the first ones have a label that was altered.

    It is asked early, when the network has learned what most digits say, and late, when it knows the wrong labels by heart.
    """
    width, early, late = (8, 5, 10) if quick else (32, 15, 150)
    model, parts = mlp(width, 10), [split(digits(), 0.25, seed) for seed in range(seeds)]
    spoilt, wrong = zip(*[_with_wrong_labels(training, seed) for seed, (training, _) in enumerate(parts)], strict=True)
    starts = make_starts(model, list(zip(spoilt, [held for _, held in parts], strict=True)))
    planted, size = int(wrong[0].sum()), spoilt[0].size
    score, looked_at = jax.jit(_scores(model, size)), np.arange(1, size // 4)
    rows: dict[str, list] = {name: [] for name in (INFLUENCE, LOSS, NORM, CHANCE)}
    columns, panels = [], []
    for epochs in (early, late):
        runs = train_at_best_rate(model, NLL, {"all": starts}, optax.adam, [3e-3], epochs=epochs, batch_size=32)["all"]
        found: dict[str, list] = {name: [] for name in rows}
        with stage("scores", total=seeds, unit="network") as told:
            for seed, data in enumerate(spoilt):
                told.next_part(f"after {epochs} epochs")
                params = jax.tree.map(lambda leaf, seed=seed: jnp.asarray(leaf[seed]), runs.params)
                for name, values in score(params, data.x.astype(np.float32), data.y.astype(np.int32)).items():
                    found[name].append(np.asarray(values))
                found[CHANCE].append(np.random.default_rng(seed).permutation(size))
        first = {
            name: np.array([own[np.argsort(-values, kind="stable")] for own, values in zip(wrong, scores, strict=True)])
            for name, scores in found.items()
        }
        columns += [f"precision, {epochs} epochs (%)", f"AUROC, {epochs} epochs"]
        for name, own in first.items():
            areas = [auroc(values, places) for values, places in zip(found[name], wrong, strict=True)]
            rows[name] += [100 * own[:, :planted].mean(1), areas]
        shares = {name: 100 * np.cumsum(own, 1)[:, looked_at - 1] / planted for name, own in first.items()}
        axes = "digits that are looked at (%)", "wrong labels that are found (%)"
        panels.append(LinesPanel(f"After {epochs} epochs", *axes, 100 * looked_at / size, shares))
    return Finding(
        setting=f"digits, 64-{width}-10, Adam in mini-batches of 32 at η = 0.003; {planted} of {size} labels are "
        f"wrong; precision is their share among the first {planted} digits; EKFAC of the mean loss, damping {DAMPING}",
        columns=tuple(columns),
        rows=rows,
        claims=tuple(
            Claim(column, f"after {epochs} epochs the most wrong labels come first with", least=False)
            for column, epochs in zip(columns[::2], (early, late), strict=True)
        ),
        panels=tuple(panels),
    )


def _with_wrong_labels(data: Dataset, seed: int) -> tuple[Dataset, np.ndarray]:
    """The data with some labels replaced by other ones, and for every example whether its label is."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(data.size, round(SHARE * data.size), replace=False)
    labels = data.y.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return dataclasses.replace(data, y=labels), labels != data.y


def _scores(model: Model, size: int):
    """A function that returns the scores of every example by their names."""

    def loss(params, x, y):
        return NLL(model.apply(params, x), y)

    def run(params, x, y):
        moved = self_influence(model.apply, NLL, damping=DAMPING, scale=1 / size)(params, x, y)
        return {INFLUENCE: moved, LOSS: loss(params, x, y), NORM: per_example_grad_norms(loss)(params, x, y)}

    return run
