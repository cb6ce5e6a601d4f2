"""How files of one's own become arrays: what was learned of the first file, so that another one is read in the same way."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..checks import as_numbers, checked, is_integer, show_value
from ..errors import ShapeError

DATA_ENCODING = "data_encoding"  # what it is called in the description of a checkpoint
KINDS = ("arrays", "table", "images")
MAX_CLASSES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: of numbers, or of `words`, each of which becomes a column of zeros and ones."""

    name: str
    words: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        return 1 if self.words is None else len(self.words)


@dataclasses.dataclass(frozen=True)
class Scale:
    """(x − mean) / std, with a mean and a standard deviation for every entry of the flat array, or one for all of them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray, chosen=True) -> "Scale":
        """That of the examples.  Entries that are not `chosen` stay as they are, and those that never change become 0."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        mean, std = np.where(chosen, flat.mean(0), 0.0), np.where(chosen, flat.std(0), 1.0)
        return cls(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))

    def after(self, first: "Scale | None") -> "Scale":
        """The one scale that does what `first` and then this one do."""
        if first is None:
            return self
        mean = np.add(first.mean, np.multiply(first.std, self.mean))
        return Scale(tuple(mean.tolist()), tuple(np.multiply(first.std, self.std).tolist()))

    def standardize(self, values):
        """(x − mean) / std of an array of NumPy or JAX."""
        return (values - self._like(self.mean, values)) / self._like(self.std, values)

    def undo(self, values):
        """x · std + mean."""
        return values * self._like(self.std, values) + self._like(self.mean, values)

    def _like(self, numbers, values):
        found = np.asarray(numbers, values.dtype)
        return found.reshape(values.shape[1:]) if len(numbers) > 1 else found[0]


@checked
@dataclasses.dataclass(frozen=True)
class Encoding:
    """What `jn.data.load` learned of a file, so that `like=` reads another one in exactly the same way.

    `kind` is "arrays", "table" or "images", `shape` that of one input and `target_shape` that of one target of numbers.
    `columns` are those of a table, `target` is the name of the column of the answers, and `classes` are the names of the
    classes where these are labels.  `resized` says whether images were brought to one size.  `scale` and `target_scale`
    hold the means and standard deviations of the training set where inputs and targets are standardized.

    >>> encoding = jn.Encoding("table", (2,), classes=("no", "yes"))
    >>> jn.Encoding.from_json(encoding.to_json()) == encoding
    True
    """

    kind: str
    shape: tuple[int, ...]
    columns: tuple[Column, ...] = ()
    target: str | None = None
    classes: tuple[str, ...] | None = None
    target_shape: tuple[int, ...] | None = None
    resized: bool = False
    scale: Scale | None = None
    target_scale: Scale | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"Encoding: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")

    def __repr__(self):
        answers = "numbers" if self.classes is None else f"{len(self.classes)} classes"
        scaled = ", standardized" if self.scale else ""
        return f"Encoding({self.kind} of inputs {list(self.shape)}{scaled}, answers: {answers})"

    def inputs(self, x):
        """Inputs [example, ...] as the network takes them: standardized, if those of the training set were."""
        if self.scale is None:
            return x
        return self.scale.standardize(np.asarray(x, np.float64)).astype(jnp.result_type(float))

    def targets(self, y):
        """Targets [example, ...] as the network learns them: numbers are standardized, if those of the training set were."""
        if self.target_scale is None:
            return y
        return self.target_scale.standardize(np.asarray(y, np.float64))

    def answers(self, predictions) -> np.ndarray:
        """What predictions [example, ...] say: names of classes, or numbers in the units of the target.

        >>> jn.Encoding("table", (2,), classes=("no", "yes")).answers([[0.1, 0.9], [0.7, 0.3]])
        array(['yes', 'no'], dtype='<U3')
        """
        found = as_numbers("answers", "predictions", predictions, *["any"] * np.ndim(predictions))
        if self.classes is not None:
            if found.ndim < 2 or found.shape[-1] != len(self.classes):
                raise ShapeError(f"answers: predictions have shape {found.shape}, expected (…, {len(self.classes)})")
            return np.array(self.classes)[found.argmax(-1)]
        if self.target_scale is None:
            return found
        if len(self.target_scale.mean) not in (1, math.prod(found.shape[1:])):
            raise ShapeError(f"answers: predictions have shape {found.shape}, expected {len(self.target_scale.mean)} each")
        return self.target_scale.undo(found.astype(np.float64))

    def fitted(self, x: np.ndarray, y: np.ndarray) -> "Encoding":
        """The encoding that standardizes by these training examples: columns of numbers, and targets of numbers.

        Images are left as they are, but those of bytes are brought to 0 … 1.
        """
        scale = Scale((0.0,), (255.0,)) if x.dtype == np.uint8 else None
        if len(self.shape) == 1:
            numbers = [column.words is None for column in self.columns for _ in range(column.width)]
            scale = Scale.of(x, numbers or True)
        return dataclasses.replace(self, scale=scale, target_scale=None if self.classes is not None else Scale.of(y))

    def rescaled(self, mean: np.ndarray, std: np.ndarray) -> "Encoding":
        """The encoding whose inputs are standardized once more."""
        scale = Scale(tuple(np.ravel(mean).tolist()), tuple(np.ravel(std).tolist()))
        return dataclasses.replace(self, scale=scale.after(self.scale))

    def to_json(self) -> dict[str, Any]:
        """The encoding as data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found) -> "Encoding":
        """The encoding that `to_json` gave.  Raises ValueError where `found` is something else."""
        try:
            return _from_json(found)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
            raise ValueError("from_json: found must be what to_json of an encoding gives") from None

    @classmethod
    def of_dataset(cls, dataset) -> "Encoding":
        """That of a data set, or one of arrays where it has none."""
        if dataset.encoding is not None:
            return dataset.encoding
        names = None if dataset.classes is None else tuple(map(str, range(dataset.classes)))
        return cls("arrays", dataset.shape, classes=names, target_shape=None if names else dataset.y.shape[1:])

    @classmethod
    def of_description(cls, config: Mapping) -> "Encoding":
        """The encoding in the description that `restore` returns, or one of arrays where the run had none."""
        if config.get(DATA_ENCODING) is not None:
            return cls.from_json(config[DATA_ENCODING])
        data = config["run"]["data"]
        names = None if data["classes"] is None else tuple(map(str, range(min(data["classes"], MAX_CLASSES))))
        return cls("arrays", tuple(data["shape"]), classes=names)


def encoding_like(name: str, like) -> Encoding:
    """The encoding itself, that of a data set, or that in the description that `restore` returns; TypeError otherwise."""
    if isinstance(like, Encoding):
        return like
    if isinstance(like, Mapping) and "run" in like:
        return Encoding.of_description(like)
    if hasattr(like, "encoding") and hasattr(like, "classes"):
        return Encoding.of_dataset(like)
    raise TypeError(
        f"{name}: like must be an Encoding, a Dataset, or the description that restore returns, got {show_value(like)}"
    )


def _from_json(found) -> Encoding:
    """Each part is made anew and compared with what was there, so that nothing of another kind passes."""
    columns = tuple(Column(_text(c["name"]), _texts(c["words"])) for c in found["columns"])
    scales = [
        found[name] and Scale(_numbers(found[name]["mean"]), _numbers(found[name]["std"]))
        for name in ("scale", "target_scale")
    ]
    target = None if found["target"] is None else _text(found["target"])
    made = Encoding(
        _text(found["kind"]),
        _sizes(found["shape"]),
        columns,
        target,
        _texts(found["classes"]),
        None if found["target_shape"] is None else _sizes(found["target_shape"]),
        found["resized"] is True,
        *scales,
    )
    fits = not columns or made.shape == (sum(column.width for column in columns),)
    for scale, shape in ((made.scale, made.shape), (made.target_scale, made.target_shape or ())):
        fits &= not scale or len(scale.mean) == len(scale.std) in (1, math.prod(shape)) and min(scale.std) > 0
    if not fits:
        raise ValueError
    return made


def _text(value) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(values) -> tuple[str, ...] | None:
    return None if values is None else tuple(map(_text, values))


def _sizes(values) -> tuple[int, ...]:
    if not all(is_integer(n) and n >= 0 for n in values):
        raise ValueError
    return tuple(values)


def _numbers(values) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if not all(map(math.isfinite, found)):
        raise ValueError
    return found
