"""Along which axes nothing mixes in what has no rule of its own: loops, branches, linear solves, factorizations.

An axis map {a: b} says that axis a of an output is axis b of an operand: at one place along a, the output depends on the
operand at the same place along b alone.  None says that it does not depend on the operand.  A table has one row for each
output, with the axis map of each operand.
"""

from collections.abc import Callable

from ..algebra.jacobian import Jacobian
from .jaxprs import scan_counts

AxisMap = dict[int, int] | None
Table = list[list[AxisMap]]


def axis_map(jacobian: Jacobian | None) -> AxisMap:
    """The axes of the output that share their index with an axis of the input in every term."""
    return jacobian.shared_axes() if jacobian is not None and jacobian.terms else None


def composed(outer: AxisMap, inner: AxisMap) -> AxisMap:
    """The axis map of one function after another."""
    return None if outer is None or inner is None else {a: inner[b] for a, b in outer.items() if b in inner}


def agreed(*maps: AxisMap) -> AxisMap:
    """The axis map of a sum: what all summands say that depend on the operand."""
    known = [m for m in maps if m is not None]
    return {a: b for a, b in known[0].items() if all(m.get(a) == b for m in known)} if known else None


def same_axes(rank: int) -> AxisMap:
    """The axis map of the identity."""
    return {a: a for a in range(rank)}


def _shifted(m: AxisMap, out: int, inp: int) -> AxisMap:
    """The axis map where so many axes come first in the output and in the operand."""
    return None if m is None else {a + out: b + inp for a, b in m.items()}


def of_loop(body: Table, ranks: list[int], consts: int, carries: int) -> Table:
    """The table of a loop: its operands are constants, carries, then arrays of which each step takes one entry; its outputs
    are carries, then the stacked other outputs of its body.  `ranks` are those of the body's operands."""
    every = range(len(ranks))
    stepped = range(consts + carries, len(ranks))
    state: Table = [[same_axes(ranks[i]) if i == consts + k else None for i in every] for k in range(carries)]

    def through_carries(row, i):
        return agreed(*(composed(row[consts + k], state[k][i]) for k in range(carries)))

    def directly(row, i):
        return None if i in range(consts, consts + carries) else _shifted(row[i], 0, i in stepped)

    while True:
        after = [
            [agreed(state[k][i], through_carries(row, i), directly(row, i)) for i in every]
            for k, row in enumerate(body[:carries])
        ]
        if after == state:
            break
        state = after
    stacked: Table = []
    for row in body[carries:]:
        found = []
        for i in every:
            carried, direct = through_carries(row, i), directly(row, i)
            same_step = carried is None and direct is not None and i in stepped
            merged = _shifted(agreed(carried, direct), 1, 0)
            found.append({0: 0, **merged} if same_step and merged is not None else merged)
        stacked.append(found)
    return [*state, *stacked]


def _of_scan(params, operands, outputs, of_function) -> Table:
    consts, carries = scan_counts(params)
    ranks = [x.ndim - (i >= consts + carries) for i, x in enumerate(operands)]
    steps = [x if i < consts + carries else x[0] for i, x in enumerate(operands)]
    return of_loop(of_function(params["jaxpr"], steps), ranks, consts, carries)


def _of_while(params, operands, outputs, of_function) -> Table:
    skipped, consts = params["cond_nconsts"], params["body_nconsts"]
    used = operands[skipped:]
    body = of_function(params["body_jaxpr"], used)
    table = of_loop(body, [x.ndim for x in used], consts, len(used) - consts)
    return [[*[None] * skipped, *row] for row in table]


def _of_cond(params, operands, outputs, of_function) -> Table:
    tables = [of_function(branch, operands[1:]) for branch in params["branches"]]
    return [[None, *(agreed(*maps) for maps in zip(*rows, strict=True))] for rows in zip(*tables, strict=True)]


def _of_linear_solve(params, operands, outputs, of_function) -> Table:
    """x of A·x = b: along an axis that A does not mix, its inverse does not either."""
    made_of = params["const_lengths"].matvec
    inert = len(operands) - made_of - len(outputs)
    product = of_function(params["jaxprs"].matvec, [*operands[:made_of], *outputs])
    kept = [{a: b for a, b in (row[made_of + k] or {}).items() if a == b} for k, row in enumerate(product)]
    return [
        [
            *(composed(kept[k], m) for m in row[:made_of]),
            *[None] * inert,
            *(kept[k] if k == j else {} for j in range(len(kept))),
        ]
        for k, row in enumerate(product)
    ]


# A function takes the parameters of a primitive, its operands, its outputs, and a function that gives the table of a jaxpr
# at some operands.
TABLES: dict[str, Callable[..., Table]] = {
    "scan": _of_scan,
    "while": _of_while,
    "cond": _of_cond,
    "custom_linear_solve": _of_linear_solve,
}
