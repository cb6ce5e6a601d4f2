"""Checkpoints: arrays and a description, which are verified before anything of them is used.

A checkpoint is a folder `step-0000001234` with three files: `arrays.safetensors`, `config.json`, and `SHA256SUMS`, which
`sha256sum -c` understands.  The folder is written under another name and gets its own name only when all three files are on
the disk, so a save that is killed leaves the last good checkpoint as it was.  Nothing in a checkpoint is code.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as bytes_of

from ..errors import CheckpointError

ARRAYS, CONFIG, SUMS = "arrays.safetensors", "config.json", "SHA256SUMS"
FORMAT = 1
MAX_CONFIG_BYTES = 64 * 2**20  # a longer file is no configuration
FOLDER_NAME = "step-{:010d}"


class Checkpoint(NamedTuple):
    tree: Any
    config: dict
    path: Path


def save(folder: str | os.PathLike, tree, config: dict, step: int, keep: int = 3) -> Path:
    """Write a pytree of arrays and a dict to `folder/step-…`, and keep only the newest `keep` checkpoints.

    Raises CheckpointError where there is another checkpoint of this step, and TypeError where JSON cannot hold the dict.
    """
    folder = Path(folder)
    arrays = {name: _as_stored(leaf) for name, leaf in _leaves_by_name(tree).items()}
    config = {
        **config,
        "format": FORMAT,
        "jax": jax.__version__,
        "prng": {name: str(jax.random.key_impl(leaf)) for name, leaf in _leaves_by_name(tree).items() if _is_key(leaf)},
        "arrays": {name: [str(a.dtype), list(a.shape)] for name, a in arrays.items()},
    }
    contents = {ARRAYS: bytes_of(arrays), CONFIG: json.dumps(config, indent=1, allow_nan=False).encode()}
    contents[SUMS] = _checksums(contents)
    final = folder / FOLDER_NAME.format(step)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*-aside"):  # left over from saves that were killed
        shutil.rmtree(left, ignore_errors=True)
    if final.exists():
        if (final / SUMS).is_file() and (final / SUMS).read_bytes() == contents[SUMS]:
            return final
        raise CheckpointError(f"{final}: there is another checkpoint of this step")
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=".", suffix="-aside"))
    for name, content in contents.items():
        with open(aside / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync(aside)
    os.rename(aside, final)
    _sync(folder)
    for old in checkpoints(folder)[:-keep]:
        gone = folder / f".{old.name}-aside"  # once it is renamed it is no checkpoint, even if deleting its files fails
        os.rename(old, gone)
        shutil.rmtree(gone, ignore_errors=True)
    return final


def checkpoints(folder: str | os.PathLike) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(Path(folder).glob("step-" + "[0-9]" * 10))


def load(path: str | os.PathLike, like, whole: bool = True) -> Checkpoint:
    """A checkpoint, or the newest one in a folder, as a pytree of NumPy arrays and keys with the structure of `like`.

    `like` holds arrays or shapes.  Names, shapes and dtypes must be the same as in the checkpoint; with `whole=False`,
    `like` may be a part of it.  The sizes of the files are checked first, then their checksums, and only then are they read.
    Raises CheckpointError, whose message is one line that says what is wrong.
    """
    path = find_checkpoint(path)
    wanted = _leaves_by_name(like)
    size = sum(_byte_count(leaf) for leaf in wanted.values())
    contents = _verified(path, size if whole else None)
    config = _config(path, contents[CONFIG])
    try:
        arrays = {name: _array(info, config["arrays"][name][0]) for name, info in deserialize(contents[ARRAYS])}
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / ARRAYS}: cannot be read: {error}") from None
    if missing := (wanted.keys() ^ arrays.keys()) if whole else (wanted.keys() - arrays.keys()):
        name = min(missing)
        raise CheckpointError(f"{path}: {name} is {'missing' if name in wanted else 'not expected'}: of another model?")
    leaves = []
    for name, leaf in wanted.items():
        expected, found = _dtype_and_shape(leaf), (str(arrays[name].dtype), arrays[name].shape)
        if expected != found:
            raise CheckpointError(
                f"{path}: {name} is {_array_text(found)}, expected {_array_text(expected)}: of another model?"
            )
        if _is_key(leaf):
            leaves.append(_wrapped_key(path, name, arrays[name], config, leaf))
        else:
            leaves.append(arrays[name])
    return Checkpoint(jax.tree.unflatten(jax.tree.structure(like), leaves), config, path)


def read_config(path: str | os.PathLike) -> dict:
    """The description of a checkpoint, or of the newest one in a folder.  Raises CheckpointError as `load` does."""
    path = find_checkpoint(path)
    return _config(path, _verified(path, None)[CONFIG])


def find_checkpoint(path: str | os.PathLike) -> Path:
    """The path itself if it is a checkpoint, or the newest checkpoint in the folder at this path."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: {'no folder' if path.exists() else 'no such folder'}, so no checkpoint")
    if not (path / SUMS).exists() and not path.name.startswith("step-"):
        found = checkpoints(path)
        if not found:
            raise CheckpointError(f"{path}: no checkpoint in this folder")
        path = found[-1]
    return path


def _verified(path, size):
    """The contents of the files, once their sizes and checksums are right.

    `size` is the number of bytes of arrays to expect, or None where it is not known.
    """
    contents = {}
    for name in (ARRAYS, CONFIG, SUMS):
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{path}: no file {name}: incomplete, or no checkpoint")
        most = MAX_CONFIG_BYTES if name != ARRAYS else float("inf") if size is None else size + MAX_CONFIG_BYTES
        if file.stat().st_size > most:
            raise CheckpointError(f"{file}: {file.stat().st_size} bytes, expected at most {most}")
        try:
            contents[name] = file.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{file}: {error.strerror}") from None
    if contents[SUMS] != _checksums(contents):
        raise CheckpointError(f"{path}: corrupt: its checksums are not those of its files")
    return contents


def _config(path, content):
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path / CONFIG}: no JSON") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{path / CONFIG}: not of this library, or of format other than {FORMAT}")
    for name in ("arrays", "prng"):
        if not isinstance(config.get(name), dict):
            raise CheckpointError(f"{path / CONFIG}: does not describe {name}")
    return config


def _checksums(contents) -> bytes:
    return "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in (ARRAYS, CONFIG)).encode()


def _leaves_by_name(tree) -> dict:
    return {keystr(path): leaf for path, leaf in tree_flatten_with_path(tree)[0]}


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_stored(leaf):
    """A NumPy array as safetensors takes it: in row-major order, and in the byte order of the machine."""
    a = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return np.asarray(a, a.dtype.newbyteorder("="), order="C")


def _array(info, dtype):
    """An array of the file.  Its dtype is taken from the description, because NumPy alone does not know bfloat16."""
    dtype = jax.numpy.dtype(dtype)
    ((_, same),) = deserialize(bytes_of({"": np.empty(0, dtype)}))
    if info["dtype"] != same["dtype"]:
        raise TypeError(f"{info['dtype']} where {dtype} is described")
    return np.frombuffer(info["data"], dtype).reshape(info["shape"]).copy()


def _dtype_and_shape(leaf):
    """The dtype and the shape of a leaf as it is stored."""
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return str(stored.dtype), tuple(stored.shape)


def _byte_count(leaf) -> int:
    dtype, shape = _dtype_and_shape(leaf)
    return int(np.prod(shape, dtype=object)) * jax.numpy.dtype(dtype).itemsize


def _array_text(form) -> str:
    return f"{form[0]}[{','.join(map(str, form[1]))}]"


def _wrapped_key(path, name, data, config, like):
    kind, expected = config["prng"].get(name), str(jax.random.key_impl(like))
    if kind != expected:
        raise CheckpointError(f"{path}: {name} is a key of {kind}, expected {expected}")
    return jax.random.wrap_key_data(data, impl=expected)


def _sync(folder):
    """Write the names in a folder to the disk, where the operating system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
