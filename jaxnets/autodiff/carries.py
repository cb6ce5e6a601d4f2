"""The carry of a loop at all its steps: which of its axes no step mixes, and how its arrays lie in one node."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..algebra.factors import Label, labels_of
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.recurrence import Carried, Recurrence
from ..algebra.selections import Slice
from ..algebra.terms import make_term
from .nodes import Node
from .unmixed import AxisMap

STEPS = "t"  # the index of the steps in formulae


@dataclass(eq=False)
class Block:
    """Arrays of a carry that are solved together: how they lie in the node of their states, `[r, *shared, entries]`."""

    members: tuple[int, ...]
    leaves: list[Carried]
    length: int
    reverse: bool

    @classmethod
    def of(cls, members, shapes, shared, length: int, reverse: bool) -> "Block":
        """A block of arrays of these shapes; `shared` has the places of every axis that all of them share."""
        leaves = [Carried(shape, tuple(axes[i] for axes in shared)) for i, shape in enumerate(shapes)]
        return cls(members, leaves, length, reverse)

    @property
    def shape(self) -> tuple[int, ...]:
        leaf = self.leaves[0]
        return (self.length + 1, *(leaf.shape[a] for a in leaf.shared), sum(leaf.size for leaf in self.leaves))

    @property
    def first(self) -> int:
        """The place r of the carry at the start."""
        return self.length if self.reverse else 0

    @property
    def last(self) -> int:
        return 0 if self.reverse else self.length

    @property
    def before(self) -> int:
        """The place r of the carry before step 0."""
        return int(self.reverse)

    @property
    def after(self) -> int:
        return int(not self.reverse)

    def placed(self, k: int, node: Node, start: int, dtype=None) -> Jacobian:
        """∂states/∂node for an array of the carry: at the steps from `start` on, or at this place if it has no steps."""
        i = self.members.index(k)
        leaf, offset = self.leaves[i], sum(leaf.size for leaf in self.leaves[:i])
        has_steps = len(node.shape) > len(leaf.shape)
        shared = tuple(Label(200 + n, leaf.shape[a]) for n, a in enumerate(leaf.shared))
        inner = leaf.axes_with(shared)
        step = (Label(300, self.length, STEPS),) if has_steps else ()
        place, entry = (Label(301, self.length + 1, "r"),), labels_of(inner[a] for a in leaf.own)
        factors = [Slice(start, 1, (step, place))]
        if len(self.leaves) > 1:
            entries = (Label(302, self.shape[-1]),)
            factors.append(Slice(offset, 1, (entry, entries)))
            entry = entries
        out = [place, *((label,) for label in shared), entry]
        inp = [step, *inner] if has_steps else inner
        return jacobian_of([make_term(out, inp, factors)], self.shape, node.shape, dtype or node.dtype)

    def solution(self, jacobians, flags, links, node: Node) -> Jacobian:
        """∂states/∂(what comes in), from the local Jacobians of a step."""
        shared = tuple((Label(n, size),) for n, size in enumerate(self.shape[1:-1]))
        r, s = ((Label(100 + n, self.length + 1, name),) for n, name in enumerate("rs"))
        out, inp = ((Label(200 + n, self.shape[-1], name),) for n, name in enumerate("ij"))
        factor = Recurrence(
            jacobians,
            flags,
            links,
            tuple(self.leaves),
            self.length,
            self.reverse,
            (*shared, r, out, s, inp),
            len(shared),
        )
        return jacobian_of([make_term((r, *shared, out), (s, *shared, inp), [factor])], self.shape, node.shape, node.dtype)


def common_axes(maps: dict[int, dict[int, AxisMap]], ranks: Sequence[int], members) -> list[tuple[int, ...]]:
    """The axes that all arrays of a carry share at every step, each as its place in every one of them.

    `maps[j][k]` says along which axes nothing mixes in array j after a step as a function of array k before it.
    """
    found = []
    for axis in range(ranks[0]):
        known: dict[int, int] = {members[0]: axis}
        consistent, grown = True, True
        while consistent and grown:
            grown = False
            for j, row in maps.items():
                for k, m in row.items():
                    m = m or {}
                    if j in known:
                        match = m.get(known[j])
                    elif k in known:
                        match = known[k]
                        source = next((a for a, b in m.items() if b == match), None)
                        if source is None:
                            consistent = False
                        else:
                            known[j], grown = source, True
                        continue
                    else:
                        continue
                    if match is None or known.setdefault(k, match) != match:
                        consistent = False
        if consistent and len(known) == len(members):
            found.append(tuple(known[k] for k in members))
    return found
