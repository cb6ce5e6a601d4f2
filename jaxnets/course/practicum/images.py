"""Images of handwritten digits: a convolutional network, its learning curves and its mistakes."""

import dataclasses

import jax
import numpy as np
from jax.scipy.ndimage import map_coordinates

from ...learn import data
from ...learn.data import Dataset
from ...learn.evaluate import predict
from ...learn.progress import stage
from .run import Run, StudyResult
from .scores import Scores, score_table


def study(run: Run) -> StudyResult:
    """Learning curves, the confusion matrix, calibration and the most confident mistakes of a network that reads digits."""
    model = run.model
    result = run.fit(model, run.initial_params(model))
    scores = Scores.of(run, model, result)
    found = scores.held_out
    wrong = round((1 - scores.accuracy) * found.examples)
    lines = [
        score_table(run, {"": scores}),
        f"{wrong} of {found.examples:,} held-out images are seen as another digit.  Confidence and accuracy differ by "
        f"{found.calibration_error:.1%} on average.",
    ]
    pictures = []
    if run.plots:
        plots, space_chain = run.plots, run.space_chain(model)
        pictures = [
            run.save(plots.learning_curves(result.history, space_chain), "curves"),
            run.save(plots.confusion(found.confusion, f"held-out accuracy {scores.accuracy:.1%}"), "confusion"),
            run.save(plots.calibration(found.calibration, f"{found.examples:,} held-out images"), "calibration"),
            run.save(_mistakes_figure(run, model, result.params), "mistakes"),
        ]
    return StudyResult({**run.description(), **scores.to_json()}, lines, pictures)


def _mistakes_figure(run, model, params, most: int = 18):
    """The images that a classifier was most confidently wrong about."""
    probabilities = np.exp(predict(model, params, run.held_out.x))
    seen, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(seen != run.held_out.y)
    worst = wrong[np.argsort(-sure[wrong])][:most]
    title = f"{len(wrong)} mistakes on {run.held_out.size:,} held-out images"
    title += f", the {most} most confident" if len(wrong) > most else ""
    return run.plots.mistakes(run.held_out.x[worst, 0], run.held_out.y[worst], seen[worst], sure[worst], title=title)


def digits(seed: int) -> tuple[Dataset, Dataset]:
    """scikit-learn's digits as images [1, 8, 8], a fifth of them held out."""
    found = data.digits()
    return data.split(dataclasses.replace(found, x=found.x.reshape(-1, 1, 8, 8)), 0.2, seed)


def mnist(seed: int, copies: int = 4) -> tuple[Dataset, Dataset]:
    """The 5,000 images: 1,000 of them held out, and the others each with distorted copies."""
    training, held_out = data.split(data.mnist(), 1000, seed)
    rng = np.random.default_rng(seed)
    with stage("MNIST", f"making {copies} distorted copies of {training.size:,} images"):
        x = np.concatenate([training.x, *(_distorted(training.x, rng) for _ in range(copies))])
    name = f"{training.name}, with {copies} distorted copies of each"
    return dataclasses.replace(training, x=x, y=np.tile(training.y, copies + 1), name=name), held_out


def _distorted(images, rng):
    """Images [image, 1, height, width], each turned, sheared, stretched and moved a little by a random affine map."""
    count, _, height, width = images.shape
    centre = np.array([[height - 1], [width - 1]]) / 2
    maps = np.eye(2) + rng.uniform(-0.15, 0.15, (count, 2, 2))
    places = maps @ (np.indices((height, width)).reshape(2, -1) - centre) + centre + rng.uniform(-1.5, 1.5, (count, 2, 1))
    return np.asarray(_moved(images[:, 0], places.astype(images.dtype))).reshape(images.shape)


@jax.jit
@jax.vmap
def _moved(image, places):
    return map_coordinates(image, list(places), order=1)
