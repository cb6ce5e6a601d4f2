"""What an experiment found: a number for every seed, and the table, the picture and the sentence made from the numbers."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from ...show.formats import as_text, replace_nonfinite
from .panels import Panel, draw_panels
from .words import enumeration, median_and_range, number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SHORT = 14  # letters of names that stay on one line, also on narrow terminals


class Claim(NamedTuple):
    """A question about a column: which contender has the least number in it, or with `least=False` the largest?

    `says` is the beginning of the answer, such as "a loss of 0.1 comes soonest with".  `among` names the contenders that the
    question is about; without it, it is about all.
    """

    column: str
    says: str
    least: bool = True
    among: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """Several contenders, measured over several seeds.

    `rows[contender]` holds, for each of `columns`, one number per seed.  The unit of a column stands in parentheses at the
    end of its name, and infinity stands for a goal that was never reached.  `sentence` says what the numbers support and no
    more.  `table()` and printing show medians and ranges, and `figure()` draws the `panels`.
    """

    setting: str  # network and data with their dimensions, and how rates were chosen
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[Any]]
    claims: tuple[Claim, ...]
    panels: tuple[Panel, ...]
    name: str = ""
    question: str = ""

    def column(self, name: str, among: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """A column, `{contender: one number per seed}`, of some contenders or of all."""
        place = self.columns.index(name)
        return {contender: np.asarray(self.rows[contender][place], np.float64) for contender in among or self.rows}

    @property
    def sentence(self) -> str:
        text = "; ".join(verdict(self.column(claim.column, claim.among), claim) for claim in self.claims)
        return f"{text[0].upper()}{text[1:]}."

    def table(self) -> Table:
        """A table with one row per contender: the medians of the seeds and, where they differ, the ranges."""
        title = Text.assemble((f"{self.name}: {self.question}", "bold"), f"\n{self.setting}", style="not italic")
        seeds = len(next(iter(self.rows.values()))[0])
        caption = f"median of {seeds} seeds (least – largest)"
        table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
        table.add_column("", overflow="fold", no_wrap=max(map(len, self.rows)) <= SHORT)
        for name in self.columns:
            table.add_column(Text(name), justify="right", overflow="fold")
        for contender, row in self.rows.items():
            table.add_row(Text(contender), *(Text(median_and_range(values, between="\n")) for values in row))
        return table

    def __rich_console__(self, console, options):
        yield self.table()
        yield Text(self.sentence)

    def __str__(self):
        return as_text(self, 140)

    def figure(self) -> "Figure":
        """The panels side by side, in two rows where there are four.  Needs the extra `plot`, or ModuleNotFoundError."""
        columns = {name: self.column(name) for name in self.columns}
        return draw_panels(self.panels, columns, self.question, self.setting)

    def to_json(self) -> dict:
        """The question, the sentence and the numbers of every seed.  A goal that was never reached and a NaN are null."""
        return {
            "name": self.name,
            "question": self.question,
            "setting": self.setting,
            "sentence": self.sentence,
            "columns": list(self.columns),
            "rows": {
                name: replace_nonfinite([[float(x) for x in values] for values in row]) for name, row in self.rows.items()
            },
        }


class Experiment(NamedTuple):
    """An experiment: its name, the question that it asks, and `measure(seeds, quick)`, which returns what it found."""

    name: str
    question: str
    measure: Callable[[int, bool], Finding]


def experiment(question: str) -> Callable[[Callable[[int, bool], Finding]], Experiment]:
    """A decorator that makes an experiment of a function and gives it the function's name."""

    def make(function):
        @functools.wraps(function)
        def measure(seeds, quick):
            return dataclasses.replace(function(seeds, quick), name=function.__name__, question=question)

        return Experiment(function.__name__, question, measure)

    return make


def verdict(values: Mapping[str, Any], claim: Claim) -> str:
    """Which contender wins a column `{contender: one number per seed}`, in words.

    The winner has the best median, and of equal medians the one whose worst seed is best.  Contenders that it does not beat
    (see `beats`) share its place; if it beats none, there is no difference to report.
    """
    scores = {name: _larger_is_better(own, claim.least) for name, own in values.items()}
    best = max(scores, key=lambda name: (np.median(scores[name]), np.min(scores[name])))
    beaten = [name for name, own in scores.items() if beats(scores[best], own)]
    unit = claim.column[claim.column.rindex("(") + 1 : -1] if claim.column.endswith(")") else ""
    if not beaten:
        told = enumeration(f"{median_and_range(own, unit)} with {name}" for name, own in values.items())
        return f"no difference in {claim.column.removesuffix(f' ({unit})')} beyond the spread between seeds: {told}"
    first = [best, *(name for name in values if name not in (best, *beaten))]
    text = f"{claim.says} {enumeration(first)}: {enumeration(median_and_range(values[name], unit) for name in first)}"
    if len(first) > 1:
        text += ", no difference beyond the spread between seeds"
    text += f", against {enumeration(f'{median_and_range(values[name], unit)} with {name}' for name in beaten)}"
    least, other = (float(np.median(values[name])) for name in (best, beaten[0]))
    if len(values) == 2 and claim.least and 0 < least < other < math.inf:
        text += f", a factor of {number_text(other / least)}"
    return text


def beats(a, b) -> bool:
    """Whether a is larger than b by more than the spread between seeds, which means that their ranges do not touch."""
    return bool(np.min(a) > np.max(b))


def _larger_is_better(values, least):
    """The values with a sign that makes larger ones better.  NaN is the worst."""
    values = np.asarray(values, np.float64) * (-1 if least else 1)
    return np.where(np.isnan(values), -np.inf, values)
