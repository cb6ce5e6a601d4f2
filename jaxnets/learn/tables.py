"""Tables in text files, which Polars or pandas reads: columns of numbers, and of words.

Commas, semicolons or tabs separate the columns.  Where semicolons do, as in countries that write 0,5 for ½, numbers may
have a decimal comma.
"""

import os
import re
import warnings
from collections import Counter
from typing import Any

import jax
import numpy as np

from ..algebra.sizes import check_fits, host_memory
from .encoding import Column, Encoding

MAX_WORDS = 256  # of one column: each of them becomes a column of its own
MAX_LABELS = 20  # so many different integers, each occurring twice or more on average, are labels
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)")


class Table:
    """The cells of a file as texts, by the names of their columns.  Every column is as long as the file has rows."""

    def __init__(self, path: str | os.PathLike):
        self.path = path
        separator = _separator(path)
        rows = _columns(path, separator)
        names = [str(cells[0]).strip().removeprefix("\ufeff") for cells in rows]
        self.rows = len(rows[0]) - 1 if rows else 0
        if not self.rows:
            raise ValueError(
                f"{path}: no rows, expected a line with the names of columns, and below it one line per example"
            )
        for i, name in enumerate(names):
            if not name or names.index(name) != i:
                raise ValueError(f"{path}: column {i + 1} {f'is named {name!r} like another' if name else 'has no name'}")
        self.columns = {
            name: [_cell(str(cell).strip(), separator) for cell in cells[1:]]
            for name, cells in zip(names, rows, strict=True)
        }

    def learn(self, target: str | None, classes: int | None) -> Encoding:
        """The encoding that reads this table and others like it."""
        if target not in self.columns or len(self.columns) < 2:
            asked = f"no column {target!r}." if target else "which column holds the answers?"
            raise ValueError(f"{self.path}: {asked}  Name it by target= (--target); columns: {self._listed(self.columns)}")
        learned = []
        for name in self.columns:
            if name != target:
                words = None if self.holds_numbers(name) else tuple(sorted(set(self.filled(name))))
                if words is not None and len(words) > MAX_WORDS:
                    raise ValueError(
                        f"{self.path}: column {name!r} has {len(words)} different words, at most {MAX_WORDS} can become "
                        "columns; leave it out of the file"
                    )
                learned.append(Column(name, words))
        names = self._class_names(target, classes)
        shape = (sum(column.width for column in learned),)
        return Encoding("table", shape, tuple(learned), target, names, None if names is not None else (1,))

    def inputs(self, encoding: Encoding) -> np.ndarray:
        """The inputs [row, feature] of an encoding.  A word that it does not know is all zeros, with a warning."""
        wanted = [column.name for column in encoding.columns]
        if missing := [name for name in wanted if name not in self.columns]:
            raise ValueError(f"{self.path}: no column {missing[0]!r}; it has {self._listed(self.columns)}")
        if further := [name for name in self.columns if name not in (*wanted, encoding.target)]:
            raise ValueError(f"{self.path}: column {further[0]!r} was not there in training; leave it out of the file")
        form = jax.ShapeDtypeStruct((self.rows, *encoding.shape), np.float64)
        check_fits(f"{self.path}: {self.rows} rows of {encoding.shape[0]} features", form, host_memory)
        parts = []
        for column in encoding.columns:
            if column.words is None:
                parts.append(self.numbers(column.name)[:, None])
                continue
            cells = np.array(self.filled(column.name))
            found = (cells[:, None] == np.array(column.words)).astype(np.float64)
            if (unknown := found.sum(1) == 0).any():
                warnings.warn(
                    f"{self.path}: column {column.name!r}: {unknown.sum()} cells hold words that training did not see, such "
                    f"as {str(cells[unknown][0])!r}; they are read as none of the known ones",
                    stacklevel=2,
                )
            parts.append(found)
        return np.concatenate(parts, 1)

    def targets(self, encoding: Encoding) -> np.ndarray | None:
        """The labels [row] or the numbers [row, 1] of the target; None if the file has no such column."""
        if encoding.target not in self.columns:
            return None
        if encoding.classes is None:
            return self.numbers(encoding.target)[:, None]
        places = {name: i for i, name in enumerate(encoding.classes)}
        cells = [cell if cell in places else _as_integer(cell) for cell in self.filled(encoding.target)]
        for row, cell in enumerate(cells):
            if cell not in places:
                raise ValueError(
                    f"{self._place(encoding.target, row)}: {cell!r} is no known class; known: {self._listed(places)}"
                )
        return np.array([places[cell] for cell in cells])

    def _class_names(self, target: str, classes: int | None) -> tuple[str, ...] | None:
        """The names of the classes, or None if the target is a number.  `classes` decides; 0 stands for numbers."""
        if classes == 0:
            return None
        if not self.holds_numbers(target):
            names = sorted(set(self.filled(target)))
            if classes is None and len(names) > MAX_WORDS:
                raise ValueError(
                    f"{self.path}: column {target!r} has {len(names)} different words; if they are labels say so by "
                    f"classes={len(names)} (--classes)"
                )
        else:
            values = self.numbers(target)
            different = np.unique(values)
            whole = (different == np.rint(different)).all()
            if classes is None and not (whole and len(different) <= min(MAX_LABELS, self.rows // 2)):
                return None
            if not whole:
                raise ValueError(f"{self.path}: column {target!r} holds fractions, expected labels of {classes} classes")
            names = [str(int(value)) for value in different]
            if classes is not None and different.min() >= 0 and different.max() < classes:
                names = list(map(str, range(classes)))
        if classes is not None and len(names) != classes:
            raise ValueError(f"{self.path}: column {target!r} has {len(names)} different labels, expected {classes} classes")
        return tuple(names)

    def holds_numbers(self, name: str) -> bool:
        """Whether at least half of the cells that are filled hold numbers."""
        counts = Counter(_is_number(cell) for cell in self.columns[name] if cell)
        return counts[True] > 0 and counts[True] >= counts[False]

    def numbers(self, name: str) -> np.ndarray:
        """The numbers of a column [row].  Raises ValueError, which names column and line, where there is none."""
        cells = self.filled(name)
        try:
            found = np.array(cells, object).astype(np.float64)
        except ValueError:
            found = np.full(1, np.nan)
        if not np.isfinite(found).all():
            row, cell = next((row, cell) for row, cell in enumerate(cells) if not _is_number(cell))
            raise ValueError(f"{self._place(name, row)}: {cell!r} is no number, as in the other lines")
        return found

    def filled(self, name: str) -> list[str]:
        """The cells of a column, none of which is empty."""
        cells = self.columns[name]
        if "" in cells:
            raise ValueError(f"{self._place(name, cells.index(''))}: the value is missing; fill it in or leave the line out")
        return cells

    def _place(self, name: str, row: int) -> str:
        """File, column and line of a cell."""
        before = sum(cell.count("\n") for cells in self.columns.values() for cell in cells[:row])
        return f"{self.path}: column {name!r}, line {row + 2 + before}"

    @staticmethod
    def _listed(names) -> str:
        return ", ".join(list(names)[:20]) + (", …" if len(names) > 20 else "")


def _separator(path) -> str:
    """What stands most often between the names of the columns, outside of quotes."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    with open(path, encoding="utf-8", errors="replace") as file:
        names = re.sub(r'"[^"]*"', "", file.readline())
    return max(SEPARATORS, key=names.count)


def _cell(text: str, separator: str) -> str:
    """The text of a cell, with a decimal point in numbers."""
    number = DECIMAL_COMMA.fullmatch(text) if separator == ";" else None
    return ".".join(number.groups()) if number else text


def _columns(path, separator: str) -> list[list[str]]:
    """The columns of a file, each with its name first; an empty cell is an empty text."""
    try:
        import polars
    except ImportError:
        return _columns_by_pandas(path, separator)
    try:
        table = polars.read_csv(path, separator=separator, has_header=False, infer_schema=False, raise_if_empty=False)
    except (polars.exceptions.PolarsError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: no table whose columns {SEPARATORS[separator]} separate: {str(error).splitlines()[0]}"
        ) from None
    return [column.fill_null("").to_list() for column in table.get_columns()]


def _columns_by_pandas(path, separator: str) -> list[list[str]]:
    try:
        import pandas
    except ImportError:
        raise ModuleNotFoundError(f"{path}: tables need Polars: pip install 'jaxnets[tables]'") from None
    options: dict[str, Any] = {"sep": separator, "header": None, "dtype": str, "encoding": "utf-8"}
    options |= {"keep_default_na": False, "skip_blank_lines": False}
    try:
        table = pandas.read_csv(path, **options)
    except pandas.errors.EmptyDataError:
        return []
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path}: no table whose columns {SEPARATORS[separator]} separate: {str(error).splitlines()[0]}"
        ) from None
    return [table[name].fillna("").tolist() for name in table.columns]


def _is_number(cell: str) -> bool:
    try:
        return abs(float(cell)) < float("inf")
    except ValueError:
        return False


def _as_integer(cell: str) -> str:
    """An integer that is written otherwise, such as 1.0, as the names of classes are written."""
    return str(int(float(cell))) if _is_number(cell) and float(cell) == int(float(cell)) else cell
