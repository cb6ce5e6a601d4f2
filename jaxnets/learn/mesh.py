"""The devices that share the examples of a training."""

import contextlib
import os

import jax
import numpy as np
from jax.sharding import Mesh

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
