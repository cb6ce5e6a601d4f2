"""Branches (`jax.lax.cond` and `switch`) in a graph: each is read once, and the one that is taken has numbers.

The values of every branch become nodes, whose local Jacobians are computed inside the same switch; those of branches that
are not taken are zero.  An output is the sum of what each branch makes of it, times 1 for the branch that is taken, else 0.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ..algebra.jacobian import Jacobian
from ..algebra.rules import diagonal
from .jaxprs import body_and_constants, evaluated, is_variable, once_for
from .loop_body import TracedBody, configuration, traced_body
from .nodes import Edge, Node


@dataclass(eq=False)
class Branches:
    """Branches that were read.  `run(index, *operands)` returns the outputs, and the arrays of each branch.

    Where an array of a local Jacobian is an operand, `given[k]` has the number of the operand under that of the array.
    """

    bodies: list[TracedBody]
    given: list[dict[int, int]]
    run: Callable


def read_branches(branches: Sequence[Any], tracked: tuple[bool, ...], read_graph, merged: bool) -> Branches:
    """The branches, each read by `read_graph`; `tracked` says of every operand whether derivatives by it matter."""
    jaxprs = [body_and_constants(branch)[0] for branch in branches]
    key = ("branches", tuple(map(id, jaxprs)), tracked, merged, configuration())
    _, found = once_for(  # the others are kept, so that their ids stay theirs
        jaxprs[0], key, lambda: (jaxprs[1:], _read_branches(jaxprs, tracked, read_graph, merged))
    )
    return found


def _read_branches(jaxprs, tracked, read_graph, merged) -> Branches:
    bodies = [traced_body(jaxpr, tracked, read_graph, merged) for jaxpr in jaxprs]
    given, shapes = [], []
    for body in bodies:
        places = {v: i for i, v in enumerate(body.jaxpr.invars)}
        leaves = body.jaxpr.outvars[len(body.results) :]
        given.append({i: places[v] for i, v in enumerate(leaves) if is_variable(v) and v in places})
        shapes.append([v.aval for v in leaves])

    def zero(aval):
        return jnp.zeros(aval.shape, aval.dtype)

    def taken(k: int):
        def run(*operands):
            found = evaluated(bodies[k].jaxpr, bodies[k].consts, *operands)
            count = len(bodies[k].results)
            outputs, leaves = found[:count], found[count:]
            arrays = [
                [jnp.zeros(()) if i in places else zero(aval) for i, aval in enumerate(avals)]
                for places, avals in zip(given, shapes, strict=True)
            ]
            for i, aval in enumerate(shapes[k]):
                if i not in given[k]:
                    arrays[k][i] = leaves[i].astype(aval.dtype)
            return outputs, arrays

        return run

    @jax.jit
    def run(index, *operands):
        return jax.lax.switch(index, [taken(k) for k in range(len(bodies))], *operands)

    return Branches(bodies, given, run)


def branch_outputs(
    read: Branches, index, operands, outer: Sequence[Node | None], arrays, types, source: str, make: Callable
) -> list[Node | None]:
    """Nodes for the outputs, of these types.  `outer` are nodes of the operands, and `arrays` the arrays of each branch."""
    parts: list[list[Node | None]] = []
    for body, given, own in zip(read.bodies, read.given, arrays, strict=True):
        leaves = [operands[given[i]] if i in given else leaf for i, leaf in enumerate(own)]
        known = {u: o for u, o in zip(body.operands, outer, strict=True) if u is not None and o is not None}
        for v, row in body.rows.items():
            edges = [
                Edge(known[u], name, functools.partial(_jacobian, tree, [leaves[i] for i in numbers]))
                for u, name, tree, numbers in row
                if u in known
            ]
            if edges:
                known[v] = make(Node(v.name, v.shape, v.dtype, edges, v.source, None, v.layer, v.module))
        parts.append([None if v is None else known.get(v) for v in body.results])
    outputs: list[Node | None] = []
    for y, column in zip(types, zip(*parts, strict=True), strict=True):
        edges = [
            Edge(node, "x", functools.partial(_if_taken, index, k, node, y.dtype))
            for k, node in enumerate(column)
            if node is not None
        ]
        outputs.append(make(Node("cond", y.shape, y.dtype, edges, source)) if edges else None)
    return outputs


def _jacobian(tree, leaves) -> Jacobian:
    return jax.tree.unflatten(tree, leaves)


def _if_taken(index, k: int, node: Node, dtype) -> Jacobian:
    """The identity if branch k is taken, else zero."""
    return diagonal((index == k).astype(dtype), "m", "1 for the branch that is taken")(node, node)
