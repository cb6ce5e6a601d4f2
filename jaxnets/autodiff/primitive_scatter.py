"""Rules of JAX's primitives that write into an array, and of top_k: the Jacobians by what is written are selections."""

import jax
import jax.numpy as jnp
from jax import lax

from ..algebra.factors import Group, Label, Tensor
from ..algebra.rules import Rule, axis_names, diagonal, fresh_groups, from_groups, identity
from ..algebra.selections import Selection, as_int32
from .primitive_table import primitive
from .ramps import counted_axis

NOWHERE = jnp.iinfo(jnp.int32).max  # an index that is out of range


@primitive("dynamic_update_slice")
def _(y, x, update, *starts):
    out = fresh_groups(y.shape, axis_names(y.ndim))
    inp, selections = list(out), []
    for a, (start, size, n) in enumerate(zip(starts, update.shape, x.shape, strict=True)):
        if size != n:
            inp[a] = (Label(y.ndim + a, size),)
            place = jnp.clip(as_int32(start), 0, n - size) + jnp.arange(size)
            selections.append(Selection(place, (inp[a], out[a]), "k"))

    def write(x):
        return lax.dynamic_update_slice(x, update, starts)

    return _entry_by_entry(write, x), from_groups(out, inp, *selections), *[None] * len(starts)


def _scatter_rule(scatter):
    """An update changes one entry, with a weight: 0 where another one is written over it, or is larger."""

    def rule(y, x, indices, updates, **params):
        def by_updates(y, updates_):
            weight = _weights(lambda u: scatter.bind(x, indices, u, **params), updates, y)
            return _written(x, indices, updates, weight, **params)(y, updates_)

        return _entry_by_entry(lambda x: scatter.bind(x, indices, updates, **params), x), None, by_updates

    return rule


for scatter in (lax.scatter_p, lax.scatter_mul_p, lax.scatter_min_p, lax.scatter_max_p):
    primitive(scatter.name)(_scatter_rule(scatter))


@primitive("scatter-add")
def _(y, x, indices, updates, **params):
    return identity, None, _written(x, indices, updates, None, **params)


@primitive("top_k")
def _(ys, x, *, axis, **_):
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out = [*inp[:axis], (Label(x.ndim, ys[0].shape[axis]),), *inp[axis + 1 :]]
    places = Selection(jnp.moveaxis(ys[1], axis, -1), (*inp[:axis], *inp[axis + 1 :], out[axis], inp[axis]), "k")
    return [from_groups(out, inp, places)], [None]


def _weights(write, x, y):
    """∂(the entry of y that an entry of x changes)/∂(this entry), from JAX's own derivative along the vector of ones."""
    return jax.vjp(write, x)[1](jnp.ones(y.shape, y.dtype))[0]


def _entry_by_entry(write, x) -> Rule:
    """The rule of a function that changes each entry by itself."""
    return lambda y, x_: diagonal(_weights(write, x, y), "m")(y, x_)


def _written(x, indices, updates, weight, *, dimension_numbers, mode, **_) -> Rule:
    """The rule by the updates, of which each is written to one entry of x or, as a whole window outside of it, nowhere."""
    numbers, rank = dimension_numbers, x.ndim
    out = fresh_groups(x.shape, axis_names(rank))
    batch = list(fresh_groups(indices.shape[:-1], start=2 * rank))
    for a, b in zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True):
        batch[b] = out[a]
    picked = [int(a) for a in numbers.scatter_dims_to_operand_dims]
    counted = {a: counted_axis(indices, i, x.shape[a]) for i, a in enumerate(picked) if a in numbers.inserted_window_dims}
    for a, b in counted.items():
        if b is not None and batch[b] not in out:
            batch[b] = out[a]
    absent = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows, others = iter(a for a in range(rank) if a not in absent), iter(batch)
    inp: list[Group] = []
    window: dict[int, Group] = {}  # by axis of x
    for k, n in enumerate(updates.shape):
        if k in numbers.update_window_dims:
            a = next(windows)
            window[a] = (Label(rank + a, n),) if a in picked else out[a]
            inp.append(window[a])
        else:
            inp.append(next(others))
    places, inside = {}, jnp.ones(indices.shape[:-1], bool)
    for i, a in enumerate(picked):
        size = window[a][0].size if a in window else 1
        start = as_int32(indices[..., i])
        if mode == lax.GatherScatterMode.CLIP:
            start = jnp.clip(start, 0, x.shape[a] - size)
        inside &= (start >= 0) & (start <= x.shape[a] - size)
        places[a] = start, size
    selections = []
    for a, (start, size) in places.items():
        if out[a] in batch:  # the index counts along it
            continue
        index, axes = jnp.where(inside, start, NOWHERE), tuple(batch)
        if a in window:
            index = jnp.where(inside[..., None], start[..., None] + jnp.arange(size), NOWHERE)
            axes = (*axes, window[a])
        selections.append(Selection(index, (*axes, out[a]), "k"))
    weights = [] if weight is None else [Tensor(weight, tuple(inp), "m")]
    return from_groups(out, inp, *selections, *weights)
