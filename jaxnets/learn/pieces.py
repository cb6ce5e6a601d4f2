"""Which pieces of arrays each process writes to a checkpoint, and how arrays are made of pieces again.

An array that is spread over the devices of several processes is on none of them as a whole: every process writes what is on
its own devices, each entry once.  Another number of devices reads other parts: each takes what it needs from the pieces.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from ..errors import CheckpointError

MESSAGE_BYTES = 1000


class Piece(NamedTuple):
    """A box of entries of an array."""

    of: str
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def whole(cls, of: str, shape) -> "Piece":
        return cls(of, (0,) * len(shape), tuple(shape))

    @property
    def name(self) -> str:
        return f"{self.of}@{','.join(map(str, self.start))}"


def is_spread(leaf) -> bool:
    """Whether no process holds the whole array."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated


def pieces_by_process(leaves: dict) -> dict[int, dict[Piece, jax.Device | None]]:
    """The pieces that each process writes, each with a device that holds it: all are known to all processes.

    What every process holds as a whole is written by the first one.
    """
    found: dict[int, dict[Piece, jax.Device | None]] = {i: {} for i in range(jax.process_count())}
    for name, leaf in leaves.items():
        if not is_spread(leaf):
            found[0][Piece.whole(name, leaf.shape)] = None
            continue
        placed = leaf.sharding.devices_indices_map(leaf.shape)
        devices = sorted(placed, key=lambda device: device.id, reverse=True)
        owners = {_piece(name, placed[device], leaf.shape): device for device in devices}  # the first one that holds it
        for piece, device in owners.items():
            found[device.process_index][piece] = device
    return found


def _piece(name: str, index: tuple[slice, ...], shape) -> Piece:
    bounds = [part.indices(n)[:2] for part, n in zip(index, shape, strict=True)]
    return Piece(name, tuple(a for a, _ in bounds), tuple(b - a for a, b in bounds))


def data_of(leaf, device: jax.Device | None):
    """What a device of this process holds of an array, or without a device all of it."""
    if device is None:
        return leaf if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable else leaf.addressable_data(0)
    return next(shard.data for shard in leaf.addressable_shards if shard.device == device)


def whole(array: jax.Array) -> np.ndarray:
    """All of an array, also where other processes hold parts of it: all must call this then."""
    return process_allgather(array, tiled=True) if is_spread(array) else np.asarray(array)


def by_array(pieces: Iterable[Piece]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.of, []).append(piece)
    return found


def fill_arrays(pieces: Iterable[Piece], shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the pieces are all entries of these arrays, each once: the boxes between cuts along every axis."""
    found = by_array(pieces)
    return found.keys() == shapes.keys() and all(_fill(found[name], shape) for name, shape in shapes.items())


def _fill(pieces: list[Piece], shape: tuple[int, ...]) -> bool:
    if any(not len(piece.start) == len(piece.shape) == len(shape) for piece in pieces):
        return False
    cuts = [sorted({piece.start[k] for piece in pieces} | {0, n}) for k, n in enumerate(shape)]
    ends = [dict(itertools.pairwise(cut)) | ({0: 0} if n == 0 else {}) for cut, n in zip(cuts, shape, strict=True)]
    boxes = math.prod(len(end) for end in ends)
    return len({piece.start for piece in pieces}) == len(pieces) == boxes and all(
        end.get(start) == start + size
        for piece in pieces
        for end, start, size in zip(ends, piece.start, piece.shape, strict=True)
    )


def made_of(pieces: list[Piece], read: Callable[[Piece], np.ndarray], form, sharding=None):
    """The array of these pieces: of NumPy, or with a sharding one of JAX, of which this process reads its own parts."""
    dtype, shape = form

    def part(index):
        wanted = _piece("", index, shape)
        for piece in pieces:
            if piece[1:] == wanted[1:]:
                return read(piece)
        found = np.empty(wanted.shape, jnp.dtype(dtype))
        for piece in pieces:
            starts = [max(a, b) for a, b in zip(piece.start, wanted.start, strict=True)]
            ends = [min(a + m, b + n) for a, m, b, n in zip(*piece[1:], *wanted[1:], strict=True)]
            if all(a < b for a, b in zip(starts, ends, strict=True)):
                found[_box(starts, ends, wanted.start)] = read(piece)[_box(starts, ends, piece.start)]
        return found

    if sharding is None:
        return part((slice(None),) * len(shape))
    return jax.make_array_from_callback(tuple(shape), sharding, part)


def _box(starts, ends, origin) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(starts, ends, origin, strict=True))


def gathered(mine: bytes, size: int) -> list[bytes]:
    """What every process tells the others, of at most so many bytes.  Waits for all of them."""
    padded = np.frombuffer(mine[:size].ljust(size, b"\0"), np.uint8)
    return [bytes(row) for row in np.asarray(process_allgather(padded)).reshape(-1, size)]


@contextmanager
def agreement():
    """Waits for all processes.  Raises CheckpointError in each of them if one could not do what is inside."""
    error = None
    try:
        yield
    except Exception as found:
        error = found
    text = "" if error is None else str(error) or type(error).__name__
    for number, told in enumerate(gathered(text.encode(), MESSAGE_BYTES)):
        if said := told.rstrip(b"\0").decode(errors="replace"):
            raise CheckpointError(f"process {number} of {jax.process_count()}: {said}") from error
