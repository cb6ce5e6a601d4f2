"""What the page's script needs to compute a small network by itself, without a server and in double precision."""

from typing import Any

import jax
import numpy as np

from ..learn.presets import Problem
from ..show.local_jacobians import function_of_real_leaves
from .points import page_sets

MAX_WEIGHTS = 2000
OPERATIONS = (  # those of script/operations.js
    "linear", "add", "flatten", "identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "log_sigmoid", "softplus",
    "silu", "gelu", "softmax", "log_softmax",
)  # fmt: skip
COSTS = ("nll", "squared_error")
BY_ROWS = ("linear", "softmax", "log_softmax", "nll")  # which the script has for one row of numbers per example


def engine_data(problem: Problem, diagram: dict[str, Any]) -> dict[str, Any]:
    """The weights, inputs and targets of a problem with all their digits, and what its network can be trained on.

    Where the script cannot compute the problem, `reason` says why.
    """
    if reason := _why_not(problem, [item for item in diagram["items"] if item["module"] is not None]):
        return {"reason": reason}
    _, leaves, labels, weights = function_of_real_leaves(problem.loss, (problem.params, problem.x))
    arrays = dict(zip(labels, leaves, strict=True))
    targets = np.asarray(problem.targets)
    return {
        "weights": {label: _flat(arrays[label]) for label in labels if label in weights},
        "x": [_flat(row) for row in problem.x],
        "targets": targets.tolist() if targets.dtype.kind in "iu" else [_flat(row) for row in targets],
        "shape": list(problem.x.shape[1:]),
        "model": problem.model.name,
        "sets": page_sets(),
    }


def _flat(array) -> list[float]:
    return np.asarray(array, np.float64).ravel().tolist()


def _why_not(problem: Problem, modules: list[dict]) -> str | None:
    """What of a problem the script does not have, in words, or None."""
    count = sum(leaf.size for leaf in jax.tree.leaves(problem.params))
    if count > MAX_WEIGHTS:
        return f"the model has {count:,} weights, and at most {MAX_WEIGHTS:,} are computed here"
    if problem.targets is None or [module["label"] for module in modules[-1:]] != ["mean"]:
        return "the loss is none of those that are computed here"
    *network, cost, _ = modules
    for module in [*network, cost]:
        axes = 1 if cost["label"] == "nll" and module is cost else 2
        known = module["label"] in (COSTS if module is cost else OPERATIONS)
        if not known or (module["label"] in BY_ROWS and len(module["shape"]) != axes):
            return f"the module {module['label']} is none of those that are computed here"
    return None
