"""The files of a checkpoint: what they are called and hold, and how they are verified before anything of them is used."""

import hashlib
import itertools
import json
import math
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..errors import CheckpointError
from .pieces import Piece, by_array, fill_arrays, made_of

ARRAYS, CONFIG, SUMS = "arrays.safetensors", "config.json", "SHA256SUMS"
FORMAT = 1
MAX_CONFIG_BYTES = 64 * 2**20  # a longer file is no configuration
MAX_HEADER_BYTES = 64 * 2**20  # of the names and shapes in the file of arrays
MAX_SUMS_BYTES = 2**20
MAX_ARRAY_BYTES, MAX_AXES = 2**62, 64
SUM_PATTERN = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9.-]{1,99})\n")
FILE_PATTERN = re.compile(r"arrays-\d{1,9}-of-\d{1,9}\.safetensors")  # of one process of several
CODES = {  # what safetensors calls the dtypes of arrays
    **{f"float{size}": f"F{size}" for size in (16, 32, 64)},
    **{f"{kind}{size}": f"{kind[0].upper()}{size}" for kind in ("int", "uint") for size in (8, 16, 32, 64)},
    **{"bool": "BOOL", "bfloat16": "BF16", "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
    **{"float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0"},
}


def verified_config(path: Path) -> dict:
    """The description, once its size and checksum are right and it describes arrays in files that are there."""
    sums = _expected_sums(path)
    for name in sums:
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: no file {name}: incomplete, or no checkpoint")
    _check_size(path / CONFIG, MAX_CONFIG_BYTES)
    content = _contents(path / CONFIG)
    if sums[CONFIG] != hashlib.sha256(content).hexdigest():
        raise CheckpointError(f"{path}: corrupt: its checksums are not those of its files")
    config = checked_config(path / CONFIG, content)
    if sums.keys() != {CONFIG, *pieces_by_file(config)}:
        raise CheckpointError(f"{path}: corrupt: {SUMS} does not hold the checksums of the files that are described")
    return config


def verify_arrays(path: Path, config: dict):
    """Check sizes and checksums of the files of arrays.  They are read bit by bit, as they may be larger than memory."""
    sums = _expected_sums(path)
    for name, pieces in pieces_by_file(config).items():
        size = sum(_described_bytes((config["arrays"][piece.of][0], piece.shape)) for piece in pieces)
        _check_size(path / name, size + MAX_HEADER_BYTES)
        try:
            with open(path / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path / name}: {error.strerror}") from None
        if sums[name] != found:
            raise CheckpointError(f"{path}: corrupt: its checksums are not those of its files")


def pieces_by_file(config: dict) -> dict[str, list[Piece]]:
    """What every file holds: one file all arrays, or those of several processes the pieces that each of them wrote."""
    files = config.get("files")
    if files is None:
        return {ARRAYS: [Piece.whole(name, shape) for name, (_, shape) in config["arrays"].items()]}
    return {file: [Piece(of, tuple(start), tuple(shape)) for of, start, shape in pieces] for file, pieces in files.items()}


def name_in_file(config: dict, piece: Piece) -> str:
    return piece.of if config.get("files") is None else piece.name


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
    """The checksum of each file, by its name."""
    for name in (SUMS, CONFIG):
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: no file {name}: incomplete, or no checkpoint")
    _check_size(path / SUMS, MAX_SUMS_BYTES)
    text = _contents(path / SUMS).decode("latin-1")
    sums = {name: checksum for checksum, name in SUM_PATTERN.findall(text)}
    if sums_text(sums) != text or CONFIG not in sums or not all(map(_is_own_file, sums)):
        raise CheckpointError(f"{path}: corrupt: {SUMS} does not hold the checksums of its files")
    return sums


def sums_text(sums: dict[str, str]) -> str:
    """What `sha256sum -c` reads."""
    return "".join(f"{checksum}  {name}\n" for name, checksum in sums.items())


def _is_own_file(name: str) -> bool:
    return name in (ARRAYS, CONFIG) or FILE_PATTERN.fullmatch(name) is not None


def read_arrays(path: Path, config: dict, shardings: dict) -> dict[str, Any]:
    """The wanted arrays, by name: those of NumPy where the sharding is None.  The files must hold what is described."""
    described, files = config["arrays"], pieces_by_file(config)
    places: dict[Piece, tuple[Path, int]] = {}  # the file, and where in it
    for name, pieces in files.items():
        forms = {name_in_file(config, piece): (described[piece.of][0], list(piece.shape)) for piece in pieces}
        with _readable(path / name) as opened:
            starts = _starts(opened, (path / name).stat().st_size, forms)
        places |= {piece: (path / name, starts[name_in_file(config, piece)]) for piece in pieces}

    def read(piece):
        file, start = places[piece]
        with _readable(file) as opened:
            return _read_array(opened, start, described[piece.of][0], piece.shape)

    found = by_array(places)
    return {name: made_of(found[name], read, described[name], sharding) for name, sharding in shardings.items()}


@contextmanager
def _readable(file: Path):
    try:
        with open(file, "rb") as opened:
            yield opened
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
    if not _describes_pieces(config.get("files"), config["arrays"]):
        raise CheckpointError(f"{file}: does not describe files that hold the arrays")
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


def _describes_pieces(files, arrays: dict) -> bool:
    """Whether these are files of processes with all entries of the arrays, each once."""
    if files is None:
        return True
    return (
        isinstance(files, dict)
        and all(FILE_PATTERN.fullmatch(name) and isinstance(pieces, list) for name, pieces in files.items())
        and all(map(_is_piece_description, itertools.chain.from_iterable(files.values())))
        and fill_arrays(
            itertools.chain.from_iterable(pieces_by_file({"files": files}).values()),
            {name: tuple(shape) for name, (_, shape) in arrays.items()},
        )
    )


def _is_piece_description(described) -> bool:
    return (
        isinstance(described, list)
        and len(described) == 3
        and isinstance(described[0], str)
        and all(map(_are_counts, described[1:]))
    )


def _are_counts(found) -> bool:
    return isinstance(found, list) and all(type(n) is int and n >= 0 for n in found)


def _described_bytes(described) -> int:
    return math.prod(described[1]) * jnp.dtype(described[0]).itemsize
