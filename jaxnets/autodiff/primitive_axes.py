"""Rules of JAX's primitives that sum over axes, rearrange them, or pick entries along them."""

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra.factors import Label
from ..algebra.rules import Rule, axis_names, diagonal, fresh_groups, from_groups, placed, regroup, sliced, transposed
from ..algebra.selections import Selection, Slice, as_int32
from ..layers.combine import concatenate_rules, stack_rules
from ..layers.reduce import weighted_sum_rule
from .primitive_table import primitive


@primitive("reduce_sum", "psum")
def _(y, x, *, axes, axis_index_groups=None, **_):
    """A `psum` remains where vmap has turned its named axis into a position."""
    if axis_index_groups is not None or not all(isinstance(axis, (int, np.integer)) for axis in axes):
        return None
    return (weighted_sum_rule(x, tuple(axes), keepdims=False),)


@primitive("reduce_max", "reduce_min")
def _(y, x, *, axes, **_):
    """Several extreme entries share the derivative evenly, as in JAX."""
    hit = (x == jnp.expand_dims(y, axes)).astype(x.dtype)
    share = hit / jnp.sum(hit, axes, keepdims=True)
    return (weighted_sum_rule(x, tuple(axes), False, (share, "m")),)


@primitive("broadcast_in_dim")
def _(y, x, *_, broadcast_dimensions, **__):
    out = fresh_groups(y.shape, axis_names(y.ndim))
    inp = [out[d] if n == y.shape[d] else () for n, d in zip(x.shape, broadcast_dimensions, strict=True)]
    return (from_groups(out, inp),)


@primitive("transpose")
def _(y, x, *, permutation):
    return (transposed(permutation),)


@primitive("squeeze")
def _(y, x, **_):
    return (regroup,)


@primitive("reshape")
def _(y, x, *_, dimensions=None, **__):
    """With `dimensions`, which vmap gives, the axes are permuted first."""
    order = dimensions or range(x.ndim)
    permuted = jax.ShapeDtypeStruct([x.shape[a] for a in order], x.dtype)
    if regroup(y, permuted) is None:
        return None
    if dimensions is None:
        return (regroup,)
    return (lambda y, x: regroup(y, permuted) @ transposed(order)(permuted, x),)


@primitive("concatenate")
def _(y, *xs, dimension):
    return concatenate_rules(y, xs, dimension)


@primitive("stack")
def _(y, *xs, axis):
    return stack_rules(y, xs, axis)


@primitive("unstack")
def _(ys, x, *, axis):
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out = [group for a, group in enumerate(inp) if a != axis]
    return [[from_groups(out, inp, Slice(i, 1, ((), inp[axis])))] for i in range(len(ys))]


@primitive("tile")
def _(y, x, *, reps):
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    return (from_groups([(Label(x.ndim + i, n), *group) for i, (n, group) in enumerate(zip(reps, inp, strict=True))], inp),)


@primitive("split")
def _(ys, x, *, sizes, axis):
    starts = np.cumsum([0, *sizes])
    return [[sliced({axis: (int(start), 1)})] for start in starts[:-1]]


@primitive("slice")
def _(y, x, *, start_indices, strides, **_):
    strides = strides or (1,) * x.ndim
    return (sliced(dict(enumerate(zip(start_indices, strides, strict=True)))),)


def _entries_rule(x, places) -> Rule:
    """The rule if y has the entries of x at these indices along some axes: `places` is `{axis: indices}`."""
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out, factors = list(inp), []
    for axis, index in places.items():
        out[axis] = (Label(x.ndim + axis, len(index), inp[axis][0].name),)
        factors.append(Selection(index, (out[axis], inp[axis]), "k"))
    return from_groups(out, inp, *factors)


@primitive("rev")
def _(y, x, *, dimensions):
    return (_entries_rule(x, {axis: jnp.arange(x.shape[axis])[::-1] for axis in dimensions}),)


@primitive("pad")
def _(y, x, value, *, padding_config):
    if any(low < 0 or high < 0 for low, high, _ in padding_config):
        return None
    starts = {axis: (low, inner + 1) for axis, (low, _, inner) in enumerate(padding_config)}
    outside = jax.lax.pad(jnp.zeros(x.shape, y.dtype), jnp.ones((), y.dtype), padding_config)
    return placed(starts), diagonal(outside, "outside")


@primitive("dynamic_slice")
def _(y, x, *starts, slice_sizes, **_):
    rows = enumerate(zip(starts, slice_sizes, x.shape, strict=False))
    places = {a: jnp.clip(as_int32(i), 0, n - size) + jnp.arange(size) for a, (i, size, n) in rows if size != n}
    return _entries_rule(x, places), *[None] * len(starts)
