"""Loops (`jax.lax.scan`) in a graph: the body is read once, and time is one more index.

Every value of the body becomes a node that holds it at all steps, along a first axis t, and every local Jacobian becomes one
that shares t.  The one that does not is that of the carry: what goes into a step came out of the step before.  Arrays of the
carry that depend on each other are solved together, by one `Recurrence`; a node that the carry goes through is then two
nodes, what it is of the carry and what it is of everything else.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..algebra.factors import Label
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.recurrence import Link, over_steps
from ..algebra.rules import fresh_groups
from ..algebra.terms import make_term
from .carries import STEPS, Block, common_axes
from .loop_body import Body, Local
from .nodes import Edge, Node
from .unmixed import AxisMap, agreed, axis_map, composed, same_axes


class Loop:
    """The nodes of one run of a loop, made when a node after it asks for them."""

    def __init__(self, body: Body, params, outer: Sequence[Node | None], arrays: dict[str, Sequence[Any]], make: Callable):
        self.body, self.arrays, self.make = body, arrays, make
        self.length, self.reverse = params["length"], params["reverse"]
        fixed, carries = len(body.fixed), len(body.before)
        self.outer = {u: o for u, o in zip([*body.fixed, *body.before, *body.elements], outer, strict=True) if u is not None}
        self.has_steps = {u: u not in body.fixed for u in self.outer}
        self.start = outer[fixed : fixed + carries]
        self.moving = self._moving_values()
        self.carry_of = {u: k for k, u in enumerate(body.before) if u in self.moving}
        self.blocks = self._blocks()
        self.known: dict[Any, Any] = {}

    def _moving_values(self) -> set[Node]:
        """The values of the body that depend on what is tracked outside."""
        body = self.body
        moving = {u for u, o in self.outer.items() if o is not None}
        while True:
            before = len(moving)
            for v, row in body.rows.items():
                if any(local.parent in moving for local in row):
                    moving.add(v)
            moving |= {u for u, v in zip(body.before, body.after, strict=True) if u is not None and v in moving}
            if len(moving) == before:
                return moving

    # What the values of the body depend on

    def row(self, v: Node) -> list[Local]:
        """The local Jacobians of a value by what is tracked."""
        return [local for local in self.body.rows.get(v, ()) if local.parent in self.moving]

    @functools.cached_property
    def dependencies(self) -> dict[Node, dict[int, AxisMap]]:
        """For every value the arrays of the carry on which it depends, with the axes along which nothing mixes."""
        found: dict[Node, dict[int, AxisMap]] = {}
        for v in self.body.rows:
            if v in self.carry_of:
                found[v] = {self.carry_of[v]: same_axes(len(v.shape))}
            elif v in self.moving:
                found[v] = self._dependencies_of(v, found)
        for u, k in self.carry_of.items():
            found.setdefault(u, {k: same_axes(len(u.shape))})
        return found

    def _dependencies_of(self, v, found) -> dict[int, AxisMap]:
        maps: dict[int, list[AxisMap]] = {}
        for local in self.row(v):
            own = axis_map(local.outline())
            for k, before in found.get(local.parent, {}).items():
                maps.setdefault(k, []).append(composed(own, before))
        return {k: agreed(*several) for k, several in maps.items()}

    def _blocks(self) -> dict[int, tuple[int, ...]]:
        """For every array of the carry those that depend on each other with it, or none if it does not depend on itself."""
        after = {k: self.body.after[k] for k in self.carry_of.values()}
        reach = {k: set(self.dependencies.get(v, {})) if v is not None else set() for k, v in after.items()}
        for middle, k in itertools.product(after, after):
            if middle in reach[k]:
                reach[k] |= reach[middle]
        return {k: tuple(j for j in after if j in reach[k] and k in reach[j]) for k in after}

    @functools.cached_property
    def ancestors(self) -> dict[tuple[int, ...], set[Node]]:
        """For every block the values between its arrays before a step and those after it."""
        found = {}
        for block in set(self.blocks.values()):
            leading = {self.body.after[k] for k in block}
            for v in reversed(list(self.body.rows)):
                if v in leading:
                    leading.update(local.parent for local in self.row(v))
            found[block] = {v for v in leading if v is not None and set(self.dependencies.get(v, {})) & set(block)}
        return found

    def block_of(self, v: Node) -> tuple[int, ...]:
        """The block on whose way through a step a value lies; empty if there is none."""
        return next((block for block, inside in self.ancestors.items() if block and v in inside), ())

    # Nodes

    def outputs(self) -> tuple[list[Node | None], list[Node | None]]:
        """Nodes for the carry at the end and for the stacked outputs."""
        end = [self.final(k) if u in self.moving else None for k, u in enumerate(self.body.before)]
        return end, [self.whole(v) if v in self.moving else None for v in self.body.stacked]

    def _once(self, key, build: Callable):
        if key not in self.known:
            self.known[key] = build()
        return self.known[key]

    def parts(self, v: Node) -> list[tuple[Node, bool]]:
        """The nodes whose sum a value is, and whether they have an axis of steps."""
        return self._once(("parts", v), lambda: self._parts(v))

    def _parts(self, v: Node) -> list[tuple[Node, bool]]:
        if v in self.carry_of:
            return [(self.carry_before(self.carry_of[v]), True)]
        if v in self.outer:
            return [(self.outer[v], self.has_steps[v])]
        if v in self.body.after and self.body.after.index(v) in self.blocks:
            return [(self.carry_after(self.body.after.index(v)), True)]
        if self.block_of(v):
            return [(node, True) for node in (self.of_others(v), self.of_carry(v)) if node is not None]
        return [(self._made(v, self._edges(self.row(v), self.parts)), True)]

    def whole(self, v: Node) -> Node:
        """One node for a value of the body at all steps."""
        parts = self.parts(v)
        if len(parts) == 1 and parts[0][1]:
            return parts[0][0]
        return self._once(("whole", v), lambda: self._made(v, [self._copy(node, steps) for node, steps in parts]))

    def of_others(self, v: Node) -> Node | None:
        """What a value on the way of a block is of everything but the carry of this block, which is taken for constant."""
        return self._once(("others", v), lambda: self._of_others(v))

    def _of_others(self, v):
        block, inside = self.block_of(v), self.ancestors[self.block_of(v)]

        def parts(u):
            if self.carry_of.get(u) in block:
                return []
            if u in inside:
                node = self.of_others(u)
                return [] if node is None else [(node, True)]
            return self.parts(u)

        edges = self._edges(self.row(v), parts)
        return self._made(v, edges) if edges else None

    def of_carry(self, v: Node) -> Node:
        """What a value on the way of a block is of the carry of this block alone."""
        return self._once(("carry", v), lambda: self._of_carry(v))

    def _of_carry(self, v):
        block, inside = self.block_of(v), self.ancestors[self.block_of(v)]

        def parts(u):
            if self.carry_of.get(u) in block:
                return [(self.carry_before(self.carry_of[u]), True)]
            return [(self.of_carry(u), True)] if u in inside else []

        return self._made(v, self._edges(self.row(v), parts))

    def _made(self, v: Node, edges: list[Edge]) -> Node:
        return self.make(Node(v.name, (self.length, *v.shape), v.dtype, edges, v.source, None, v.layer, v.module))

    def _edges(self, row: list[Local], parts: Callable) -> list[Edge]:
        return [
            Edge(node, local.argument, functools.partial(self.jacobian, local, has_steps))
            for local in row
            for node, has_steps in parts(local.parent)
        ]

    def _copy(self, node: Node, has_steps: bool) -> Edge:
        def jacobian():
            inp = fresh_groups(node.shape)
            out = inp if has_steps else ((Label(len(inp), self.length, STEPS),), *inp)
            shape = node.shape if has_steps else (self.length, *node.shape)
            return jacobian_of([make_term(out, inp, [])], shape, node.shape, node.dtype)

        return Edge(node, "x", jacobian)

    def jacobian(self, local: Local, has_steps: bool) -> Jacobian:
        """A local Jacobian at all steps."""
        j = jax.tree.unflatten(local.tree, [self.arrays[leaf.kind][leaf.number] for leaf in local.leaves])
        return over_steps(j, tuple(leaf.is_stacked for leaf in local.leaves), self.length, has_steps)

    # The carry

    def block(self, k: int) -> "Block":
        """The arrays of the carry that are solved together with this one."""
        members = self.blocks[k] or (k,)
        return self._once(("block", members), lambda: self._block(members, solved=bool(self.blocks[k])))

    def _block(self, members, solved: bool) -> "Block":
        shapes = [self.before(k).shape for k in members]
        if solved:
            after = {k: self.body.after[k] for k in members}
            maps = {j: {k: m for k, m in self.dependencies[v].items() if k in members} for j, v in after.items()}
            classes = common_axes(maps, [len(shape) for shape in shapes], members)
        else:
            classes = [(a,) for a in range(len(shapes[0]))]
        return Block.of(members, shapes, classes, self.length, self.reverse)

    def before(self, k: int) -> Node:
        node = self.body.before[k]
        assert node is not None
        return node

    def states(self, k: int) -> Node:
        """The carry at all steps and at the end, those arrays that are solved together with this one: `[r, *shared, entries]`."""
        return self._once(("states", self.block(k).members), lambda: self._states(k))

    def _states(self, k: int) -> Node:
        block = self.block(k)
        dtype = jnp.result_type(*(self.before(j).dtype for j in block.members))
        edges = []
        for j in block.members:
            start, after = self.start[j], self.body.after[j]
            if start is not None:
                edges.append(Edge(start, "x", functools.partial(block.placed, j, start, block.first)))
            if after is None or after not in self.moving:
                continue
            if not self.blocks[k]:
                nodes = [self.whole(after)]
            elif after in self.ancestors[self.blocks[k]] and after not in self.carry_of:
                nodes = [self.of_others(after)]
            else:
                nodes = [self.whole(after)] if self.carry_of.get(after) not in block.members else []
            edges += [
                Edge(node, "x", functools.partial(block.placed, j, node, block.after)) for node in nodes if node is not None
            ]
        come_in = self.make(Node("scan", block.shape, dtype, edges))
        if not self.blocks[k]:
            return come_in
        return self.make(
            Node("scan", block.shape, dtype, [Edge(come_in, "u", functools.partial(self.recurrence, k, come_in))])
        )

    def carry_before(self, k: int) -> Node:
        """An array of the carry before every step."""
        return self._once(("before", k), lambda: self._carry(k, self.length, self.block(k).before))

    def carry_after(self, k: int) -> Node:
        """An array of the carry after every step."""
        return self._once(("after", k), lambda: self._carry(k, self.length, self.block(k).after))

    def final(self, k: int) -> Node:
        """An array of the carry at the end."""
        return self._once(("final", k), lambda: self._carry(k, None, self.block(k).last))

    def _carry(self, k: int, length: int | None, start: int) -> Node:
        states, leaf = self.states(k), self.before(k)
        shape = leaf.shape if length is None else (length, *leaf.shape)
        node = Node("scan", shape, leaf.dtype)
        node.edges.append(Edge(states, "c", lambda: self.block(k).placed(k, node, start, states.dtype).T))
        return self.make(node)

    def recurrence(self, k: int, come_in: Node) -> Jacobian:
        """∂carry/∂(what comes in) for the arrays that are solved together with this one."""
        block, inside = self.block(k), self.ancestors[self.blocks[k]]
        numbers: dict[Node, int] = {self.before(j): i for i, j in enumerate(block.members)}
        links, jacobians, flags = [], [], []
        for v in self.body.rows:
            if v in inside and v not in self.carry_of:
                numbers[v] = len(numbers)
                for local in self.row(v):
                    if local.parent in numbers:
                        links.append(Link(numbers[v], numbers[local.parent]))
                        arrays = [self.arrays[leaf.kind][leaf.number] for leaf in local.leaves]
                        jacobians.append(jax.tree.unflatten(local.tree, arrays))
                        flags += [leaf.is_stacked for leaf in local.leaves]
        for i, j in enumerate(block.members):
            after = self.body.after[j]
            groups = fresh_groups(after.shape)
            links.append(Link(len(numbers) + i, numbers[after]))
            jacobians.append(jacobian_of([make_term(groups, groups, [])], after.shape, after.shape, after.dtype))
        return block.solution(tuple(jacobians), tuple(flags), tuple(links), come_in)
