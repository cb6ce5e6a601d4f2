"""Checkpoints: arrays and a description, which are verified before anything of them is used.

A checkpoint is a folder `step-0000001234` with three files: `arrays.safetensors`, `config.json`, and `SHA256SUMS`, which
`sha256sum -c` understands.  Where arrays are spread over several processes there is a file of arrays of each of them.  The
folder is written under another name and gets its own name only when all files are on the disk, so a save that is killed
leaves the last good checkpoint as it was.  Nothing in a checkpoint is code.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from safetensors.numpy import save as bytes_of

from ..algebra.sizes import show_tree
from ..errors import CheckpointError
from ..files import make_folder
from .checkpoint_files import (
    ARRAYS,
    CONFIG,
    FORMAT,
    SUMS,
    name_in_file,
    read_arrays,
    sums_text,
    verified_config,
    verify_arrays,
)
from .pieces import agreement, data_of, gathered, is_spread, pieces_by_process

FOLDER_NAME = "step-{:010d}"
FILE_NAME = "arrays-{}-of-{}.safetensors"


class Checkpoint(NamedTuple):
    tree: Any
    config: dict
    path: Path

    def __repr__(self):
        return f"Checkpoint({self.path}: {show_tree(self.tree)})"


def save(folder: str | os.PathLike, tree, config: dict, step: int, keep: int = 3) -> Path:
    """Write a pytree of arrays and a dict to `folder/step-…`, and keep only the newest `keep` checkpoints.

    Where arrays are spread over the devices of several processes, all of them call this, with a folder that all can see:
    each writes what is on its devices to a file of its own, and the first one the rest.

    Raises CheckpointError where there is another checkpoint of this step, or where another process could not write, and
    TypeError where JSON cannot hold the dict.
    """
    leaves = _leaves_by_name(tree)
    together = any(map(is_spread, leaves.values()))
    owned = list(pieces_by_process(leaves).values())[: None if together else 1]
    files = [FILE_NAME.format(i + 1, len(owned)) for i in range(len(owned))] if together else [ARRAYS]
    me = jax.process_index() if together else 0
    described: dict[str, Any] = {
        **{name: value for name, value in config.items() if name != "files"},
        "format": FORMAT,
        "jax": jax.__version__,
        "prng": {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)},
        "arrays": {
            name: [dtype, list(shape)] for name, (dtype, shape) in zip(leaves, map(_form, leaves.values()), strict=True)
        },
    }
    if together:
        described["files"] = dict(zip(files, map(list, owned), strict=True))
    stored = {piece: _as_stored(data_of(leaves[piece.of], device)) for piece, device in owned[me].items()}
    arrays = bytes_of({name_in_file(described, piece): array for piece, array in stored.items()})
    digest = hashlib.sha256(arrays).digest()
    digests = gathered(digest, len(digest)) if together else [digest]
    final = Path(folder) / FOLDER_NAME.format(step)
    saving = _Saving(final, files, [found.hex() for found in digests], described, keep)

    def take(do: Callable, by_first: bool):
        with agreement() if together else contextlib.nullcontext():
            if me == 0 or not by_first:
                do()

    take(saving.begin, True)
    if not final.exists():  # where it does, that is so for all
        take(lambda: saving.write(files[me], arrays), False)
        take(saving.end, True)
    return final


class _Saving(NamedTuple):
    """The steps of a save; the first process takes the first and the last one."""

    final: Path
    files: list[str]
    digests: list[str]
    described: dict
    keep: int

    @property
    def aside(self) -> Path:
        return self.final.parent / f".{self.final.name}-new-aside"

    def begin(self):
        """Make the folder aside, unless this checkpoint is there already."""
        folder, sums = self.final.parent, self._sums()
        make_folder(folder)
        for left in folder.glob(".*-aside"):  # left over from saves that were killed
            shutil.rmtree(left, ignore_errors=True)
        if not self.final.exists():
            self.aside.mkdir()
        elif not (self.final / SUMS).is_file() or (self.final / SUMS).read_bytes() != sums:
            raise CheckpointError(f"{self.final}: there is another checkpoint of this step")

    def write(self, name: str, content: bytes):
        with open(self.aside / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def end(self):
        """The folder aside, which now holds all arrays, becomes the checkpoint."""
        self.write(CONFIG, self._config())
        self.write(SUMS, self._sums())
        _sync(self.aside)
        os.rename(self.aside, self.final)
        _sync(self.final.parent)
        for old in checkpoints(self.final.parent)[: -self.keep]:
            gone = (
                old.parent / f".{old.name}-aside"
            )  # once it is renamed it is no checkpoint, even if deleting its files fails
            os.rename(old, gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _config(self) -> bytes:
        return json.dumps(self.described, indent=1, allow_nan=False).encode()

    def _sums(self) -> bytes:
        config = hashlib.sha256(self._config()).hexdigest()
        return sums_text({**dict(zip(self.files, self.digests, strict=True)), CONFIG: config}).encode()


def checkpoints(folder: str | os.PathLike) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(Path(folder).glob("step-" + "[0-9]" * 10))


def load(path: str | os.PathLike, like, whole: bool = True, shardings=None) -> Checkpoint:
    """A checkpoint, or the newest one in a folder, as a pytree of NumPy arrays and keys with the structure of `like`.

    `like` holds arrays or shapes.  Names, shapes and dtypes must be the same as in the checkpoint; with `whole=False`,
    `like` may be a part of it, and only that part is read.  With `shardings`, a tree as `like`, the arrays are those of JAX
    on many devices, of which a process reads what belongs on its own; the checkpoint may be one of other devices.

    What the files say of their sizes is compared first, then the checksums, and only then is room made for arrays.  Raises
    CheckpointError, whose message is one line that says what is wrong.
    """
    path = find_checkpoint(path)
    wanted = _leaves_by_name(like)
    config = verified_config(path)
    described = config["arrays"]
    if missing := (wanted.keys() ^ described.keys()) if whole else (wanted.keys() - described.keys()):
        name = min(missing)
        raise CheckpointError(f"{path}: {name} is {'missing' if name in wanted else 'not expected'}: of another model?")
    for name, leaf in wanted.items():
        expected, found = _form(leaf), (described[name][0], tuple(described[name][1]))
        if expected != found:
            raise CheckpointError(
                f"{path}: {name} is {_array_text(found)}, expected {_array_text(expected)}: of another model?"
            )
    verify_arrays(path, config)
    placed = dict.fromkeys(wanted) if shardings is None else _leaves_by_name(shardings)
    arrays = read_arrays(path, config, {name: None if _is_key(leaf) else placed[name] for name, leaf in wanted.items()})
    leaves = [
        _wrapped_key(path, name, arrays[name], config, leaf, placed[name]) if _is_key(leaf) else arrays[name]
        for name, leaf in wanted.items()
    ]
    return Checkpoint(jax.tree.unflatten(jax.tree.structure(like), leaves), config, path)


def read_config(path: str | os.PathLike) -> dict:
    """The description of a checkpoint, or of the newest one in a folder.  Raises CheckpointError as `load` does."""
    path = find_checkpoint(path)
    config = verified_config(path)
    verify_arrays(path, config)
    return config


def find_checkpoint(path: str | os.PathLike) -> Path:
    """The path itself if it is a checkpoint, or the newest checkpoint in the folder at this path or in its `checkpoints`."""
    path = Path(path)
    path = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if not path.is_dir():
        raise CheckpointError(f"{path}: {'no folder' if path.exists() else 'no such folder'}, so no checkpoint")
    if not (path / SUMS).exists() and not path.name.startswith("step-"):
        found = checkpoints(path)
        if not found:
            raise CheckpointError(f"{path}: no checkpoint in this folder")
        path = found[-1]
    return path


def _leaves_by_name(tree) -> dict:
    return {keystr(path): leaf for path, leaf in tree_flatten_with_path(tree)[0]}


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_stored(leaf):
    """A NumPy array as safetensors takes it: in row-major order, and in the byte order of the machine."""
    a = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return np.asarray(a, a.dtype.newbyteorder("="), order="C")


def _form(leaf):
    """The dtype and the shape of a leaf as it is stored."""
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return str(stored.dtype.newbyteorder("=")), tuple(stored.shape)


def _array_text(form) -> str:
    return f"{form[0]}[{','.join(map(str, form[1]))}]"


def _wrapped_key(path, name, data, config, like, sharding):
    kind, expected = config["prng"].get(name), str(jax.random.key_impl(like))
    if kind != expected:
        raise CheckpointError(f"{path}: {name} is a key of {kind}, expected {expected}")
    key = jax.random.wrap_key_data(data, impl=expected)
    return key if sharding is None else jax.device_put(key, sharding)


def _sync(folder):
    """Write the names in a folder to the disk, where the operating system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
