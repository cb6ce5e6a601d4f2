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
from ..algebra.recurrence import Link, Steps
from ..algebra.repeated import over_steps
from ..algebra.rules import fresh_groups, identity
from ..algebra.terms import make_term
from .carries import STEPS, Block, common_axes, place_of_axis
from .loop_body import STACKED, Body, Local, is_renaming
from .nodes import Edge, Node, Repetition, Round
from .unmixed import AxisMap, agreed, axis_map, composed, same_axes

MOST_GROWTH = 1.1  # by which the memory of a loop may exceed that of JAX's own pullback
Members = tuple[int, ...]  # the numbers of arrays of a carry that depend on each other


class Loop:
    """The nodes of one run of a loop, made when a node after it asks for them.

    `outer` are the nodes of the operands.  `source` is the line of the loop, and `make(node)` is called for every node.
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
        moved = {k: v if v in self.moving else None for k, v in enumerate(body.after)}
        rounds = [Round(u, self.start[k], moved[k]) for u, k in self.number.items()]
        outside = {u: node for u, node in self.outer.items() if u not in self.number}
        self.repetition = Repetition("scan", self.length, lambda: {}, outside, rounds)

    def outputs(self, arrays: dict[str, Sequence[Any]]) -> tuple[list[Node | None], list[Node | None]]:
        """Nodes for the carry at the end and for the stacked outputs; `arrays` has the arrays of each kind of `Leaf`."""
        self.arrays = arrays
        end = [self.final(k) if u in self.moving else None for k, u in enumerate(self.body.before)]
        stacked = [self.at_all_steps(v) if v in self.moving else None for v in self.body.stacked]
        groups = ((end, self.body.after, self.body.before), (stacked, self.body.stacked, self.body.stacked))
        self._describe(row for group in groups for row in zip(*group, strict=True))
        self.repetition.ends.update(filter(None, end))
        return end, stacked

    def _describe(self, results):
        """Let the nodes know the graph of one step.  It holds no arrays, since the nodes of a body outlive its trace."""
        shapes = {
            kind: [jax.ShapeDtypeStruct(x.shape[kind in STACKED :], x.dtype) for x in map(jax.typeof, arrays)]
            for kind, arrays in self.arrays.items()
        }
        moving = {v: self.row(v) for v in self.body.rows if v in self.moving}
        self.repetition.rows = functools.partial(_edges_of_a_step, moving, shapes)
        for node, v, u in results:
            if node is not None and node.loops[:1] == (self.repetition,):
                self.repetition.results[node] = v if v in self.moving else u

    def takes_more_memory(self) -> bool:
        """Whether a row by all that comes in, with the arrays of the local Jacobians, takes more than JAX's own pullback."""
        values = [v for v in self.body.rows if self.outer_row(v) and not self._is_renamed(v)]
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
        return [local for local in self.row(v) if not members or not self._is_inside(local.parent, members)]

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
        if v in self.number:
            return self.carry_before(self.number[v])
        k = self.body.after.index(v) if v in self.body.after else None
        if k is not None and self.members.get(k):
            return self.carry_after(k)
        return self._once(v, lambda: self._value(v))

    def _value(self, v: Node) -> Node:
        members = self.members_around(v)
        if not members:
            return self._made(v, self._edges(self.row(v)))
        edges = self._edges(local for local in self.row(v) if self._is_inside(local.parent, members))
        return self._made(v, [*edges, *map(_sum_edge, self.from_outside(v))])

    def from_outside(self, v: Node) -> list[Node]:
        """What a value between two carries is of what does not depend on these: one node, or none."""
        return self._once(("outside", v), lambda: self._from_outside(v))

    def _from_outside(self, v: Node) -> list[Node]:
        row = self.outer_row(v)
        return [self._made(v, self._edges(row))] if row else []

    def coming_in(self, v: Node) -> list[Node]:
        """The nodes whose sum comes into the recurrence at a value between two carries."""
        return self._once(("in", v), lambda: self._coming_in(v))

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

    def _made(self, v: Node, edges: list[Edge]) -> Node:
        loops = (self.repetition, *(loop for loop in v.loops if v not in loop.ends))
        return self.make(Node(v.name, (self.length, *v.shape), v.dtype, edges, v.source, None, v.layer, v.module, loops))

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
        return self.make(
            Node("scan", shape, node.dtype, [Edge(node, "x", lambda: j)], self.source, loops=(self.repetition,))
        )

    # Nodes for the carry

    def carry_before(self, k: int) -> Node:
        """An array of the carry before every step."""
        return self._once(("before", k), lambda: self._carry(k, self.length, self.block(k).before))

    def carry_after(self, k: int) -> Node:
        """An array of the carry after every step."""
        return self._once(("after", k), lambda: self._carry(k, self.length, self.block(k).after))

    def final(self, k: int) -> Node | None:
        """An array of the carry at the end."""
        if self.length == 0:
            return self.outer.get(self.before(k))
        return self._once(("final", k), lambda: self._carry(k, None, self.block(k).last))

    def _carry(self, k: int, length: int | None, start: int) -> Node:
        states, leaf, block = self.states(k), self.before(k), self.block(k)
        shape = leaf.shape if length is None else (length, *leaf.shape)
        node = Node("scan", shape, leaf.dtype, source=self.source, loops=(self.repetition,))
        node.edges.append(Edge(states, "c", lambda: block.state(block.members.index(k), node, start, states.dtype).T))
        return self.make(node)

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

    def block(self, k: int) -> Block:
        """How those arrays of the carry lie in one node that are solved together with this one."""
        return self._once(("block", self.members[k] or k), lambda: self._block(self.members[k] or (k,)))

    def _block(self, members: Members) -> Block:
        arrays = [self.before(k) for k in members]
        shapes = [u.shape for u in arrays]
        if not self.members[members[0]]:
            return Block.of(members, shapes, [], [(a,) for a in range(len(shapes[0]))], self.length, self.reverse)
        maps = {j: {k: m for k, m in self.dependencies[self.after(j)].items() if k in members} for j in members}
        shared = []
        entries = self.entries(members)
        for axes in common_axes(maps, len(shapes[0])):
            places = [place_of_axis(self.dependencies[v], axes) for v in entries]
            if None not in places:
                shared.append([*axes.values(), *places])
        return Block.of(members, shapes, [v.shape for v in entries], shared, self.length, self.reverse)

    def entries(self, members: Members) -> list[Node]:
        """The values between carries into which something comes from outside."""
        return [v for v in self.between[members] if not self._is_passed_on(v) and self.coming_in(v)]

    def states(self, k: int) -> Node:
        """Those arrays of the carry that are solved together with this one, before every step and at the end.

        Its axes are r, the shared ones, and one for the entries of all arrays.
        """
        return self._once(("states", self.members[k] or k), lambda: self._states(k))

    def _states(self, k: int) -> Node:
        block = self.block(k)
        dtype = jnp.result_type(*(self.before(j).dtype for j in block.members))
        node = Node("scan", block.shape, dtype, source=self.source, loops=(self.repetition,))
        if not self.members[k]:
            start, after = self.start[k], self.body.after[k]
            if start is not None:
                node.edges.append(Edge(start, "x", lambda: block.state(0, start, block.first, start.dtype)))
            if after in self.moving:
                later = self.at_all_steps(after)
                node.edges.append(Edge(later, "x", lambda: block.state(0, later, block.after, later.dtype)))
            return self.make(node)
        numbers = {v: len(block.members) + i for i, v in enumerate(self.between[block.members])}
        steps = functools.cache(lambda: self._steps(block, numbers))
        sources = [(i, self.start[j]) for i, j in enumerate(block.members)]
        sources += [(numbers[v], node) for v in self.entries(block.members) for node in self.coming_in(v)]
        node.edges += [
            Edge(source, "u", functools.partial(lambda i, source: block.solution(steps(), i, source), number, source))
            for number, source in sources
            if source is not None
        ]
        return self.make(node)

    def _steps(self, block: Block, numbers: dict[Node, int]) -> Steps:
        """The steps between the arrays of a block, whose values have these numbers, after those of the carry."""
        numbers = {self.before(j): i for i, j in enumerate(block.members)} | numbers
        links, jacobians, stacked = [], [], []
        for v in self.between[block.members]:
            for local in self.row(v):
                if local.parent in numbers:
                    links.append(Link(numbers[v], numbers[local.parent]))
                    jacobians.append(self._at_steps(local))
                    stacked += [leaf.is_stacked for leaf in local.leaves]
        for i, j in enumerate(block.members):
            after = self.after(j)
            links.append(Link(len(numbers) + i, numbers[after]))
            jacobians.append(identity(after, after))
        entries = tuple((numbers[v], part) for v, part in zip(self.entries(block.members), block.entries, strict=True))
        return Steps(tuple(jacobians), tuple(stacked), tuple(links), tuple(block.arrays), entries, self.length, self.reverse)


def _edges_of_a_step(rows: dict[Node, list[Local]], shapes: dict[str, list[Any]]) -> dict[Node, list[Edge]]:
    """The local Jacobians of one step as edges; `shapes` stand for the arrays of each kind of `Leaf` at one step."""

    def jacobian(local: Local) -> Jacobian:
        return jax.tree.unflatten(local.tree, [shapes[leaf.kind][leaf.number] for leaf in local.leaves])

    return {
        v: [Edge(local.parent, local.argument, functools.partial(jacobian, local)) for local in row]
        for v, row in rows.items()
    }


def _sum_edge(node: Node) -> Edge:
    """The edge to a summand."""
    return Edge(node, "x", functools.partial(identity, node, node))
