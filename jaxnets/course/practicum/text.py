"""Text: a recurrent network that learns to write as the guide is written, one character after the other."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...guide import page_texts
from ...learn import data
from ...learn.data import CHARACTERS, Dataset
from ...learn.evaluate import floating_dtype
from ...learn.models import Model
from ...learn.progress import stage
from .run import Run, StudyResult
from .scores import Scores, score_table

HELD_OUT = 0.1  # of every page, its end
WRITTEN = 400  # characters


def guide() -> tuple[Dataset, Dataset]:
    """The pages of the guide in pieces of 64 characters, the end of every page held out."""
    pages = [(page, round(len(page) * (1 - HELD_OUT))) for page in page_texts().values()]
    parts = "".join(page[:end] for page, end in pages), "".join(page[end:] for page, end in pages)
    training, held_out = (
        dataclasses.replace(data.characters(part), name=f"the guide, {word}")
        for part, word in zip(parts, ("training", "held out"), strict=True)
    )
    return training, held_out


def study(run: Run) -> StudyResult:
    """How well a network foresees the next character of the guide, and a text that it writes."""
    model = run.model
    result = run.fit(model, run.initial_params(model))
    scores = Scores.of(run, model, result)
    bits = (scores.held_out.loss or 0.0) / math.log(2)
    with stage(f"writing with {model.name}", f"{WRITTEN} characters"):
        written = sample(model, result.params, run.held_out.x[0], WRITTEN, jax.random.key(run.seed))
    lines = [
        score_table(run, {"": scores}),
        f"A held-out character takes {bits:.2f} bits; without a network, by their frequencies alone, {_entropy(run):.2f}.",
        "What the network writes after a piece of the held-out text:",
        written,
    ]
    pictures = []
    if run.plots:
        pictures = [run.save(run.plots.learning_curves(result.history, run.space_chain(model)), "curves")]
    numbers = {**run.description(), **scores.to_json(), "bits_per_character": bits, "written": written}
    return StudyResult(numbers, lines, pictures)


def sample(model: Model, params, start: np.ndarray, count: int, key) -> str:
    """A text of `count` characters, each drawn as the network foresees it after as many characters as `start` has."""
    first, keys = jnp.asarray(start, floating_dtype(params)), jax.random.split(key, count)
    return "".join((*CHARACTERS, "¤")[i] for i in np.asarray(_drawn(model, params, first, keys)))


@functools.partial(jax.jit, static_argnums=0)
def _drawn(model, params, first, keys):
    def step(before, key):
        drawn = jax.random.categorical(key, model.apply(params, before[None])[0, -1])
        return jnp.append(before[1:], drawn.astype(before.dtype)), drawn

    return lax.scan(step, first, keys)[1]


def _entropy(run: Run) -> float:
    """Bits per held-out character where each has the probability with which it stands in the training text."""
    count = np.bincount(run.training.y.reshape(-1), minlength=len(CHARACTERS) + 1) + 1.0
    return float(-np.log2(count / count.sum())[run.held_out.y].mean())
