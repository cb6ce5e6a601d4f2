"""Jacobians of all steps of a loop, made of those of one step: their arrays have one more index, that of the steps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from .contraction import sharing_products
from .factors import Factor, Group, Label, Operator, Tensor, distinct_labels, labels_of, pytree, shape_of, size_of, tensor
from .jacobian import Jacobian, jacobian_of
from .pullback import SolvedTogether
from .sharding import reshaped
from .sizes import count_entries
from .terms import Term, highest_id, make_term


class Layout(NamedTuple):
    """A tree that holds arrays, some of them at several places: which array lies at each."""

    tree: Any
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, tree, flags: Sequence[bool]) -> tuple[list[jax.Array], "Layout"]:
        """The arrays of a tree, each once, and where they lie: so one array at two places stays one in a transformation.

        An array that lies at leaves with both flags is two.
        """
        leaves, structure = jax.tree.flatten(tree)
        keys = list(zip(map(id, leaves), flags, strict=True))
        arrays = dict(zip(keys, leaves, strict=True))
        numbers = {key: i for i, key in enumerate(arrays)}
        return list(arrays.values()), cls(structure, tuple(numbers[key] for key in keys))

    def filled(self, arrays: Sequence[jax.Array]) -> Any:
        """The tree with these arrays."""
        return jax.tree.unflatten(self.tree, [arrays[i] for i in self.numbers])

    def once(self, flags: Sequence[bool]) -> list[bool]:
        """What is told of every leaf, told of every array."""
        found = dict(zip(self.numbers, flags, strict=True))
        return [found[i] for i in range(len(found))]


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
    factors = [_factor_over_steps(f, [next(flags) for _ in jax.tree.leaves(f)], step, input_has_steps) for f in term.factors]
    return make_term((step, *term.out), (step, *term.inp) if input_has_steps else term.inp, factors, term.scale)


def _factor_over_steps(factor: Factor, is_stacked: list[bool], step: Group, input_has_steps: bool) -> Factor:
    if not any(is_stacked):
        return factor
    whole = factor.of_all_steps(step, input_has_steps) if all(is_stacked) else None
    if whole is not None:
        return whole
    assert isinstance(factor, Operator)
    layout: Any = (tuple(is_stacked), (step, *factor.axes), factor.shared_rank + 1, factor.output_rank)
    if isinstance(factor, SolvedTogether):
        return RepeatedTogether(factor, *layout, notes=factor.notes)
    return Repeated(factor, *layout, notes=factor.notes)


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

    @property
    def _of_a_step(self) -> Any:
        """The operator with the labels of this one, and with the arrays of all steps."""
        return replace(self.inner, axes=self.axes[1:], notes=self.notes)  # type: ignore[call-arg]

    def formula(self, show):
        return self._of_a_step.formula(lambda groups: show((self.axes[0], *groups)))

    def applies_to(self, labels, keep):
        step = set(self.axes[0])
        return step.isdisjoint(labels_of(self.axes[1:])) and self._of_a_step.applies_to(labels - step, keep - step)

    def count_vectors(self, labels, keep):
        step = set(self.axes[0])
        return self._of_a_step.count_vectors(labels - step, keep - step)

    def contract(self, x, keep):
        step = self.axes[0]
        rest = [label for label in distinct_labels(x.axes) if label not in step]
        array = reshaped(x.broadcast_to([*step, *rest]), [size_of(step), *(label.size for label in rest)])
        axes: list[Group] = []

        def at_step(one, array):
            with sharing_products():
                product = one.contract(tensor(array, rest), keep - set(step))
            axes[:] = product.axes
            return product.value

        value = self._at_every_step(at_step, array)
        return Tensor(value, (step, *axes)).summed_except(keep)

    def array(self, forward=None):
        return self._at_every_step(lambda one: one.array(forward))

    def _at_every_step(self, function, *x, axis=0):
        """`function(operator, *x)` at every step; the steps lie along this axis of x, and of the result."""
        arrays, layout = Layout.of(self._of_a_step, self.is_stacked)
        axes = [0 if stacked else None for stacked in layout.once(self.is_stacked)]

        def at_step(arrays, *x):
            return function(layout.filled(arrays), *x)

        return jax.vmap(at_step, (axes, *(axis for _ in x)), axis)(arrays, *x)


@pytree("inner")
class RepeatedTogether(Repeated, SolvedTogether):
    """One operator for each step of a loop, of those whose rows are found together."""

    inner: SolvedTogether
    contract, applies_to, count_vectors = SolvedTogether.contract, SolvedTogether.applies_to, SolvedTogether.count_vectors

    @property
    def whole(self):
        return self.inner.whole

    def push(self, x):
        return self._at_every_step(lambda one, x: one.push(x), x, axis=1)

    def pull_all(self, x):
        return self._at_every_step(lambda one, x: one.pull_all(x), x, axis=1)

    def choose(self, rows):
        return self.inner.choose(rows)
