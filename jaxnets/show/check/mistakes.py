"""What may be wrong with a Jacobian: hypotheses about how a wrong one would become right.

Each hypothesis looks at the trials that failed, and returns a diagnosis with words for it, or None.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...autodiff.graph import read_graph
from ...autodiff.nodes import Edge, Node

MAX_PERMUTED_AXES = 6  # all orders of so many axes are tried; Jacobians with more axes are left out
MAX_USES = 6  # every subset of so many uses is tried as the missing one; values with more uses are left out


def is_real(x) -> bool:
    return x is not None and jnp.issubdtype(x.dtype, jnp.floating)


def as_type(x, dtype) -> jax.Array:
    """An array of this type, converted by NumPy, which compiles nothing."""
    return jnp.asarray(np.asarray(x).astype(dtype), dtype)


def swapped_axes(x, a, b) -> jax.Array:
    return as_type(np.swapaxes(np.asarray(x), a, b), x.dtype)


def _becomes_right(trials, transform, where_possible=False) -> bool:
    """Whether a transform makes the Jacobian right at all points, or at all points where it can be applied."""
    found = [(t, transform(t)) for t in trials]
    applied = [t.is_right(candidate) for t, candidate in found if candidate is not None]
    return bool(applied) and all(applied) and (where_possible or len(applied) == len(trials))


def _wrong_sign(judge, trials):
    right = _becomes_right(trials, lambda t: None if t.given is None else -t.given)
    return ("wrong sign", "right when negated") if right else None


def _constant_factor(judge, trials):
    if any(not t.has_right_shape or not np.isfinite(t.truth).all() or not t.truth.any() for t in trials):
        return None
    factors = [float(np.vdot(t.given, t.truth) / np.vdot(t.truth, t.truth)) for t in trials]
    by_sizes: dict[tuple, float] = {}
    for t, c in zip(trials, factors, strict=True):
        same = math.isclose(by_sizes.setdefault(t.sizes, c), c, rel_tol=1e-6)  # it must not vary
        if abs(c) < 1e-6 or not same or not t.is_right(t.given / c):
            return None
    words = f"{_factor_text(factors[0])} times the right Jacobian"
    others = [
        f"{_factor_text(c)} for {t.where}" for t, c in zip(trials, factors, strict=True) if not math.isclose(c, factors[0])
    ]
    if others:
        words += f" for {trials[0].where}, {others[0]}"
    inverse = 1 / abs(factors[0])
    if inverse > 1.5 and any(math.isclose(inverse, n) for n in trials[0].truth.shape + trials[0].args[judge.k].shape):
        words += ": a mean in place of a sum, or a sum that is missing"
    return "constant factor", words


def _factor_text(c: float) -> str:
    simple = Fraction(c).limit_denominator(100)
    return (str(simple) if math.isclose(simple, c, rel_tol=1e-9) else f"{c:.4g}").replace("-", "−")


def _transposed_argument(judge, trials):
    """w[i, o] in place of w[o, i]: the rule is right once two axes of an argument are swapped."""
    for j, array in enumerate(trials[0].args):
        if not is_real(array):
            continue
        for a, b in itertools.combinations(range(array.ndim), 2):

            def swapped(t, j=j, a=a, b=b):
                return t.given_for(t.outputs, [*t.args[:j], swapped_axes(t.args[j], a, b), *t.args[j + 1 :]])

            if _becomes_right(trials, swapped, where_possible=True):
                name = judge.names[j]
                return "transposed", f"axes {a} and {b} of {name} are swapped; right with them the other way round"
    return None


def _transposed(judge, trials):
    def turned(t):
        if t.given is None or t.given.ndim != t.truth.ndim:
            return None
        count = t.args[judge.k].ndim
        found = t.given.transpose((*range(count, t.truth.ndim), *range(count)))
        return found if found.shape == t.truth.shape else None

    right = _becomes_right(trials, turned, where_possible=True)
    return ("transposed", "output axes come first, ∂y[out]/∂x[in] is J[out, in]") if right else None


def _another_argument(judge, trials):
    for j, name in enumerate(judge.names):
        if j != judge.k and is_real(trials[0].args[j]) and trials[0].args[j].shape == trials[0].args[judge.k].shape:

            def other(t, j=j):
                args = list(t.args)
                args[j], args[judge.k] = args[judge.k], args[j]
                return t.given_for(t.outputs, args)

            if _becomes_right(trials, other):
                return "another argument", f"{judge.names[judge.k]} and {name} are mixed up"
    return None


def _axes_in_another_order(judge, trials, outputs_first=False):
    """The Jacobian is right once its axes are in another order; `outputs_first` keeps those of the output first."""
    some = next((t for t in reversed(trials) if t.given is not None and t.given.ndim == t.truth.ndim), None)
    if some is None or some.truth.ndim > MAX_PERMUTED_AXES:
        return None
    count = some.truth.ndim - some.args[judge.k].ndim
    for order in itertools.permutations(range(some.truth.ndim)):
        if outputs_first and set(order[:count]) != set(range(count)):
            continue

        def turned(t, order=order):
            if t.given is None or t.given.ndim != len(order):
                return None
            found = t.given.transpose(order)
            return found if found.shape == t.truth.shape else None

        if some.is_right(some.given.transpose(order)) and _becomes_right(trials, turned, where_possible=True):
            return "wrong axis", f"right with its axes in the order {list(order)}"
    return None


def _along_another_axis(judge, trials):
    """The rule goes along another axis: it is right once two axes are swapped in all arrays with the shape of x."""
    x = trials[0].args[judge.k]
    for a, b in itertools.combinations(range(x.ndim), 2):

        def swapped(t, a=a, b=b):
            shape = t.args[judge.k].shape

            def swap(array):
                return swapped_axes(array, a, b) if array is not None and array.shape == shape else array

            found = t.given_for(tuple(map(swap, t.outputs)), [swap(x) for x in t.args])
            if found is None or found.ndim != t.truth.ndim:
                return None
            count = t.truth.ndim - len(shape)
            found = np.swapaxes(found, count + a, count + b)
            return np.swapaxes(found, a, b) if t.outputs[judge.o].shape == shape else found

        if _becomes_right(trials, swapped):
            return "wrong axis", f"it goes along axis {a} where axis {b} is right, or the other way round"
    return None


def _unsummed(judge, trials):
    """The Jacobian has too many axes, and is right once some of them are summed."""
    extra = None if trials[0].given is None else trials[0].given.ndim - trials[0].truth.ndim
    if not extra or extra < 0:
        return None
    for axes in itertools.combinations(range(trials[0].given.ndim), extra):
        if _becomes_right(trials, lambda t, axes=axes: None if t.given is None else t.given.sum(axes)):
            sizes = " and ".join(f"{a} of size {trials[0].given.shape[a]}" for a in axes)
            return "missing sum over paths", f"right once axis {sizes} is summed"
    return None


def _only_blocks(judge, trials):
    """The Jacobian has the axes that y and x share once: its diagonal, or the block of every example."""
    t = trials[0]
    y, x = t.outputs[judge.o], t.args[judge.k]
    for shared in range(1, min(y.ndim, x.ndim) + 1):
        if t.given is None or y.shape[:shared] != x.shape[:shared] or t.given.shape != (*y.shape, *x.shape[shared:]):
            continue
        count = math.prod(y.shape[:shared])
        blocks = t.given.reshape(count, math.prod(y.shape[shared:]), -1)
        whole = np.einsum("bij,bc->bicj", blocks, np.eye(count)).reshape(t.truth.shape)
        if t.is_right(whole):
            whole_text = f"the Jacobian {list(t.truth.shape)}"
            if shared == y.ndim == x.ndim:
                return "wrong shape", f"{list(t.given.shape)} is the diagonal of {whole_text}"
            axes = "axis 0" if shared == 1 else f"the first {shared} axes"
            words = f"only the entries of {whole_text} where y and x have the same index along {axes}; the others are 0"
            return "wrong shape", f"{list(t.given.shape)} has {words}"
    return None


def _incomplete_chain(judge, trials):
    """The Jacobian is only a part of the sum over all paths from the input to the output, or it lacks a factor of them."""
    if any(not t.has_right_shape for t in trials):
        return None
    same_sizes = [t for t in trials if t.sizes == trials[0].sizes]
    matrices, links, nodes = _local_jacobians(judge, trials[0])
    found: dict[Any, tuple[str, str]] = {}
    for i, t in enumerate(same_sizes):
        computed = [(node, edge, np.asarray(m)) for (node, edge), m in zip(links, matrices(*t.args), strict=True)]
        parts = {
            key: what
            for key, what, part in itertools.chain(
                _partial_sums(judge, t, computed, nodes), _partial_products(t, computed, nodes)
            )
            if t.agree(t.given, part.reshape(t.truth.shape)).all()
        }
        found = parts if i == 0 else {key: what for key, what in found.items() if key in parts}
    return next(iter(found.values()), None)


def _local_jacobians(judge, t):
    """The local Jacobians of the forward function, term by term.

    Returns a function that computes their matrices, the node and the edge that each belongs to, and all nodes.
    """
    links: list[tuple[Node, Edge]] = []
    nodes: list[Node] = []

    def run(*args):
        def function(x):
            return judge.rule.forward(*args[: judge.k], x, *args[judge.k + 1 :])[judge.o]

        # Inside vmap a layer is its forward function, so the paths inside it are seen, and it needs no rule.
        graph = read_graph(lambda x: [jax.vmap(function)(x[None])[0]], [args[judge.k]], [judge.names[judge.k]])
        nodes[:] = graph.topological_nodes() if graph.outputs[0] else []
        found = [(node, edge, j) for node in nodes for edge in node.edges if (j := edge.jacobian()) is not None]
        terms = [(node, edge, dataclasses.replace(j, terms=(term,))) for node, edge, j in found for term in j.terms]
        links[:] = [(node, edge) for node, edge, _ in terms]
        return [j.matrix(math.inf) for _, _, j in terms]

    program = jax.jit(run)
    jax.eval_shape(program, *t.args)
    return program, links, nodes


def _partial_sums(judge, t, links, nodes) -> Iterator[tuple[Any, tuple[str, str], np.ndarray]]:
    """For all ways of leaving out some uses of a value: a key, what is wrong, and what the Jacobian would be then."""
    if not nodes:
        return
    parts = _contributions(links, nodes)
    links = [link for link, part in zip(links, parts, strict=True) if np.abs(part).max(initial=0) > t.tolerance]
    parts = _contributions(links, nodes)
    whole = t.truth.reshape(math.prod(nodes[-1].shape), -1)
    for number, node in enumerate(nodes):
        uses = [i for i, (_, edge, _) in enumerate(links) if edge.parent is node]
        if not 1 < len(uses) <= MAX_USES:
            continue
        for count in range(1, len(uses)):
            for missing in itertools.combinations(range(len(uses)), count):
                names = ", ".join(dict.fromkeys(links[uses[i]][0].name for i in missing))
                name = judge.names[judge.k] if number < 2 else node.name  # vmap's own first step is x again
                words = f"{name} is used in {len(uses)} ways, and the sum over them lacks {count}, through {names}"
                yield (number, missing), ("missing sum over paths", words), whole - sum(parts[uses[i]] for i in missing)


def _partial_products(t, links, nodes) -> Iterator[tuple[Any, tuple[str, str], np.ndarray]]:
    """The same for every function that keeps the shape, with 1 in the place of its derivative."""
    if not nodes:
        return
    whole = t.truth.reshape(math.prod(nodes[-1].shape), -1)
    for number, ((node, _, matrix), (ahead, behind)) in enumerate(zip(links, _around(links, nodes), strict=True)):
        if matrix.shape[0] == matrix.shape[1] > 0:
            words = f"the chain rule multiplies by the derivative of {node.name}, which is left out"
            yield number, ("missing factor", words), whole - ahead @ matrix @ behind + ahead @ behind


def _contributions(links, nodes) -> list[np.ndarray]:
    """What each link between nodes adds to the Jacobian of the last node by the first one, as matrices."""
    return [ahead @ link[2] @ behind for link, (ahead, behind) in zip(links, _around(links, nodes), strict=True)]


def _around(links, nodes) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each link the Jacobian of the last node by its end, and that of its beginning by the first node."""

    def size(node):
        return math.prod(node.shape)

    behind = {node: np.zeros((size(node), size(nodes[0]))) for node in nodes}
    ahead = {node: np.zeros((size(nodes[-1]), size(node))) for node in nodes}
    behind[nodes[0]], ahead[nodes[-1]] = np.eye(size(nodes[0])), np.eye(size(nodes[-1]))
    for node, edge, matrix in links:  # every node comes after its parents
        behind[node] = behind[node] + matrix @ behind[edge.parent]
    for node, edge, matrix in reversed(links):
        ahead[edge.parent] = ahead[edge.parent] + ahead[node] @ matrix
    return [(ahead[node], behind[edge.parent]) for node, edge, _ in links]


def _wrong_structure(judge, trials):
    """What is wrong lies on the diagonal of two axes, or off it, where the Jacobian is zero or has another sign."""
    if any(not t.has_right_shape for t in trials):
        return None
    count = trials[0].truth.ndim - trials[0].args[judge.k].ndim
    for a, b in itertools.product(range(count), range(trials[0].truth.ndim - count)):
        if any(t.truth.shape[a] != t.truth.shape[count + b] or t.truth.shape[a] < 2 for t in trials):
            continue
        off = [_off_diagonal(t.truth.shape, a, count + b) for t in trials]
        on = [~places for places in off]
        on_it, off_it = _state(trials, on), _state(trials, off)
        axes = f"axis {a} of y and axis {b} of {judge.names[judge.k]}"
        found = _words_for_diagonal(on_it, off_it, axes, "examples" if a == b == 0 and count > 1 else "entries")
        if found:
            return found
    return None


def _off_diagonal(shape, a, b) -> np.ndarray:
    """Whether the indices along two axes differ, for every entry."""
    places = np.indices(shape, sparse=True)
    return np.broadcast_to(places[a] != places[b], shape)


def _state(trials, places) -> str:
    """What is the matter with the entries at some places, in all trials: one of `ENTRIES`, or they are wrong."""

    def holds(tells):
        return all(tells(t, chosen) for t, chosen in zip(trials, places, strict=True))

    return next((state for state, tells in ENTRIES.items() if holds(tells)), "wrong")


ENTRIES = {  # by what is said of entries: whether it is so for a trial and their places
    "right zeros": lambda t, chosen: not ((t.wrong_entries | (t.truth != 0)) & chosen).any(),
    "right": lambda t, chosen: not (t.wrong_entries & chosen).any(),
    "missing": lambda t, chosen: not t.given[chosen].any(),
    "too many": lambda t, chosen: not t.truth[chosen].any(),
    "negated": lambda t, chosen: (t.agree(-t.given, t.truth) | ~chosen).all(),
}


def _words_for_diagonal(on_it, off_it, axes, what):
    apart = f"where the indices along {axes} differ"
    if off_it == "missing" and on_it.startswith("right"):
        return "missing entries", f"it is 0 {apart}, but these entries of y depend on the others, too"
    if off_it == "too many" and on_it.startswith("right"):
        return f"couples {what}", f"{axes} are independent: where the indices differ, the derivative is 0"
    if off_it == "negated":
        rest = "" if on_it.startswith("right") else "; where they are equal it is wrong, too"
        return "wrong sign", f"the sign is wrong {apart}{rest}"
    if "right" in (on_it, off_it):
        right, wrong = ("are equal", "differ") if on_it == "right" else ("differ", "are equal")
        return "wrong entries", f"right where the indices along {axes} {right}, wrong where they {wrong}"
    return None


def _wrong_side(judge, trials):
    """What is wrong lies where the input is negative, or where it is positive."""
    if any(not t.has_right_shape for t in trials):
        return None
    inputs = [np.broadcast_to(np.asarray(t.args[judge.k]), t.truth.shape) for t in trials]
    for right, wrong, side in (("positive", "negative", np.greater), ("negative", "positive", np.less)):
        if _state(trials, [side(x, 0) for x in inputs]) == "right":
            return "wrong entries", f"right where {judge.names[judge.k]} is {right}, wrong where it is {wrong}"
    return None


HYPOTHESES = (
    _wrong_sign,
    _constant_factor,
    _transposed_argument,
    functools.partial(_axes_in_another_order, outputs_first=True),
    _transposed,
    _another_argument,
    _axes_in_another_order,
    _along_another_axis,
    _unsummed,
    _only_blocks,
    _incomplete_chain,
    _wrong_structure,
    _wrong_side,
)
