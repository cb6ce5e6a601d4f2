"""The triangular solve that the carry of a loop is, between all its steps.

A loop `c[r+1] = f(c[r], x[r])` is linear around its values: ∂c[r+1] = C[r]·∂c[r] + u[r], where C[r] is the Jacobian of one
step by the carry and u[r] is what comes in at that step from elsewhere.  So ∂c = (1 − S·C)⁻¹·u, with the shift S in r.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from .contraction import sharing_products, with_deltas
from .factors import (
    Group,
    Label,
    Operator,
    at_least_float32,
    distinct_labels,
    entries_over,
    labels_of,
    pytree,
    tensor,
)
from .jacobian import Jacobian, jacobian_of
from .places import dense_sum
from .promotion import usual_promotion
from .pullback import SolvedTogether
from .repeated import Layout
from .sharding import explicit_mesh, spread_as
from .steps import Part, Steps
from .terms import make_term


@pytree("whole")
class Recurrence(SolvedTogether):
    """What is seen of all steps of a loop, by what comes in at one value of every step, or at the start.

    The axes are those that all values share; then the steps t, but not where only the end is seen, and the entries of all
    that is seen; then the steps at which something comes in, but not at the start, and the entries of the value.
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
        return self.whole.product_to(self.entry)

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

    def formula(self, show):
        return f"{self.written(self.symbol)}{show(tuple(group for group in self.axes if group))}"

    def push(self, x):
        x = x[..., None, :] if self._is_by_start else x
        arrays, layout = Layout.of(self.whole, self.whole.is_stacked)
        return _pushed(layout, arrays, x, self.entry)

    def pull_all(self, x):
        arrays, layout = Layout.of(self.whole, self.whole.is_stacked)
        return _pulled(layout, arrays, x)

    def applies_to(self, labels, keep):
        return self._unit_labels(labels, keep) is not None

    def contract(self, x, keep):
        units = self._unit_labels(x.labels, keep)
        if not units:
            return super().contract(x, keep)
        free = 1 + max(label.id for label in x.labels | self.labels | keep)
        summed = {label: label._replace(id=free + n) for n, label in enumerate(units)}
        unit_vectors = with_deltas(x, distinct_labels([*x.axes, tuple(units), tuple(summed.values())]), list(summed.items()))
        of_units = self.relabel(lambda group: tuple(summed.get(label, label) for label in group))
        return Operator.contract(of_units, unit_vectors, keep)

    def count_vectors(self, labels, keep):
        return super().count_vectors(labels, keep) * entries_over(self._unit_labels(labels, keep) or ())

    def _unit_labels(self, labels, keep) -> list[Label] | None:
        """The labels of the side that it multiplies of which a product needs unit vectors, because it keeps them.

        So the rows of the last state are as many as that has entries, not as many as all states have.  None if the product
        needs the array.
        """
        if super().applies_to(labels, keep):
            return []
        sides = [(labels_of(source), labels_of(target)) for source, target, _ in self.directions()]
        if len(labels_of(self.axes)) != len(self.labels):
            return None
        kept = [[label for label in source if label in keep] for source, target in sides if labels.isdisjoint(target)]
        units = min(kept, key=entries_over, default=[])
        vectors = entries_over(units) * entries_over(labels - self.labels)
        return units if units and vectors < min(entries_over(source) for source, _ in sides) else None

    def choose(self, rows: dict[int, jax.Array]) -> jax.Array:
        """The rows by this entry, `[n, *shared, t, entries]`, or by the start, `[n, *shared, entries]`."""
        array, part = rows[self.entry], self.whole.part(self.entry)
        return array.reshape(*array.shape[: array.ndim - len(part.own_shape)], part.size)


Vectors = list[jax.Array]  # several of each of several values: `[n, *shared, *others]`


class _Step:
    """One step of a loop, with the arrays of this step."""

    def __init__(self, steps: Steps, jacobians: tuple[Jacobian, ...], like: jax.Array, outer_rank: int):
        self.steps, self.carry = steps, steps.carry
        self.jacobians = list(zip(steps.links, jacobians, strict=True))
        last = max(link.output for link in steps.links)
        self.before, self.after = range(len(steps.carry)), range(last - len(steps.carry) + 1, last + 1)
        self.outer_shape, self.dtype = like.shape[:outer_rank], like.dtype
        self.outer = tuple((Label(n, size),) for n, size in enumerate(self.outer_shape))

    def pushed(self, carry: Vectors, comes_in: dict[int, jax.Array]) -> tuple[Vectors, Vectors]:
        """The carry after the step and what is seen of it, from the carry before it and what comes in, by numbers."""
        columns = {node: j.T for node, j in self._rows(self.before, self.carry, carry).items()}
        for node, j in self._rows(comes_in, map(self.steps.part, comes_in), comes_in.values()).items():
            _add(columns, node, j.T)
        for node in range(self.after.start):
            if node in columns:
                columns[node] = _as_one(columns[node])
                for link, j in self.jacobians:
                    if link.input == node:
                        _add(columns, link.output, j @ columns[node])

        def vectors(node, part):
            return self._vectors(columns[node].T if node in columns else None, part)

        return list(map(vectors, self.after, self.carry)), [vectors(*seen) for seen in self.steps.seen]

    def pulled(self, carry: Vectors, seen: Vectors) -> tuple[Vectors, Vectors]:
        """The vectors by the carry before the step and by what comes in, by those by the carry after it and what is seen."""
        rows = self._rows(self.after, self.carry, carry)
        numbers, parts = [number for number, _ in self.steps.seen], [part for _, part in self.steps.seen]
        for node, j in self._rows(numbers, parts, seen).items():
            _add(rows, node, j)
        for node in reversed(range(len(self.before), self.after.stop)):
            if node in rows:
                rows[node] = _as_one(rows[node])
                for link, j in self.jacobians:
                    if link.output == node:
                        _add(rows, link.input, rows[node] @ j)

        def vectors(node, part):
            return self._vectors(rows.get(node), part)

        return list(map(vectors, self.before, self.carry)), [vectors(*entry) for entry in self.steps.entries]

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
    """The arrays that hold all steps, and a function from those of one step to the Jacobians at it."""
    every, layout = Layout.of(steps.jacobians, steps.is_stacked)
    stacked = layout.once(steps.is_stacked)

    def at_step(arrays):
        own = iter(arrays)
        return layout.filled([next(own) if flag else array for array, flag in zip(every, stacked, strict=True)])

    return [array for array, flag in zip(every, stacked, strict=True) if flag], at_step


def _in_parts(x, parts: Sequence[Part], has_steps: bool, dtype) -> Vectors:
    """`[n, *shared, *others]` of each part, in float32 or wider, from `[n, *shared, entries]`.

    With steps `[steps, n, *shared, *others]`, from `[n, *shared, steps, entries]`.
    """
    x = at_least_float32(x.astype(jnp.promote_types(x.dtype, dtype)))
    ends = itertools.accumulate(part.size for part in parts[:-1])
    found = [v.reshape(*x.shape[:-1], *part.own_shape) for v, part in zip(jnp.split(x, list(ends), -1), parts, strict=True)]
    return [jnp.moveaxis(v, x.ndim - 2, 0) for v in found] if has_steps else found


def _spread_as_after(step: Callable, carry: Vectors, xs) -> Vectors:
    """The carry of a scan over xs, spread over devices as it is after a step."""
    if not explicit_mesh(*carry) or not all(len(x) for x in jax.tree.leaves(xs)):
        return carry
    after, _ = jax.eval_shape(step, carry, jax.tree.map(lambda x: x[0], xs))
    return list(map(spread_as, carry, after))


def _zeros(like: jax.Array, outer_rank: int, part: Part) -> jax.Array:
    """Vectors of a part that are zero, and lie on devices as those of another part, `[n, *shared, *others]`, do."""
    outer = jnp.zeros_like(jnp.sum(like, tuple(range(outer_rank, like.ndim))))
    shape = (*outer.shape, *part.own_shape)
    return jnp.broadcast_to(jnp.expand_dims(outer, tuple(range(outer_rank, len(shape)))), shape)


@partial(jax.jit, static_argnames=("layout", "entry"))
@usual_promotion()
def _pushed(layout: Layout, arrays, x, entry: int) -> jax.Array:
    """What is seen, `[n, *shared, t, entries]`, or `[n, *shared, entries]` at the end, of what comes in at an entry.

    That is `[n, *shared, t, entries]`, with one step at the start.
    """
    steps: Steps = layout.filled(arrays)
    arrays, at_step = _arrays_of_steps(steps)
    outer_rank, at_start = x.ndim - 2, entry < len(steps.carry)
    (x,) = _in_parts(x, [steps.part(entry)], True, steps.dtype)

    def step(carry, here):
        comes_in, own = here
        with sharing_products():
            return _Step(steps, at_step(own), carry[0], outer_rank).pushed(carry, comes_in)

    start = [_zeros(x[0], outer_rank, part) for part in steps.carry]
    if at_start:
        start[entry] = x[0]
    xs = {} if at_start else {entry: x}, arrays
    end, seen = jax.lax.scan(step, _spread_as_after(step, start, xs), xs, steps.length, steps.reverse)
    found = [jnp.moveaxis(v, 0, outer_rank) for v in seen] or end
    parts = zip(found, steps.results, strict=True)
    return jnp.concatenate([v.reshape(*v.shape[: v.ndim - len(part.own_shape)], part.size) for v, part in parts], -1)


@partial(jax.jit, static_argnames="layout")
@usual_promotion()
def _pulled(layout: Layout, arrays, x) -> dict[int, jax.Array]:
    """The rows by all entries, `[n, *shared, t, *others]`, and by the start, `[n, *shared, *others]`, by their numbers.

    The rows by what is seen are `[n, *shared, t, entries]`, or `[n, *shared, entries]` at the end.
    """
    steps: Steps = layout.filled(arrays)
    arrays, at_step = _arrays_of_steps(steps)
    outer_rank = x.ndim - 2 if steps.seen else x.ndim - 1
    rows = _in_parts(x, steps.results, bool(steps.seen), steps.dtype)
    if steps.seen:
        seen, last = rows, [_zeros(jnp.sum(rows[0], 0), outer_rank, part) for part in steps.carry]
    else:
        seen, last = [], rows

    def step(carry, here):
        seen, own = here
        with sharing_products():
            return _Step(steps, at_step(own), carry[0], outer_rank).pulled(carry, seen)

    last = _spread_as_after(step, last, (seen, arrays))
    start, found = jax.lax.scan(step, last, (seen, arrays), steps.length, not steps.reverse)
    numbers = [number for number, _ in steps.entries]
    moved = [jnp.moveaxis(v, 0, outer_rank) for v in found]
    return dict(enumerate(start)) | dict(zip(numbers, moved, strict=True))
