"""What a loop adds to the algebra: one more index for its steps, and the triangular solve that its carry is.

A loop `c[r+1] = f(c[r], x[r])` is linear around its values: ∂c[r+1] = C[r]·∂c[r] + u[r], where C[r] is the Jacobian of one
step by the carry and u[r] is what comes in at that step from elsewhere.  So ∂c = (1 − S·C)⁻¹·u, with the shift S in r.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .factors import Factor, Group, Label, Operator, Tensor, at_least_float32, labels_of, pytree, shape_of, tensor
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


class Carried(NamedTuple):
    """One array of a carry: its shape, and for each axis that all arrays of the carry share the place among its own."""

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
        return count_entries(self.own_shape)

    def axes_with(self, shared: tuple[Label, ...]) -> list[Group]:
        """A label for each axis: the given ones for shared axes, new ones for the others."""
        axes = [(Label(100 + a, n),) for a, n in enumerate(self.shape)]
        for label, a in zip(shared, self.shared, strict=True):
            axes[a] = (label,)
        return axes


class Link(NamedTuple):
    """A local Jacobian of one step, between two values of the step: which one depends on which other."""

    output: int
    input: int


@pytree("jacobians")
class Recurrence(Operator):
    """∂c[r]/∂u[s] = C[r−1]·…·C[s]: what a carry c is of what comes into it, at all steps r of a loop.

    A step is a small graph.  Its first values are the arrays of the carry before the step, its last ones those after it, and
    `jacobians[k]` is the local one of `links[k]`; those leaves that `is_stacked` names hold all steps along a first axis.
    The axes are those that all arrays of the carry share, then r and the other entries of all arrays in a row.  With
    `reverse` the loop runs from the last step to the first.
    """

    jacobians: tuple[Jacobian, ...]
    is_stacked: tuple[bool, ...]
    links: tuple[Link, ...]
    carried: tuple[Carried, ...]
    length: int
    reverse: bool
    axes: tuple[Group, ...]
    shared_rank: int
    output_rank: int = 2
    kind = "recurrence"
    symbol = "R"
    meaning = "the product of the Jacobians of the steps between"

    @property
    def symbols(self) -> dict[str, str]:  # type: ignore[override]
        return {self.symbol: self.meaning}

    def formula(self, show):
        return f"{self.written(self.symbol)}{show(self.axes)}"

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
        return _solved(self, x, forward=True)

    def pull(self, x):
        return _solved(self, x, forward=False)

    def _step(self, leaves, v, forward: bool):
        """C·v or v·C for the entries v `[n, *shared, entries]` of a carry, at the step with these leaves."""
        jacobians = jax.tree.unflatten(jax.tree.structure(self.jacobians), leaves)
        count, last = len(self.carried), max(link.output for link in self.links)
        before, after = range(count), range(last - count + 1, last + 1)
        many, shared = Label(0, v.shape[0]), tuple(Label(1 + i, n) for i, n in enumerate(v.shape[1:-1]))
        outer = ((many,), *((label,) for label in shared))
        outer_shape = v.shape[:-1]

        def holding(array, leaf: Carried) -> Jacobian:
            """The Jacobian that holds vectors: of an array of the carry by their number, or of their number by it."""
            axes = leaf.axes_with(shared)
            factor = tensor(array, labels_of([*outer, *(axes[a] for a in leaf.own)]))
            if forward:
                return jacobian_of([make_term(axes, outer, [factor])], leaf.shape, outer_shape, v.dtype)
            return jacobian_of([make_term(outer, axes, [factor])], outer_shape, leaf.shape, v.dtype)

        vectors: dict[int, Jacobian] = {}
        start = 0
        for node, leaf in zip(before if forward else after, self.carried, strict=True):
            array = v[..., start : start + leaf.size].reshape(*outer_shape, *leaf.own_shape)
            vectors[node] = holding(array, leaf)
            start += leaf.size
        for node in range(last + 1) if forward else range(last, -1, -1):
            if node in (after if forward else before) or node not in vectors:
                continue
            vector = vectors.pop(node)
            vector = vector.as_one_array() if len(vector.terms) > 1 else vector
            for link, j in zip(self.links, jacobians, strict=True):
                if node == (link.input if forward else link.output):
                    target, product = (link.output, j @ vector) if forward else (link.input, vector @ j)
                    vectors[target] = vectors[target] + product if target in vectors else product
        return jnp.concatenate(
            [
                _entries(vectors.get(node), leaf, outer_shape, v.dtype, forward)
                for node, leaf in zip(after if forward else before, self.carried, strict=True)
            ],
            -1,
        )


def _entries(vector: Jacobian | None, leaf: Carried, outer_shape, dtype, forward: bool):
    """The entries of an array of the carry, `[*outer, entries]`, from the Jacobian that holds them."""
    if vector is None:
        return jnp.zeros((*outer_shape, leaf.size), dtype)
    parts = [
        replace(t, out=t.inp, inp=tuple(t.out[a] for a in leaf.own))
        if forward
        else replace(t, inp=tuple(t.inp[a] for a in leaf.own))
        for t in vector.terms
    ]
    array = dense_sum(parts, (*outer_shape, *leaf.own_shape), dtype)
    return array.reshape(*outer_shape, leaf.size)


@partial(jax.jit, static_argnames="forward")
@usual_promotion()
def _solved(r: Recurrence, x, forward: bool):
    """(1 − S·C)⁻¹ x, or its transpose: one scan over the steps."""
    leaves = jax.tree.leaves(r.jacobians)
    axis = x.ndim - 2
    x = jnp.moveaxis(at_least_float32(x.astype(jnp.promote_types(x.dtype, r.dtype))), axis, 0)
    stacked = [leaf for leaf, flag in zip(leaves, r.is_stacked, strict=True) if flag]
    upward = forward is not r.reverse  # whether a later place along the axis follows from an earlier one
    first, rest = (x[0], x[1:]) if upward else (x[-1], x[:-1])

    def step(v, here):
        u, stacked = here
        own = iter(stacked)
        v = u + r._step([next(own) if flag else leaf for leaf, flag in zip(leaves, r.is_stacked, strict=True)], v, forward)
        return v, v

    _, found = jax.lax.scan(step, first, (rest, stacked), r.length, reverse=not upward)
    found = jnp.concatenate([first[None], found] if upward else [found, first[None]])
    return jnp.moveaxis(found, 0, axis)
