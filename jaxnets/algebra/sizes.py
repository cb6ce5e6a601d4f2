"""Bytes and shapes: how large an array would be, how much memory is free, and both as text."""

import math
import os
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..errors import JacobianTooLarge

UNKNOWN = 32  # what a size counts as that is known only when a function is called which `jax.export` wrote


def known_size(n) -> int:
    """A size as a number, for plans and for texts."""
    return n if isinstance(n, int) else int(n._evaluate(dict.fromkeys(n._get_vars(), UNKNOWN)))


def count_entries(shape) -> int:
    """How many entries an array of this shape has."""
    return math.prod(map(known_size, shape))


def check_bytes(what: str, shape, dtype, limit: float | None, advice: str):
    """Raise JacobianTooLarge if an array exceeds `limit` bytes (default: half of the memory that is free now)."""
    need = count_entries(shape) * jnp.dtype(dtype).itemsize
    limit = available_memory() / 2 if limit is None else limit
    if need > limit:
        size = f"of shape {list(shape)} needs {show_bytes(need)}, the limit is {show_bytes(limit)}"
        raise JacobianTooLarge(f"{what} {size}; {advice}")


def check_fits(what: str, tree, memory: Callable[[], float] | None = None):
    """Raise MemoryError if the arrays of these shapes and dtypes need more than half of the memory that is free now.

    It is that of the default device, or what `memory` tells.
    """
    need = sum(count_entries(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    if need > (limit := (memory or available_memory)() / 2):
        raise MemoryError(f"{what} need {show_bytes(need)}, the limit is {show_bytes(limit)}, half of the free memory")


def available_memory() -> float:
    """Free bytes on the default device if it reports them, else on this machine or in its control group."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return host_memory()


def host_memory() -> float:
    """Free bytes on this machine or in its control group; no device is touched."""
    free = 1024 * _number_in_file("/proc/meminfo", r"MemAvailable:\s*(\d+)")
    if free == math.inf and hasattr(os, "sysconf"):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(free, _number_in_file("/sys/fs/cgroup/memory.max", r"(\d+)"))


def _number_in_file(path: str, pattern: str) -> float:
    """The number that a pattern finds in a system file; infinity if there is none."""
    try:
        with open(path) as file:
            match = re.search(pattern, file.read())
    except OSError:
        return math.inf
    return float(match.group(1)) if match else math.inf


def show_sizes(shape) -> str:
    """A shape as text: 48·64."""
    return "·".join(map(str, shape)) or "1"


def show_tree(tree) -> str:
    """The arrays of a tree as text: the shapes of a few, or how many there are, and how many numbers they hold."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
    listed = " ".join(str(list(shape)) for shape in shapes) if len(shapes) <= 4 else f"of {len(shapes)} arrays"
    return f"{listed or 'of no array'} with {sum(map(count_entries, shapes)):,} numbers"


def show_bytes(n: float) -> str:
    """A number of bytes as text: 31.4 kB."""
    if n == math.inf:
        return "unlimited"
    unit = 0 if n < 1000 else min(int(math.log10(n)) // 3, 4)
    return f"{n / 1000**unit:.{0 if unit == 0 else 3}{'f' if unit == 0 else 'g'}} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def nbytes_of(tree) -> int:
    """The bytes of the arrays of a tree, known or traced.  An array that is used twice counts once."""
    return sum(count_entries(leaf.shape) * leaf.dtype.itemsize for leaf in _distinct_arrays(tree))


def stored_entries(tree) -> int:
    """How many numbers the arrays of a tree hold.  An array that is used twice counts once."""
    return sum(count_entries(leaf.shape) for leaf in _distinct_arrays(tree))


def _distinct_arrays(tree):
    return {id(leaf): leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")}.values()
