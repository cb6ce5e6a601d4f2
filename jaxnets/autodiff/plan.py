"""The order in which the inner nodes of a graph of local Jacobians are eliminated.

Eliminating a node v joins every edge into it with every edge out of it: J[v → w] · J[u → v] is added to J[u → w].  When all
inner nodes are eliminated, the remaining edges are the answer.  Eliminating backwards is reverse mode, eliminating forwards
is forward mode.  Between them are orders whose sweeps meet at narrow nodes through which all paths run.  All orders give the
same sums of products, at different costs.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterator

import jax

from ..algebra.boxes import by_box
from ..algebra.contraction import sharing_products
from ..algebra.factors import Operator, Tensor, labels_of
from ..algebra.jacobian import Jacobian
from ..algebra.planning import cheapest, planning
from ..algebra.recurrence import Recurrence
from ..algebra.selections import Slice
from ..algebra.sizes import count_entries
from ..algebra.sums import merged_terms
from ..algebra.terms import Term
from .nodes import Edges, Node
from .skeleton import Skeleton, holds_numbers, is_slice, skeleton
from .unmixed import agreed, axis_map, composed
from .vertex_orders import MAX_NODES, cheapest_order

ORDERS = ("auto", "forward", "reverse")


@dataclasses.dataclass(eq=False)
class Plan:
    """An order of elimination, and its multiplications once they have been measured."""

    name: str
    order: list[Node]
    multiplies: int = 0
    cost: int = 0
    peak_bytes: int = 0  # where it was asked for


@dataclasses.dataclass(eq=False)
class Account:
    """What is noted of plans while they are measured, besides their peak bytes: the multiplications of every node.

    `multiplies` has for every plan, by its name, those at the elimination of a node, or in the last sums by an input.
    """

    multiplies: dict[str, dict[Node, int]] = dataclasses.field(default_factory=dict)


def choose_plan(
    edges: Edges, nodes: list[Node], sinks: list[Node], order: str = "auto", measured: list[Plan] | None = None
) -> Plan:
    """The order that `order` names, or for "auto" the cheapest one, by multiplications that are counted on shapes alone.

    `nodes` are all nodes but the sinks, every one after its parents; nodes without edges of their own are the inputs.
    `measured` are the candidates with their costs, for who has them already.  Raises ValueError for an unknown order.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    inner = [node for node in nodes if node in edges]
    only_reverse = any(_is_only_pulled(jacobian) for row in edges.values() for jacobian in row.values())
    if order != "auto" or only_reverse or sum(count_entries(sink.shape) for sink in sinks) == 1:
        return Plan("forward", inner) if order == "forward" else Plan("reverse", inner[::-1])
    plans = measured or measured_plans(edges, nodes, sinks)
    least = min(plan.cost for plan in plans)
    return next(plan for plan in plans if plan.cost <= 1.02 * least)


def measured_plans(
    edges: Edges, nodes: list[Node], sinks: list[Node], graph: Skeleton | None = None, account: Account | None = None
) -> list[Plan]:
    """The candidates with their costs; `graph` is the skeleton of the graph, for who has it already."""
    plans = candidate_plans(edges, nodes, sinks, graph)
    for plan in plans:
        measure_plan(edges, plan, account)
    return plans


def candidate_plans(edges: Edges, nodes: list[Node], sinks: list[Node], graph: Skeleton | None = None) -> list[Plan]:
    """The plans for reverse and forward mode; also one whose sweeps meet at narrow nodes, and one that follows degrees."""
    inner = [node for node in nodes if node in edges]
    others = meeting_plan(edges, nodes, sinks), vertex_plan(edges, nodes, sinks, graph)
    return [Plan("reverse", inner[::-1]), Plan("forward", inner), *filter(None, others)]


def measure_plan(edges: Edges, plan: Plan, account: Account | None = None):
    """Set the cost of a plan, which includes the last sums of every remaining edge, and what the account asks for."""
    local = {id(leaf) for leaf, _ in _leaves(edges)} if account else set()
    spent: collections.Counter[Node] = collections.Counter()
    left: Edges = {}
    with planning() as meter:
        known = 0
        for left, v in zip(elimination_steps(edges, plan.order), [None, *plan.order], strict=True):
            if account:
                plan.peak_bytes = max(plan.peak_bytes, _stored_bytes(left, local))
                if v is not None:
                    spent[v] += meter.multiplies - known
                known = meter.multiplies
        for row in left.values():
            for u, jacobian in row.items():
                for terms in by_box(jacobian.terms).values():
                    merged_terms(terms)
                spent[u] += meter.multiplies - known
                known = meter.multiplies
    plan.multiplies, plan.cost = meter.multiplies, meter.cost
    if account:
        account.multiplies[plan.name] = spent


def elimination_steps(edges: Edges, order: list[Node]) -> Iterator[Edges]:
    """The edges before and after every step in which a node is eliminated.

    The last products are carried out when somebody asks for numbers, and a local Jacobian keeps its factors, since it may be
    multiplied by a vector.  But a product that is multiplied again, or used more than once, is carried out first.
    """
    edges = {v: dict(row) for v, row in edges.items()}
    products: set[tuple[Node, Node]] = set()
    users: dict[Node, list[Node]] = {}
    for v, row in edges.items():
        for u in row:
            users.setdefault(u, []).append(v)

    def multiplied_out(w, u, jacobian, others):
        """The Jacobian with its products carried out, before it is multiplied by others."""
        is_local = (w, u) not in products and len(jacobian.terms) == 1
        return jacobian if is_local or _stays_in_places(jacobian, others) else jacobian.reduced()

    yield edges
    for v in order:
        incoming, outgoing = edges.pop(v), {w: edges[w].pop(v) for w in users.get(v, [])}
        if any(map(_is_only_pulled, incoming.values())):
            outgoing = {w: j.as_one_array() for w, j in outgoing.items()}
        if any(map(_is_through_loop, incoming.values())):
            outgoing = {w: j if _is_apart_in_time(j) else j.as_one_array() for w, j in outgoing.items()}
        if len(outgoing) > 1 or any(map(_has_factors, outgoing.values())):
            incoming = {u: multiplied_out(v, u, j, outgoing) for u, j in incoming.items()}
        if len(incoming) > 1 or any(map(_has_factors, incoming.values())):
            outgoing = {w: multiplied_out(w, v, j, incoming) for w, j in outgoing.items()}
        with sharing_products():
            found = {(w, u): _product(left, right) for w, left in outgoing.items() for u, right in incoming.items()}
        for (w, u), product in found.items():
            products.add((w, u))
            if u in edges[w]:
                edges[w][u] = edges[w][u] + product
            else:
                edges[w][u] = product
                users[u].append(w)
        for u in incoming:
            users[u].remove(v)
        yield edges


def remaining_edges(edges: Edges, order: list[Node]) -> Edges:
    """The edges that remain when the nodes have been eliminated in this order."""
    *_, left = elimination_steps(edges, order)
    return left


def _product(left: Jacobian, right: Jacobian) -> Jacobian:
    """left · right, carried out at once where that must be or where it solves for other entries of a loop, too."""
    product = _cheapest_product(left, right)
    if _is_only_pulled(right) or (_is_through_loop(right) and not _is_apart_in_time(left)):
        return dataclasses.replace(product, terms=tuple(term.reduced(fully=True) for term in product.terms))
    return product


def _cheapest_product(left: Jacobian, right: Jacobian) -> Jacobian:
    """left · right.  The terms of one are added first where that is cheaper: (a + b)·c takes one product with c.

    Terms that fill different places stay apart.
    """
    ways = [lambda: left @ right]
    if _overlaps(left) and _has_factors(right):
        ways.append(lambda: left.carried_out() @ right)
    if _overlaps(right) and _has_factors(left):
        ways.append(lambda: left @ right.carried_out())
    return ways[cheapest(*(lambda way=way: way().reduced() for way in ways))]()


def _stays_in_places(jacobian: Jacobian, others: dict[Node, Jacobian]) -> bool:
    """Whether its entries, each one array already, are only selected or placed by others, and not multiplied."""
    return not any(holds_numbers(j.terms) for j in others.values()) and all(map(_is_one_array_in_place, jacobian.terms))


def _is_one_array_in_place(term: Term) -> bool:
    arrays = [f for f in term.factors if not isinstance(f, Slice)]
    return len(arrays) <= 1 and all(isinstance(f, Tensor) and f.labels <= set(term.external_labels) for f in arrays)


def _overlaps(jacobian: Jacobian) -> bool:
    """Whether it has several terms, none of which is placed by a slice."""
    return len(jacobian.terms) > 1 and not any(isinstance(f, Slice) for term in jacobian.terms for f in term.factors)


def _has_factors(jacobian: Jacobian) -> bool:
    return any(term.factors for term in jacobian.terms)


def _is_only_pulled(jacobian: Jacobian) -> bool:
    """Whether it holds the backward function of a custom_vjp.

    Such a function need not be linear: one that clips cotangents gets whole cotangents, with their scale, as from JAX.
    """
    return any(
        isinstance(factor, Operator) and factor.one_way == "pull" for term in jacobian.terms for factor in term.factors
    )


def _is_through_loop(jacobian: Jacobian) -> bool:
    """Whether it goes through the carry of a loop."""
    return any(isinstance(factor, Recurrence) for term in jacobian.terms for factor in term.factors)


def _is_apart_in_time(jacobian: Jacobian) -> bool:
    """Whether by the carry of a loop it has for every place in time an output of its own, or holds no numbers.

    As one array it would have two indices of time.
    """

    def own_output(term: Term) -> bool:
        slices = (f for f in term.factors if isinstance(f, Slice) and f.axes[1] == term.inp[0])
        return any(f.axes[0] and set(f.axes[0]) <= set(labels_of(term.out)) for f in slices)

    return not holds_numbers(jacobian.terms) or any(map(own_output, jacobian.terms))


def _stored_bytes(edges: Edges, local: set[int]) -> int:
    """The bytes of products, without the arrays of the local Jacobians, which have these ids."""
    stored = {id(leaf): count_entries(leaf.shape) * dtype.itemsize for leaf, dtype in _leaves(edges)}
    return sum(size for key, size in stored.items() if key not in local)


def _leaves(edges: Edges):
    """Every stored array of the Jacobians, and the dtype of its Jacobian."""
    for row in edges.values():
        for jacobian in row.values():
            yield from ((leaf, jacobian.dtype) for leaf in jax.tree.leaves(jacobian.terms))


MAX_MEETING_PLACES = 12  # where sweeps may meet; the time for planning grows with the cube of their number


def meeting_plan(edges: Edges, nodes: list[Node], sinks: list[Node]) -> Plan | None:
    """The cheapest order whose sweeps meet at narrow nodes that all paths run through; None if a single sweep is cheapest.

    It is found by dynamic programming: between two places there is a sweep from one of them, or a third place.
    """
    order = [*nodes, *sinks]
    # The places are those of the inputs, of the nodes that all paths run through, and of the outputs.
    places = [-1, *bottlenecks(edges, nodes, sinks), len(nodes)]
    inputs = [node for node in order[: places[1]] if node not in edges]
    batch = _batch_size(edges, order)
    widths = [_entry_count(part) / batch for part in (inputs, *([order[i]] for i in places[1:-1]), sinks)]
    column = [0, *itertools.accumulate(sum(j.multiplies_per_vector for j in edges.get(node, {}).values()) for node in order)]
    work = [column[min(i, len(nodes) - 1) + 1] for i in places]  # to push one column from the inputs to this place

    @functools.cache
    def best(a: int, b: int) -> tuple[float, list[Node], list[Node]]:
        """The cost, the order and the meeting nodes between one place and another."""
        inner = [node for node in order[places[a] + 1 : places[b]] if node in edges]
        forward, reverse = widths[a] * (work[b] - work[a + 1]), widths[b] * (work[b - 1] - work[a])
        joins = {k: best(a, k)[0] + best(k, b)[0] + widths[a] * widths[k] * widths[b] * batch for k in joints if a < k < b}
        k = min(joins, key=lambda k: joins[k], default=None)
        if k is None or joins[k] >= min(forward, reverse):
            return (forward, inner, []) if forward < reverse else (reverse, inner[::-1], [])
        (_, first, met), (_, second, more), node = best(a, k), best(k, b), order[places[k]]
        return joins[k], [*first, *second, node], [*met, node, *more]

    joints = _meeting_places(widths, work, batch)
    _, found, meets = best(0, len(places) - 1)
    return Plan(f"meeting at {', '.join(map(show_node, meets))}", found) if meets else None


def vertex_plan(edges: Edges, nodes: list[Node], sinks: list[Node], graph: Skeleton | None = None) -> Plan | None:
    """The best order that follows from degrees; None if the graph is large, or no such order can be expected to be cheaper.

    In a chain there is none: what can be done there is done by sweeps that meet.
    """
    inner = [node for node in nodes if node in edges]
    if not inner or len(inner) > MAX_NODES or 2 * len(bottlenecks(edges, nodes, sinks)) > len(inner):
        return None
    graph = graph or skeleton(edges, nodes, sinks)
    name, order = cheapest_order(graph)
    if name in ORDERS:
        if not any(is_slice(term) for v in graph.renaming for j in edges[v].values() for term in j.terms):
            return None  # it is one of the two that are tried anyway
        name = f"{name}, entry by entry"
    return Plan(name, [*(graph.nodes[v] for v in order), *graph.renaming])


def bottlenecks(edges: Edges, nodes: list[Node], sinks: list[Node]) -> list[int]:
    """The indices in `nodes` of those through which all paths from earlier nodes run."""
    place = {node: i for i, node in enumerate(nodes)}
    reach = [0] * len(nodes)
    for v, row in edges.items():
        for u in row:
            reach[place[u]] = max(reach[place[u]], place.get(v, len(nodes)))
    farthest = [0, *itertools.accumulate(reach, max)]  # how far the edges from before a place reach
    return [i for i, node in enumerate(nodes) if i and node in edges and farthest[i] <= i]


def _meeting_places(widths, work, batch: int) -> list[int]:
    """The places where sweeps may meet: all if they are few, else the narrowest that are narrower than their neighbours.

    A node that depends entry by entry on the one before is left out.
    """
    rows = range(1, len(widths) - 1)
    found = [i for i in rows if widths[i] != widths[i - 1] or work[i] - work[i - 1] > widths[i] * batch]
    if len(found) > MAX_MEETING_PLACES:
        runs = [list(places) for _, places in itertools.groupby(range(len(widths)), key=lambda i: widths[i])]
        triples = zip(runs, runs[1:], runs[2:], strict=False)
        found = [b[0] for a, b, c in triples if widths[a[0]] > widths[b[0]] < widths[c[0]]]
    return sorted(sorted(found, key=lambda i: widths[i])[:MAX_MEETING_PLACES])


def _batch_size(edges: Edges, order: list[Node]) -> int:
    """The number of examples in every node: the size of the axes that all local Jacobians on the way share."""
    axes: dict[Node, dict[int, int]] = {}  # for every node its axes that are axes of the first input, and which ones
    for node in order:
        known = agreed(*(composed(axis_map(j), axes.get(u)) for u, j in edges.get(node, {}).items()))
        if known is not None:
            axes[node] = known
        elif not axes:
            axes[node] = {a: a for a in range(len(node.shape))}
    return count_entries(order[-1].shape[a] for a in axes.get(order[-1], {})) if order else 1


def _entry_count(nodes) -> int:
    """How many entries the nodes have together."""
    return sum(count_entries(node.shape) for node in nodes)


def show_node(node: Node) -> str:
    """A node as text: its name and shape."""
    return f"{node.name}{list(node.shape)}"
