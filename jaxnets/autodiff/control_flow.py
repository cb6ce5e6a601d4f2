"""How loops, branches and sorts are followed while a function is read.

Each function takes the trace that reads, the primitive, its operands, as they are and as values with nodes, and its
parameters.  It returns the outputs, or None where the primitive is opaque.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..checks import is_floating
from ..layers.marker import with_rules
from .branches import branch_outputs, read_branches
from .jaxprs import body_and_constants, evaluated, one_way_of, parted, scan_counts, with_replaced
from .loop_body import read_body
from .loops import Loop
from .nodes import Edge, Node
from .pullbacks import Whole
from .sorting import sorted_with_places
from .sources import user_line
from .unmixed import TABLES


def _is_followed(trace, values, results) -> bool:
    """Whether the trace wants first derivatives alone, of real numbers.  `results` are variables."""
    real = not any(map(jnp.iscomplexobj, values)) and not any(jnp.iscomplexobj(v.aval) for v in results)
    return real and not trace.second_order and not trace.tracks_tangents


def _scan(trace, primitive, tracers, values, nodes, params) -> list | None:
    """A loop, whose body is read into nodes that have an axis of steps."""
    if not _is_followed(trace, values, body_and_constants(params["jaxpr"])[0].outvars):
        return None
    fixed, carries = scan_counts(params)
    first, rest, consts = parted(params["jaxpr"], fixed)
    with trace.inside():
        shared = evaluated(first, (), *consts, *tracers[:fixed])
    operands, outer = trace.values_and_nodes([*shared, *tracers[fixed:]])
    start, stop = len(shared), len(shared) + carries
    tracked = [node is not None for node in outer]
    tracked[start:stop] = map(is_floating, operands[start:stop])
    body = read_body(rest, params, (start, carries), tuple(tracked), trace.read, not trace.every_value, trace.of_scalar)
    loop = Loop(body, params, outer, user_line(), trace.noted)
    if trace.of_scalar and not one_way_of(params) and loop.takes_more_memory():
        return _pulled_back(trace, primitive, values, nodes, params)
    groups = operands[:start], operands[start:stop], operands[stop:]
    with trace.outside():
        end, stacked, own, once = body.run(*groups)
    arrays = {"fixed": groups[0], "element": groups[2], "output": own, "constant": once}
    trace.loops.append(loop)
    return list(map(trace.tracked, [*end, *stacked], loop.results(arrays)))


def _cond(trace, primitive, tracers, values, nodes, params) -> list | None:
    """Branches.  One whose number is known is followed.

    Else all are read where they keep examples apart and use an operand, as a weight, that all examples have in common: by it
    an opaque map would have a row for every example.
    """
    index, *operands = values
    branches = params["branches"]
    if not isinstance(index, jax.core.Tracer):
        jaxpr, consts = body_and_constants(branches[min(max(int(index), 0), len(branches) - 1)])
        with trace.inside():
            return evaluated(jaxpr, consts, *tracers[1:])
    results = body_and_constants(branches[0])[0].outvars
    if nodes[0] is not None or not _is_followed(trace, operands, results):
        return None
    if trace.of_scalar and not one_way_of(params):
        return _pulled_back(trace, primitive, values, nodes, params)
    rows = TABLES["cond"](params, values, results, trace.unmixed_axes)
    maps = [axes for row in rows for axes in row[1:] if axes is not None]
    if all(maps) or not any(maps):
        return None
    tracked = tuple(node is not None for node in nodes[1:])
    read = read_branches(branches, tracked, trace.read, not trace.every_value)
    with trace.outside():
        outputs, arrays = read.run(*values)
    types = [jax.typeof(y) for y in outputs]
    found = branch_outputs(read, index, operands, nodes[1:], arrays, types, user_line(), trace.noted)
    return list(map(trace.tracked, outputs, found))


def _pulled_back(trace, primitive, values, nodes, params) -> list:
    """A call that JAX pulls back as a whole."""
    tracked = {i: node for i, node in enumerate(nodes) if node is not None}

    def call(*moving):
        outputs = primitive.bind(*with_replaced(values, tracked, moving), **params)
        return [y for y in outputs if is_floating(y)], outputs

    with trace.outside():
        found, pull, outputs = jax.vjp(with_rules(call), *(values[i] for i in tracked), has_aux=True)
    whole, source = Whole(tuple(map(jax.typeof, found))), user_line()
    edges = [
        Edge(parent, "x", functools.partial(whole.by_operand, pull, i, parent)) for i, parent in enumerate(tracked.values())
    ]
    together = trace.noted(Node(primitive.name, whole.shape, jnp.result_type(*(y.dtype for y in found)), edges, source))

    def output(i, y):
        node = Node(primitive.name, y.shape, y.dtype, source=source)
        node.edges.append(Edge(together, "y", functools.partial(whole.part, i, node)))
        return trace.tracked(y, trace.noted(node))

    made = map(output, itertools.count(), found)
    return [next(made) if is_floating(y) else y for y in outputs]


FOLLOWED: dict[str, Callable] = {"scan": _scan, "cond": _cond, "sort": sorted_with_places}
