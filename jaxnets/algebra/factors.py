"""Factors of a Jacobian: arrays whose axes carry labels, and the few maps whose array is never stored.

A factor stands for an array.  Each of its axes is a *group* of labels, the row-major product of their indices.  So a
reshape that merges or splits axes only renames them.  Factors that share a label are multiplied along it, and a label that
is not kept is summed; contraction.py does both.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, dataclass_transform

import jax
import jax.numpy as jnp
from jax import lax

from .sharding import diagonal, explicit_mesh, reshaped, spread_as
from .sizes import count_entries
from .symbols import Notes, Symbol, product_text, written


class Label(NamedTuple):
    """An index: `id` identifies it, `size` is the number of its values, `name` is its letter in formulae."""

    id: int
    size: int
    name: str = ""


Group = tuple[Label, ...]


def size_of(labels) -> int:
    """The product of the labels' sizes."""
    return math.prod(label.size for label in labels)


def entries_over(labels) -> int:
    """How many entries an array with these axes has, as a number for plans."""
    return count_entries(label.size for label in labels)


def shape_of(groups) -> tuple[int, ...]:
    """The size of every axis."""
    return tuple(size_of(group) for group in groups)


def labels_of(groups) -> Group:
    """The labels of all axes, in order."""
    return tuple(label for group in groups for label in group)


def distinct_labels(groups) -> list[Label]:
    """Every label of the axes once, in order."""
    return list(dict.fromkeys(labels_of(groups)))


def at_least_float32(x):
    """float16 and bfloat16 as float32, which sums and long products need; wider arrays as they are."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@dataclass_transform(frozen_default=True, eq_default=False)
def pytree(*arrays: str):
    """Class decorator: a frozen dataclass that is a pytree.  The named fields are its leaves, all others are static.

    A `__post_init__` sees what is handed over by name, not what JAX makes of a tree: its own markers may be the leaves.
    """

    def wrap(cls):
        cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        static = [f.name for f in dataclasses.fields(cls) if f.name not in arrays]
        if not hasattr(cls, "__post_init__"):
            return jax.tree_util.register_dataclass(cls, list(arrays), static)
        return _registered_unchecked(cls, arrays, static)

    return wrap


def _registered_unchecked(cls, arrays, static):
    """The class as a pytree that JAX puts together field by field, without calling it."""

    def leaves(whole):
        return [getattr(whole, name) for name in arrays], tuple(getattr(whole, name) for name in static)

    def leaves_with_keys(whole):
        found, others = leaves(whole)
        return [(jax.tree_util.GetAttrKey(name), leaf) for name, leaf in zip(arrays, found, strict=True)], others

    def whole(others, leaves):
        made = object.__new__(cls)
        for name, value in zip([*arrays, *static], [*leaves, *others], strict=True):
            object.__setattr__(made, name, value)
        return made

    jax.tree_util.register_pytree_with_keys(cls, leaves_with_keys, whole, leaves)
    return cls


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Noted:
    """What has notes for formulae."""

    notes: Notes = dataclasses.field(default=Notes(), kw_only=True)


class Factor(_Noted):
    """What every factor has: `axes`, one group of labels for each, and the array that it stands for.

    `symbols` are the names that its formula uses, with what they mean.  In a product it is written as `symbol`, which stands
    for `meaning`.
    """

    axes: tuple[Group, ...]
    kind: ClassVar[str]
    symbol: str
    meaning: str = ""
    symbols: dict[str, str]

    def formula(self, show) -> str:
        """The factor in index notation.  `show` writes the indices of some axes, as in "[b,i]"."""
        raise NotImplementedError

    def written(self, name: str) -> str:
        """One of its symbols with its index, as w₁."""
        return written(name, self.notes.number)

    def chain(self) -> tuple[Symbol, ...]:
        """The symbols of the factors that were multiplied to make it, or its own."""
        return self.notes.chain or (Symbol(self.written(self.symbol), self.notes.place),)

    def legend(self) -> tuple[tuple[str, str], ...]:
        """Its symbols as they are written, and what they stand for, where that is known."""
        if self.notes.chain:
            return self.notes.meanings
        known = self.symbols | dict(self.notes.meanings)
        return tuple((self.written(name), meaning) for name, meaning in known.items() if meaning)

    def legend_in_product(self) -> tuple[tuple[str, str], ...]:
        """The same for the symbols that a product of it shows."""
        return ((self.written(self.symbol), self.meaning),) if self.meaning else ()

    def applies_to(self, labels: set[Label], keep: set[Label]) -> bool:
        """Whether it can be multiplied by an array with these labels, summed over those outside `keep`, by `contract`.

        Otherwise the product needs `as_tensor()`.
        """
        return False

    def contract(self, x: "Tensor", keep: set[Label]) -> "Tensor":
        """The product with a stored array to which it applies, summed over all labels outside `keep`."""
        raise NotImplementedError

    def count_vectors(self, labels: set[Label], keep: set[Label]) -> int:
        """How many vectors `contract` multiplies, where it applies to an array with these labels."""
        return entries_over(labels - self.labels)

    def summed_over(self, labels) -> tuple[Group, Callable[[], jax.Array]] | None:
        """The sum over labels that nothing else has, where it is known without a product: its labels and its array."""
        return None

    def times_itself(self, other: "Factor", labels) -> tuple[Group, int, Callable[[], jax.Array]] | None:
        """The product with the same map along other labels, summed over some of them, where it is known without an array.

        Its labels, how many multiplications it takes, and its array.
        """
        return None

    def of_all_steps(self, step: Group, input_has_steps: bool) -> "Factor | None":
        """The factor of all steps of a loop, if all its arrays hold them along a first axis; None if it needs one a step."""
        return None

    def __repr__(self):
        sizes = ", ".join("·".join(str(label.size) for label in group) or "1" for group in self.axes)
        return f"{type(self).__name__}({product_text(self.chain())}, [{sizes}])"

    @property
    def labels(self) -> set[Label]:
        return set(labels_of(self.axes))

    @property
    def multiplies_per_vector(self) -> int:
        """How many multiplications a product with one vector takes."""
        return entries_over(self.labels)

    def relabel(self, rename):
        """The same factor; `rename` gives every axis its new group of labels."""
        return dataclasses.replace(self, axes=tuple(rename(group) for group in self.axes))  # type: ignore[call-arg]

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

    def of_all_steps(self, step, input_has_steps):
        return dataclasses.replace(self, axes=(step, *self.axes))

    @property
    def symbol(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        return {self.name.removeprefix("−"): ""}

    def formula(self, show) -> str:
        chain = self.notes.chain
        text = product_text(chain)
        return (f"({text})" if len(chain) > 1 else text or self._signed_name()) + show(self.axes)

    def _signed_name(self) -> str:
        sign = "−" if self.name.startswith("−") else ""
        return sign + self.written(self.name.removeprefix("−"))

    def legend_in_product(self):
        return self.legend()

    def named_as(self, other: "Tensor") -> "Tensor":
        """The same array with the name and the notes of another."""
        return dataclasses.replace(self, name=other.name, notes=other.notes)

    def array_and_labels(self) -> tuple[jax.Array, list[Label]]:
        """The array with one axis for each label, and these labels.  Where a label repeats, its diagonal is taken."""
        labels = list(labels_of(self.axes))
        if self.value.shape != shape_of(self.axes):
            raise ValueError(
                f"a factor holds an array of shape {self.value.shape} where its labels say {shape_of(self.axes)}; "
                "if this Jacobian came out of jax.vmap, use its methods inside jax.vmap too"
            )
        array = reshaped(self.value, [label.size for label in labels])
        while repeated := next((label for label in labels if labels.count(label) > 1), None):
            first, second = [i for i, label in enumerate(labels) if label == repeated][:2]
            array = diagonal(array, first, second)
            labels = [label for i, label in enumerate(labels) if i not in (first, second)] + [repeated]
        return array, labels

    def aligned_to(self, labels) -> jax.Array:
        """The array with one axis for each of these labels, in this order; of size 1 for a label that it lacks."""
        array, own = self.array_and_labels()
        array = array.transpose([own.index(label) for label in labels if label in own])
        return lax.expand_dims(array, [i for i, label in enumerate(labels) if label not in own])

    def broadcast_to(self, labels) -> jax.Array:
        """The array with one axis for each of these labels, in this order; repeated along a label that it lacks."""
        return jnp.broadcast_to(self.aligned_to(labels), [label.size for label in labels])

    def summed_except(self, keep) -> "Tensor":
        """The sum over all labels outside `keep`."""
        if self.labels <= set(keep):
            return self
        array, labels = self.array_and_labels()
        array = at_least_float32(array).sum(tuple(i for i, label in enumerate(labels) if label not in keep))
        return tensor(array, [label for label in labels if label in keep]).named_as(self)


def tensor(array, labels, name="A") -> Tensor:
    """An array as a factor with one label for each axis."""
    return Tensor(array, tuple((label,) for label in labels), name)


class Operator(Factor):
    """A linear map without a stored array: `push` applies it, `pull` its transpose.

    Its axes are those that output and input share (as the batch: every example is mapped by itself), then the others of
    the output, then the others of the input.  `push` maps `[n, *shared, *inputs]` to `[n, *shared, *outputs]`, and `pull`
    maps back.
    """

    shared_rank: int
    output_rank: int
    # "push" if JAX cannot transpose it (while loops), "pull" if it has no JVP (custom_vjp), "call" if JAX can only call the
    # function, which is linear (a callback on tangents); "" if both products can be formed
    one_way: str = ""

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        return {self.symbol: self.meaning}

    def formula(self, show) -> str:
        return f"{self.written(self.symbol)}{show(self.axes)}"

    def push(self, x) -> jax.Array:
        raise NotImplementedError

    def pull(self, x) -> jax.Array:
        raise NotImplementedError

    @property
    def multiplies_per_vector(self):
        """Right for a map that passes a few times over its input and its output; other maps override this."""
        shared, out, inp = map(labels_of, self.axes_by_role())
        return 4 * entries_over(shared) * (entries_over(out) + entries_over(inp))

    def axes_by_role(self):
        """The shared axes, the other output axes and the other input axes."""
        stop = self.shared_rank + self.output_rank
        return self.axes[: self.shared_rank], self.axes[self.shared_rank : stop], self.axes[stop:]

    def _direction(self, labels, keep):
        """The one in which it multiplies an array with these labels, which is constant along those it lacks, if any."""
        if len(labels_of(self.axes)) != len(self.labels):
            return None
        for source, target, apply in self.directions():
            if keep.isdisjoint(labels_of(source)) and labels.isdisjoint(labels_of(target)):
                return source, target, apply
        return None

    def applies_to(self, labels, keep):
        return self._direction(labels, keep) is not None

    def contract(self, x, keep):
        source, target, apply = self._direction(x.labels, keep)
        shared = self.axes_by_role()[0]
        extra = [label for label in distinct_labels(x.axes) if label not in self.labels]
        array = x.broadcast_to([*extra, *labels_of(shared), *labels_of(source)])
        array = self.applied(apply, reshaped(array, [size_of(extra), *shape_of(shared), *shape_of(source)]), x)
        labels = [*extra, *labels_of(shared), *labels_of(target)]
        return tensor(reshaped(array, [label.size for label in labels]), labels)

    def applied(self, apply, array, source: "Tensor") -> jax.Array:
        """`apply(array)`, of which the array holds the same numbers as the factor `source`."""
        return apply(array)

    def directions(self):
        """The products that are possible: from which axes, to which axes, and by which function."""
        _, out, inp = self.axes_by_role()
        push, pull = (inp, out, self.push), (out, inp, self.pull)
        return {"push": (push,), "call": (push,), "pull": (pull,)}.get(self.one_way, (push, pull))

    @property
    def dtype(self):
        return jnp.result_type(*jax.tree.leaves(self))

    def array(self, forward: bool | None = None) -> jax.Array:
        """[*shared, *outputs, *inputs], from the images of all unit vectors of one side, by default the narrower one."""
        shared, out, inp = map(shape_of, self.axes_by_role())
        if self.one_way:
            forward = self.one_way != "pull"
        forward = count_entries(inp) <= count_entries(out) if forward is None else forward
        side, apply = (inp, self.push) if forward else (out, self.pull)
        basis = jnp.eye(math.prod(side), dtype=self.dtype).reshape(-1, *(1,) * len(shared), *side)
        images = apply(jnp.broadcast_to(basis, (math.prod(side), *shared, *side)))
        if forward:
            return jnp.moveaxis(images, 0, -1).reshape(*shared, *out, *inp)
        return jnp.moveaxis(images, 0, len(shared)).reshape(*shared, *out, *inp)

    def as_tensor(self):
        return Tensor(self.array(), self.axes, self.kind)


def applied_to_rows(apply):
    """Decorator of `push` or `pull` for an operator on rows, the last axis of its arrays.

    The method gets the operator's arrays as [shared, 1, n] and what they are multiplied by as [shared, many, n].  With
    `many` in front, Σ p·x is wrong in compiled code of jaxlib 0.10.2 for CPU from 16,384 numbers on
    (https://github.com/jax-ml/jax/issues/39103).  On explicit meshes the shared axes stay apart: of merged axes only one
    can be spread.
    """

    @functools.wraps(apply)
    def on_rows(self, x):
        if explicit_mesh(x, *jax.tree.leaves(self)):
            rows = jax.tree.map(lambda a: jnp.expand_dims(a, -2), self)
            return jnp.moveaxis(apply(rows, jnp.moveaxis(x, 0, -2)), -2, 0)
        rows = jax.tree.map(lambda a: reshaped(a, [math.prod(a.shape[:-1]), 1, a.shape[-1]]), self)
        many = reshaped(x, [x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]]).swapaxes(0, 1)
        return reshaped(apply(rows, many).swapaxes(0, 1), x.shape)

    return on_rows


@pytree("operands")
class Opaque(Operator):
    """The derivative of `function(*operands)[output]` by the operand `argument`, of which JAX computes products.

    Shared axes come first in `axes`; `out_shared` and `in_shared` are their places in the output and in the operand.
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
    one_way: str = ""

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def symbol(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def dtype(self):
        return self.operands[self.argument].dtype

    def _function(self, x):
        operands = [*self.operands[: self.argument], x, *self.operands[self.argument + 1 :]]
        return self.function(*operands)[self.output]

    def _apply_to_many(self, transform, x, like, source, target):
        """`transform` of every array in x, whose shared axes are moved to where the operand or the output has them.

        Each is spread over devices as `like` is.
        """
        n = self.shared_rank
        x = spread_as(jnp.moveaxis(x, range(1, n + 1), [1 + i for i in source]), jax.typeof(like), in_front=1)
        y = jax.vmap(transform)(x) if len(x) != 1 else transform(x[0])[None]
        return jnp.moveaxis(y, [1 + i for i in target], range(1, n + 1))

    def push(self, x):
        primal = self.operands[self.argument]
        linear = self._function if self.one_way == "call" else jax.linearize(self._function, primal)[1]
        return self._apply_to_many(linear, x.astype(primal.dtype), primal, self.in_shared, self.out_shared)

    def pull(self, x):
        primal = self.operands[self.argument]
        y, vjp = jax.vjp(self._function, primal)
        return self._apply_to_many(lambda ct: vjp(ct)[0], x.astype(y.dtype), y, self.out_shared, self.in_shared)
