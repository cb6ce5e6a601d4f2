"""The carry of a loop at all its steps: which of its axes no step mixes, and how its arrays lie in one node."""

from dataclasses import dataclass

from ..algebra.factors import Label, labels_of
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.recurrence import Part, Recurrence, Steps
from ..algebra.selections import Slice
from ..algebra.terms import make_term
from .nodes import Node
from .unmixed import AxisMap

STEPS = "t"  # the index of the steps in formulae


@dataclass(eq=False)
class Block:
    """How arrays of a carry that depend on each other lie in one node, the states: `[r, *shared, entries of all arrays]`.

    The places r are those between steps, from before the first to after the last.  `entries` are the values of a step into
    which something comes from outside.
    """

    members: tuple[int, ...]
    arrays: list[Part]
    entries: list[Part]
    length: int
    reverse: bool

    @classmethod
    def of(cls, members, shapes, entry_shapes, shared, length: int, reverse: bool) -> "Block":
        """A block of arrays and entries of these shapes; `shared` has for each shared axis its places in all of them."""
        parts = [Part(shape, tuple(axes[i] for axes in shared)) for i, shape in enumerate([*shapes, *entry_shapes])]
        return cls(members, parts[: len(shapes)], parts[len(shapes) :], length, reverse)

    @property
    def shared_shape(self) -> tuple[int, ...]:
        part = self.arrays[0]
        return tuple(part.shape[a] for a in part.shared)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the states."""
        return (self.length + 1, *self.shared_shape, sum(part.size for part in self.arrays))

    @property
    def first(self) -> int:
        """The place r of the carry at the start."""
        return self.length if self.reverse else 0

    @property
    def last(self) -> int:
        """The place r of the carry at the end."""
        return 0 if self.reverse else self.length

    @property
    def before(self) -> int:
        """The place r of the carry before step 0."""
        return int(self.reverse)

    @property
    def after(self) -> int:
        """The place r of the carry after step 0."""
        return int(not self.reverse)

    def state(self, i: int, node: Node, start: int, dtype) -> Jacobian:
        """∂states/∂node for array i of the carry at all steps, of which the first is at place `start`, or at that place."""
        part, offset = self.arrays[i], sum(part.size for part in self.arrays[:i])
        has_steps = len(node.shape) > len(part.shape)
        step = (Label(300, self.length, STEPS),) if has_steps else ()
        place = (Label(301, self.length + 1, "r"),)
        shared = tuple(Label(200 + n, size) for n, size in enumerate(self.shared_shape))
        inner = part.axes_with(shared)
        entry = labels_of(inner[a] for a in part.own)
        factors = [Slice(start, 1, (step, place))]
        if len(self.arrays) > 1:
            entries = (Label(302, self.shape[-1]),)
            factors.append(Slice(offset, 1, (entry, entries)))
            entry = entries
        out = [place, *((label,) for label in shared), entry]
        inp = [step, *inner] if has_steps else inner
        return jacobian_of([make_term(out, inp, factors)], self.shape, node.shape, dtype)

    def solution(self, steps: Steps, number: int, node: Node) -> Jacobian:
        """∂states/∂node for what comes in at a value of the steps, by its number."""
        part = steps.part(number)
        shared = tuple(Label(n, size) for n, size in enumerate(self.shared_shape))
        inner = part.axes_with(shared)
        r, i = (Label(300, self.length + 1, "r"),), (Label(301, self.shape[-1], "i"),)
        step = [] if number < len(self.arrays) else [(Label(302, self.length, STEPS),)]
        lead = [(label,) for label in shared]
        axes = (*lead, r, i, *step, labels_of(inner[a] for a in part.own))
        term = make_term([r, *lead, i], [*step, *inner], [Recurrence(steps, number, axes, len(lead), 2)])
        return jacobian_of([term], self.shape, node.shape, node.dtype)


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
