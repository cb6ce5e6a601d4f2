"""The carry of a loop at all its steps: which of its axes no step mixes, and how its arrays lie in one node."""

from dataclasses import dataclass

from ..algebra.factors import Group, Label, labels_of, size_of
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.recurrence import Link, Part, Recurrence
from ..algebra.selections import Slice
from ..algebra.terms import make_term
from .nodes import Node
from .unmixed import AxisMap

STEPS = "t"  # the index of the steps in formulae


@dataclass(eq=False)
class Block:
    """How arrays of a carry that depend on each other lie in one node, and in another one what comes into them.

    The states are `[r, *shared, entries of all arrays]` at the places r between steps; what comes in is
    `[t, *shared, entries of all values into which something comes]` at the steps t.
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
    def entries_shape(self) -> tuple[int, ...]:
        """That of what comes in."""
        return (self.length, *self.shared_shape, sum(part.size for part in self.entries))

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
        has_steps = len(node.shape) > len(self.arrays[i].shape)
        step, place = self._step(has_steps), (Label(301, self.length + 1, "r"),)
        return self._placed(self.arrays, i, node, step, place, [Slice(start, 1, (step, place))], dtype)

    def entry(self, i: int, node: Node, dtype) -> Jacobian:
        """∂(what comes in)/∂node for what comes into entry i at all steps, or at the start."""
        has_steps = len(node.shape) > len(self.entries[i].shape)
        step, place = self._step(has_steps), self._step(True)
        first = self.length - 1 if self.reverse else 0
        return self._placed(self.entries, i, node, step, place, [] if has_steps else [Slice(first, 1, (step, place))], dtype)

    def _step(self, has_steps: bool) -> Group:
        return (Label(300, self.length, STEPS),) if has_steps else ()

    def _placed(self, parts: list[Part], i: int, node: Node, step: Group, place: Group, factors, dtype) -> Jacobian:
        """∂(all parts)/∂(part i), whose index of steps `step` becomes the index `place` by these factors."""
        part, offset = parts[i], sum(part.size for part in parts[:i])
        shared = tuple(Label(200 + n, size) for n, size in enumerate(self.shared_shape))
        inner = part.axes_with(shared)
        entry = labels_of(inner[a] for a in part.own)
        whole = sum(part.size for part in parts)
        if len(parts) > 1:
            entries = (Label(302, whole),)
            factors = [*factors, Slice(offset, 1, (entry, entries))]
            entry = entries
        out = [place, *((label,) for label in shared), entry]
        inp = [step, *inner] if len(node.shape) > len(part.shape) else inner
        shape = (size_of(place), *self.shared_shape, whole)
        return jacobian_of([make_term(out, inp, factors)], shape, node.shape, dtype)

    def solution(
        self, jacobians, stacked, links: tuple[Link, ...], entries: tuple[int, ...], states: Node, comes_in: Node
    ) -> Jacobian:
        """∂states/∂(what comes in), from the local Jacobians of a step."""
        shared = tuple((Label(n, size),) for n, size in enumerate(self.shared_shape))
        r, t = (Label(100, self.length + 1, "r"),), (Label(101, self.length, STEPS),)
        i, j = (Label(102, self.shape[-1], "i"),), (Label(103, self.entries_shape[-1], "j"),)
        factor = Recurrence(
            jacobians,
            stacked,
            links,
            tuple(self.arrays),
            tuple(zip(entries, self.entries, strict=True)),
            self.reverse,
            (*shared, r, i, t, j),
            len(shared),
            2,
        )
        term = make_term((r, *shared, i), (t, *shared, j), [factor])
        return jacobian_of([term], states.shape, comes_in.shape, comes_in.dtype)


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
    """The axis of a value that is one with these axes of the arrays on which it depends, by their numbers, if there is one."""
    maps = [(m or {}, axes[k]) for k, m in dependencies.items() if k in axes]
    return next((a for a in maps[0][0] if all(m.get(a) == b for m, b in maps)), None)
