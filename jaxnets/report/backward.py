"""The backward pass of an average loss, module by module: the rows that come in and go out, with numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from ..autodiff.nodes import Node
from ..learn.presets import Problem
from ..show.chains import per_example
from ..show.local_jacobians import LocalJacobians, function_of_real_leaves

MAX_NUMBERS = 48  # of a row that the page holds


def backward_pass(jacobians: LocalJacobians, problem: Problem) -> dict[str, Any]:
    """The rows of the first example, as arrays.

    `rows` holds ∂C/∂y of every module, `parts` the product of that row with each of the module's Jacobians by hand, and
    `gradients` what has arrived at every input in the end, from all examples, with the largest difference to `jax.grad`.
    """
    gradients = {cost: jnp.ones((), problem.x.dtype) for cost in jacobians.outputs if cost is not None}
    rows, parts = [], []
    for node in reversed(jacobians.modules):
        row = gradients[node]
        of_batch = not jacobians.is_weight(node) and per_example(node.shape, jacobians.batch_size) != node.shape
        first = row.at[1:].set(0) if of_batch else row
        for edge, j in jacobians.pairs[node]:
            gradients[edge.parent] = gradients.get(edge.parent, 0) + row @ j
        rows.append(first.reshape(-1)[:MAX_NUMBERS])
        parts.append([(first @ j).reshape(-1)[:MAX_NUMBERS] for _, j in jacobians.pairs[node]])
    return {"rows": rows[::-1], "parts": parts[::-1], "gradients": _compared(gradients, problem)}


def _compared(gradients: dict[Node, jax.Array], problem: Problem) -> dict[str, dict[str, jax.Array]]:
    call, leaves, labels, _ = function_of_real_leaves(problem.loss, (problem.params, problem.x))
    by_autodiff = dict(zip(labels, jax.grad(call)(leaves), strict=True))
    return {
        node.name: {"values": row.reshape(-1)[:MAX_NUMBERS], "difference": jnp.max(jnp.abs(row - by_autodiff[node.name]))}
        for node, row in gradients.items()
        if node.name in by_autodiff and not node.edges
    }
