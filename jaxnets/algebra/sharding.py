"""How products are spread over devices, on meshes whose axes are explicit: there JAX asks where it could choose.

A product is spread as its first factor is, and along what this leaves free as its second factor is.  What is summed over
devices is the same on all of them afterwards.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, reshard


def explicit_mesh(*arrays):
    """The mesh with explicit axes that one of the arrays lives on; None if there is none."""
    shardings = (getattr(jax.typeof(x), "sharding", None) for x in arrays)
    meshes = (s.mesh for s in shardings if isinstance(s, NamedSharding))
    return next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)


def spread(x) -> list:
    """What each axis of an array is spread over: the name of a mesh axis, a tuple of names, or None."""
    spec = jax.typeof(x).sharding.spec
    return [*spec, *[None] * (x.ndim - len(spec))]


def usable(spec) -> list:
    """The same, where a mesh axis that stands for an earlier axis does not stand for another."""
    used: set = set()
    found = []
    for entry in spec:
        names = entry if isinstance(entry, tuple) else (entry,)
        found.append(None if used.intersection(names) else entry)
        used.update(name for name in names if name is not None)
    return found


def resharded(x, mesh, spec):
    """The array where each axis that is spread is spread as `spec` says."""
    wanted = [own if own is None else new for own, new in zip(spread(x), spec, strict=True)]
    return x if wanted == spread(x) else reshard(x, NamedSharding(mesh, PartitionSpec(*wanted)))


def spread_as(x, like):
    """The array, spread as an array of this type is, where JAX asks for that."""
    mesh = explicit_mesh(x)
    own = getattr(like, "sharding", None)
    return x if mesh is None or own is None else reshard(x, NamedSharding(mesh, own.spec))


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
    return resharded(x, mesh, first), resharded(y, mesh, second), NamedSharding(mesh, PartitionSpec(*spec))


def reshaped(x, shape):
    """`x.reshape(shape)`: of axes that are merged the first stays spread, and of an axis that is split the first part."""
    mesh, shape = explicit_mesh(x), tuple(shape)
    if mesh is None or x.shape == shape:
        return x.reshape(shape)
    own, spec = spread(x), [None] * len(shape)
    first = {math.prod(x.shape[:i]): i for i in reversed(range(x.ndim)) if x.shape[i] > 1}
    for k, n in enumerate(shape):
        i = first.get(math.prod(shape[:k]))
        if n > 1 and i is not None and n % _parts(mesh, own[i]) == 0:
            spec[k] = own[i]
    return lax.reshape(x, shape, out_sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def _parts(mesh, entry) -> int:
    """Into how many parts an axis is split that is spread so."""
    names = entry if isinstance(entry, tuple) else (entry,)
    return math.prod(mesh.shape[name] for name in names if name is not None)


def diagonal(x, axis1: int, axis2: int):
    """`jnp.diagonal`, of axes that lie whole on every device."""
    if mesh := explicit_mesh(x):
        x = resharded(x, mesh, [None if i in (axis1, axis2) else entry for i, entry in enumerate(spread(x))])
    return jnp.diagonal(x, axis1=axis1, axis2=axis2)


def rows_added_up(x, index, n: int):
    """`zeros((n, …)).at[index].add(x)` without the rows out of range; the rows of x lie whole on every device."""
    zeros = jnp.zeros((n, *x.shape[1:]), x.dtype)
    if mesh := explicit_mesh(x):
        x = resharded(x, mesh, [None, *spread(x)[1:]])
        zeros = reshard(zeros, NamedSharding(mesh, PartitionSpec(*spread(x))))
    return zeros.at[index].add(x, mode="drop")


def replicated(x):
    """The sharding of an array that is the same on all devices that hold x; None where no mesh axis is explicit."""
    mesh = explicit_mesh(x)
    return mesh and NamedSharding(mesh, PartitionSpec())
