"""What a loop adds to the algebra: one more index for its steps, and the triangular solve that its carry is.

A loop `c[r+1] = f(c[r], x[r])` is linear around its values: ∂c[r+1] = C[r]·∂c[r] + u[r], where C[r] is the Jacobian of one
step by the carry and u[r] is what comes in at that step from elsewhere.  So ∂c = (1 − S·C)⁻¹·u, with the shift S in r.
"""

import itertools
import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .factors import Factor, Group, Label, Operator, Tensor, at_least_float32, labels_of, pytree, shape_of, size_of, tensor
from .jacobian import Jacobian, jacobian_of
from .places import dense_sum
from .promotion import usual_promotion
from .selections import Selection
from .sizes import count_entries
from .terms import Term, highest_id, make_term


def over_steps(j: Jacobian, is_stacked: tuple[bool, ...], length: int, input_has_steps: bool) -> Jacobian:
    """The Jacobian of all steps of a loop, from that of one step, of which some leaves hold all steps along a first axis.

    Its output has the steps as a first axis, and so has its input, which shares them, unless all steps have it in common.
    """
    flags = iter(is_stacked)
    terms = [_term_over_steps(term, flags, length, input_has_steps) for term in j.terms]
    in_shape = (length, *j.in_shape) if input_has_steps else j.in_shape
    return jacobian_of(terms, (length, *j.out_shape), in_shape, j.dtype, j.names)


def _term_over_steps(term: Term, flags, length: int, input_has_steps: bool) -> Term:
    step = (Label(highest_id(term) + 1, length, "t"),)
    factors = [_factor_over_steps(f, [next(flags) for _ in jax.tree.leaves(f)], step) for f in term.factors]
    return make_term((step, *term.out), (step, *term.inp) if input_has_steps else term.inp, factors, term.scale)


def _factor_over_steps(factor: Factor, is_stacked: list[bool], step: Group) -> Factor:
    if not any(is_stacked):
        return factor
    if isinstance(factor, (Tensor, Selection)):  # of one leaf
        return replace(factor, axes=(step, *factor.axes))
    assert isinstance(factor, Operator)
    axes = (step, *factor.axes)
    return Repeated(factor, tuple(is_stacked), axes, factor.shared_rank + 1, factor.output_rank, notes=factor.notes)


@pytree("inner")
class Repeated(Operator):
    """One operator for each step of a loop: those leaves of `inner` that `is_stacked` names hold all steps."""

    inner: Operator
    is_stacked: tuple[bool, ...]
    axes: tuple[Group, ...]
    shared_rank: int
    output_rank: int

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.inner.kind

    @property
    def one_way(self) -> str:  # type: ignore[override]
        return self.inner.one_way

    @property
    def symbol(self) -> str:  # type: ignore[override]
        return self.inner.symbol

    @property
    def meaning(self) -> str:  # type: ignore[override]
        return self.inner.meaning

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        return self.inner.symbols

    @property
    def dtype(self):
        return self.inner.dtype

    @property
    def multiplies_per_vector(self):
        return count_entries(shape_of(self.axes[:1])) * self.inner.multiplies_per_vector

    def formula(self, show):
        inner = replace(self.inner, axes=self.axes[1:], notes=self.notes)
        return inner.formula(lambda groups: show((self.axes[0], *groups)))

    def push(self, x):
        return self._at_every_step(lambda step, v: step.push(v), x)

    def pull(self, x):
        return self._at_every_step(lambda step, v: step.pull(v), x)

    def _at_every_step(self, apply, x):
        leaves, tree = jax.tree.flatten(self.inner)
        axes = [0 if stacked else None for stacked in self.is_stacked]

        def at_step(leaves, v):
            return apply(jax.tree.unflatten(tree, leaves), v)

        return jax.vmap(at_step, (axes, 1), 1)(leaves, x)


class Part(NamedTuple):
    """One of several arrays that lie in one: its shape, and for each axis that all of them share the place among its own."""

    shape: tuple[int, ...]
    shared: tuple[int, ...]

    @property
    def own(self) -> tuple[int, ...]:
        """The axes that are not shared."""
        return tuple(a for a in range(len(self.shape)) if a not in self.shared)

    @property
    def own_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[a] for a in self.own)

    @property
    def size(self) -> int:
        """The number of entries at one place along the shared axes."""
        return math.prod(self.own_shape)

    def axes_with(self, shared: tuple[Label, ...]) -> list[Group]:
        """A label for each axis: the given ones for shared axes, new ones for the others."""
        axes = [(Label(100 + a, n),) for a, n in enumerate(self.shape)]
        for label, a in zip(shared, self.shared, strict=True):
            axes[a] = (label,)
        return axes


class Link(NamedTuple):
    """A local Jacobian of one step, between two of its values by their numbers."""

    output: int
    input: int


@pytree("jacobians")
class Recurrence(Operator):
    """What a carry is, between all steps of a loop, of what comes into the steps.

    A step is a small graph.  Its first values are the arrays of the carry before the step, its last ones those after it, and
    `jacobians[k]` is the local one of `links[k]`; those leaves that `is_stacked` names hold all steps along a first axis.
    `entries` are the values into which something comes, with their numbers.  With `reverse` the loop runs from the last step
    to the first.

    The axes are those that all values share; then the places r between steps and the entries of the carry; then the steps t
    and all that comes in.
    """

    jacobians: tuple[Jacobian, ...]
    is_stacked: tuple[bool, ...]
    links: tuple[Link, ...]
    carry: tuple[Part, ...]
    entries: tuple[tuple[int, Part], ...]
    reverse: bool
    axes: tuple[Group, ...]
    shared_rank: int
    output_rank: int
    kind = "recurrence"
    symbol = "R"
    meaning = "the product of the Jacobians of the steps between"

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        return {self.symbol: self.meaning}

    def formula(self, show):
        return f"{self.written(self.symbol)}{show(self.axes)}"

    @property
    def length(self) -> int:
        """The number of steps."""
        return size_of(self.axes[-2])

    @property
    def one_way(self) -> str:  # type: ignore[override]
        ways = {getattr(f, "one_way", "") for j in self.jacobians for term in j.terms for f in term.factors}
        return min(ways - {""}, default="")

    @property
    def dtype(self):
        return jnp.result_type(*(j.dtype for j in self.jacobians))

    @property
    def multiplies_per_vector(self):
        return self.length * sum(j.multiplies_per_vector for j in self.jacobians)

    def push(self, x):
        return _pushed(self, x)

    def pull(self, x):
        return _pulled(self, x)


Vectors = list[jax.Array]  # several of each of several values: `[n, *shared, *others]`


class _Step:
    """One step of a recurrence, with the arrays of this step."""

    def __init__(self, r: Recurrence, leaves, like: jax.Array, outer_rank: int):
        self.carry, self.entries = r.carry, [part for _, part in r.entries]
        self.jacobians = list(zip(r.links, jax.tree.unflatten(jax.tree.structure(r.jacobians), leaves), strict=True))
        last = max(link.output for link in r.links)
        self.before, self.after = range(len(r.carry)), range(last - len(r.carry) + 1, last + 1)
        self.entered = [number for number, _ in r.entries]
        self.outer_shape, self.dtype = like.shape[:outer_rank], like.dtype
        self.outer = tuple((Label(n, size),) for n, size in enumerate(self.outer_shape))

    def pushed(self, carry: Vectors, comes_in: Vectors) -> tuple[Vectors, Vectors]:
        """The carry after the step and that before it, with what comes in."""
        columns = {node: j.T for node, j in self._rows(self.before, self.carry, carry).items()}
        for node, j in self._rows(self.entered, self.entries, comes_in).items():
            _add(columns, node, j.T)
        before = [self._vectors(columns[node].T, part) for node, part in zip(self.before, self.carry, strict=True)]
        for node in range(self.after.start):
            if node in columns:
                column = _as_one(columns.pop(node))
                for link, j in self.jacobians:
                    if link.input == node:
                        _add(columns, link.output, j @ column)
        after = [columns.get(node) for node in self.after]
        return [self._vectors(j and j.T, part) for j, part in zip(after, self.carry, strict=True)], before

    def pulled(self, carry: Vectors, before: Vectors) -> tuple[Vectors, Vectors]:
        """The vectors by the carry before the step and by what comes in, from those by the carry after it and before it."""
        rows = self._rows(self.after, self.carry, carry) | self._rows(self.before, self.carry, before)
        for node in reversed(range(len(self.before), self.after.stop)):
            if node in rows:
                rows[node] = _as_one(rows[node])
                for link, j in self.jacobians:
                    if link.output == node:
                        _add(rows, link.input, rows[node] @ j)
        carry = [self._vectors(rows[node], part) for node, part in zip(self.before, self.carry, strict=True)]
        return carry, [self._vectors(rows.get(node), part) for node, part in zip(self.entered, self.entries, strict=True)]

    def _rows(self, nodes, parts, vectors: Vectors) -> dict[int, Jacobian]:
        """The vectors by each of several values, as Jacobians: of their number by the value."""
        found = {}
        for node, part, array in zip(nodes, parts, vectors, strict=True):
            axes = part.axes_with(labels_of(self.outer[1:]))
            factor = tensor(array, labels_of([*self.outer, *(axes[a] for a in part.own)]))
            term = make_term(self.outer, axes, [factor])
            found[node] = jacobian_of([term], self.outer_shape, part.shape, self.dtype)
        return found

    def _vectors(self, row: Jacobian | None, part: Part) -> jax.Array:
        """The vectors of one value, `[n, *shared, *others]`."""
        terms = [replace(t, inp=tuple(t.inp[a] for a in part.own)) for t in (row.terms if row else ())]
        return dense_sum(terms, (*self.outer_shape, *part.own_shape), self.dtype)


def _as_one(j: Jacobian) -> Jacobian:
    return j.as_one_array() if len(j.terms) > 1 else j


def _add(found: dict[int, Jacobian], key: int, j: Jacobian):
    found[key] = found[key] + j if key in found else j


def _arrays_of_steps(r: Recurrence):
    """The arrays that hold all steps, and a function from those of one step to the leaves of the Jacobians at it."""
    leaves = jax.tree.leaves(r.jacobians)

    def at_step(arrays):
        own = iter(arrays)
        return [next(own) if stacked else leaf for leaf, stacked in zip(leaves, r.is_stacked, strict=True)]

    return [leaf for leaf, stacked in zip(leaves, r.is_stacked, strict=True) if stacked], at_step


def _unpacked(r: Recurrence, x, parts) -> Vectors:
    """The vectors of each part with a first axis of steps, from `[n, *shared, steps, entries]`."""
    x = jnp.moveaxis(at_least_float32(x.astype(jnp.promote_types(x.dtype, r.dtype))), -2, 0)
    ends = list(itertools.accumulate((part.size for part in parts), initial=0))
    return [
        x[..., start:stop].reshape(*x.shape[:-1], *part.own_shape)
        for part, start, stop in zip(parts, ends, ends[1:], strict=False)
    ]


def _packed(vectors: Vectors, parts, outer_rank: int) -> jax.Array:
    """`[n, *shared, steps, entries]` from the vectors of each part, `[steps, n, *shared, *others]`."""
    rows = [v.reshape(*v.shape[: 1 + outer_rank], part.size) for v, part in zip(vectors, parts, strict=True)]
    return jnp.moveaxis(jnp.concatenate(rows, -1), 0, -2)


@jax.jit
@usual_promotion()
def _pushed(r: Recurrence, x):
    """The carry between all steps, `[n, *shared, r, entries]`, from what comes in, `[n, *shared, t, entries]`: one scan."""
    arrays, at_step = _arrays_of_steps(r)
    outer_rank = 1 + r.shared_rank
    x = _unpacked(r, x, [part for _, part in r.entries])

    def step(carry, here):
        comes_in, own = here
        return _Step(r, at_step(own), comes_in[0], outer_rank).pushed(carry, comes_in)

    start = [jnp.zeros((*x[0].shape[1 : 1 + outer_rank], *part.own_shape), x[0].dtype) for part in r.carry]
    last, before = jax.lax.scan(step, start, (x, arrays), r.length, r.reverse)
    pairs = [[end[None], rest] if r.reverse else [rest, end[None]] for end, rest in zip(last, before, strict=True)]
    return _packed([jnp.concatenate(pair) for pair in pairs], r.carry, outer_rank)


@jax.jit
@usual_promotion()
def _pulled(r: Recurrence, x):
    """The vectors by what comes in, from those by the carry between all steps: one scan in the other direction."""
    arrays, at_step = _arrays_of_steps(r)
    outer_rank = 1 + r.shared_rank
    x = _unpacked(r, x, r.carry)
    last, before = ([v[0] for v in x], [v[1:] for v in x]) if r.reverse else ([v[-1] for v in x], [v[:-1] for v in x])

    def step(carry, here):
        before, own = here
        return _Step(r, at_step(own), carry[0], outer_rank).pulled(carry, before)

    _, found = jax.lax.scan(step, last, (before, arrays), r.length, not r.reverse)
    return _packed(found, [part for _, part in r.entries], outer_rank)
