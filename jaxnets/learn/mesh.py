"""The devices that share the examples of a training, and maybe its parameters."""

import contextlib
import os
from collections.abc import Callable

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..checks import check_integer

MAX_VIRTUAL_DEVICES = 256  # each has threads of its own


def mesh_of(count: int) -> Mesh:
    """A mesh of that many devices along one axis, "batch".

    A machine without accelerators gets as many virtual devices of its CPU, if nothing was computed before: they show how a
    program behaves on many devices, and are no faster; there are at most 256 of them.  Raises ValueError where there are
    fewer devices.
    """
    check_integer("train", "devices", count, 1)
    if count <= MAX_VIRTUAL_DEVICES and "device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):  # JAX takes the number from one place only
        with contextlib.suppress(RuntimeError):  # once JAX has begun, its devices are what they are
            jax.config.update("jax_num_cpu_devices", count)
    found = jax.devices()
    if len(found) < count:
        raise ValueError(f"train: devices {count}, but JAX has {len(found)} of the kind {found[0].device_kind}")
    return Mesh(np.array(found[:count]), ("batch",))


class Devices:
    """Where the arrays of a training are: on one device, or on a mesh.

    Every device of a mesh holds the whole data set, and works on its share of each batch.  Every device holds all parameters
    too, or with `fsdp` its part of each: one of equal parts along the longest axis that can be parted so.
    """

    def __init__(self, mesh: Mesh | None, fsdp: bool = False):
        if mesh is not None:
            mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
            self.replicated = NamedSharding(mesh, PartitionSpec())
            self.by_examples = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self.mesh, self.fsdp = mesh, fsdp

    def shardings(self, state):
        """A tree like the state; None on one device."""
        return None if self.mesh is None else jax.tree.map(self._sharding_of, state)

    def _sharding_of(self, leaf) -> NamedSharding:
        mesh = self.replicated.mesh
        lengths = {n: axis for axis, n in reversed(list(enumerate(leaf.shape))) if n and n % mesh.size == 0}
        if not self.fsdp or not lengths or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return self.replicated
        before = [None] * lengths[max(lengths)]
        return NamedSharding(mesh, PartitionSpec(*before, mesh.axis_names))

    def made(self, function: Callable, *arguments):
        """function(*arguments), whose result no device holds as a whole where it shares it with others."""
        shardings = self.shardings(jax.eval_shape(function, *arguments)) if self.fsdp else None
        return jax.jit(function, out_shardings=shardings)(*arguments)

    def placed(self, state):
        return state if self.mesh is None else jax.device_put(state, self.shardings(state))

    def kept(self, state):
        """Within a compiled step: the new state lies where the old one did."""
        return lax.with_sharding_constraint(state, self.shardings(state)) if self.fsdp else state

    def replicate(self, tree):
        return tree if self.mesh is None else jax.device_put(tree, self.replicated)

    def shared(self, batch):
        return batch if self.mesh is None else lax.with_sharding_constraint(batch, self.by_examples)

    def local_copy(self, tree):
        """For use on this process alone; what is shared out stays so."""
        if self.mesh is None or self.fsdp:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
