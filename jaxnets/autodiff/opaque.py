"""Rules for primitives that have no rule of their own: they are right, give products alone, and show little structure."""

import jax.numpy as jnp

from ..algebra.factors import Opaque
from ..algebra.rules import Rule, axis_names, fresh_groups, from_groups
from .primitive_windows import axes_without_windows
from .unmixed import Table


class BoundPrimitive:
    """A primitive with its parameters, as a function from operands to a list of outputs."""

    def __init__(self, prim, params):
        self.prim, self.params = prim, params

    def __eq__(self, other):
        return isinstance(other, BoundPrimitive) and self.prim is other.prim and self.params == other.params

    def __hash__(self):
        return hash(self.prim)

    def __call__(self, *operands):
        out = self.prim.bind(*operands, **self.params)
        return out if self.prim.multiple_results else [out]


def opaque_rule(name, function, arguments, i, o, shared, one_way) -> Rule:
    """The rule of output `o` by argument `i`; `shared` are pairs (output axis, input axis) along which nothing mixes."""

    def rule(y, x):
        out = list(fresh_groups(y.shape, axis_names(len(y.shape))))
        inp = list(fresh_groups(x.shape, axis_names(len(x.shape), "j"), start=len(out)))
        for a, b in shared:
            inp[b] = out[a]
        ours, theirs = tuple(a for a, _ in shared), tuple(b for _, b in shared)
        axes = [out[a] for a in ours]
        axes += [group for a, group in enumerate(out) if a not in ours]
        axes += [group for b, group in enumerate(inp) if b not in theirs]
        counts = (len(ours), len(out) - len(ours))
        operator = Opaque(tuple(arguments), function, i, o, tuple(axes), name, *counts, ours, theirs, one_way)
        return from_groups(out, inp, operator)(y, x)

    return rule


def opaque_rules(name, function, arguments, outputs, one_way, table: Table) -> list[list[Rule | None]]:
    """Rules for a function from operands to a list of outputs; the table tells along which axes nothing mixes."""
    arguments = [jnp.asarray(x, getattr(x, "dtype", None)) for x in arguments]  # some are Python numbers with a dtype

    def rule(i, o, axes):
        return None if axes is None else opaque_rule(name, function, arguments, i, o, tuple(axes.items()), one_way)

    return [[rule(i, o, axes) for i, axes in enumerate(row)] for o, row in enumerate(table[: len(outputs)])]


# Primitives that act along some axes only.  These functions take an argument's number, the argument, the output and the
# parameters, and return the axis map.


def _unmixed_but_one(axis_name):
    def shared(i, x, y, params):
        return {a: a for a in range(len(x.shape)) if a != params[axis_name] % len(x.shape)}

    return shared


def _unmixed_by_windows(i, x, y, params):
    return {a: a for a in axes_without_windows(**params)}


def _unmixed_but_several(axes_name):
    def shared(i, x, y, params):
        return dict(enumerate(a for a in range(len(x.shape)) if a not in params[axes_name]))

    return shared


def _between_matrices(i, x, y, params):
    """The last two axes are matrices'; of the outputs some are vectors."""
    return {a: a for a in range(len(x.shape) - 2)}


UNMIXED_AXES = {
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"], _unmixed_but_one("axis")),
    "sort": _unmixed_but_one("dimension"),
    **dict.fromkeys(["reduce_window_sum", "reduce_window_max", "reduce_window_min"], _unmixed_by_windows),
    "reduce_prod": _unmixed_but_several("axes"),
    **dict.fromkeys(["cholesky", "lu", "qr", "svd", "eigh", "triangular_solve", "tridiagonal_solve"], _between_matrices),
}
