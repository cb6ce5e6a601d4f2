"""The triangular solve that the carry of a loop is, between all its steps.

A loop `c[r+1] = f(c[r], x[r])` is linear around its values: ∂c[r+1] = C[r]·∂c[r] + u[r], where C[r] is the Jacobian of one
step by the carry and u[r] is what comes in at that step from elsewhere.  So ∂c = (1 − S·C)⁻¹·u, with the shift S in r.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .contraction import sharing_products
from .factors import (
    Factor,
    Group,
    Label,
    Operator,
    at_least_float32,
    labels_of,
    pytree,
    tensor,
)
from .jacobian import Jacobian, jacobian_of
from .places import dense_sum
from .promotion import usual_promotion
from .pullback import SolvedTogether
from .repeated import Repeated
from .terms import make_term

LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"


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
        axes: list[Group] = [(Label(100 + a, n),) for a, n in enumerate(self.shape)]
        for label, a in zip(shared, self.shared, strict=True):
            axes[a] = (label,)
        return axes


class Link(NamedTuple):
    """A local Jacobian of one step, between two of its values by their numbers."""

    output: int
    input: int


@pytree("jacobians")
class Steps:
    """The steps of a loop, each as a small graph, around the values of one run.

    The first values of a step are the arrays of the carry before it, the last ones those after it, and `jacobians[k]` is the
    local one of `links[k]`; those leaves that `is_stacked` names hold all steps along a first axis.  `entries` are the other
    values into which something comes from outside, with their numbers.  With `reverse` the loop runs from the last step to
    the first.
    """

    jacobians: tuple[Jacobian, ...]
    is_stacked: tuple[bool, ...]
    links: tuple[Link, ...]
    carry: tuple[Part, ...]
    entries: tuple[tuple[int, Part], ...]
    length: int
    reverse: bool

    def __repr__(self):
        sizes = ", ".join(str(list(part.shape)) for part in self.carry)
        return f"Steps({self.length} of a carry {sizes}, {len(self.links)} local Jacobians)"

    @property
    def dtype(self):
        return jnp.result_type(*(j.dtype for j in self.jacobians))

    @cached_property
    def one_way(self) -> str:
        """That of the operators of a step."""
        ways = {factor.one_way for factor in every_factor(self.jacobians) if isinstance(factor, Operator)}
        return min(ways - {""}, default="")

    @cached_property
    def multiplies_per_vector(self) -> int:
        """How many multiplications all steps take for one vector."""
        return self.length * sum(j.multiplies_per_vector for j in self.jacobians)

    def product(self, places: tuple[str, str, str], number: int, step: str = "", after: str = "", rows: str = "") -> str:
        """The carry by what comes in at a value of this number, in words: as a product of Jacobians of steps.

        `places` are that of the carry, the one before it, and the one after the first of these steps.  What comes in at
        `step` is seen at the place `after`; if no step is named it comes in at the start.  Some `rows` may be meant alone.
        """
        last, before, first = places
        size, own, mark = sum(part.size for part in self.carry), self.part(number).size, self.mark(number)
        factors, meanings = [f"C[{last}]⋯C[{first}]"], [f"C[{last}] = ∂c[{last}]/∂c[{before}] [{size}×{size}]"]
        parts = [f"rows {rows}"] if rows else []
        if step:
            factors.append(f"E{mark}[{step}]")
            meanings.append(f"E{mark}[{step}] = ∂c[{after}]/∂u{mark}[{step}] [{size}×{own}]")
        elif len(self.carry) > 1:
            start = sum(part.size for part in self.carry[:number])
            parts.append(f"columns {start}–{start + own - 1}")
        part = ", ".join(parts) + " of " if parts else ""
        return f"{part}{'·'.join(factors)} with {', '.join(meanings)}; {self.length} step{'s' * (self.length != 1)}"

    def mark(self, number: int) -> str:
        """What tells several entries, or several arrays at the start, apart: nothing for the first one, then ᵇ, ᶜ, …"""
        k = number if number < len(self.carry) else [entry for entry, _ in self.entries].index(number)
        return LETTERS[k % len(LETTERS)] * (1 + k // len(LETTERS)) if k else ""

    def part(self, number: int) -> Part:
        """The layout of what comes in at a value: an entry, or an array of the carry at the start."""
        return self.carry[number] if number < len(self.carry) else dict(self.entries)[number]


@pytree("whole")
class Recurrence(SolvedTogether):
    """What a carry is, between all steps of a loop, of what comes in at one value of every step, or at the start.

    The axes are those that all values share; then the places r between steps and the entries of the carry; then the steps t,
    but not for what comes in at the start, and the entries of the value.
    """

    whole: Steps
    entry: int  # the number of the value among those of a step; that of an array of the carry means the start
    axes: tuple[Group, ...]
    shared_rank: int
    output_rank: int = 2
    kind = "recurrence"

    @property
    def symbol(self) -> str:  # type: ignore[override]
        """R for what comes in at a step, R⁰ for what comes in at the start, with a letter from the second one on."""
        return f"R{'⁰' * self._is_by_start}{self.whole.mark(self.entry)}"

    @property
    def meaning(self) -> str:  # type: ignore[override]
        """What a product of steps it is: c[r] is the carry at a place r between steps, u[t] what comes in at step t."""
        step = "" if self._is_by_start else "t"
        if self.whole.reverse:
            first = "t−1" if step else str(self.whole.length - 1)
            return self.whole.product(("r", "r+1", first), self.entry, step, "t")
        return self.whole.product(("r", "r−1", "t+2" if step else "1"), self.entry, step, "t+1")

    @property
    def _is_by_start(self) -> bool:
        return self.entry < len(self.whole.carry)

    @property
    def one_way(self) -> str:  # type: ignore[override]
        return self.whole.one_way

    @property
    def dtype(self):
        return self.whole.dtype

    @property
    def multiplies_per_vector(self):
        return self.whole.multiplies_per_vector // max(1, len(self.whole.entries))  # one solution is for all of them

    def push(self, x):
        x = x[..., None, :] if self._is_by_start else x
        return _pushed(self.whole, x, self.entry)

    def pull_all(self, x):
        return _pulled(self.whole, x)

    def choose(self, rows: dict[int, jax.Array]) -> jax.Array:
        """The rows by this entry, `[n, *shared, t, entries]`, or by the start, `[n, *shared, entries]`."""
        array, part = rows[self.entry], self.whole.part(self.entry)
        return array.reshape(*array.shape[: array.ndim - len(part.own_shape)], part.size)


def every_factor(jacobians: Iterable[Jacobian]) -> Iterator[Factor]:
    """The factors of Jacobians, also those inside of loops."""
    for factor in (f for j in jacobians for term in j.terms for f in term.factors):
        yield factor.inner if isinstance(factor, Repeated) else factor
        if isinstance(factor, Recurrence):
            yield from every_factor(factor.whole.jacobians)


Vectors = list[jax.Array]  # several of each of several values: `[n, *shared, *others]`


class _Step:
    """One step of a loop, with the arrays of this step."""

    def __init__(self, steps: Steps, leaves, like: jax.Array, outer_rank: int):
        self.steps, self.carry = steps, steps.carry
        self.jacobians = list(zip(steps.links, jax.tree.unflatten(jax.tree.structure(steps.jacobians), leaves), strict=True))
        last = max(link.output for link in steps.links)
        self.before, self.after = range(len(steps.carry)), range(last - len(steps.carry) + 1, last + 1)
        self.outer_shape, self.dtype = like.shape[:outer_rank], like.dtype
        self.outer = tuple((Label(n, size),) for n, size in enumerate(self.outer_shape))

    def pushed(self, carry: Vectors, comes_in: dict[int, jax.Array]) -> Vectors:
        """The carry after the step, from that before it and from what comes in, by the numbers of values."""
        columns = {node: j.T for node, j in self._rows(self.before, self.carry, carry).items()}
        for node, j in self._rows(comes_in, map(self.steps.part, comes_in), comes_in.values()).items():
            _add(columns, node, j.T)
        for node in range(self.after.start):
            if node in columns:
                column = _as_one(columns.pop(node))
                for link, j in self.jacobians:
                    if link.input == node:
                        _add(columns, link.output, j @ column)
        after = [columns.get(node) for node in self.after]
        return [self._vectors(j and j.T, part) for j, part in zip(after, self.carry, strict=True)]

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
        return carry, [self._vectors(rows.get(node), part) for node, part in self.steps.entries]

    def _rows(self, nodes, parts, vectors: Iterable[jax.Array]) -> dict[int, Jacobian]:
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
    """The Jacobian with its products carried out, before it is multiplied by others."""
    return j if len(j.terms) == 1 and len(j.terms[0].factors) <= 1 else j.as_one_array()


def _add(found: dict[int, Jacobian], key: int, j: Jacobian):
    found[key] = found[key] + j if key in found else j


def _arrays_of_steps(steps: Steps):
    """The arrays that hold all steps, and a function from those of one step to the leaves of the Jacobians at it."""
    leaves = jax.tree.leaves(steps.jacobians)

    def at_step(arrays):
        own = iter(arrays)
        return [next(own) if stacked else leaf for leaf, stacked in zip(leaves, steps.is_stacked, strict=True)]

    return [leaf for leaf, stacked in zip(leaves, steps.is_stacked, strict=True) if stacked], at_step


def _steps_first(x, part: Part, dtype) -> jax.Array:
    """`[steps, n, *shared, *others]` from `[n, *shared, steps, entries]`, in float32 or wider."""
    x = at_least_float32(x.astype(jnp.promote_types(x.dtype, dtype)))
    return jnp.moveaxis(x.reshape(*x.shape[:-1], *part.own_shape), x.ndim - 2, 0)


@partial(jax.jit, static_argnames="entry")
@usual_promotion()
def _pushed(steps: Steps, x, entry: int) -> jax.Array:
    """The carry between all steps, `[n, *shared, r, entries]`, from what comes in at an entry `[n, *shared, t, entries]`."""
    arrays, at_step = _arrays_of_steps(steps)
    outer_rank, at_start = x.ndim - 2, entry < len(steps.carry)
    x = _steps_first(x, steps.part(entry), steps.dtype)

    def step(carry, here):
        comes_in, own = here
        with sharing_products():
            return _Step(steps, at_step(own), carry[0], outer_rank).pushed(carry, comes_in), carry

    start = [jnp.zeros((*x.shape[1 : 1 + outer_rank], *part.own_shape), x.dtype) for part in steps.carry]
    if at_start:
        start[entry] = x[0]
    last, before = jax.lax.scan(step, start, ({} if at_start else {entry: x}, arrays), steps.length, steps.reverse)

    def between(end, rest, part):
        states = jnp.concatenate([end[None], rest] if steps.reverse else [rest, end[None]])
        return jnp.moveaxis(states, 0, outer_rank).reshape(*states.shape[1 : 1 + outer_rank], -1, part.size)

    return jnp.concatenate(list(map(between, last, before, steps.carry)), -1)


@jax.jit
@usual_promotion()
def _pulled(steps: Steps, x) -> dict[int, jax.Array]:
    """The rows by all entries, `[n, *shared, t, *others]`, and by the start, `[n, *shared, *others]`, by their numbers.

    The rows by the carry between all steps are `[n, *shared, r, entries]`.
    """
    arrays, at_step = _arrays_of_steps(steps)
    outer_rank = x.ndim - 2
    ends = list(itertools.accumulate((part.size for part in steps.carry), initial=0))
    rows = [
        _steps_first(x[..., start:stop], part, steps.dtype)
        for part, start, stop in zip(steps.carry, ends, ends[1:], strict=False)
    ]
    last, before = [v[0] if steps.reverse else v[-1] for v in rows], [v[1:] if steps.reverse else v[:-1] for v in rows]

    def step(carry, here):
        before, own = here
        with sharing_products():
            return _Step(steps, at_step(own), carry[0], outer_rank).pulled(carry, before)

    start, found = jax.lax.scan(step, last, (before, arrays), steps.length, not steps.reverse)
    numbers = [number for number, _ in steps.entries]
    moved = [jnp.moveaxis(v, 0, outer_rank) for v in found]
    return dict(enumerate(start)) | dict(zip(numbers, moved, strict=True))
