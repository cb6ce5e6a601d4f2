"""The carry of a loop at all its steps: which of its axes no step mixes, and how its arrays lie in one node."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..algebra.factors import Group, Label, labels_of
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.recurrence import Recurrence
from ..algebra.rules import fresh_groups
from ..algebra.selections import Slice
from ..algebra.steps import Part, Steps
from ..algebra.terms import make_term
from .nodes import Node
from .unmixed import AxisMap

STEPS = "t"  # the index of the steps in formulae


@dataclass(eq=False)
class Block:
    """How values of a loop around the same arrays of a carry, which depend on each other, lie in one node, once solved for.

    The node is `[t, *shared, entries of all that is seen]`, or `[*shared, entries of all arrays]` if only the carry at the
    end is seen.  `entries` are the values of a step into which something comes from outside.
    """

    arrays: list[Part]
    entries: list[Part]
    seen: list[Part]
    length: int

    @classmethod
    def of(cls, shapes: Sequence[Sequence[tuple[int, ...]]], shared, length: int) -> "Block":
        """A block of arrays, entries and seen values of these shapes; `shared` has the places of each shared axis in all."""
        places = zip(*shared, strict=True) if shared else itertools.repeat(())
        arrays, entries, seen = ([Part(shape, next(places)) for shape in some] for some in shapes)
        return cls(arrays, entries, seen, length)

    @property
    def shared_shape(self) -> tuple[int, ...]:
        part = self.arrays[0]
        return tuple(part.shape[a] for a in part.shared)

    @property
    def shape(self) -> tuple[int, ...]:
        steps = (self.length,) if self.seen else ()
        return (*steps, *self.shared_shape, sum(part.size for part in self.seen or self.arrays))

    def value(self, i: int, node: Node) -> Jacobian:
        """∂node/∂(what is solved for) for seen value i, or for array i at the end."""
        parts = self.seen or self.arrays
        step = [(Label(300, self.length, STEPS),)] if self.seen else []
        shared = tuple(Label(200 + n, size) for n, size in enumerate(self.shared_shape))
        inner = parts[i].axes_with(shared)
        entry: Group = labels_of(inner[a] for a in parts[i].own)
        factors = []
        if len(parts) > 1:
            entries = (Label(302, self.shape[-1]),)
            factors.append(Slice(sum(part.size for part in parts[:i]), 1, (entry, entries)))
            entry = entries
        inp = [*step, *((label,) for label in shared), entry]
        return jacobian_of([make_term([*step, *inner], inp, factors)], node.shape, self.shape, node.dtype)

    def solution(self, steps: Steps, number: int, node: Node) -> Jacobian:
        """∂(what is solved for)/∂node for what comes in at a value of the steps, by its number."""
        part = steps.part(number)
        shared = tuple(Label(n, size) for n, size in enumerate(self.shared_shape))
        inner = part.axes_with(shared)
        lead = [(label,) for label in shared]
        seen = [(Label(300, self.length, STEPS),)] if self.seen else []
        entries = (Label(301, self.shape[-1], "i"),)
        step = [] if number < len(self.arrays) else [(Label(302, self.length, STEPS),)]
        axes = (*lead, *seen, entries, *step, labels_of(inner[a] for a in part.own))
        factor = Recurrence(steps, number, axes, len(lead), len(seen) + 1)
        term = make_term([*seen, *lead, entries], [*step, *inner], [factor])
        return jacobian_of([term], self.shape, node.shape, node.dtype)


def at_one_step(node: Node, of_all: Node, step: int) -> Jacobian:
    """∂node/∂of_all, if `of_all` is at all steps what the node is at one of them."""
    own = fresh_groups(node.shape)
    steps = (Label(len(own), of_all.shape[0], STEPS),)
    term = make_term(own, [steps, *own], [Slice(step, 1, ((), steps))])
    return jacobian_of([term], node.shape, of_all.shape, node.dtype)


def one_step_later(node: Node, before: Node, reverse: bool) -> Jacobian:
    """∂node/∂before, if the node is at every step but the first what `before` is at the step before."""
    own = fresh_groups(node.shape[1:])
    length = node.shape[0]
    later, earlier, both = (Label(len(own) + n, length - (n == 2), STEPS) for n in range(3))
    first, second = (earlier, later) if reverse else (later, earlier)
    factors = [Slice(1, 1, ((both,), (first,))), Slice(0, 1, ((both,), (second,)))]
    term = make_term([(later,), *own], [(earlier,), *own], factors)
    return jacobian_of([term], node.shape, before.shape, node.dtype)


def common_axes(maps: dict[int, dict[int, AxisMap]], rank: int) -> list[dict[int, int]]:
    """The axes that all arrays of a carry share at every step: the place in each array.

    `maps[j][k]` says along which axes nothing mixes in array j after a step as a function of array k before it.  The first
    array has so many axes, and all depend on each other.
    """
    found = []
    for axis in range(rank):
        axes = _linked_axes(maps, next(iter(maps)), axis)
        if axes is not None:
            found.append(axes)
    return found


def _linked_axes(maps, first: int, axis: int) -> dict[int, int] | None:
    """The axis of every array that is one with an axis of the first; None if in some array it is mixed, or meets two."""
    known, waiting = {first: axis}, [first]
    while waiting:
        here = waiting.pop()
        for j, row in maps.items():
            for k, m in row.items():
                if here == k:
                    other, match = j, next((a for a, b in (m or {}).items() if b == known[k]), None)
                elif here == j:
                    other, match = k, (m or {}).get(known[j])
                else:
                    continue
                if match is None or known.get(other, match) != match:
                    return None
                if other not in known:
                    known[other] = match
                    waiting.append(other)
    return {k: known[k] for k in maps}


def place_of_axis(dependencies: dict[int, AxisMap], axes: dict[int, int]) -> int | None:
    """The axis of a value that is one with these axes of the arrays on which it depends; `axes` has them by number."""
    maps = [(m or {}, axes[k]) for k, m in dependencies.items() if k in axes]
    return next((a for a in maps[0][0] if all(m.get(a) == b for m, b in maps)), None)
