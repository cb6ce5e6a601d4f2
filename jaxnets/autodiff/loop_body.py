"""The body of a loop, read as any other function: a graph of local Jacobians whose arrays every step has its own of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from ..algebra.factors import Tensor, entries_over
from ..algebra.jacobian import Jacobian
from ..algebra.selections import Slice
from ..algebra.sizes import count_entries, stored_entries
from ..checks import is_floating
from .jaxprs import (
    depending_inside_on,
    depending_on,
    evaluated,
    is_variable,
    once_for,
    reordered_from,
    restricted,
    variables,
    with_replaced,
)
from .nodes import Edges, Node, summed_by_parent
from .pullbacks import is_in_pullback
from .skeleton import holds_numbers

STACKED = ("element", "output")  # the kinds of leaves that every step has its own of


class Leaf(NamedTuple):
    """Where an array of a local Jacobian is found: the kind of place, and the number there.

    It is a "fixed" operand, which all steps have; an "element", of which each step takes an entry; an "output", computed at
    every step; or a "constant", computed once.
    """

    kind: str
    number: int

    @property
    def is_stacked(self) -> bool:
        """Whether every step has its own."""
        return self.kind in STACKED


class Local(NamedTuple):
    """The local Jacobian of a value of the body by `parent`, whose arrays are named, not stored."""

    parent: Node
    argument: str
    tree: Any
    leaves: tuple[Leaf, ...]

    def outline(self) -> Jacobian:
        """The Jacobian without its numbers."""
        return jax.tree.unflatten(self.tree, range(len(self.leaves)))


@dataclass(eq=False)
class Body:
    """A body that was read: nodes for its operands and results, None where nothing is tracked, and the local Jacobians.

    `run(fixed, carry, elements)` returns the carry at the end, the stacked outputs, and the arrays of the local Jacobians:
    those that are computed at every step, stacked, and those that are computed once.
    """

    fixed: list[Node | None]  # operands that all steps have in common
    before: list[Node | None]  # the carry
    elements: list[Node | None]  # operands of which each step takes an entry
    after: list[Node | None]  # the carry after the step
    stacked: list[Node | None]  # the other results
    rows: dict[Node, list[Local]]  # every node after its parents
    run: Callable
    stored_bytes: int  # of the arrays that every step has its own of
    residual_bytes: float  # that JAX's own pullback would keep of every step, if that was asked for


def configuration() -> tuple:
    """The settings on which it depends what is read."""
    return (*(getattr(jax.config, name) for name in CONFIGURATION), is_in_pullback())


CONFIGURATION = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
)


def read_body(
    jaxpr, params, counts: tuple[int, int], tracked: tuple[bool, ...], read_graph, merged: bool, of_scalar: bool
) -> Body:
    """The body of a scan with so many fixed operands and carries, read by `read_graph`.

    `tracked` says of every operand whether derivatives by it matter.  If `merged`, values that are passed on entry by entry
    have no nodes.  If `of_scalar`, it is found out what JAX's own pullback would store.
    """
    key = (
        "body",
        counts,
        tracked,
        merged,
        of_scalar,
        configuration(),
        params["length"],
        params["reverse"],
        params["unroll"],
    )
    return once_for(jaxpr, key, lambda: _read_body(jaxpr, params, counts, tracked, read_graph, merged, of_scalar))


@dataclass(eq=False)
class TracedBody:
    """A body with its local Jacobians, traced: `jaxpr` gives the results, then the arrays of all local Jacobians.

    `operands` and `results` are nodes, None where nothing is tracked.  `rows` has every node after its parents, and for each
    of them the parents with the names of arguments, the trees of the Jacobians, and the numbers of their arrays.
    """

    jaxpr: Any
    consts: list
    operands: list[Node | None]
    results: list[Node | None]
    rows: dict[Node, list[tuple[Node, str, Any, list[int]]]]


def shapes_of(jaxpr) -> list[Any]:
    """What stands for the operands of a jaxpr while it is traced again."""
    return [v.aval for v in jaxpr.invars]


def traced_body(jaxpr, tracked: Sequence[bool], read_graph, merged: bool) -> TracedBody:
    """A body, read by `read_graph`; `tracked` says of every operand whether derivatives by it matter."""
    places = [i for i, flag in enumerate(tracked) if flag]
    read: list[Any] = []

    def extended(*operands):
        def moving(*some):
            return evaluated(jaxpr, (), *with_replaced(operands, places, some))

        graph = read_graph(moving, [operands[i] for i in places], [f"x{i + 1}" for i in places])
        edges: Edges = {}
        names = {}
        for node in graph.topological_nodes():
            found = [(edge.parent, edge.jacobian()) for edge in node.edges]
            edges[node] = summed_by_parent((parent, j) for parent, j in found if j is not None)
            names[node] = {edge.parent: edge.argument for edge in reversed(node.edges)}
            node.edges.clear()  # they hold values of this trace
        _without_values(names)
        if merged:
            edges = with_merged_entries(edges, set(graph.outputs))
        leaves, tree = jax.tree.flatten([list(row.values()) for row in edges.values()])
        numbers = jax.tree.unflatten(tree, range(len(leaves)))
        rows = {
            node: [
                (parent, names[node].get(parent, ""), jax.tree.structure(j), jax.tree.leaves(j))
                for parent, j in zip(row, numbered, strict=True)
            ]
            for (node, row), numbered in zip(edges.items(), numbers, strict=True)
        }
        read[:] = graph.inputs, graph.outputs, rows
        return [*graph.values, *leaves]

    closed = jax.make_jaxpr(extended)(*shapes_of(jaxpr))
    inputs, outputs, rows = read
    nodes = with_replaced([None] * len(tracked), places, inputs)
    return TracedBody(closed.jaxpr, closed.consts, nodes, outputs, rows)


def _without_values(nodes):
    """Clear the edges of nodes that only loops among these know: they hold values of a trace, too."""
    waiting, seen = list(nodes), set(nodes)
    while waiting:
        for loop in waiting.pop().loops:
            around = {*loop.nodes_before(), *loop.results} - seen
            seen |= around
            waiting += around
            for node in around:
                node.edges.clear()


def _read_body(jaxpr, params, counts, tracked, read_graph, merged, of_scalar) -> Body:
    length, reverse, unroll = params["length"], params["reverse"], params["unroll"]
    fixed, carries = counts
    body = traced_body(jaxpr, tracked, read_graph, merged)
    whole, consts, count = body.jaxpr, body.consts, len(body.results)
    found, stacked, laid_out, constant = _places_of_leaves(whole, counts, count)
    loop = restricted(whole, [*whole.outvars[:count], *stacked])
    once = restricted(whole, constant, whole.invars[:fixed])

    @jax.jit
    def looped(shared, carry, elements):
        def step(carry, element):
            results = evaluated(loop, consts, *shared, *carry, *element)
            return results[:carries], results[carries:]

        return jax.lax.scan(step, list(carry), list(elements), length, reverse, unroll)

    reordered = [(number, _reordering(whole, v, whole.invars[fixed + carries + number])) for v, number in laid_out.items()]
    compute_once = jax.jit(lambda shared: evaluated(once, consts, *shared))

    def run(shared, carry, elements):
        """Programs of their own, so that around another loop those that depend on none of its steps are seen to."""
        carry, results = looped(shared, carry, elements)
        own = [*results[count - carries :], *(reorder(elements[i]) for i, reorder in reordered)]
        return carry, results[: count - carries], own, compute_once(shared) if constant else []

    return Body(
        body.operands[:fixed],
        body.operands[fixed : fixed + carries],
        body.operands[fixed + carries :],
        body.results[:carries],
        body.results[carries:],
        {
            node: [Local(parent, name, tree, tuple(found[i] for i in own)) for parent, name, tree, own in row]
            for node, row in body.rows.items()
        },
        run,
        _bytes_of(stacked),
        _residual_bytes(jaxpr, fixed, carries, tracked) if of_scalar else math.inf,
    )


def _reordering(jaxpr, v, element) -> Callable:
    """The function that puts the entries of an element, at all steps, in the order that they have in a variable."""
    one = restricted(jaxpr, [v], [element])
    return jax.jit(jax.vmap(lambda x: evaluated(one, (), x)[0]))


def _residual_bytes(jaxpr, fixed: int, carries: int, tracked) -> float:
    """The bytes that JAX's own pullback of a body would keep of every step."""
    places = [i for i, flag in enumerate(tracked) if flag]

    def residuals(*operands):
        def moving(*some):
            return list(filter(is_floating, evaluated(jaxpr, (), *with_replaced(operands, places, some))))

        return jax.tree.leaves(jax.vjp(moving, *(operands[i] for i in places))[1])

    traced = jax.make_jaxpr(residuals)(*shapes_of(jaxpr)).jaxpr
    varying = depending_inside_on(traced, traced.invars[fixed:])
    elements = set(traced.invars[fixed + carries :])
    return _bytes_of(dict.fromkeys(v for v in variables(traced.outvars) if v in varying and v not in elements))


def _bytes_of(found) -> int:
    """The bytes of variables."""
    return sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in found)


def _places_of_leaves(jaxpr, counts, count: int):
    """Where the array behind every output after the first `count` is found, and the variables behind them.

    First come those that are computed at every step, then elements with their entries in another order and the numbers of
    these elements, then what is computed once.
    """
    fixed, carries = counts
    varying = depending_on(jaxpr, jaxpr.invars[fixed:])
    operands = {v: Leaf("fixed", i) for i, v in enumerate(jaxpr.invars[:fixed])}
    operands |= {v: Leaf("element", i) for i, v in enumerate(jaxpr.invars[fixed + carries :])}
    outputs = [v for v in variables(jaxpr.outvars[count:]) if v in varying and v not in operands]
    elements = jaxpr.invars[fixed + carries :]
    reordered = reordered_from(jaxpr, elements)
    laid_out = {v: elements.index(reordered[v]) for v in outputs if v in reordered}
    computed = list(dict.fromkeys(v for v in outputs if v not in reordered))
    stacked = {v: i for i, v in enumerate([*computed, *laid_out])}
    constant: list[Any] = []
    places = []
    for v in jaxpr.outvars[count:]:
        if is_variable(v) and v in operands:
            places.append(operands[v])
        elif is_variable(v) and v in varying:
            places.append(Leaf("output", stacked[v]))
        elif is_variable(v) and v in constant:
            places.append(Leaf("constant", constant.index(v)))
        else:
            places.append(Leaf("constant", len(constant)))
            constant.append(v)
    return places, computed, laid_out, constant


def with_merged_entries(edges: Edges, kept: set[Node | None]) -> Edges:
    """The graph without nodes that pass single entries on, where that leaves no more arrays: f'·g' instead of f' and g'.

    A sum stays if what follows multiplies it: each of its summands would have to be multiplied.
    `edges` has every node after its parents.
    """
    edges = {v: dict(row) for v, row in edges.items()}
    count = -1
    while count != len(edges):
        count = len(edges)
        for v in [node for node in edges if node not in kept]:
            _merge(edges, v)
    return edges


def _merge(edges: Edges, v: Node):
    """Remove a node from the graph if it renames its parent, or passes single entries on, and that leaves no more arrays."""
    incoming, outgoing = edges[v], {w: row[v] for w, row in edges.items() if v in row}
    parents, users = len(incoming), len(outgoing)
    if not parents or not users or parents * users > parents + users:
        return
    renamed = (parents == 1 and all(map(is_renaming, incoming.values()))) or all(map(is_renaming, outgoing.values()))
    if not renamed:
        if parents > 1 and any(holds_numbers(j.terms) for j in outgoing.values()):
            return
        if not all(map(passes_entries, [*incoming.values(), *outgoing.values()])):
            return
    products = {(w, u): (after @ before).reduced() for w, after in outgoing.items() for u, before in incoming.items()}
    if renamed:
        if _stored(products.values()) > _stored([*incoming.values(), *outgoing.values()]):
            return  # as where axes are merged and split in ways that do not match
    elif not all(map(passes_entries, products.values())):
        return
    for w in outgoing:
        del edges[w][v]
    for (w, u), j in products.items():
        edges[w][u] = (edges[w][u] + j).reduced() if u in edges[w] else j
    del edges[v]


def is_renaming(j: Jacobian) -> bool:
    """Whether it only names entries in another way, as those of identities, reshapes and transposes do."""
    return len(j.terms) == 1 and not j.terms[0].factors and math.prod(j.out_shape) == math.prod(j.in_shape)


def _stored(jacobians) -> int:
    return sum(stored_entries(j.terms) for j in jacobians)


def passes_entries(j: Jacobian) -> bool:
    """Whether every term has as few entries as output or input, in one array, and at most selects and places them."""
    size = max(count_entries(j.out_shape), count_entries(j.in_shape))
    for term in j.terms:
        slices = [f for f in term.factors if isinstance(f, Slice)]
        arrays = [f for f in term.factors if not isinstance(f, Slice)]
        labels = set(term.external_labels).union(*(f.labels for f in term.factors))
        labels -= {label for f in slices for label in f.axes[1]}
        if len(arrays) > 1 or not all(isinstance(f, Tensor) for f in arrays) or entries_over(labels) > size:
            return False
    return True
