"""How sorts are followed: together with the places that the entries come from, so that no entry is sorted twice."""

import functools

import jax.numpy as jnp
from jax import lax

from ..algebra.factors import Label
from ..algebra.rules import axis_names, fresh_groups, from_groups
from ..algebra.selections import Selection
from .opaque import BoundPrimitive


def sorted_with_places(trace, primitive, tracers, values, nodes, params) -> list | None:
    """The outputs of a sort, of which each is a selection of entries of its operand; see `control_flow`."""
    if any(map(jnp.iscomplexobj, values)):
        return None
    axis = params["dimension"]
    with trace.outside():
        places = lax.broadcasted_iota(jnp.int32, values[0].shape, axis)
        *outputs, places = primitive.bind(*values, places, **params)

    @functools.cache
    def table():
        inp = fresh_groups(places.shape, axis_names(places.ndim))
        place = (Label(places.ndim, places.shape[axis]),)
        out, others = [*inp[:axis], place, *inp[axis + 1 :]], [*inp[:axis], *inp[axis + 1 :]]
        selection = Selection(jnp.moveaxis(places, axis, -1), (*others, place, inp[axis]), "k")
        rule = from_groups(out, inp, selection)
        rules = [[rule if i == o else None for i in range(len(values))] for o in range(len(outputs))]
        return trace.jacobians(rules, values, outputs, nodes)

    return trace.make_nodes("sort", nodes, outputs, table, call=BoundPrimitive(primitive, params), values=values)
