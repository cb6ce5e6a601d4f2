"""What the values of a loop's body depend on: operands that are tracked outside, and arrays of the carry."""

import functools
import itertools
import math
from collections.abc import Sequence

from ..algebra.pullback import SolvedTogether
from .carries import common_axes, place_of_axis
from .loop_body import Body, Local, is_renaming, passes_entries
from .nodes import Node
from .unmixed import AxisMap, agreed, axis_map, composed, same_axes

Members = tuple[int, ...]  # the numbers of arrays of a carry that depend on each other


class Dependencies:
    """Those of the values of a body, if these are the nodes of its operands; None where nothing is tracked."""

    def __init__(self, body: Body, outer: Sequence[Node | None]):
        self.body = body
        operands = [*body.fixed, *body.before, *body.elements]
        self.outer = {u: o for u, o in zip(operands, outer, strict=True) if u is not None and o is not None}
        self.moving = self._moving_values()
        self.number = {u: k for k, u in enumerate(body.before) if u in self.moving}
        self.members = self._members()

    def _moving_values(self) -> set[Node]:
        """The values of the body that depend on what is tracked outside."""
        moving: set[Node] = set(self.outer)
        count = -1
        while count < len(moving):
            count = len(moving)
            moving.update(v for v, row in self.body.rows.items() if any(local.parent in moving for local in row))
            pairs = zip(self.body.before, self.body.after, strict=True)
            moving.update(u for u, v in pairs if u is not None and v in moving)
        return moving

    def is_given(self, v: Node) -> bool:
        """Whether a value is an operand, but not of the carry."""
        return v in self.outer and v not in self.number

    def row(self, v: Node) -> list[Local]:
        """The local Jacobians of a value by what is tracked."""
        return [local for local in self.body.rows.get(v, ()) if local.parent in self.moving]

    def outer_row(self, v: Node) -> list[Local]:
        """The local Jacobians of a value by what does not lie between the same two carries as it does."""
        members = self.members_around(v)
        if not members:
            return self.row(v)
        inlets = self.inlets[members]
        return [u for u in self.row(v) if u.parent not in inlets and not self.is_inside(u.parent, members)]

    @functools.cached_property
    def uses(self) -> dict[Node, list[Local]]:
        """For every value the local Jacobians by it."""
        found: dict[Node, list[Local]] = {}
        for local in itertools.chain(*map(self.row, self.body.rows)):
            found.setdefault(local.parent, []).append(local)
        return found

    @functools.cached_property
    def dependencies(self) -> dict[Node, dict[int, AxisMap]]:
        """For every value the arrays of the carry on which it depends, with the axes along which nothing mixes."""
        found: dict[Node, dict[int, AxisMap]] = {u: {k: same_axes(len(u.shape))} for u, k in self.number.items()}
        for v in self.body.rows:
            if v in self.moving and v not in found:
                maps: dict[int, list[AxisMap]] = {}
                for local in self.row(v):
                    own = axis_map(local.outline())
                    for k, before in found.get(local.parent, {}).items():
                        maps.setdefault(k, []).append(composed(own, before))
                found[v] = {k: agreed(*several) for k, several in maps.items()}
        return found

    def _members(self) -> dict[int, Members]:
        """For every array of the carry those with which it depends on each other; none if it does not depend on itself."""
        after = {k: self.body.after[k] for k in self.number.values()}
        reach = {k: set(self.dependencies.get(v, ())) if v is not None else set() for k, v in after.items()}
        for middle, k in itertools.product(after, after):
            if middle in reach[k]:
                reach[k] |= reach[middle]
        return {k: tuple(j for j in after if j in reach[k] and k in reach[j]) for k in after}

    @functools.cached_property
    def between(self) -> dict[Members, dict[Node, None]]:
        """The values between arrays of the carry before a step and these after it, every one after its parents."""
        found: dict[Members, dict[Node, None]] = {}
        for members in set(self.members.values()) - {()}:
            leading = {self.body.after[k] for k in members}
            for v in reversed(list(self.body.rows)):
                if v in leading:
                    leading.update(local.parent for local in self.row(v))
            inside = (
                v for v in self.body.rows if v in leading and not set(members).isdisjoint(self.dependencies.get(v, ()))
            )
            found[members] = dict.fromkeys(v for v in inside if v not in self.number)
        return found

    @functools.cached_property
    def inlets(self) -> dict[Members, dict[Node, None]]:
        """The values outside that come in themselves, instead of larger ones that are made of them, or of another loop.

        They keep apart what all values between the carries do.
        """
        found: dict[Members, dict[Node, None]] = {members: {} for members in self.between}
        for members, inside in self.between.items():
            places = [[place_of_axis(self.dependencies[v], axes) for v in inside] for axes in self.common_axes(members)]
            kept = [dict(zip(inside, own, strict=True)) for own in places if None not in own]
            uses: dict[Node, list[tuple[Node, Local]]] = {}
            for v in inside:
                for local in self.row(v):
                    if local.parent not in self.body.fixed and not self.is_inside(local.parent, members):
                        uses.setdefault(local.parent, []).append((v, local))
            for u, own in uses.items():
                keeps_apart = all(_place_of_inlet(own, place) is not None for place in kept)
                if keeps_apart and any(_comes_in_before(local, v) for v, local in own):
                    found[members][u] = None
        return found

    def common_axes(self, members: Members) -> list[dict[int, int]]:
        """The axes that the steps mix in none of these arrays of the carry: the place in each."""
        maps = {j: {k: m for k, m in self.dependencies[self.after(j)].items() if k in members} for j in members}
        return common_axes(maps, len(self.before(members[0]).shape))

    def members_around(self, v: Node) -> Members:
        """The arrays of the carry between which a value lies."""
        return next((members for members, inside in self.between.items() if v in inside), ())

    def is_passed_on(self, v: Node) -> bool:
        """Whether what comes in at a value comes in at the next one instead, since that one is the same or a sum of it."""
        return self.members_around(v) != () and self.is_renamed(v)

    def is_renamed(self, v: Node) -> bool:
        """Whether a value is used once, by one that is the same or a sum of it."""
        if v in self.body.after or v in self.body.stacked:
            return False
        uses = self.uses.get(v, [])
        return len(uses) == 1 and is_renaming(uses[0].outline())

    def is_inside(self, u: Node, members: Members) -> bool:
        return self.number.get(u) in members or u in self.between[members]

    def before(self, k: int) -> Node:
        """An array of the carry in the body, before a step."""
        node = self.body.before[k]
        assert node is not None
        return node

    def after(self, k: int) -> Node:
        """An array of the carry in the body, after a step, which depends on what is tracked."""
        node = self.body.after[k]
        assert node is not None
        return node

    def members_of(self, v: Node) -> Members:
        """The arrays of the carry between which a value lies, or of which it is one."""
        return self.members[self.number[v]] if v in self.number else self.members_around(v)

    def place(self, v: Node, members: Members, axes: dict[int, int]) -> int | None:
        """The axis of a value around arrays of the carry, or of an inlet, that is one with these axes of the arrays."""
        if v not in self.inlets[members]:
            return place_of_axis(self.dependencies[v], axes)
        uses = [(w, local) for w in self.between[members] for local in self.row(w) if local.parent is v]
        return _place_of_inlet(uses, {w: place_of_axis(self.dependencies[w], axes) for w, _ in uses})


def _comes_in_before(local: Local, v: Node) -> bool:
    """Whether vectors by what a value is made of are smaller than those by the value, or solved for together with them."""
    j = local.outline()
    if any(isinstance(factor, SolvedTogether) for term in j.terms for factor in term.factors):
        return True
    return math.prod(local.parent.shape) < math.prod(v.shape) and passes_entries(j)


def _place_of_inlet(uses: list[tuple[Node, Local]], places: dict[Node, int | None]) -> int | None:
    """The axis of an inlet that is one with the axes at these places of all values that are made of it."""
    found = {(axis_map(local.outline()) or {}).get(place) for v, local in uses if (place := places[v]) is not None}
    return found.pop() if len(found) == 1 and all(places[v] is not None for v, _ in uses) else None
