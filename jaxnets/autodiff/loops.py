"""Loops (`jax.lax.scan`) in a graph: the body is read once, and its steps are one more index.

Every value of the body becomes a node that holds it at all steps, along a first axis t, and every local Jacobian becomes one
that shares t.  The one that does not is that of the carry: what goes into a step came out of the step before.  So values
between the carry before a step and the carry after it have two nodes: what comes into them from elsewhere, and the whole.
What comes in anywhere goes through one `Recurrence`, which has the carry at all steps.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..algebra.factors import Label
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.pullback import SolvedTogether
from ..algebra.recurrence import Link, Steps, over_steps
from ..algebra.rules import fresh_groups, identity
from ..algebra.terms import make_term
from .carries import STEPS, Block, at_one_step, common_axes, one_step_later, place_of_axis
from .loop_body import Body, Local, is_renaming, passes_entries
from .nodes import Edge, Node
from .unmixed import AxisMap, agreed, axis_map, composed, same_axes

MOST_GROWTH = 1.05  # by which the memory of a loop may exceed that of JAX's own pullback
Members = tuple[int, ...]  # the numbers of arrays of a carry that depend on each other


class Loop:
    """The nodes of one run of a loop.

    Those of its results are made first.  When it is known which of them the outputs of the function depend on, they are
    connected with these of its operands, `outer`.  `source` is the line of the loop, and `make(node)` is called for every
    node.
    """

    def __init__(self, body: Body, params, outer: Sequence[Node | None], source: str, make: Callable):
        self.body, self.make = body, make
        self.arrays: dict[str, Sequence[Any]] = {}
        self.length, self.reverse, self.source = params["length"], params["reverse"], source
        operands = [*body.fixed, *body.before, *body.elements]
        self.outer = {u: o for u, o in zip(operands, outer, strict=True) if u is not None and o is not None}
        self.start = outer[len(body.fixed) : len(body.fixed) + len(body.before)]
        self.moving = self._moving_values()
        self.number = {u: k for k, u in enumerate(body.before) if u in self.moving}
        self.members = self._members()
        self.known: dict[Any, Any] = {}
        self.ends: dict[int, Node] = {}
        self.stacked: dict[Node, Node] = {}

    def results(self, arrays: dict[str, Sequence[Any]]) -> list[Node | None]:
        """Nodes for the carry at the end and for the stacked results; `arrays` has the arrays of each kind of `Leaf`."""
        self.arrays = arrays
        end = [self._end(k) if u in self.moving else None for k, u in enumerate(self.body.before)]
        return end + [self._stacked(v) if v in self.moving else None for v in self.body.stacked]

    def _end(self, k: int) -> Node | None:
        before = self.before(k)
        if self.length == 0:
            return self.outer.get(before)
        if self.members[k] or self.body.after[k] in self.moving:
            self.ends[k] = self.make(Node("scan", before.shape, before.dtype, source=self.source))
        return self.ends.get(k)

    def _stacked(self, v: Node) -> Node:
        if v in self.outer and v not in self.number:
            return self.at_all_steps(v)
        self.stacked[v] = self.node_of(v)
        return self.stacked[v]

    def connect(self, reached: set[Node]):
        """Give edges to those results that are among these nodes."""
        self.ends = {k: node for k, node in self.ends.items() if node in reached}
        self.stacked = {v: node for v, node in self.stacked.items() if node in reached}
        for v in [*self.number, *self.body.rows]:
            if v in self.looked_at:
                self.at_all_steps(v)
        for k, node in self.ends.items():
            node.edges.append(self._edge_of_end(k, node))

    def takes_more_memory(self) -> bool:
        """Whether a row by all that comes in, with the arrays of the local Jacobians, takes more than JAX's own pullback."""
        values = [v for v in self.body.rows if self.outer_row(v) and not self._is_renamed(v)]
        values += itertools.chain(*self.inlets.values())
        count = sum(math.prod(v.shape) * jnp.finfo(v.dtype).bits // 8 for v in values)
        return self.body.stored_bytes + count > MOST_GROWTH * self.body.residual_bytes

    # What the values of the body depend on

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

    def row(self, v: Node) -> list[Local]:
        """The local Jacobians of a value by what is tracked."""
        return [local for local in self.body.rows.get(v, ()) if local.parent in self.moving]

    def outer_row(self, v: Node) -> list[Local]:
        """The local Jacobians of a value by what does not lie between the same two carries as it does."""
        members = self.members_around(v)
        if not members:
            return self.row(v)
        inlets = self.inlets[members]
        return [u for u in self.row(v) if u.parent not in inlets and not self._is_inside(u.parent, members)]

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
                    if local.parent not in self.body.fixed and not self._is_inside(local.parent, members):
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

    # Nodes for the values of the body

    def _once(self, key, build: Callable):
        if key not in self.known:
            self.known[key] = build()
        return self.known[key]

    def at_all_steps(self, v: Node) -> Node:
        """A value of the body at all steps, along a first axis."""
        if v in self.body.fixed:
            return self._once(("repeated", v), lambda: self._repeated(self.outer[v]))
        if v in self.outer and v not in self.number:
            return self.outer[v]
        node = self.node_of(v)
        self._once(("edges", v), lambda: node.edges.extend(self._edges_at_all_steps(v, node)))
        return node

    def node_of(self, v: Node) -> Node:
        """The node for a value at all steps, which may have no edges yet."""
        is_carry = v in self.number or (v in self.body.after and self.members_of(v))
        return self._once(("node", v), lambda: self._made(v, [], "scan" if is_carry else v.name))

    def _edges_at_all_steps(self, v: Node, node: Node) -> list[Edge]:
        if members := self.members_of(v):
            block, i = self.block(members), self.seen[members].index(v)
            return [Edge(self.solved(members), "c", lambda: block.value(i, node))]
        return self._edges_of_carry(v, node) if v in self.number else self._edges(self.row(v))

    def _edges_of_carry(self, v: Node, node: Node) -> list[Edge]:
        """Those of an array of the carry before every step that does not depend on itself."""
        start, after, found = self.start[self.number[v]], self.body.after[self.number[v]], []
        if start is not None and self.length:
            first = self.length - 1 if self.reverse else 0
            found.append(Edge(start, "x", lambda: at_one_step(start, node, first).T))
        if after in self.moving and self.length > 1:
            earlier = self.at_all_steps(after)
            found.append(Edge(earlier, "x", lambda: one_step_later(node, earlier, self.reverse)))
        return found

    def from_outside(self, v: Node) -> list[Node]:
        """What a value between two carries is of what does not depend on these: one node, or none."""
        return self._once(("outside", v), lambda: self._from_outside(v))

    def _from_outside(self, v: Node) -> list[Node]:
        row = self.outer_row(v)
        return [self._made(v, self._edges(row))] if row else []

    def coming_in(self, v: Node) -> list[Node]:
        """The nodes whose sum comes into the recurrence at a value between two carries, or at an inlet."""
        return self._once(("in", v), lambda: self._coming_in(v) if self.members_around(v) else [self.at_all_steps(v)])

    def _coming_in(self, v: Node) -> list[Node]:
        passed = [
            self._made(v, [Edge(node, local.argument, functools.partial(self.jacobian, local))])
            for local in self.row(v)
            if self._is_passed_on(local.parent)
            for node in self.coming_in(local.parent)
        ]
        return [*self.from_outside(v), *passed]

    def _is_passed_on(self, v: Node) -> bool:
        """Whether what comes in at a value comes in at the next one instead, since that one is the same or a sum of it."""
        return self.members_around(v) != () and self._is_renamed(v)

    def _is_renamed(self, v: Node) -> bool:
        """Whether a value is used once, by one that is the same or a sum of it."""
        if v in self.body.after or v in self.body.stacked:
            return False
        uses = self.uses.get(v, [])
        return len(uses) == 1 and is_renaming(uses[0].outline())

    def _is_inside(self, u: Node, members: Members) -> bool:
        return self.number.get(u) in members or u in self.between[members]

    def _made(self, v: Node, edges: list[Edge], name: str = "") -> Node:
        """A node for a value of the body at all steps."""
        return self.make(Node(name or v.name, (self.length, *v.shape), v.dtype, edges, v.source, None, v.layer, v.module))

    def _edges(self, row) -> list[Edge]:
        return [Edge(self._parent(local), local.argument, functools.partial(self.jacobian, local)) for local in row]

    def _parent(self, local: Local) -> Node:
        return self.outer[local.parent] if local.parent in self.body.fixed else self.at_all_steps(local.parent)

    def jacobian(self, local: Local) -> Jacobian:
        """A local Jacobian at all steps."""
        stacked = tuple(leaf.is_stacked for leaf in local.leaves)
        return over_steps(self._at_steps(local), stacked, self.length, local.parent not in self.body.fixed)

    def _at_steps(self, local: Local) -> Jacobian:
        """A local Jacobian of one step, in which some arrays hold all steps."""
        return jax.tree.unflatten(local.tree, [self.arrays[leaf.kind][leaf.number] for leaf in local.leaves])

    def _repeated(self, node: Node) -> Node:
        """A node that is the same at all steps."""
        inp = fresh_groups(node.shape)
        shape = (self.length, *node.shape)
        j = jacobian_of([make_term(((Label(len(inp), self.length, STEPS),), *inp), inp, [])], shape, node.shape, node.dtype)
        return self.make(Node("scan", shape, node.dtype, [Edge(node, "x", lambda: j)], self.source))

    # Nodes for what the carry takes part in

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

    @functools.cached_property
    def seen(self) -> dict[Members, list[Node]]:
        """The values around arrays of the carry that are looked at from outside at every step.

        With them are those arrays after a step of which only the end is looked at, where that takes no more memory.
        """
        found: dict[Members, dict[Node, None]] = {members: {} for members in self.between}
        for v in self.looked_at:
            if members := self.members_of(v):
                found[members][v] = None
        for members, wanted in found.items():
            size = sum(math.prod(v.shape) for v in wanted)
            ends = (self.after(k) for k in members if k in self.ends)
            wanted.update((v, None) for v in ends if math.prod(v.shape) <= size)
        return {members: list(wanted) for members, wanted in found.items()}

    @functools.cached_property
    def looked_at(self) -> dict[Node, None]:
        """The values of the body, at all steps, of which something outside of the recurrences is made that is wanted."""
        found: dict[Node, None] = {}
        solved: set[Members] = set()
        waiting: list[Node] = list(self.stacked)

        def look(members: Members):
            if members not in solved:
                solved.add(members)
                waiting.extend(local.parent for v in self.between[members] for local in self.outer_row(v))
                waiting.extend(self.inlets[members])

        for k in self.ends:
            if self.members[k]:
                look(self.members[k])
            else:
                waiting.append(self.after(k))
        while waiting:
            v = waiting.pop()
            if v in found:
                continue
            found[v] = None
            if members := self.members_of(v):
                look(members)
            elif v in self.number:
                waiting += [after] if (after := self.body.after[self.number[v]]) in self.moving else []
            else:
                waiting += [local.parent for local in self.row(v)]
        return found

    def _edge_of_end(self, k: int, node: Node) -> Edge:
        after, members = self.after(k), self.members[k]
        if members and after not in self.seen[members]:
            block = self.block(members, at_end=True)
            return Edge(self.solved(members, at_end=True), "c", lambda: block.value(members.index(k), node))
        steps, last = self.at_all_steps(after), 0 if self.reverse else self.length - 1
        return Edge(steps, "x", lambda: at_one_step(node, steps, last))

    def block(self, members: Members, at_end: bool = False) -> Block:
        """How what is seen of these arrays of the carry lies in one node."""
        return self._once(("block", members, at_end), lambda: self._block(members, [] if at_end else self.seen[members]))

    def _block(self, members: Members, seen: list[Node]) -> Block:
        arrays, entries = [self.before(k) for k in members], self.entries(members)
        shared = []
        for axes in self.common_axes(members):
            places = [self._place(v, members, axes) for v in [*entries, *seen]]
            if None not in places:
                shared.append([*axes.values(), *places])
        return Block.of([[v.shape for v in some] for some in (arrays, entries, seen)], shared, self.length)

    def _place(self, v: Node, members: Members, axes: dict[int, int]) -> int | None:
        """The axis of a value around arrays of the carry, or of an inlet, that is one with these axes of the arrays."""
        if v not in self.inlets[members]:
            return place_of_axis(self.dependencies[v], axes)
        uses = [(w, local) for w in self.between[members] for local in self.row(w) if local.parent is v]
        return _place_of_inlet(uses, {w: place_of_axis(self.dependencies[w], axes) for w, _ in uses})

    def entries(self, members: Members) -> list[Node]:
        """The values into which something comes from outside: inlets, and values between the carries."""
        inside = (v for v in self.between[members] if not self._is_passed_on(v) and self.coming_in(v))
        return [*self.inlets[members], *inside]

    def solved(self, members: Members, at_end: bool = False) -> Node:
        """What is seen of these arrays of the carry and the values between them, at every step or at the end."""
        return self._once(("solved", members, at_end), lambda: self._solved(members, at_end))

    def _solved(self, members: Members, at_end: bool) -> Node:
        block = self.block(members, at_end)
        dtype = jnp.result_type(*(v.dtype for v in [*map(self.before, members), *self.seen[members]]))
        node = Node("scan", block.shape, dtype, source=self.source)
        numbers = {v: len(members) + i for i, v in enumerate([*self.inlets[members], *self.between[members]])}
        steps = functools.cache(lambda: self._steps(members, block, numbers))
        sources = [(i, self.start[j]) for i, j in enumerate(members)]
        sources += [(numbers[v], node) for v in self.entries(members) for node in self.coming_in(v)]
        node.edges += [
            Edge(source, "u", functools.partial(lambda i, source: block.solution(steps(), i, source), number, source))
            for number, source in sources
            if source is not None
        ]
        return self.make(node)

    def _steps(self, members: Members, block: Block, numbers: dict[Node, int]) -> Steps:
        """The steps between arrays of the carry, where the values between them have these numbers, after the arrays."""
        numbers = {self.before(j): i for i, j in enumerate(members)} | numbers
        links, jacobians, stacked = [], [], []
        for v in self.between[members]:
            for local in self.row(v):
                if local.parent in numbers:
                    links.append(Link(numbers[v], numbers[local.parent]))
                    jacobians.append(self._at_steps(local))
                    stacked += [leaf.is_stacked for leaf in local.leaves]
        for i, j in enumerate(members):
            after = self.after(j)
            links.append(Link(len(numbers) + i, numbers[after]))
            jacobians.append(identity(after, after))

        def numbered(values, parts):
            return tuple((numbers[v], part) for v, part in zip(values, parts, strict=True))

        entries, seen = numbered(self.entries(members), block.entries), ()
        if block.seen:
            seen = numbered(self.seen[members], block.seen)
        return Steps(
            tuple(jacobians), tuple(stacked), tuple(links), tuple(block.arrays), entries, seen, self.length, self.reverse
        )


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


def _sum_edge(node: Node) -> Edge:
    """The edge to a summand."""
    return Edge(node, "x", functools.partial(identity, node, node))
