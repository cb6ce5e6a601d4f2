"""Files that hold data: arrays of NumPy, tables, folders of images; and what tells whether one has changed."""

import hashlib
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checks import check_integer
from ..errors import ShapeError
from .encoding import MAX_CLASSES, Encoding, encoding_like
from .image_folders import image_files, is_image, read_images
from .progress import stage
from .tables import Table

UNREADABLE = (OSError, EOFError, AttributeError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Read(NamedTuple):
    """What a file holds.  Without answers in it, y has no entries and there are no classes."""

    x: np.ndarray
    y: np.ndarray
    classes: int | None
    encoding: Encoding | None


def read(path, classes: int | None, target: str | None, size: tuple[int, int] | None, like) -> Read:
    """The data in a file or folder, read as `like` was if that is given."""
    encoding = None if like is None else encoding_like("load", like)
    kind = kind_of(path)
    if encoding is not None:
        for name, value in (("classes", classes), ("target", target), ("size", size)):
            if value is not None:
                raise ValueError(f"load: {name} is already told by like; leave it out")
        if kind != encoding.kind:
            raise ValueError(f"{path}: is read as {kind}, but like tells of {encoding.kind}")
    for name, value, fits in (("target", target, "table"), ("size", size, "images")):
        if value is not None and kind != fits:
            raise ValueError(f"load: {name} is for {'CSV files' if fits == 'table' else 'folders of images'}, got {path}")
    if classes is not None:
        check_integer("load", "classes", classes, 0, MAX_CLASSES)
    if size is not None:
        for n in size:
            check_integer("load", "size", n, 1, 10_000)
    y: np.ndarray | None
    if kind == "images":
        x, y, encoding = read_images(path, size, encoding)
        if classes is not None and classes != len(encoding.classes or ()):
            raise ValueError(f"{path}: {len(encoding.classes or ())} folders of classes, expected classes={classes}")
    elif kind == "table":
        with stage(f"reading {path}"):
            table = Table(path)
            encoding = table.learn(target, classes) if encoding is None else encoding
            x, y = table.inputs(encoding), table.targets(encoding)
    else:
        x, y = _arrays(path, needs_answers=encoding is None)
        if encoding is None and y is not None:
            return Read(x, y, _number_of_classes(y, classes), None)
        assert encoding is not None
        if x.shape[1:] != encoding.shape:
            raise ShapeError(f"{path}: one input has shape {x.shape[1:]}, expected {encoding.shape}")
        if y is not None and encoding.classes is None and encoding.target_shape is not None:
            y = shaped_targets(path, y, encoding.target_shape)
    if y is None:
        return Read(encoding.inputs(x), np.zeros((len(x), 0)), None, encoding)
    count = None if encoding.classes is None else len(encoding.classes)
    return Read(encoding.inputs(x), encoding.targets(y), count, encoding)


def kind_of(path) -> str:
    """What the name of a file says that it holds."""
    if os.path.isdir(path) or is_image(path):
        return "images"
    return "table" if Path(path).suffix.lower() in (".csv", ".tsv") else "arrays"


def fingerprint(path) -> str:
    """The SHA-256 of a file, or of the names and contents of the images in a folder."""
    if not os.path.isdir(path):
        return _digest(path)
    whole = hashlib.sha256()
    for _, file in image_files(path):
        whole.update(f"{_digest(file)}  {file.relative_to(path).as_posix()}\n".encode())
    return whole.hexdigest()


def _digest(file) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def shaped_targets(path, y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Targets of numbers with one target of this shape: y[example] becomes y[example, 1]."""
    if y.ndim < 1 or math.prod(y.shape[1:]) != math.prod(shape):
        raise ShapeError(f"{path}: one target has shape {y.shape[1:]}, expected {shape}")
    return y.reshape(len(y), *shape)


def _arrays(path, needs_answers: bool) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with np.load(path, allow_pickle=False) as found:
            names, arrays = found.files, {name: found[name] for name in ("x", "y") if name in found.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except UNREADABLE as error:
        raise ValueError(f"{path}: no NumPy archive (.npz) of numbers: {error}") from None
    if missing := [name for name in ("x", "y") if name not in arrays and (needs_answers or name == "x")]:
        raise ValueError(f"{path}: no array {' and '.join(missing)}; it has {', '.join(names) or 'none'}")
    return arrays["x"], arrays.get("y")


def _number_of_classes(y: np.ndarray, classes: int | None) -> int | None:
    """As many as `classes` says, where 0 stands for numbers; otherwise as many as an integer y with one axis names."""
    if classes is not None:
        return classes or None
    return int(y.max()) + 1 if y.ndim == 1 and y.dtype.kind in "iu" and y.size else None
