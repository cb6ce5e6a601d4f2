"""Windows over the last axes: the largest entry or the sum of each window, and the rules of both.

A window is the product of one window along each axis of space.  A table describes the windows along an axis: its row p
lists the places in window p, and places outside the axis are padding.  So maxima and sums are taken along one axis after the
other, and the Jacobian of a mean is a product of small matrices, one for each axis.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from ..algebra.factors import Label, Tensor, labels_of
from ..algebra.rules import axis_names, fresh_groups, from_groups
from ..algebra.selections import Selection


def take_places(x, axis: int, places, outside):
    """x at some places of an axis; the number `outside` for places out of range."""
    steps = set(np.diff(places).tolist()) or {1}
    if len(steps) > 1 or 0 in steps:
        return jnp.take(x, places, axis, mode="fill", fill_value=outside)
    low, high = max(0, -int(places[0])), max(0, int(places[-1]) + 1 - x.shape[axis])
    edges = [(0, 0, 0)] * axis + [(low, high, 0)] + [(0, 0, 0)] * (x.ndim - axis - 1)
    x = lax.pad(x, jnp.asarray(outside, x.dtype), edges) if low or high else x
    return lax.slice_in_dim(x, int(places[0]) + low, int(places[-1]) + low + 1, steps.pop(), axis)


def largest_in_windows(x, tables):
    """The largest entry of each window, the first of several or the first NaN, and its row-major index in x's space.

    A window of padding alone has the largest entry −∞ and the index −1.
    """
    space = x.shape[x.ndim - len(tables) :]
    place = jnp.broadcast_to(jnp.arange(math.prod(space), dtype=jnp.int32).reshape(space), x.shape)
    for axis, table in zip(range(x.ndim - 1, -1, -1), reversed(tables), strict=False):
        columns = [(take_places(x, axis, column, -jnp.inf), take_places(place, axis, column, -1)) for column in table.T]
        x, place = columns[0]
        for entry, at in columns[1:]:
            better = (place < 0) | (~(entry <= x) & ~jnp.isnan(x))
            x, place = jnp.where(better, entry, x), jnp.where(better, at, place)
    return x, place


def selection_rule(x, index, rank: int):
    """The rule if y has the entries of x whose row-major indices along its last `rank` axes are `index`."""
    inp, out, lead = space_and_batch_labels(x, index, rank)
    return from_groups((*lead, *out), (*lead, *inp), Selection(index, (*lead, *out, labels_of(inp)), "k"))


def space_and_batch_labels(x, y, rank: int):
    """Labels for the axes of space of x, for those of y, and for the axes before them, which both have."""
    lead = x.shape[: x.ndim - rank]
    names = [*axis_names(len(lead), "c"), *[*"uvt", *[""] * rank][:rank], *"pqr"]
    labels = fresh_groups((*x.shape, *y.shape[len(lead) :]), names)
    return labels[len(lead) : x.ndim], labels[x.ndim :], labels[: len(lead)]


def window_means(x, tables, divisors):
    """The sum over each window, divided by its divisor along each axis."""
    first = x.ndim - len(tables)
    for a, table in enumerate(tables):
        columns = [take_places(x, first + a, column, 0) for column in table.T]
        x = sum(columns[1:], columns[0])
    whole = np.asarray(1.0)
    for divisor in divisors:
        whole = whole[..., None] * divisor
    return x / jnp.asarray(whole, x.dtype)


def mean_rule(y, x, tables, divisors):
    """The rule of `window_means`: one matrix for each axis.

    If the windows tile an axis it needs none: an index of x is then the index of a window and one inside that window.
    """
    inp, out, lead = space_and_batch_labels(x, y, len(tables))
    inp, factors, scale = list(inp), [], 1.0
    for a, (table, divisor) in enumerate(zip(tables, divisors, strict=True)):
        n, (p, k) = x.shape[a - len(tables)], table.shape
        if p * k == n and (table.reshape(-1) == np.arange(n)).all():
            inp[a] = (*out[a], Label(x.ndim + y.ndim + a, k, "klm"[a % 3]))
            scale /= divisor[0]
        else:
            hits = (table[:, :, None] == np.arange(n)).sum(1)
            matrix = jnp.asarray(hits / divisor[:, None], y.dtype)
            factors.append(Tensor(matrix, (out[a], inp[a]), "ABC"[a % 3]))
    return from_groups((*lead, *out), (*lead, *inp), *factors, scale=scale)
