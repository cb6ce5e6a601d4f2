"""Loops (`jax.lax.scan`) in a graph: the body is read once, and its steps are one more index.

Every value of the body becomes a node that holds it at all steps, along a first axis t, and every local Jacobian becomes one
that shares t.  The one that does not is that of the carry: what goes into a step came out of the step before.  So the carry,
with the values between the carry before a step and the carry after it, is solved for: what comes in anywhere from elsewhere
goes through one `Recurrence`, which gives what is looked at from elsewhere, at every step or at the end.
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
from ..algebra.repeated import over_steps
from ..algebra.rules import fresh_groups, identity
from ..algebra.steps import Link, Steps
from ..algebra.terms import make_term
from .carries import STEPS, Block, at_one_step, one_step_later
from .loop_body import STACKED, Body, Local
from .loop_dependencies import Dependencies, Members
from .nodes import Edge, Node, Repetition, Round

MOST_GROWTH = 1.05  # by which the memory of a loop may exceed that of JAX's own pullback


class Loop(Dependencies):
    """The nodes of one run of a loop.

    Those of its results are made first.  When it is known which of them the outputs of the function depend on, they are
    connected with these of its operands, `outer`.  `source` is the line of the loop, and `make(node)` is called for every
    node.
    """

    def __init__(self, body: Body, params, outer: Sequence[Node | None], source: str, make: Callable):
        super().__init__(body, outer)
        self.make = make
        self.arrays: dict[str, Sequence[Any]] = {}
        self.length, self.reverse, self.source = params["length"], params["reverse"], source
        self.start = outer[len(body.fixed) : len(body.fixed) + len(body.before)]
        self.known: dict[Any, Any] = {}
        self.ends: dict[int, Node] = {}
        self.stacked: dict[Node, Node] = {}
        moved = {k: v if v in self.moving else None for k, v in enumerate(body.after)}
        rounds = [Round(u, self.start[k], moved[k]) for u, k in self.number.items()]
        outside = {u: node for u, node in self.outer.items() if u not in self.number}
        self.repetition = Repetition("scan", self.length, lambda: {}, outside, rounds)

    def results(self, arrays: dict[str, Sequence[Any]]) -> list[Node | None]:
        """Nodes for the carry at the end and for the stacked results; `arrays` has the arrays of each kind of `Leaf`."""
        self.arrays = arrays
        end = [self._end(k) if u in self.moving else None for k, u in enumerate(self.body.before)]
        stacked = [self._stacked(v) if v in self.moving else None for v in self.body.stacked]
        groups = ((end, self.body.after, self.body.before), (stacked, self.body.stacked, self.body.stacked))
        self._describe(row for group in groups for row in zip(*group, strict=True))
        self.repetition.ends.update(filter(None, end))
        return end + stacked

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

    def _end(self, k: int) -> Node | None:
        before = self.before(k)
        if self.length == 0:
            return self.outer.get(before)
        if self.members[k] or self.body.after[k] in self.moving:
            self.ends[k] = self.make(Node("scan", before.shape, before.dtype, source=self.source, loops=(self.repetition,)))
        return self.ends.get(k)

    def _stacked(self, v: Node) -> Node:
        if self.is_given(v):
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
        values = [v for v in self.body.rows if self.outer_row(v) and not self.is_renamed(v)]
        values += itertools.chain(*self.inlets.values())
        count = sum(math.prod(v.shape) * jnp.finfo(v.dtype).bits // 8 for v in values)
        return self.body.stored_bytes + count > MOST_GROWTH * self.body.residual_bytes

    # Nodes for the values of the body

    def _once(self, key, build: Callable):
        if key not in self.known:
            self.known[key] = build()
        return self.known[key]

    def at_all_steps(self, v: Node) -> Node:
        """A value of the body at all steps, along a first axis."""
        if v in self.body.fixed:
            return self._once(("repeated", v), lambda: self._repeated(self.outer[v]))
        if self.is_given(v):
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
            if self.is_passed_on(local.parent)
            for node in self.coming_in(local.parent)
        ]
        return [*self.from_outside(v), *passed]

    def _made(self, v: Node, edges: list[Edge], name: str = "") -> Node:
        """A node for a value of the body at all steps."""
        shape, loops = (self.length, *v.shape), (self.repetition, *(loop for loop in v.loops if v not in loop.ends))
        return self.make(Node(name or v.name, shape, v.dtype, edges, v.source, None, v.layer, v.module, loops))

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

    # Nodes for what the carry takes part in

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
            if v in found or self.is_given(v):
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
            places = [self.place(v, members, axes) for v in [*entries, *seen]]
            if None not in places:
                shared.append([*axes.values(), *places])
        return Block.of([[v.shape for v in some] for some in (arrays, entries, seen)], shared, self.length)

    def entries(self, members: Members) -> list[Node]:
        """The values into which something comes from outside: inlets, and values between the carries."""
        inside = (v for v in self.between[members] if not self.is_passed_on(v) and self.coming_in(v))
        return [*self.inlets[members], *inside]

    def solved(self, members: Members, at_end: bool = False) -> Node:
        """What is seen of these arrays of the carry and the values between them, at every step or at the end."""
        return self._once(("solved", members, at_end), lambda: self._solved(members, at_end))

    def _solved(self, members: Members, at_end: bool) -> Node:
        block = self.block(members, at_end)
        dtype = jnp.result_type(*(v.dtype for v in [*map(self.before, members), *self.seen[members]]))
        node = Node("scan", block.shape, dtype, source=self.source, loops=(self.repetition,))
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


def _edges_of_a_step(rows: dict[Node, list[Local]], shapes: dict[str, list[Any]]) -> dict[Node, list[Edge]]:
    """The local Jacobians of one step as edges; `shapes` stand for the arrays of each kind of `Leaf` at one step."""

    def jacobian(local: Local) -> Jacobian:
        return jax.tree.unflatten(local.tree, [shapes[leaf.kind][leaf.number] for leaf in local.leaves])

    return {
        v: [Edge(local.parent, local.argument, functools.partial(jacobian, local)) for local in row]
        for v, row in rows.items()
    }
