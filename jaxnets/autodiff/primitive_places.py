"""Rules of JAX's primitives that read or write at places that are computed: their Jacobians are selections."""

import jax
import jax.numpy as jnp
from jax import lax

from ..algebra.factors import Factor, Label, Tensor
from ..algebra.rules import axis_names, fresh_groups, from_groups, identity
from ..algebra.selections import Selection, Slice, as_int32
from .primitive_table import primitive
from .ramps import counted_axis

NOWHERE = jnp.iinfo(jnp.int32).max  # an index that is out of range


@primitive("dynamic_update_slice")
def _(y, x, update, *starts):
    out = fresh_groups(y.shape, axis_names(y.ndim))
    inp, selections, whole = list(out), [], []
    for a, (start, size, n) in enumerate(zip(starts, update.shape, x.shape, strict=True)):
        if size == n:
            whole += [a] if n else []
        else:
            inp[a] = (Label(y.ndim + a, size),)
            place = jnp.clip(as_int32(start), 0, n - size) + jnp.arange(size)
            selections.append(Selection(place, (inp[a], out[a]), "k"))

    def by_operand(y, x):
        line, update_of_line = _one_line(x, whole), _one_line(update, whole)
        starts_of_line = [jnp.zeros_like(start) if a in whole else start for a, start in enumerate(starts)]
        weights = _weights(lambda x: lax.dynamic_update_slice(x, update_of_line, starts_of_line), line)
        return from_groups(out, out, _weights_of_lines(weights, out, whole))(y, x)

    return by_operand, from_groups(out, inp, *selections), *[None] * len(starts)


def _scatter_rule(scatter):
    """An update changes one entry, with a weight: 0 where another one is written over it, or is larger."""

    def rule(y, x, indices, updates, *, dimension_numbers, **params):
        numbers = dimension_numbers
        written = dict(zip(_window_axes(x, numbers), numbers.update_window_dims, strict=True))
        if scatter is lax.scatter_p:  # it is the same along axes of which it sets all
            picked = numbers.scatter_dims_to_operand_dims
            written = {a: k for a, k in written.items() if updates.shape[k] == x.shape[a] > 0 and a not in picked}
        else:
            written = {}
        axes, update_axes = list(written), list(written.values())
        line, updates_of_line = _one_line(x, axes), _one_line(updates, update_axes)

        def write(x, updates):
            return scatter.bind(x, indices, updates, dimension_numbers=numbers, **params)

        def by_operand(y, x):
            groups = fresh_groups(x.shape, axis_names(x.ndim))
            weights = _weights(lambda x: write(x, updates_of_line), line)
            return from_groups(groups, groups, _weights_of_lines(weights, groups, axes))(y, x)

        def by_updates(y, updates):
            groups, selections = _written(x, indices, updates, dimension_numbers=numbers, **params)
            weights = _weights(lambda updates: write(line, updates), updates_of_line)
            return from_groups(*groups, *selections, _weights_of_lines(weights, groups[1], update_axes))(y, updates)

        return by_operand, None, by_updates

    return rule


for scatter in (lax.scatter_p, lax.scatter_mul_p, lax.scatter_min_p, lax.scatter_max_p):
    primitive(scatter.name)(_scatter_rule(scatter))


@primitive("scatter-add")
def _(y, x, indices, updates, **params):
    groups, selections = _written(x, indices, updates, **params)
    return identity, None, from_groups(*groups, *selections)


@primitive("top_k")
def _(ys, x, *, axis, **_):
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out = [*inp[:axis], (Label(x.ndim, ys[0].shape[axis]),), *inp[axis + 1 :]]
    places = Selection(jnp.moveaxis(ys[1], axis, -1), (*inp[:axis], *inp[axis + 1 :], out[axis], inp[axis]), "k")
    return [from_groups(out, inp, places)], [None]


@primitive("bcoo_dot_general")
def _(y, data, indices, x, *, dimension_numbers, lhs_spinfo, **_):
    """A sparse array of `jax.experimental.sparse` times a dense one; `data[e]` stands at the place `indices[e]`.

    y[o…,b…] = Σ_e δ(o…, indices[e]) · data[e] · x[i…,b…] · δ(i…, indices[e])
    """
    (summed, x_summed), (batch, _) = dimension_numbers
    if data.ndim > 1 or batch:  # several sparse arrays, or one of blocks
        return None
    (entry,) = fresh_groups(data.shape, "e")
    inp = list(fresh_groups(x.shape, axis_names(x.ndim), start=1))
    sparse = dict(enumerate(fresh_groups(lhs_spinfo.shape, start=1 + x.ndim)))
    for a, b in zip(summed, x_summed, strict=True):
        sparse[a] = inp[b]
    out = [sparse[a] for a in sparse if a not in summed]
    out += [group for b, group in enumerate(inp) if b not in x_summed]
    places = [Selection(indices[:, a], (entry, group), "k" if a in summed else "r") for a, group in sparse.items()]
    return (
        from_groups(out, [entry], *places, Tensor(x, tuple(inp), "x2")),
        None,
        from_groups(out, inp, *places, Tensor(data, (entry,), "x1")),
    )


@primitive("bcoo_todense")
def _(y, data, indices, **_):
    if data.ndim > 1:
        return None
    out, (entry,) = fresh_groups(y.shape, axis_names(y.ndim)), fresh_groups(data.shape, start=y.ndim)
    return from_groups(out, [entry], *(Selection(indices[:, a], (entry, group), "k") for a, group in enumerate(out))), None


@primitive("bcoo_transpose")
def _(ys, data, indices, **_):
    return [[identity, None], [None, None]] if data.ndim == 1 else None  # the entries keep their order


def _one_line(x, axes):
    """The first entry along each of these axes."""
    return x[tuple(slice(1) if a in axes else slice(None) for a in range(x.ndim))]


def _weights(write, x):
    """∂(the entry that an entry of x changes)/∂(this entry), from JAX's own derivative along the vector of ones."""
    y, pull = jax.vjp(write, x)
    return pull(jnp.ones(y.shape, y.dtype))[0]


def _weights_of_lines(weights, groups, axes) -> Tensor:
    """Weights that are the same along some axes, of which they have one entry, as a factor."""
    others = [a for a in range(weights.ndim) if a not in axes]
    return Tensor(weights.reshape([weights.shape[a] for a in others]), tuple(groups[a] for a in others), "m")


def _window_axes(x, numbers) -> list[int]:
    """The axes of x along which windows lie that are written."""
    absent = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    return [a for a in range(x.ndim) if a not in absent]


def _written(x, indices, updates, *, dimension_numbers, mode, **_):
    """The groups of x and of the updates, and the selections between them.

    Each update is written to one entry or, as a whole window outside of x, nowhere.
    """
    numbers = dimension_numbers
    windows = _window_axes(x, numbers)
    sizes = dict(zip(windows, (updates.shape[k] for k in numbers.update_window_dims), strict=True))
    batching = dict(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True))
    axes, batch, window, selections = _windows(x, indices, numbers.scatter_dims_to_operand_dims, sizes, batching, mode)
    places, own = iter(batch), iter(windows)
    inp = [window[next(own)] if k in numbers.update_window_dims else next(places) for k in range(updates.ndim)]
    return (axes, inp), selections


@primitive("gather")
def _(y, x, indices, *, dimension_numbers, slice_sizes, mode, **_):
    """Windows of x at given places: x[index], jnp.take, take_along_axis."""
    numbers = dimension_numbers
    absent = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    windows = [a for a in range(x.ndim) if a not in absent]
    sizes = {a: slice_sizes[a] for a in windows}
    batching = dict(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True))
    axes, batch, window, selections = _windows(x, indices, numbers.start_index_map, sizes, batching, mode)
    places, own = iter(batch), iter(windows)
    out = [window[next(own)] if a in numbers.offset_dims else next(places) for a in range(y.ndim)]
    return from_groups(out, axes, *selections), None


def _windows(x, indices, picked, sizes, batching, mode):
    """Labels of x, of the places, and by axis of x of the windows that are not one entry alone; and factors between them.

    `picked` are the axes of x along which the columns of the indices tell where a window starts; `sizes` are those of its
    other axes; `batching` says which axes of x are axes of the places.
    """
    axes = list(fresh_groups(x.shape, axis_names(x.ndim)))
    batch = list(fresh_groups(indices.shape[:-1], start=2 * x.ndim))
    for a, b in batching.items():
        batch[b] = axes[a]
    picked = [int(a) for a in picked]
    for i, a in enumerate(picked):
        b = counted_axis(indices, i, x.shape[a]) if a not in sizes else None
        if b is not None and batch[b] not in axes:
            batch[b] = axes[a]
    window = {a: axes[a] if n == x.shape[a] and a not in picked else (Label(x.ndim + a, n),) for a, n in sizes.items()}
    starts, inside = {}, jnp.ones(indices.shape[:-1], bool)
    for i, a in enumerate(picked):
        size, start = sizes.get(a, 1), as_int32(indices[..., i])
        if mode == lax.GatherScatterMode.CLIP:
            start = jnp.clip(start, 0, x.shape[a] - size)
        inside &= (start >= 0) & (start <= x.shape[a] - size)
        starts[a] = start
    selections: list[Factor] = [
        Slice(0, 1, (window[a], axes[a])) for a in window if a not in picked and window[a] != axes[a]
    ]
    for a, start in starts.items():
        if axes[a] in batch:  # the index counts along it
            continue
        index, labels = jnp.where(inside, start, NOWHERE), tuple(batch)
        if a in window:
            index, labels = index[..., None] + jnp.arange(sizes[a]), (*labels, window[a])
            index = jnp.where(inside[..., None], index, NOWHERE)
        selections.append(Selection(index, (*labels, axes[a]), "k"))
    return axes, batch, window, selections
