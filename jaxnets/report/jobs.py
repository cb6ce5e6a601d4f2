"""The jobs of the explorer, each computed from the fields of a request.

This file loads JAX, and only the process of the worker imports it.
"""

import functools
import json
import math
import pickle
import re
from typing import Any

import jax

from ..learn.presets import Problem, find_preset, make_problem, presets
from ..show.formats import replace_nonfinite
from .content import comparisons, describe
from .points import training_data
from .report import report_html
from .training import ADAM, RATES, SIZE, Training

MAX_MODULES = 64
MAX_PARAMETERS = 200_000
MAX_VALUES = 8_000_000  # numbers in all intermediate values of a model on a batch
MAX_DENSE = 20_000_000  # numbers in one array of autodiff
FORWARD_COLUMNS = 256  # columns of a Jacobian that forward mode makes at a time

Job = dict[str, Any]
State = bytes | None  # the state of a training, from which the next step goes on


def _start(job: Job, state: State) -> tuple[str, State]:
    """Do nothing: the answer means that JAX is loaded."""
    return "", state


def _page(job: Job, state: State) -> tuple[str, State]:
    """The page in HTML.  It asks for the comparisons later, because they take longest."""
    return report_html(_problem(job), job["live"]), state


def _model(job: Job, state: State) -> tuple[str, State]:
    return _json({"content": describe(_problem(job))}), state


def _compare(job: Job, state: State) -> tuple[str, State]:
    found = _problem(job)
    outputs = jax.eval_shape(found.network, found.params, found.x).size
    largest = max(_leaf_sizes(found.params) + _leaf_sizes(found.x) + _value_sizes(found.network, found.params, found.x))
    cells = max(outputs, FORWARD_COLUMNS) * max(outputs, largest)
    if cells > MAX_DENSE:
        raise ValueError(
            f"batch: the comparison would need arrays of {cells:,} numbers, at most {MAX_DENSE:,}; take fewer examples or a "
            "smaller model"
        )
    return _json({"comparisons": comparisons(found)}), state


def _train(job: Job, state: State) -> tuple[str, State]:
    """Some steps of a training.  Where it begins, as asked for or by itself, the answer is a whole replay."""
    of, now = pickle.loads(state) if state else (None, None)
    training, beginning = _training(*_training_key(job))
    if job["action"] == "reset" or of != _training_key(job):
        training.state = beginning
        answer = {"replay": training.replay()}
        if steps := job.get("steps"):
            answer["replay"]["frames"].append(training.step(steps))
    else:
        training.state = now
        answer = {"frame": training.step(job.get("steps", 1))}
    return _json(answer), pickle.dumps((_training_key(job), jax.device_get(training.state)))


JOBS = {"start": _start, "page": _page, "model": _model, "compare": _compare, "train": _train}


def _json(data: dict) -> str:
    return json.dumps(replace_nonfinite(data, str), allow_nan=False)


def _training_key(job: Job) -> tuple:
    """The fields that a training depends on."""
    data = (
        job.get("data", "spiral"),
        job.get("function", "sin"),
        tuple(map(tuple, job.get("points", ()))),
        job.get("draw", 0),
    )
    optimizer = job.get("optimizer", ADAM)
    descent = optimizer, float(job.get("rate", RATES[optimizer]))
    return job["model"], job["input"], job["seed"], job["dtype"], descent, *data


@functools.lru_cache(maxsize=1)
def _training(model: str, shape: str, seed: int, dtype: str, descent: tuple, *data) -> tuple[Training, Any]:
    """A training, kept for the programs that it has compiled, and its state at the beginning."""
    points = training_data(*data)
    training = Training(
        _problem({"model": model, "input": shape, "batch": 1, "seed": seed, "dtype": dtype}), points, *descent
    )
    # Its regions are computed at all points of a grid at once, and its loss at all points of the data.
    _check_sizes(model, None if model in presets() else points.shape, max(SIZE**2, points.size))
    return training, training.state


def _problem(job: Job) -> Problem:
    shape = tuple(map(int, job["input"].split("x"))) if job["input"] else None
    _check_sizes(job["model"], shape, job["batch"])
    return make_problem(job["model"], shape, job["batch"], job["seed"], job["dtype"])


def _check_sizes(text: str, shape: tuple[int, ...] | None, batch: int):
    """Refuse a described model that is too large, before anything of its size is allocated."""
    if (modules := len(re.findall(r"[A-Za-z_]\w*", text))) > MAX_MODULES:
        raise ValueError(f"model: {modules} modules, at most {MAX_MODULES}")
    if text in presets():
        if shape is not None:
            raise ValueError(f"input: the preset '{text}' has its own; leave this empty")
        return
    model = find_preset(text, shape).model
    shape = shape or (8,)
    params = jax.eval_shape(lambda key: model.init(key, shape), jax.random.key(0))
    if (count := sum(_leaf_sizes(params))) > MAX_PARAMETERS:
        raise ValueError(f"model: {count:,} parameters, at most {MAX_PARAMETERS:,}")
    x = jax.ShapeDtypeStruct((batch, *shape), "float32")
    if (count := sum(_value_sizes(model.apply, params, x))) > MAX_VALUES:
        raise ValueError(f"batch: {count:,} numbers in the values of the model, at most {MAX_VALUES:,}")


def _leaf_sizes(tree) -> list[int]:
    return [leaf.size for leaf in jax.tree.leaves(tree)]


def _value_sizes(function, params, x) -> list[int]:
    """How many numbers each intermediate value of a function holds."""
    steps: list[Any] = jax.make_jaxpr(function)(params, x).eqns
    return [math.prod(y.aval.shape) for step in steps for y in step.outvars]
