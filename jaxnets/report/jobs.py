"""What the explorer computes, each job from the fields of a request; JAX is loaded with this file, by the worker alone."""

import functools
import json
import math
import pickle
import re
from typing import Any

import jax

from ..learn.spec import Problem, preset, presets, problem
from ..show.formats import for_json
from .content import comparisons, describe
from .report import report
from .training import SIZE, Training

MODULES = 64
PARAMETERS = 200_000
NUMBERS = 8_000_000  # in all values of a model on a batch together
DENSE = 20_000_000  # numbers in one array of autodiff
COLUMNS = 256  # of a Jacobian that forward mode makes at a time

Job = dict[str, Any]
State = bytes | None  # what a training has come to, for the step that follows


def _start(job: Job, state: State) -> tuple[str, State]:
    """Nothing: the answer tells that JAX is loaded."""
    return "", state


def _page(job: Job, state: State) -> tuple[str, State]:
    """The page in HTML; it asks for the comparisons itself, which take longest."""
    return report(_problem(job), job["live"]), state


def _model(job: Job, state: State) -> tuple[str, State]:
    return _json({"content": describe(_problem(job))}), state


def _compare(job: Job, state: State) -> tuple[str, State]:
    found = _problem(job)
    outputs = jax.eval_shape(found.network, found.params, found.x).size
    largest = max(_sizes(found.params) + _sizes(found.x) + _values(found.network, found.params, found.x))
    cells = max(outputs, COLUMNS) * max(outputs, largest)
    if cells > DENSE:
        raise ValueError(
            f"batch: the comparison would need arrays of {cells:,} numbers, at most {DENSE:,}; take fewer examples or a "
            "smaller model"
        )
    return _json({"comparisons": comparisons(found)}), state


def _train(job: Job, state: State) -> tuple[str, State]:
    of, now = pickle.loads(state) if state else (None, None)
    if job["action"] == "step" and of != _lesson(job):
        raise ValueError("train: this model's training has not begun; reset it first")
    training, beginning = _training(*_lesson(job))
    if job["action"] == "reset":
        training.state = beginning
        answer = {"replay": training.replay()}
    else:
        training.state = now
        answer = {"frame": training.step(job.get("steps", 1))}
    return _json(answer), pickle.dumps((_lesson(job), jax.device_get(training.state)))


JOBS = {"start": _start, "page": _page, "model": _model, "compare": _compare, "train": _train}


def _json(data: dict) -> str:
    return json.dumps(for_json(data, str), allow_nan=False)


def _lesson(job: Job) -> tuple[str, str, int, str]:
    """What a training depends on."""
    return job["model"], job["input"], job["seed"], job["dtype"]


@functools.lru_cache(maxsize=1)
def _training(model: str, shape: str, seed: int, dtype: str) -> tuple[Training, Any]:
    """A training, for what it has compiled, and its state at the beginning."""
    training = Training(_problem({"model": model, "input": shape, "batch": 1, "seed": seed, "dtype": dtype}))
    _check_sizes(model, (2,), SIZE**2)  # it is drawn at all points of a grid at once
    return training, training.state


def _problem(job: Job) -> Problem:
    shape = tuple(map(int, job["input"].split("x"))) if job["input"] else None
    _check_sizes(job["model"], shape, job["batch"])
    return problem(job["model"], shape, job["batch"], job["seed"], job["dtype"])


def _check_sizes(text: str, shape: tuple[int, ...] | None, batch: int):
    """Refuse a described model that is too large, before anything of its size is made."""
    if (modules := len(re.findall(r"[A-Za-z_]\w*", text))) > MODULES:
        raise ValueError(f"model: {modules} modules, at most {MODULES}")
    model = preset(text, shape).model
    if text in presets():
        return
    shape = shape or (8,)
    params = jax.eval_shape(lambda key: model.init(key, shape), jax.random.key(0))
    if (count := sum(_sizes(params))) > PARAMETERS:
        raise ValueError(f"model: {count:,} parameters, at most {PARAMETERS:,}")
    x = jax.ShapeDtypeStruct((batch, *shape), "float32")
    if (count := sum(_values(model.apply, params, x))) > NUMBERS:
        raise ValueError(f"batch: {count:,} numbers in the values of the model, at most {NUMBERS:,}")


def _sizes(tree) -> list[int]:
    return [leaf.size for leaf in jax.tree.leaves(tree)]


def _values(function, params, x) -> list[int]:
    """How many numbers every value on the way through a function has."""
    steps: list[Any] = jax.make_jaxpr(function)(params, x).eqns
    return [math.prod(y.aval.shape) for step in steps for y in step.outvars]
