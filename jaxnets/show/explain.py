"""What `jacobian` would do: the order of its products, and what they cost compared with forward and reverse mode."""

import dataclasses
import itertools
import math
from collections.abc import Callable

from rich.table import Table
from rich.text import Text

from ..algebra.planning import Product, recording
from ..algebra.sizes import show_bytes
from ..autodiff.eliminate import local_jacobians
from ..autodiff.nodes import Edges, Node, Repetition
from ..autodiff.plan import ORDERS, Account, choose_plan, measured_plans, show_node
from ..autodiff.scalar_orders import best_order
from ..autodiff.skeleton import Skeleton, skeleton
from ..autodiff.transforms import trace_graph
from ..autodiff.vertex_orders import MAX_NODES, cheapest_order
from ..checks import checked
from .formats import as_text
from .local_jacobians import run_on_shapes


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one order: how many multiplications its products take, and the most bytes that they store at one time."""

    name: str
    multiplies: int
    peak_bytes: int
    chosen: bool


@dataclasses.dataclass(frozen=True)
class LoopCost:
    """What the chosen order takes in one loop: `multiplies` in all of its `steps`, those of the loops around it counted too.

    These are the products at values of a step, with the solution of the recurrence, and the last sums by what only the loop
    uses.  What belongs to a loop inside of it is counted there.
    """

    name: str
    steps: int
    multiplies: int

    def __str__(self):
        a_step = f"{self.multiplies / max(1, self.steps):,.2f}".rstrip("0").rstrip(".")
        return f"{self.name}: {self.steps:,} steps × {a_step} = {self.multiplies:,}"


@dataclasses.dataclass(frozen=True)
class LowerBound:
    """How many multiplications every order of vertex elimination takes at least, and whether some order takes no more.

    It counts what the entries of a function of scalars take, where nothing is known but which of them depend on which.
    """

    multiplies: int
    reached: bool

    def compared(self, multiplies: int) -> str:
        """A number of multiplications in words, compared with this bound."""
        ratio = multiplies / self.multiplies if self.multiplies else 1.0
        if self.reached:
            return f"{ratio:.2f} of the optimum, proven: no order of vertex elimination takes fewer than {self.multiplies:,}"
        return f"{ratio:.2f} × the lower bound: every order of vertex elimination takes at least {self.multiplies:,}"


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain_plan` returns.  It prints as a table of costs, and the nodes in the order of their elimination.

    `bound` is None unless every node between inputs and outputs is a scalar, for each example of a batch.  `loops` has the
    share of every loop in the multiplications of the chosen order, and `places` says of every node in which loop it is.
    """

    costs: tuple[Cost, ...]
    order: tuple[str, ...]
    bound: LowerBound | None = None
    loops: tuple[LoopCost, ...] = ()
    places: tuple[str, ...] = ()

    def __repr__(self):
        found = ", ".join(f"{cost.name} {cost.multiplies:,}{' (chosen)' * cost.chosen}" for cost in self.costs)
        return f"Explanation(multiplications: {found})"

    def __str__(self):
        return as_text(self, 110)

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    def __rich_console__(self, console, options):
        table = Table(title="orders of multiplication", title_justify="left")
        for column in ("order", "multiplications", "of the least", "peak memory"):
            table.add_column(column, justify="left" if column == "order" else "right", overflow="fold")
        least = min(cost.multiplies for cost in self.costs)
        for cost in self.costs:
            name = f"{cost.name} (chosen)" if cost.chosen else cost.name
            ratio = cost.multiplies / least if least else 1
            cells = [name, f"{cost.multiplies:,}", f"{ratio:.2f}", show_bytes(cost.peak_bytes)]
            table.add_row(*map(Text, cells), style="bold" if cost.chosen else "")
        yield table
        if self.bound:
            (chosen,) = [cost.multiplies for cost in self.costs if cost.chosen]
            yield Text(f"multiplications: {self.bound.compared(chosen)}")
        for i, loop in enumerate(self.loops):
            yield Text(f"{'of these in' if i == 0 else '           '} {loop}")
        yield Text(f"eliminated in this order: {self._shown_order() or 'nothing lies between inputs and outputs'}")

    def _shown_order(self) -> str:
        """The nodes, those of a loop that follow each other in parentheses behind it."""
        texts = []
        for place, pairs in itertools.groupby(zip(self.places, self.order, strict=True), key=lambda pair: pair[0]):
            nodes = ", ".join(node for _, node in pairs)
            texts.append(f"{place} ({nodes})" if place else nodes)
        return ", ".join(texts)


@dataclasses.dataclass(frozen=True)
class Contractions:
    """The products of a quantity that is made of Jacobians, in their order.  It prints as a table."""

    name: str
    products: tuple[Product, ...]

    def __repr__(self):
        total = sum(product.multiplies for product in self.products)
        return f"Contractions({self.name}: {len(self.products)} products, {total:,} multiplications)"

    def __str__(self):
        return as_text(self, 110)

    def to_json(self) -> dict:
        return {"name": self.name, "products": [product._asdict() for product in self.products]}

    def __rich_console__(self, console, options):
        total = sum(product.multiplies for product in self.products)
        table = Table(title=f"products of {self.name}: {total:,} multiplications", title_justify="left")
        for column in ("factor", "factor", "summed over", "product", "multiplications"):
            table.add_column(column, justify="right", overflow="fold")
        for product in self.products:
            sizes = ["×".join(map(str, shape)) or "–" for shape in product[:4]]
            table.add_row(*map(Text, sizes), f"{product.multiplies:,}")
        yield table


@checked
def explain_plan(
    function: Callable, *args, argnums: int | tuple[int, ...] = 0, order: str = "auto", abstract: bool = True
) -> Explanation | Contractions:
    """How `jacobian(function, argnums, order=order)(*args)` multiplies its local Jacobians, and what that costs.

    Multiplications are counted in the products of Jacobians, not in the function itself, and memory is what these products
    store in addition to the local Jacobians.  What a loop does in a step counts as often as it has steps.  For a function of
    scalars the count is also compared with the least that any order of vertex elimination takes, or with a lower bound of
    that.  `args` may be arrays or `jax.ShapeDtypeStruct`s.
    Nothing is computed unless `abstract=False`, which is for functions whose Python control flow depends on values.  For a
    quantity that is made of Jacobians, as in `explain_plan(jn.ntk(f), params, x)`, the table shows the products that it
    carries out.  Raises ValueError for an unknown order, and whatever `jacobian` raises.

    >>> plan = jn.explain_plan(lambda x, v, w: v @ jn.relu(w @ x), jnp.ones(784), jnp.ones((10, 60)), jnp.ones((60, 784)))
    >>> [(cost.name, cost.multiplies) for cost in plan.costs if cost.chosen]
    [('reverse', 471000)]
    """
    if order not in ORDERS:
        raise ValueError(f"explain_plan: order must be one of {ORDERS}, got {order!r}")
    if getattr(function, "is_quantity", False):
        with recording() as products:
            run_on_shapes(function, *args) if abstract else function(*args)
        return Contractions(function.__name__, tuple(products))
    found: list[Explanation] = []

    def run(*args):
        graph, *_ = trace_graph("explain_plan", function, argnums, args, {})
        edges, nodes, sinks = local_jacobians(graph)
        sinks = [sink for sink in sinks if sink in edges]
        outline, account = skeleton(edges, nodes, sinks), Account()
        plans = measured_plans(edges, nodes, sinks, outline, account)
        chosen = choose_plan(edges, nodes, sinks, order, plans)
        costs = [Cost(p.name, p.multiplies, p.peak_bytes, p.name == chosen.name) for p in plans]
        loops = _loop_costs(edges, account.multiplies[chosen.name])
        places = tuple(_path(node.loops) for node in chosen.order)
        found.append(Explanation(tuple(costs), tuple(map(show_node, chosen.order)), _lower_bound(outline), loops, places))
        return graph.values

    run_on_shapes(run, *args) if abstract else run(*args)
    return found[0]


def _path(loops: tuple[Repetition, ...]) -> str:
    return " in ".join(f"{loop.name} × {loop.length:,}" for loop in reversed(loops))


def _loop_costs(edges: Edges, multiplies: dict[Node, int]) -> tuple[LoopCost, ...]:
    """What is spent in every loop, an outer one before those in it."""
    users: dict[Node, set[tuple[Repetition, ...]]] = {}
    for v, row in edges.items():
        for u in row:
            users.setdefault(u, set()).add(v.loops)
    found: dict[tuple[Repetition, ...], int] = {}
    for node, count in multiplies.items():
        loops = (
            tuple(loop for loop in node.loops if node not in loop.ends) if node in edges else _common(users.get(node, set()))
        )
        for depth in range(1, len(loops) + 1):
            found.setdefault(loops[:depth], 0)
        if loops:
            found[loops] += count
    return tuple(LoopCost(_path(loops), math.prod(loop.length for loop in loops), count) for loops, count in found.items())


def _common(paths: set[tuple[Repetition, ...]]) -> tuple[Repetition, ...]:
    """The loops around all of these places, the outermost first."""
    levels = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    return tuple(level[0] for level in levels)


def _lower_bound(graph: Skeleton) -> LowerBound | None:
    """What every order takes, if the graph is one of scalars and not too large for a search."""
    entries = graph.scalar_size()
    if len(graph.inner) > MAX_NODES or entries is None:
        return None
    best = best_order(graph, cheapest_order(graph)[1])
    return LowerBound(entries * best.at_least, best.multiplies == best.at_least)
