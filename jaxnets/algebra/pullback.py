"""Maps of which one product gives the rows by several inputs together."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from .contraction import shared_products
from .factors import Group, Operator, Tensor, labels_of, pytree
from .sharding import reshaped, spread_as


class SolvedTogether(Operator):
    """A map by one of several inputs, whose rows are found together: `whole` stands for all of these maps."""

    whole: Any

    def pull_all(self, x) -> Any:
        """What `pull` chooses from: the rows by all inputs."""
        raise NotImplementedError

    def choose(self, rows) -> jax.Array:
        """The rows by its own input."""
        raise NotImplementedError

    def pull(self, x):
        return self.choose(self.pull_all(x))

    def applied(self, apply, array, source: Tensor):
        solutions = shared_products()
        if solutions is None or apply != self.pull:
            return apply(array)
        labels = labels_of(self.axes[: self.shared_rank + self.output_rank])
        roles = tuple(labels.index(label) if label in labels else -1 for label in labels_of(source.axes))
        leaves, tree = jax.tree.flatten(self.whole)
        key = type(self), tree, tuple(map(id, leaves)), id(source.value), roles
        if key not in solutions:
            solutions[key] = leaves, source.value, self.pull_all(array)  # kept, so that their ids stay theirs
        return self.choose(solutions[key][-1])


@pytree("whole")
class Pullback(SolvedTogether):
    """The derivative of all outputs of a call, in one row, by one operand: `whole(cotangents)` gives the rows by all.

    `outputs` are the types of the outputs.  The axes are those of the row of outputs, then of the operand.
    """

    whole: Any
    outputs: tuple[Any, ...]
    operand: int
    axes: tuple[Group, ...]
    output_rank: int
    shared_rank: int = 0
    one_way: str = "pull"
    kind = "pullback"
    symbol = "J"
    meaning = "the derivative of a loop"

    @property
    def dtype(self):
        return jnp.result_type(*(y.dtype for y in self.outputs))

    def pull_all(self, x):
        def rows(x):
            if len(self.outputs) == 1:
                parts = [x]
            else:
                ends = itertools.accumulate(math.prod(y.shape) for y in self.outputs[:-1])
                parts = jnp.split(x.reshape(-1), list(ends))
            return self.whole(
                [spread_as(reshaped(v, y.shape).astype(y.dtype), y) for v, y in zip(parts, self.outputs, strict=True)]
            )

        return [row[None] for row in rows(x[0])] if len(x) == 1 else jax.vmap(rows)(x)

    def choose(self, rows):
        return rows[self.operand]
