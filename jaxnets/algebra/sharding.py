"""How products are spread over devices, on meshes whose axes are explicit: there JAX asks where it could choose.

A product is spread as its first factor is, and along what this leaves free as its second factor is.  What is summed over
devices is the same on all of them afterwards.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, reshard
from opt_einsum.parser import parse_einsum_input


def explicit_mesh(*arrays):
    """The mesh with explicit axes that one of the arrays lives on; None if there is none."""
    shardings = (getattr(jax.typeof(x), "sharding", None) for x in arrays)
    meshes = (s.mesh for s in shardings if isinstance(s, NamedSharding))
    return next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)


def spread(x) -> list:
    """What each axis of an array is spread over: the name of a mesh axis, a tuple of names, or None."""
    spec = jax.typeof(x).sharding.spec
    return [*spec, *[None] * (x.ndim - len(spec))]


def laid_out(x, shape, spec, mesh):
    """`x.reshape(shape)`, where each axis is spread over these axes of the mesh."""
    spec = [*spec, *[None] * (len(shape) - len(spec))]
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))

    def of_kind(kind):
        kept = [tuple(name for name in names_of(entry) if kinds[name] == kind) for entry in spec]
        return NamedSharding(mesh, PartitionSpec(*(names or None for names in kept)))

    explicit = of_kind(AxisType.Explicit) if explicit_mesh(x) else None
    x = lax.reshape(x, tuple(shape), out_sharding=explicit) if explicit else lax.reshape(x, tuple(shape))
    automatic = of_kind(AxisType.Auto)
    return lax.with_sharding_constraint(x, automatic) if any(automatic.spec) and not explicit else x


def usable(spec) -> list:
    """The same, where a mesh axis that stands for an earlier axis does not stand for another."""
    used: set = set()
    found = []
    for entry in spec:
        found.append(None if used.intersection(names_of(entry)) else entry)
        used.update(names_of(entry))
    return found


def resharded(x, mesh, spec):
    """The array where each axis that is spread is spread as `spec` says."""
    wanted = [own if own is None else new for own, new in zip(spread(x), spec, strict=True)]
    return x if wanted == spread(x) else reshard(x, NamedSharding(mesh, PartitionSpec(*wanted)))


def spread_as(x, like, in_front: int = 0):
    """The array, spread as an array of this type is, where JAX asks for that.  So many axes in front lie on every device."""
    mesh = explicit_mesh(x)
    own = getattr(like, "sharding", None)
    return (
        x if mesh is None or own is None else reshard(x, NamedSharding(mesh, PartitionSpec(*[None] * in_front, *own.spec)))
    )


def compatible(*arrays):
    """Arrays whose axes are aligned, so spread that they can be added, multiplied entry by entry, and stacked."""
    mesh = explicit_mesh(*arrays)
    if mesh is None:
        return arrays
    spec = usable(next(filter(None, axes), None) for axes in zip(*map(spread, arrays), strict=True))
    return [resharded(x, mesh, spec) for x in arrays]


def spread_alike(arrays, whole):
    """A function that spreads an array as these, which are parts of one array; the axes in `whole` lie whole on a device."""
    mesh = explicit_mesh(*arrays)
    if mesh is None:
        return lambda x: x
    entries = zip(*map(spread, arrays), strict=True)
    spec = usable(next(filter(None, own), None) if a not in whole else None for a, own in enumerate(entries))
    return lambda x: x if spread(x) == spec else reshard(x, NamedSharding(mesh, PartitionSpec(*spec)))


def compatible_in_product(x, y, summed, batch):
    """Two arrays, and the sharding of their `dot_general` with these axes (or None where no mesh axis is explicit)."""
    mesh = explicit_mesh(x, y)
    if mesh is None:
        return x, y, None
    first, second = spread(x), spread(y)
    for i, j in zip(*batch, strict=True):
        first[i] = first[i] or second[j]
    first = usable(first)
    for i, j in zip(*batch, strict=True):
        second[j] = first[i]
    kept = [i for i in range(x.ndim) if i not in (*summed[0], *batch[0])]
    others = [j for j in range(y.ndim) if j not in (*summed[1], *batch[1])]
    spec = usable([first[i] for i in (*batch[0], *kept)] + [second[j] for j in others])
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    if moved := _moved_to_the_sum(x, y, mesh, first, second, summed, kept, others):
        first, second = moved
        return *(reshard(a, NamedSharding(mesh, PartitionSpec(*own))) for a, own in ((x, first), (y, second))), sharding
    return resharded(x, mesh, first), resharded(y, mesh, second), sharding


def _moved_to_the_sum(x, y, mesh, first, second, summed, kept, others):
    """How two factors are spread instead whose kept axes are spread over the same mesh axis: along an axis that is summed.

    As they are, every device would need the whole second factor.  Moved, each sums over a part of both, and the parts of the
    result are added.  None where that takes no fewer numbers to send.
    """
    pairs = [(i, j) for i in kept for j in others if first[i] is not None and first[i] == second[j]]
    if len(pairs) != 1:
        return None
    ((i, j),) = pairs
    entry = first[i]
    result = math.prod(x.shape[a] for a in range(x.ndim) if a not in summed[0]) * math.prod(y.shape[b] for b in others)
    held = sum(array.size / math.prod(parts(mesh, e) for e in own) for array, own in ((x, first), (y, second)))
    gathered = y.size / math.prod(parts(mesh, e) for b, e in enumerate(second) if b != j)
    if held / (1 + (x is y)) + 2 * result >= gathered:  # by numbers on one device; a sum of the devices' parts passes twice
        return None
    for a, b in zip(*summed, strict=True):
        own = first[a] or second[b]
        joint = (*names_of(own), *names_of(entry))
        moved = [
            [joint if k == inner else None if k == outer else e for k, e in enumerate(spec)]
            for spec, inner, outer in ((first, a, i), (second, b, j))
        ]
        fits = {first[a], second[b]} <= {None, own} and x.shape[a] % parts(mesh, joint) == 0
        if fits and all(usable(spec) == spec for spec in moved):
            return moved
    return None


def einsum(subscripts: str, *xs):
    """`jnp.einsum`, where an index of the result is spread as the first array that has it is."""
    mesh = explicit_mesh(*xs)
    if mesh is None or len(xs) < 2:
        return jnp.einsum(subscripts, *xs)
    inputs, output, _ = parse_einsum_input((subscripts, *(x.shape for x in xs)), shapes=True)
    letters = inputs.split(",")
    known = dict[str, Any]()
    for own, x in zip(letters, xs, strict=True):
        for letter, entry in zip(own, spread(x), strict=True):
            known[letter] = known.get(letter) or entry
    spec = usable([known[letter] for letter in output])
    kept = {letter: entry for letter, entry in zip(output, spec, strict=True) if sum(letter in own for own in letters) > 1}
    xs = tuple(
        resharded(x, mesh, [kept.get(letter, entry) for letter, entry in zip(own, spread(x), strict=True)])
        for own, x in zip(letters, xs, strict=True)
    )
    return jnp.einsum(f"{inputs}->{output}", *xs, out_sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def matmul(x1, x2):
    """`jnp.matmul`, spread as `einsum` spreads it."""
    if explicit_mesh(x1, x2) is None or 0 in (x1.ndim, x2.ndim):
        return jnp.matmul(x1, x2)
    left, right = ("...nk" if x1.ndim > 1 else "k"), ("...km" if x2.ndim > 1 else "k")
    return einsum(f"{left},{right}->...{'n' * (x1.ndim > 1)}{'m' * (x2.ndim > 1)}", x1, x2)


def reshaped(x, shape):
    """`x.reshape(shape)`: of axes that are merged the first stays spread, and of an axis that is split the first part.

    So do those after it, where each before is one entry on every device.
    """
    mesh, shape = explicit_mesh(x), tuple(shape)
    if mesh is None or x.shape == shape:
        return x.reshape(shape)
    spec: list = [()] * len(shape)
    for here, there in _blocks(x.shape, shape):
        names: list[str] = []
        for i in (i for i in here if x.shape[i] > 1):
            own = names_of(spread(x)[i])
            names += own
            if x.shape[i] != parts(mesh, own):
                break
        for k in (k for k in there if shape[k] > 1):
            while names and shape[k] % parts(mesh, (*spec[k], names[0])) == 0:
                spec[k] = (*spec[k], names.pop(0))
            if shape[k] != parts(mesh, spec[k]):
                break
    spec = [entry if len(entry) > 1 else next(iter(entry), None) for entry in spec]
    return lax.reshape(x, shape, out_sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def _blocks(old, new) -> list[tuple[list[int], list[int]]]:
    """The axes of one shape and those of another that hold the same entries, in blocks as small as can be."""
    found, i, k = [], 0, 0
    while i < len(old) or k < len(new):
        here: list[int] = []
        there: list[int] = []
        sizes = [1, 1]
        while not here or not there or sizes[0] != sizes[1]:
            if k == len(new) or (i < len(old) and sizes[0] <= sizes[1]):
                if i == len(old):
                    break
                here.append(i)
                sizes[0] *= old[i]
                i += 1
            else:
                there.append(k)
                sizes[1] *= new[k]
                k += 1
        found.append((here, there))
    return found


def names_of(entry) -> tuple:
    """The mesh axes that an axis is spread over."""
    return entry if isinstance(entry, tuple) else () if entry is None else (entry,)


def parts(mesh, entry) -> int:
    """Into how many parts an axis is split that is spread so."""
    return math.prod(mesh.shape[name] for name in names_of(entry))


def on_every_device(x):
    """The array, of which every device holds all."""
    mesh = explicit_mesh(x)
    return x if mesh is None else reshard(x, NamedSharding(mesh, PartitionSpec()))


def joined(arrays, axis: int = 0):
    """`jnp.concatenate`; every device holds all of several arrays that are joined."""
    return arrays[0] if len(arrays) == 1 else jnp.concatenate([on_every_device(x) for x in arrays], axis)


def diagonal(x, axis1: int, axis2: int):
    """`jnp.diagonal`; where one of the axes is spread every device takes the entries that it has."""
    mesh = explicit_mesh(x)
    if mesh is None:
        return jnp.diagonal(x, axis1=axis1, axis2=axis2)
    here, gone = (axis1, axis2) if spread(x)[axis1] is not None else (axis2, axis1)
    x = resharded(x, mesh, [None if i == gone else entry for i, entry in enumerate(spread(x))])
    if spread(x)[here] is None:
        return jnp.diagonal(x, axis1=axis1, axis2=axis2)
    first, second = (lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (here, gone))
    entries = jnp.sum(jnp.where(first == second, x, 0), gone, dtype=x.dtype)
    return jnp.moveaxis(entries, here - (gone < here), -1)


def mask_at(x, index):
    """Where the last axis of x is at `index`, an array of the other axes; spread as x is."""
    mask = index[..., None] == jnp.arange(x.shape[-1])
    mesh = explicit_mesh(x)
    return mask if mesh is None else reshard(mask, NamedSharding(mesh, PartitionSpec(*spread(x))))


def entries_at(x, index):
    """`x[..., index]`; NaN where there is none.  Where the last axis is spread every device looks among its own entries."""
    mesh = explicit_mesh(x)
    if mesh is None or spread(x)[-1] is None:
        return jnp.take_along_axis(x, index[..., None], -1, mode="fill", fill_value=jnp.nan)[..., 0]
    found = jnp.sum(jnp.where(mask_at(x, index), x, 0), -1, dtype=x.dtype)
    known = spread_as((index >= 0) & (index < x.shape[-1]), jax.typeof(found))
    return jnp.where(known, found, jnp.nan)


def rows_of(table, indices):
    """`table[indices]`, spread as the indices are; NaN where there is no such row.  The rows lie whole on every device."""
    mesh, sharding = explicit_mesh(table, indices), None
    if mesh is not None:
        table = resharded(table, mesh, [None, *spread(table)[1:]])
        sharding = NamedSharding(mesh, PartitionSpec(*usable([*spread(indices), *spread(table)[1:]])))
    return table.at[indices].get(mode="fill", fill_value=jnp.nan, out_sharding=sharding)


def rows_added_up(x, index, n: int):
    """`zeros((n, …)).at[index].add(x)` without the rows out of range: the sum of what every device adds up."""
    zeros, sharding = jnp.zeros((n, *x.shape[1:]), x.dtype), None
    if mesh := explicit_mesh(x, index):
        sharding = NamedSharding(mesh, PartitionSpec(None, *usable([*spread(index), *spread(x)[1:]])[index.ndim :]))
        zeros = reshard(zeros, sharding)
    return zeros.at[index].add(x, mode="drop", out_sharding=sharding)


def replicated(x):
    """The sharding of an array that is the same on all devices that hold x; None where no mesh axis is explicit."""
    mesh = explicit_mesh(x)
    return mesh and NamedSharding(mesh, PartitionSpec())
