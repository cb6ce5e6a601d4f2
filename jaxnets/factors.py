"""Factors of a Jacobian: arrays whose axes carry labels, and the few maps whose array is never stored.

A factor stands for an array.  Each of its axes is a *group* of labels: the row-major product of their indices, so
that a reshape that merges or splits axes is a renaming.  Factors that share a label are multiplied along it; a label
that nobody keeps is summed.  `contract` does that for a list of factors.
"""

import dataclasses
import functools
import itertools
import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import opt_einsum
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


def flatten(groups) -> Group:
    return tuple(label for group in groups for label in group)


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

    @property
    def labels(self) -> set[Label]:
        return set(flatten(self.axes))

    def relabel(self, rename):
        return dataclasses.replace(self, axes=tuple(rename(group) for group in self.axes))

    def tensor(self) -> "Tensor":
        """The factor as a stored array."""
        raise NotImplementedError

    def nbytes(self) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self))


@pytree("value")
class Tensor(Factor):
    """A stored array."""

    value: Any
    axes: tuple[Group, ...]
    name: str = "A"
    kind = "dense"

    def tensor(self):
        return self

    def formula(self, show) -> str:
        return self.name + show(self.axes)

    def flat(self) -> tuple[jax.Array, list[Label]]:
        """The array with one axis a label; labels that repeat are taken on their diagonal."""
        labels = list(flatten(self.axes))
        if self.value.shape != shape_of(self.axes):
            raise ValueError(
                f"a factor holds an array of shape {self.value.shape} where its labels say {shape_of(self.axes)}; "
                "if this Jacobian came out of jax.vmap, use its methods inside jax.vmap too"
            )
        array = self.value.reshape([label.size for label in labels])
        for label in [label for i, label in enumerate(labels) if label in labels[:i]]:
            first, last = (i for i, other in enumerate(labels) if other == label)
            array = jnp.diagonal(array, axis1=first, axis2=last)
            labels = [other for i, other in enumerate(labels) if i not in (first, last)] + [label]
        return array, labels

    def aligned(self, labels) -> jax.Array:
        """The array with these axes in this order, of size 1 along labels that it does not have."""
        array, own = self.flat()
        array = array.transpose([own.index(label) for label in labels if label in own])
        return lax.expand_dims(array, [i for i, label in enumerate(labels) if label not in own])

    def arranged(self, labels) -> jax.Array:
        """The array with these axes in this order, repeated along labels that it does not have."""
        return jnp.broadcast_to(self.aligned(labels), [label.size for label in labels])

    def summed(self, keep) -> "Tensor":
        """Sum over the labels that are not in `keep`."""
        if self.labels <= set(keep):
            return self
        array, labels = self.flat()
        array = array.sum([i for i, label in enumerate(labels) if label not in keep])
        return tensor(array, [label for label in labels if label in keep], self.name)


def tensor(array, labels, name="A") -> Tensor:
    """An array with one label an axis."""
    return Tensor(array, tuple((label,) for label in labels), name)


class Operator(Factor):
    """A linear map without a stored array: `push` applies it, `pull` its transpose.

    Its axes are the shared ones (every example by itself), then those of its output, then those of its input.
    `push` takes `[n, *shared, *inputs]` to `[n, *shared, *outputs]`; `pull` goes back.
    """

    shared: int
    outputs: int

    def parts(self):
        stop = self.shared + self.outputs
        return self.axes[: self.shared], self.axes[self.shared : stop], self.axes[stop:]

    def contract(self, x: Tensor, keep) -> Tensor | None:
        """Product with a stored array, or None where only `tensor()` will do."""
        shared, out, inp = self.parts()
        if len(flatten(self.axes)) != len(self.labels):
            return None
        for source, target, apply in ((inp, out, self.push), (out, inp, self.pull)):
            own, new = set(flatten(source)), set(flatten(target))
            if own <= x.labels and not own & set(keep) and not new & x.labels:
                extra = [label for label in flatten(x.axes) if label not in self.labels]
                extra = list(dict.fromkeys(extra))
                array = x.arranged([*extra, *flatten(shared), *flatten(source)])
                array = apply(array.reshape(size_of(extra), *shape_of(shared), *shape_of(source)))
                labels = [*extra, *flatten(shared), *flatten(target)]
                return tensor(array.reshape([label.size for label in labels]), labels)
        return None

    @property
    def dtype(self):
        return jnp.result_type(*jax.tree.leaves(self))

    def array(self, forward: bool | None = None) -> jax.Array:
        """[*shared, *outputs, *inputs], from the images of the unit vectors of one side (by default the narrower)."""
        shared, out, inp = map(shape_of, self.parts())
        forward = math.prod(inp) <= math.prod(out) if forward is None else forward
        side, apply = (inp, self.push) if forward else (out, self.pull)
        basis = jnp.eye(math.prod(side), dtype=self.dtype).reshape(-1, *(1,) * len(shared), *side)
        images = apply(jnp.broadcast_to(basis, (math.prod(side), *shared, *side)))
        if forward:
            return jnp.moveaxis(images, 0, -1).reshape(*shared, *out, *inp)
        return jnp.moveaxis(images, 0, len(shared)).reshape(*shared, *out, *inp)

    def tensor(self):
        return Tensor(self.array(), self.axes, self.kind)


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
    def size(self) -> int:
        return size_of(self.axes[-1])

    def formula(self, show) -> str:
        return f"δ({show(self.axes[-1:])[1:-1]}, {self.name}{show(self.axes[:-1])})"

    def tensor(self):
        hit = jnp.expand_dims(self.index, -1) == jnp.arange(self.size)
        return Tensor(hit.astype(jnp.float32), self.axes, "δ")

    def contract(self, x, keep):
        index = Tensor(self.index, self.axes[:-1])
        target, keep = self.axes[-1], set(keep)
        if set(target) & index.labels or len(flatten(self.axes)) != len(self.labels):
            return None
        extra = [label for label in dict.fromkeys(flatten(x.axes)) if label not in self.labels]
        common = [label for label in flatten(index.axes) if label in x.labels]
        if set(target) <= x.labels and not set(target) & keep:  # gather
            own = [label for label in flatten(index.axes) if label not in common]
            array = x.arranged([*common, *target, *extra])
            array = array.reshape(size_of(common), self.size, size_of(extra))
            ids = index.arranged([*common, *own]).reshape(size_of(common), size_of(own))
            array = jax.vmap(lambda a, i: a.at[_wrapless(i)].get(mode="fill", fill_value=0))(array, ids)
            labels = [*common, *own, *extra]
        elif not set(target) & x.labels:  # scatter
            dropped = [label for label in flatten(index.axes) if label not in keep]
            kept = [label for label in flatten(index.axes) if label in keep]
            array = x.arranged([*kept, *dropped, *extra])
            array = array.reshape(size_of(kept), size_of(dropped), size_of(extra))
            ids = index.arranged([*kept, *dropped]).reshape(size_of(kept), size_of(dropped))
            zeros = jnp.zeros((self.size, size_of(extra)), array.dtype)
            array = jax.vmap(lambda a, i: zeros.at[_wrapless(i)].add(a, mode="drop"))(array, ids)
            labels = [*kept, *target, *extra]
        else:
            return None
        return tensor(array.reshape([label.size for label in labels]), labels)


def _wrapless(index):
    """Negative indices count from the end in JAX; here they select nothing."""
    return jnp.where(index < 0, jnp.iinfo(index.dtype).max, index)


@pytree()
class Slice(Factor):
    """Position `o` of the first axis is position `start + stride * o` of the second: slices, pieces, padding."""

    start: int
    stride: int
    axes: tuple[Group, ...]
    kind = "selection"

    def formula(self, show) -> str:
        small, big = (show([group])[1:-1] for group in self.axes)
        step = "" if self.stride == 1 else f"{self.stride}·"
        return f"δ({big}, {step}{small}{f' + {self.start}' if self.start else ''})"

    def tensor(self):
        small, big = shape_of(self.axes)
        hit = jnp.arange(big) == (self.start + self.stride * jnp.arange(small))[:, None]
        return Tensor(hit.astype(jnp.float32), self.axes, "δ")

    def contract(self, x, keep):
        small, big = self.axes
        for source, target in ((big, small), (small, big)):
            if set(source) <= x.labels and not set(source) & set(keep) and not set(target) & x.labels:
                extra = [label for label in dict.fromkeys(flatten(x.axes)) if label not in source]
                array = x.arranged([*extra, *source]).reshape(size_of(extra), size_of(source))
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
    shared: int = 0
    outputs: int = 0
    out_shared: tuple[int, ...] = ()
    in_shared: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        return self.name

    def formula(self, show) -> str:
        return f"{self.name}{show(self.axes)}"

    @property
    def dtype(self):
        return self.operands[self.argument].dtype

    def _function(self, x):
        operands = [*self.operands[: self.argument], x, *self.operands[self.argument + 1 :]]
        return self.function(*operands)[self.output]

    def contract(self, x, keep):
        try:
            return super().contract(x, keep)
        except (TypeError, ValueError):  # custom_vjp has no push, a while loop no pull: go through the array
            return None

    def array(self, forward=None):
        try:
            return super().array(forward)
        except (TypeError, ValueError):
            if forward is not None:
                raise
        _, out, inp = map(shape_of, self.parts())
        return super().array(not math.prod(inp) <= math.prod(out))

    def _along(self, transform, x, source, target):
        n = self.shared
        x = jnp.moveaxis(x, range(1, n + 1), [1 + i for i in source])
        y = jax.vmap(transform)(x) if len(x) != 1 else transform(x[0])[None]
        return jnp.moveaxis(y, [1 + i for i in target], range(1, n + 1))

    def push(self, x):
        primal = self.operands[self.argument]
        linear = jax.linearize(self._function, primal)[1]
        return self._along(linear, x.astype(primal.dtype), self.in_shared, self.out_shared)

    def pull(self, x):
        primal = self.operands[self.argument]
        y, vjp = jax.vjp(self._function, primal)
        return self._along(lambda ct: vjp(ct)[0], x.astype(y.dtype), self.out_shared, self.in_shared)


# --- contraction --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class Meter:
    """Counts the multiplications of contractions that are only planned."""

    multiplies: int = 0
    peak: int = 0


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def planning():
    """Inside, contractions compute shapes and counts instead of arrays."""
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


def contract(factors, keep, scale: float = 1.0) -> Tensor:
    """scale times the product of the factors, summed over every label that is not in `keep`."""
    factors, keep = list(factors), set(keep)
    if not factors:
        return tensor(jnp.full((), scale), ())
    if len(factors) == 1:
        only = factors[0]
        factors = [_planned(list(dict.fromkeys(flatten(only.axes))), keep) if _meter.get() else only.tensor().summed(keep)]
    for first, second in _path(factors, keep):
        a, b = factors[first], factors[second]
        factors = [f for i, f in enumerate(factors) if i not in (first, second)]
        needed = keep.union(*(f.labels for f in factors))
        factors.append(_pair(a, b, needed))
    product = factors[0]
    return product if scale == 1 or _meter.get() else dataclasses.replace(product, value=product.value * scale)


def add(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two stored arrays, each repeated along the labels that only the other has."""
    if _meter.get():
        labels = list(dict.fromkeys(flatten(a.axes) + flatten(b.axes)))
        return _planned(labels, labels)
    labels = list(dict.fromkeys(flatten(a.axes) + flatten(b.axes)))
    return tensor(a.aligned(labels) + b.aligned(labels), labels, "J")


def fused(a: Tensor, labels, whole: Label) -> Tensor:
    """The last `labels` of a stored array, all that it shares with nobody, as one label."""
    rest = [label for label in dict.fromkeys(flatten(a.axes)) if label not in labels]
    if _meter.get():
        return _planned([*rest, whole], [*rest, whole])
    value = a.arranged([*rest, *labels]).reshape([label.size for label in rest] + [whole.size])
    return tensor(value, [*rest, whole], a.name)


def with_deltas(a: Tensor, labels, repeats) -> Tensor:
    """a times δ(first, second) for every pair of `repeats`; `labels` are those of a and the new ones, in order."""
    if not repeats:
        return a
    if _meter.get():
        return _planned(labels, labels)

    def index(label):
        shape = [label.size if other == label else 1 for other in labels]
        return lax.broadcasted_iota(jnp.int32, shape, labels.index(label))

    hit = functools.reduce(jnp.logical_and, [index(first) == index(second) for first, second in repeats])
    array = jnp.where(hit, a.aligned(labels), 0)
    return Tensor(array, tuple((label,) if label.size == n else () for label, n in zip(labels, array.shape, strict=True)))


MOVE = 8  # what transposing an entry costs, in multiplications
EXHAUSTIVE = 5  # factors up to which every order is tried


def _path(factors, keep):
    """Which two factors to multiply next, until one is left: the order with the fewest multiplications and transposes."""
    if len(factors) <= 2:
        return [(0, 1)] if len(factors) == 2 else []
    orders = [list(dict.fromkeys(flatten(f.axes))) for f in factors]
    if len(factors) <= EXHAUSTIVE:
        return _cheapest(orders, keep)[1]
    union = set().union(*orders)
    path = opt_einsum.paths.auto(list(map(frozenset, orders)), union & keep, {label: label.size for label in union})
    return [tuple(sorted(step)) for step in path]


def _cheapest(orders, keep):
    """Cost and path of the best order of pairwise products."""
    if len(orders) == 1:
        return 0, []
    best = None
    for i, j in itertools.combinations(range(len(orders)), 2):
        rest = [order for k, order in enumerate(orders) if k not in (i, j)]
        labels, _, cost = _layout(orders[i], orders[j], keep.union(*rest))
        if best is None or cost < best[0]:
            more, path = _cheapest([*rest, labels], keep)
            if best is None or cost + more < best[0]:
                best = cost + more, [(i, j), *path]
    return best


def _layout(x, y, keep):
    """The axes of the product of two arrays, whether they change places, and its cost.

    The array with more labels comes first and keeps the order of its axes.
    """
    shared = set(x) & set(y)
    swapped = (len(x), -min(set(x) - shared, default=_NONE).id) < (len(y), -min(set(y) - shared, default=_NONE).id)
    x, y = (y, x) if swapped else (x, y)
    cost = size_of(set(x) | set(y))
    if shared <= keep:
        return (x if set(y) <= set(x) else sorted(set(x) | set(y))), swapped, cost
    batch = [label for label in x if label in shared & keep]
    for own in (x, y):  # a matrix product reads its operand in place where batch axes lead and the summed ones are at an end
        inner = [label in shared and label not in keep for label in own[len(batch) :]]
        if own[: len(batch)] != batch or inner not in (sorted(inner), sorted(inner, reverse=True)):
            cost += MOVE * size_of(own)
    return batch + [label for label in [*x, *y] if label not in shared], swapped, cost


_NONE = Label(-1, 0)


def _planned(labels, keep, cost=None) -> Tensor:
    """What a contraction over these labels would give, counted and not computed."""
    meter, kept = _meter.get(), [label for label in labels if label in keep]
    meter.multiplies += size_of(labels) if cost is None else cost
    meter.peak = max(meter.peak, size_of(kept))
    return tensor(jax.ShapeDtypeStruct([label.size for label in kept], jnp.float32), kept)


def _pair(a: Factor, b: Factor, keep) -> Tensor:
    if _meter.get():
        labels, _, cost = _layout(*(list(dict.fromkeys(flatten(f.axes))) for f in (a, b)), keep)
        return _planned([label for label in labels if label in keep], keep, cost)
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a, b = (a.tensor(), b) if size_of(a.labels) <= size_of(b.labels) else (a, b.tensor())
    for operator, other in ((a, b), (b, a)):
        if not isinstance(operator, Tensor):
            product = operator.contract(other.summed(keep | operator.labels), keep)
            if product is not None:
                return product.summed(keep)
    return _multiply(a.tensor().summed(keep | b.labels), b.tensor().summed(keep | a.labels), keep)


def _multiply(a: Tensor, b: Tensor, keep) -> Tensor:
    """Product of two stored arrays."""
    name = f"({a.name}·{b.name})".replace("((", "(").replace("))", ")")
    name = name if len(name) < 14 else "J"
    (x, x_labels), (y, y_labels) = a.flat(), b.flat()
    labels, swapped, _ = _layout(x_labels, y_labels, keep)
    if swapped:
        x, x_labels, y, y_labels = y, y_labels, x, x_labels
    shared = set(x_labels) & set(y_labels)
    if shared <= keep:
        return tensor(tensor(x, x_labels).aligned(labels) * tensor(y, y_labels).aligned(labels), labels, name)
    batch = [label for label in x_labels if label in shared & keep]
    summed = [label for label in x_labels if label in shared - keep]
    numbers = [tuple([own.index(label) for label in side] for own in (x_labels, y_labels)) for side in (summed, batch)]
    dtype = jnp.promote_types(x.dtype, y.dtype)
    wide = jnp.promote_types(dtype, jnp.float32)  # 16-bit products are summed in float32
    product = lax.dot_general(x.astype(dtype), y.astype(dtype), numbers, preferred_element_type=wide)
    return tensor(product.astype(dtype), labels, name)
