"""Factors of a Jacobian: arrays whose axes carry labels, and the few maps whose array is never stored.

A factor stands for an array.  Each of its axes is a *group* of labels: the row-major product of their indices, so
that a reshape that merges or splits axes is a renaming.  Factors that share a label are multiplied along it; a label
that nobody keeps is summed: see contraction.py.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, NamedTuple, dataclass_transform

import jax
import jax.numpy as jnp
from jax import lax


class Label(NamedTuple):
    """An index: `id` tells it from the others, `size` is its range, `name` is for people."""

    id: int
    size: int
    name: str = ""


Group = tuple[Label, ...]


def size_of(labels) -> int:
    return math.prod(label.size for label in labels)


def shape_of(groups) -> tuple[int, ...]:
    return tuple(size_of(group) for group in groups)


def labels_of(groups) -> Group:
    return tuple(label for group in groups for label in group)


def distinct_labels(groups) -> list[Label]:
    """Every label of the groups once, in order."""
    return list(dict.fromkeys(labels_of(groups)))


def at_least_float32(x):
    """float16 and bfloat16 as float32: sums and long products need it."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@dataclass_transform(frozen_default=True, eq_default=False)
def pytree(*arrays: str):
    """Class decorator: a frozen dataclass that is a pytree with the named fields as leaves, all others static."""

    def wrap(cls):
        cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        static = [f.name for f in dataclasses.fields(cls) if f.name not in arrays]
        return jax.tree_util.register_dataclass(cls, list(arrays), static)

    return wrap


class Factor:
    """What every factor has: `axes`, a group of labels an axis, and the array that it stands for."""

    axes: tuple[Group, ...]
    kind: ClassVar[str]

    def formula(self, show) -> str:
        """In index notation; `show` writes the indices of some axes, as "[b,i]"."""
        raise NotImplementedError

    def contract(self, x: "Tensor", keep) -> "Tensor | None":
        """Product with a stored array, summed over what is not in `keep`, or None where only `as_tensor()` will do."""
        return None

    @property
    def labels(self) -> set[Label]:
        return set(labels_of(self.axes))

    @property
    def multiplies_per_vector(self) -> int:
        """Multiplications of its product with one vector."""
        return size_of(self.labels)

    def relabel(self, rename):
        return dataclasses.replace(self, axes=tuple(rename(group) for group in self.axes))  # type: ignore[type-var]

    def as_tensor(self) -> "Tensor":
        """The factor as a stored array."""
        raise NotImplementedError


@pytree("value")
class Tensor(Factor):
    """A stored array."""

    value: Any
    axes: tuple[Group, ...]
    name: str = "A"
    kind = "dense"

    def as_tensor(self):
        return self

    def formula(self, show) -> str:
        return self.name + show(self.axes)

    def array_and_labels(self) -> tuple[jax.Array, list[Label]]:
        """The array with one axis a label; labels that repeat are taken on their diagonal."""
        labels = list(labels_of(self.axes))
        if self.value.shape != shape_of(self.axes):
            raise ValueError(
                f"a factor holds an array of shape {self.value.shape} where its labels say {shape_of(self.axes)}; "
                "if this Jacobian came out of jax.vmap, use its methods inside jax.vmap too"
            )
        array = self.value.reshape([label.size for label in labels])
        while repeated := next((label for label in labels if labels.count(label) > 1), None):
            first, second = [i for i, label in enumerate(labels) if label == repeated][:2]
            array = jnp.diagonal(array, axis1=first, axis2=second)
            labels = [label for i, label in enumerate(labels) if i not in (first, second)] + [repeated]
        return array, labels

    def aligned_to(self, labels) -> jax.Array:
        """The array with these axes in this order, of size 1 along labels that it does not have."""
        array, own = self.array_and_labels()
        array = array.transpose([own.index(label) for label in labels if label in own])
        return lax.expand_dims(array, [i for i, label in enumerate(labels) if label not in own])

    def broadcast_to(self, labels) -> jax.Array:
        """The array with these axes in this order, repeated along labels that it does not have."""
        return jnp.broadcast_to(self.aligned_to(labels), [label.size for label in labels])

    def summed_except(self, keep) -> "Tensor":
        """Sum over the labels that are not in `keep`."""
        if self.labels <= set(keep):
            return self
        array, labels = self.array_and_labels()
        array = at_least_float32(array).sum(tuple(i for i, label in enumerate(labels) if label not in keep))
        return tensor(array, [label for label in labels if label in keep], self.name)


def tensor(array, labels, name="A") -> Tensor:
    """An array with one label an axis."""
    return Tensor(array, tuple((label,) for label in labels), name)


class Operator(Factor):
    """A linear map without a stored array: `push` applies it, `pull` its transpose.

    Its axes are the shared ones (every example by itself), then those of its output, then those of its input.
    `push` takes `[n, *shared, *inputs]` to `[n, *shared, *outputs]`; `pull` goes back.
    """

    shared_rank: int
    output_rank: int

    def push(self, x) -> jax.Array:
        raise NotImplementedError

    def pull(self, x) -> jax.Array:
        raise NotImplementedError

    @property
    def multiplies_per_vector(self):
        """Of a map that takes a few passes over its input and its output; others say how many it takes."""
        shared, out, inp = map(labels_of, self.axes_by_role())
        return 4 * size_of(shared) * (size_of(out) + size_of(inp))

    def axes_by_role(self):
        stop = self.shared_rank + self.output_rank
        return self.axes[: self.shared_rank], self.axes[self.shared_rank : stop], self.axes[stop:]

    def contract(self, x, keep):
        shared = self.axes_by_role()[0]
        if len(labels_of(self.axes)) != len(self.labels):
            return None
        for source, target, apply in self.directions():
            own, new = set(labels_of(source)), set(labels_of(target))
            if not own & set(keep) and not new & x.labels:  # along labels that it does not have x is constant
                extra = [label for label in distinct_labels(x.axes) if label not in self.labels]
                array = x.broadcast_to([*extra, *labels_of(shared), *labels_of(source)])
                array = apply(array.reshape(size_of(extra), *shape_of(shared), *shape_of(source)))
                labels = [*extra, *labels_of(shared), *labels_of(target)]
                return tensor(array.reshape([label.size for label in labels]), labels)
        return None

    def directions(self):
        """From which axes to which others products go, and by what."""
        _, out, inp = self.axes_by_role()
        return (inp, out, self.push), (out, inp, self.pull)

    @property
    def dtype(self):
        return jnp.result_type(*jax.tree.leaves(self))

    def array(self, forward: bool | None = None) -> jax.Array:
        """[*shared, *outputs, *inputs], from the images of the unit vectors of one side (by default the narrower)."""
        shared, out, inp = map(shape_of, self.axes_by_role())
        forward = math.prod(inp) <= math.prod(out) if forward is None else forward
        side, apply = (inp, self.push) if forward else (out, self.pull)
        basis = jnp.eye(math.prod(side), dtype=self.dtype).reshape(-1, *(1,) * len(shared), *side)
        images = apply(jnp.broadcast_to(basis, (math.prod(side), *shared, *side)))
        if forward:
            return jnp.moveaxis(images, 0, -1).reshape(*shared, *out, *inp)
        return jnp.moveaxis(images, 0, len(shared)).reshape(*shared, *out, *inp)

    def as_tensor(self):
        return Tensor(self.array(), self.axes, self.kind)


def applied_to_rows(apply):
    """Decorates `push` or `pull` of an operator on rows, the last axis of its arrays: it gets them as [shared, 1, n].

    And what they are multiplied by as [shared, many, n]: with `many` in front, Σ p·x is wrong in compiled code of jaxlib
    0.10.2 for CPU from 16,384 numbers on (https://github.com/jax-ml/jax/issues/39103).
    """

    @functools.wraps(apply)
    def on_rows(self, x):
        rows = jax.tree.map(lambda a: a.reshape(-1, 1, a.shape[-1]), self)
        many = x.reshape(len(x), -1, x.shape[-1]).swapaxes(0, 1)
        return apply(rows, many).swapaxes(0, 1).reshape(x.shape)

    return on_rows


@pytree("index")
class Selection(Factor):
    """One where `index[...]` names the entry of the last axis, zero elsewhere; an index out of range selects nothing.

    Products with it gather and scatter; the one-hot array is never stored.
    """

    index: Any
    axes: tuple[Group, ...]
    name: str = "k"
    kind = "selection"

    @property
    def multiplies_per_vector(self):
        return size_of(labels_of(self.axes[:-1]))

    @property
    def size(self) -> int:
        return size_of(self.axes[-1])

    def formula(self, show) -> str:
        return f"δ({show(self.axes[-1:])[1:-1]}, {self.name}{show(self.axes[:-1])})"

    def as_tensor(self):
        hit = jnp.expand_dims(self.index, -1) == jnp.arange(self.size)
        return Tensor(hit.astype(jnp.float32), self.axes, "δ")

    def contract(self, x, keep):
        index = Tensor(self.index, self.axes[:-1])
        target, keep = self.axes[-1], set(keep)
        if set(target) & index.labels or len(labels_of(self.axes)) != len(self.labels):
            return None
        extra = [label for label in distinct_labels(x.axes) if label not in self.labels]
        common = [label for label in labels_of(index.axes) if label in x.labels]
        if set(target) <= x.labels and not set(target) & keep:  # gather
            own = [label for label in labels_of(index.axes) if label not in common]
            array = x.broadcast_to([*common, *target, *extra])
            array = array.reshape(size_of(common), self.size, size_of(extra))
            ids = index.broadcast_to([*common, *own]).reshape(size_of(common), size_of(own))
            array = jax.vmap(lambda a, i: a.at[_negatives_out_of_range(i)].get(mode="fill", fill_value=0))(array, ids)
            labels = [*common, *own, *extra]
        elif not set(target) & x.labels:  # scatter
            dropped = [label for label in labels_of(index.axes) if label not in keep]
            kept = [label for label in labels_of(index.axes) if label in keep]
            array = x.broadcast_to([*kept, *dropped, *extra])
            array = array.reshape(size_of(kept), size_of(dropped), size_of(extra))
            ids = index.broadcast_to([*kept, *dropped]).reshape(size_of(kept), size_of(dropped))
            zeros = jnp.zeros((self.size, size_of(extra)), array.dtype)
            array = jax.vmap(lambda a, i: zeros.at[_negatives_out_of_range(i)].add(a, mode="drop"))(array, ids)
            labels = [*kept, *target, *extra]
        else:
            return None
        return tensor(array.reshape([label.size for label in labels]), labels)


def _negatives_out_of_range(index):
    """Negative indices count from the end in JAX; here they select nothing."""
    return jnp.where(index < 0, jnp.iinfo(jnp.int32).max, index.astype(jnp.int32))


@pytree()
class Slice(Factor):
    """Position `o` of the first axis is position `start + stride * o` of the second: slices, pieces, padding."""

    start: int
    stride: int
    axes: tuple[Group, ...]
    kind = "selection"

    @property
    def multiplies_per_vector(self):
        return size_of(self.axes[1])

    def formula(self, show) -> str:
        small, big = (show([group])[1:-1] for group in self.axes)
        if not self.axes[0]:
            return f"δ({big}, {self.start})"
        step = "" if self.stride == 1 else f"{self.stride}·"
        return f"δ({big}, {step}{small}{f' + {self.start}' if self.start else ''})"

    def as_tensor(self):
        small, big = shape_of(self.axes)
        hit = jnp.arange(big) == (self.start + self.stride * jnp.arange(small))[:, None]
        return Tensor(hit.astype(jnp.float32), self.axes, "δ")

    def contract(self, x, keep):
        small, big = self.axes
        for source, target in ((big, small), (small, big)):
            if set(source) <= x.labels and not set(source) & set(keep) and not set(target) & x.labels:
                extra = [label for label in distinct_labels(x.axes) if label not in source]
                array = x.broadcast_to([*extra, *source]).reshape(size_of(extra), size_of(source))
                stop = self.start + self.stride * (size_of(small) - 1) + 1
                if source is big:
                    array = lax.slice(array, (0, self.start), (len(array), stop), (1, self.stride))
                else:
                    edges = (self.start, size_of(big) - stop, self.stride - 1)
                    array = lax.pad(array, jnp.zeros((), array.dtype), ((0, 0, 0), edges))
                labels = [*extra, *target]
                return tensor(array.reshape([label.size for label in labels]), labels)
        return None


@pytree("operands")
class Opaque(Operator):
    """The derivative of `function(*operands)[output]` by operand `argument`, as JAX computes it: known by its products.

    Shared axes come first in `axes`; `out_shared` and `in_shared` say where they stand in the arrays themselves.
    """

    operands: tuple
    function: Any
    argument: int
    output: int
    axes: tuple[Group, ...]
    name: str = "opaque"
    shared_rank: int = 0
    output_rank: int = 0
    out_shared: tuple[int, ...] = ()
    in_shared: tuple[int, ...] = ()
    one_way: str = ""  # "push" where JAX cannot transpose (a while loop), "pull" where it cannot push (custom_vjp)

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.name

    def formula(self, show) -> str:
        return f"{self.name}{show(self.axes)}"

    @property
    def dtype(self):
        return self.operands[self.argument].dtype

    def _function(self, x):
        operands = [*self.operands[: self.argument], x, *self.operands[self.argument + 1 :]]
        return self.function(*operands)[self.output]

    def directions(self):
        push, pull = super().directions()
        return {"push": (push,), "pull": (pull,)}.get(self.one_way, (push, pull))

    def array(self, forward=None):
        return super().array(self.one_way == "push" if self.one_way else forward)

    def _apply_to_many(self, transform, x, source, target):
        n = self.shared_rank
        x = jnp.moveaxis(x, range(1, n + 1), [1 + i for i in source])
        y = jax.vmap(transform)(x) if len(x) != 1 else transform(x[0])[None]
        return jnp.moveaxis(y, [1 + i for i in target], range(1, n + 1))

    def push(self, x):
        primal = self.operands[self.argument]
        linear = jax.linearize(self._function, primal)[1]
        return self._apply_to_many(linear, x.astype(primal.dtype), self.in_shared, self.out_shared)

    def pull(self, x):
        primal = self.operands[self.argument]
        y, vjp = jax.vjp(self._function, primal)
        return self._apply_to_many(lambda ct: vjp(ct)[0], x.astype(y.dtype), self.out_shared, self.in_shared)
