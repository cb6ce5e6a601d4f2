"""Checkpoints: arrays and a description, which are verified before anything of them is used.

A checkpoint is a folder `step-0000001234` with three files: `arrays.safetensors`, `config.json`, and `SHA256SUMS`, which
`sha256sum -c` understands.  The folder is written under another name and gets its own name only when all three files are on
the disk, so a save that is killed leaves the last good checkpoint as it was.  Nothing in a checkpoint is code.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from safetensors.numpy import save as bytes_of

from ..algebra.sizes import show_tree
from ..errors import CheckpointError
from ..files import make_folder

ARRAYS, CONFIG, SUMS = "arrays.safetensors", "config.json", "SHA256SUMS"
FORMAT = 1
MAX_CONFIG_BYTES = 64 * 2**20  # a longer file is no configuration
MAX_HEADER_BYTES = 64 * 2**20  # of the names and shapes in the file of arrays
MAX_SUMS_BYTES = 4096
MAX_ARRAY_BYTES, MAX_AXES = 2**62, 64
SUMS_PATTERN = rf"([0-9a-f]{{64}})  {re.escape(ARRAYS)}\n([0-9a-f]{{64}})  {re.escape(CONFIG)}\n".encode()
CODES = {  # what safetensors calls the dtypes of arrays
    **{f"float{size}": f"F{size}" for size in (16, 32, 64)},
    **{f"{kind}{size}": f"{kind[0].upper()}{size}" for kind in ("int", "uint") for size in (8, 16, 32, 64)},
    **{"bool": "BOOL", "bfloat16": "BF16", "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
    **{"float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0"},
}
FOLDER_NAME = "step-{:010d}"


class Checkpoint(NamedTuple):
    tree: Any
    config: dict
    path: Path

    def __repr__(self):
        return f"Checkpoint({self.path}: {show_tree(self.tree)})"


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
    make_folder(folder)
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
    `like` may be a part of it, and only that part is read.  What the files say of their sizes is compared first, then the
    checksums, and only then is room made for arrays.  Raises CheckpointError, whose message is one line that says what is
    wrong.
    """
    path = find_checkpoint(path)
    wanted = _leaves_by_name(like)
    config = _verified_config(path)
    described = config["arrays"]
    if missing := (wanted.keys() ^ described.keys()) if whole else (wanted.keys() - described.keys()):
        name = min(missing)
        raise CheckpointError(f"{path}: {name} is {'missing' if name in wanted else 'not expected'}: of another model?")
    for name, leaf in wanted.items():
        expected, found = _dtype_and_shape(leaf), (described[name][0], tuple(described[name][1]))
        if expected != found:
            raise CheckpointError(
                f"{path}: {name} is {_array_text(found)}, expected {_array_text(expected)}: of another model?"
            )
    _verify_arrays(path, config)
    arrays = _read_arrays(path, described, wanted)
    leaves = [
        _wrapped_key(path, name, arrays[name], config, leaf) if _is_key(leaf) else arrays[name]
        for name, leaf in wanted.items()
    ]
    return Checkpoint(jax.tree.unflatten(jax.tree.structure(like), leaves), config, path)


def read_config(path: str | os.PathLike) -> dict:
    """The description of a checkpoint, or of the newest one in a folder.  Raises CheckpointError as `load` does."""
    path = find_checkpoint(path)
    config = _verified_config(path)
    _verify_arrays(path, config)
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


def _verified_config(path: Path) -> dict:
    """The description, once its size and checksum are right and it describes arrays."""
    for name in (ARRAYS, CONFIG, SUMS):
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: no file {name}: incomplete, or no checkpoint")
    _check_size(path / CONFIG, MAX_CONFIG_BYTES)
    content = _contents(path / CONFIG)
    if _expected_sums(path)[CONFIG] != hashlib.sha256(content).hexdigest():
        raise CheckpointError(f"{path}: corrupt: its checksums are not those of its files")
    return checked_config(path / CONFIG, content)


def _verify_arrays(path: Path, config: dict):
    """Check the size and the checksum of the file of arrays.  It is read piece by piece, as it may be larger than memory."""
    _check_size(path / ARRAYS, sum(map(_described_bytes, config["arrays"].values())) + MAX_HEADER_BYTES)
    try:
        with open(path / ARRAYS, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path / ARRAYS}: {error.strerror}") from None
    if _expected_sums(path)[ARRAYS] != found:
        raise CheckpointError(f"{path}: corrupt: its checksums are not those of its files")


def _check_size(file: Path, most: int):
    try:
        size = file.stat().st_size
    except OSError as error:  # it was removed just now
        raise CheckpointError(f"{file}: {error.strerror}") from None
    if size > most:
        raise CheckpointError(f"{file}: corrupt: {size} bytes, expected at most {most}")


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}") from None


def _expected_sums(path: Path) -> dict[str, str]:
    """The checksum of each file."""
    _check_size(path / SUMS, MAX_SUMS_BYTES)
    sums = re.fullmatch(SUMS_PATTERN, _contents(path / SUMS))
    if not sums:
        raise CheckpointError(f"{path}: corrupt: {SUMS} does not hold two checksums")
    return dict(zip((ARRAYS, CONFIG), map(bytes.decode, sums.groups()), strict=True))


def _read_arrays(path: Path, described: dict, wanted) -> dict[str, np.ndarray]:
    """The wanted arrays of the file, which must hold what is described."""
    file = path / ARRAYS
    try:
        with open(file, "rb") as opened:
            starts = _starts(opened, file.stat().st_size, described)
            return {name: _read_array(opened, starts[name], *described[name]) for name in wanted}
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from None


def _starts(opened, size: int, described: dict) -> dict[str, int]:
    """Where in the file every array begins, from its header in the format of safetensors."""
    length = int.from_bytes(opened.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise ValueError("its header is longer than the file")
    header = _json_object(opened.read(length))
    header.pop("__metadata__", None)
    if other := header.keys() ^ described.keys():
        name = min(other)
        raise ValueError(f"{name} is {'missing' if name in described else 'not described'}")
    starts, end = {}, 0
    for name, (dtype, shape) in described.items():
        entry, count = header[name], _described_bytes((dtype, shape))
        if not isinstance(entry, dict):
            raise ValueError(f"{name} is not described")
        if entry.get("dtype") != CODES[dtype]:
            raise ValueError(f"{name} is {str(entry.get('dtype'))[:40]} where {dtype} is described")
        if entry.get("shape") != shape:
            raise ValueError(f"{name} is of shape {str(entry.get('shape'))[:40]} where {shape} is described")
        offsets: Any = entry.get("data_offsets")
        if not _are_counts(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != count:
            raise ValueError(f"{name} does not have {count} bytes")
        starts[name], end = 8 + length + offsets[0], max(end, offsets[1])
    if end != size - 8 - length:
        raise ValueError(f"{end} bytes of arrays where the file has {size - 8 - length}")
    return starts


def _read_array(opened, start: int, dtype: str, shape: list[int]) -> np.ndarray:
    array = np.empty(shape, jnp.dtype(dtype))
    opened.seek(start)
    if opened.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
        raise ValueError("it ends too early")
    return array


def checked_config(file: Path, content: bytes) -> dict:
    """The description that the content of a file holds.  Raises CheckpointError unless it is one that `save` could write."""
    try:
        config = _json_object(content)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None
    if config.get("format") != FORMAT:
        raise CheckpointError(f"{file}: not of this library, or of format other than {FORMAT}")
    for name, is_description in (("arrays", _is_array_description), ("prng", lambda kind: isinstance(kind, str))):
        described = config.get(name)
        if not isinstance(described, dict) or not all(map(is_description, described.values())):
            raise CheckpointError(f"{file}: does not describe {name}")
    return config


def _json_object(content: bytes) -> dict:
    """The object in a text of JSON that holds no NaN and no infinity."""
    try:
        found = json.loads(content, parse_constant=_refused_constant)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("no object of JSON")
    return found


def _refused_constant(name: str):
    raise ValueError(f"{name} is no number of JSON")


def _is_array_description(described) -> bool:
    """Whether this is a pair of a dtype and a shape, as `save` writes it."""
    return (
        isinstance(described, list)
        and len(described) == 2
        and isinstance(described[0], str)
        and described[0] in CODES
        and _are_counts(described[1])
        and len(described[1]) <= MAX_AXES
        and _described_bytes(described) <= MAX_ARRAY_BYTES
    )


def _are_counts(found) -> bool:
    return isinstance(found, list) and all(type(n) is int and n >= 0 for n in found)


def _described_bytes(described) -> int:
    return math.prod(described[1]) * jnp.dtype(described[0]).itemsize


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


def _dtype_and_shape(leaf):
    """The dtype and the shape of a leaf as it is stored."""
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return str(stored.dtype), tuple(stored.shape)


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
