"""Square maps of rows that are known by their diagonal and by what lies beside it."""

import jax
import jax.numpy as jnp

from ..algebra.factors import Operator, Tensor


class RowOperator(Operator):
    """A map of rows [*shared, n] to such rows; its axes are the shared ones, i of the output, then j of the input."""

    output_rank = 1

    @property
    def shared_rank(self):  # type: ignore[override]
        return len(self.axes) - 2

    def on_diagonal(self) -> jax.Array:
        """The entries with i = j: [*shared, n]."""
        raise NotImplementedError

    def off_diagonal(self) -> jax.Array:
        """[*shared, n, n], of which only the entries with i ≠ j count."""
        raise NotImplementedError

    def as_tensor(self):
        if self.axes[-1] == self.axes[-2]:
            return Tensor(self.on_diagonal(), self.axes[:-1], self.kind)
        return Tensor(self.array(), self.axes, self.kind)

    def array(self, forward=None):
        diagonal = self.on_diagonal()
        return jnp.where(jnp.eye(diagonal.shape[-1], dtype=bool), diagonal[..., None], self.off_diagonal())
