"""Factors of zeros and ones that select entries: products with them gather, scatter, slice and pad."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .factors import Factor, Group, Tensor, distinct_labels, entries_over, labels_of, pytree, shape_of, size_of, tensor
from .sharding import reshaped, rows_added_up


def as_int32(index) -> jax.Array:
    """Integer indices as int32, those beyond its range at its ends.

    What is computed with indices is computed in this type: sizes, sums and −1 do not fit into narrow or unsigned ones.
    """
    index = jnp.asarray(index)
    own, widest = jnp.iinfo(index.dtype), jnp.iinfo(jnp.int32)
    if own.min < widest.min or own.max > widest.max:
        index = jnp.clip(index, max(own.min, widest.min), min(own.max, widest.max))
    return index.astype(jnp.int32)


@pytree("index")
class Selection(Factor):
    """One-hot rows: 1 where `index[...]` is the index along the last axis, else 0.  An index out of range selects nothing.

    Products with it gather and scatter, so the one-hot array is never stored.
    """

    index: Any
    axes: tuple[Group, ...]
    name: str = "k"
    kind = "selection"
    symbol = "δ"
    meaning = "1 at selected entries, else 0"

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        return {self.name: ""}

    @property
    def multiplies_per_vector(self):
        return entries_over(labels_of(self.axes[:-1]))

    @property
    def size(self) -> int:
        """The size of the axis of which entries are selected."""
        return size_of(self.axes[-1])

    def formula(self, show) -> str:
        return f"δ({show(self.axes[-1:])[1:-1]}, {self.written(self.name)}{show(self.axes[:-1])})"

    def as_tensor(self):
        hit = jnp.expand_dims(as_int32(self.index), -1) == jnp.arange(self.size)
        return Tensor(hit.astype(jnp.float32), self.axes, "δ")

    def of_all_steps(self, step, input_has_steps):
        return replace(self, axes=(step, *self.axes))

    def summed_over(self, labels):
        kept = Tensor(self.index, self.axes[:-1])
        if not set(self.axes[-1]) <= set(labels) or len(labels_of(kept.axes)) != len(kept.labels):
            return None

        def selects():
            index = as_int32(kept.array_and_labels()[0])
            return ((index >= 0) & (index < self.size)).astype(jnp.float32)

        return labels_of(kept.axes), selects

    def applies_to(self, labels, keep):
        target = self.axes[-1]
        if len(labels_of(self.axes)) != len(self.labels):
            return False
        return self._gathers(labels, keep) or labels.isdisjoint(target)

    def _gathers(self, labels, keep) -> bool:
        """Whether a product with these labels is summed over the index along the last axis; otherwise it scatters."""
        target = self.axes[-1]
        return labels.issuperset(target) and keep.isdisjoint(target)

    def contract(self, x, keep):
        index, target = Tensor(self.index, self.axes[:-1]), self.axes[-1]
        extra = [label for label in distinct_labels(x.axes) if label not in self.labels]
        common = [label for label in labels_of(index.axes) if label in x.labels]
        if self._gathers(x.labels, keep):
            own = [label for label in labels_of(index.axes) if label not in common]
            array = x.broadcast_to([*common, *target, *extra])
            array = reshaped(array, [size_of(common), self.size, size_of(extra)])
            ids = reshaped(index.broadcast_to([*common, *own]), [size_of(common), size_of(own)])
            array = jax.vmap(lambda a, i: a.at[i].get(mode="fill", fill_value=0))(array, _negatives_out_of_range(ids))
            labels = [*common, *own, *extra]
        else:
            dropped = [label for label in labels_of(index.axes) if label not in keep]
            kept = [label for label in labels_of(index.axes) if label in keep]
            array = x.broadcast_to([*kept, *dropped, *extra])
            array = reshaped(array, [size_of(kept), size_of(dropped), size_of(extra)])
            ids = reshaped(index.broadcast_to([*kept, *dropped]), [size_of(kept), size_of(dropped)])
            array = jax.vmap(lambda a, i: rows_added_up(a, i, self.size))(array, _negatives_out_of_range(ids))
            labels = [*kept, *target, *extra]
        return tensor(reshaped(array, [label.size for label in labels]), labels)


def _negatives_out_of_range(index):
    """Negative indices as ones that select nothing; in JAX they would count from the end."""
    return jnp.where(index < 0, jnp.iinfo(jnp.int32).max, as_int32(index))


@pytree()
class Slice(Factor):
    """1 where the second index is `start + stride * o` for the first index `o`, else 0: slices, pieces, padding."""

    start: int
    stride: int
    axes: tuple[Group, ...]
    kind = "selection"
    symbol = "δ"
    meaning = "1 at selected entries, else 0"

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        return {}

    @property
    def multiplies_per_vector(self):
        return entries_over(self.axes[1])

    def formula(self, show) -> str:
        small, big = (show([group])[1:-1] for group in self.axes)
        if not self.axes[0]:
            return f"δ({big}, {self.start})"
        step = "" if self.stride == 1 else f"{self.stride}·"
        return f"δ({big}, {step}{small}{f' + {self.start}' if self.start else ''})"

    def place(self, small: str) -> str:
        """The second index for the first one, as it stands in brackets: t+1."""
        return f"{small}+{self.start}" if small and self.start else small or str(self.start)

    def as_tensor(self):
        small, big = shape_of(self.axes)
        hit = jnp.arange(big) == (self.start + self.stride * jnp.arange(small))[:, None]
        return Tensor(hit.astype(jnp.float32), self.axes, "δ")

    def summed_over(self, labels):
        small, big = self.axes
        if set(big) <= set(labels):
            return small, lambda: jnp.ones(shape_of([(label,) for label in small]), jnp.float32)
        if set(small) <= set(labels):
            return big, self._inside
        return None

    def _inside(self):
        """1 for the indices of the large axis that the small one takes, else 0; one axis for each label."""
        small, big = self.axes
        steps, rest = jnp.divmod(jnp.arange(size_of(big)) - self.start, self.stride)
        inside = (rest == 0) & (steps >= 0) & (steps < size_of(small))
        return inside.astype(jnp.float32).reshape([label.size for label in big])

    def applies_to(self, labels, keep):
        return any(self._leads(source, target, labels, keep) for source, target in (self.axes, self.axes[::-1]))

    @staticmethod
    def _leads(source, target, labels, keep) -> bool:
        return labels.issuperset(source) and keep.isdisjoint(source) and labels.isdisjoint(target)

    def contract(self, x, keep):
        small, big = self.axes
        slices = self._leads(big, small, x.labels, keep)
        source, target = (big, small) if slices else (small, big)
        extra = [label for label in distinct_labels(x.axes) if label not in source]
        lead = [label.size for label in extra]  # its axes stay apart, so that XLA sees slices of concatenations
        array = reshaped(x.broadcast_to([*extra, *source]), [*lead, size_of(source)])
        stop = self.start + self.stride * (size_of(small) - 1) + 1
        if slices:
            array = lax.slice_in_dim(array, self.start, stop, self.stride, axis=-1)
        else:
            edges = (self.start, size_of(big) - stop, self.stride - 1)
            array = lax.pad(array, jnp.zeros((), array.dtype), [*[(0, 0, 0)] * len(lead), edges])
        labels = [*extra, *target]
        return tensor(reshaped(array, [label.size for label in labels]), labels)
