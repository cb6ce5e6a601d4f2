"""What an experiment found: a number for every seed, and the table, the picture and the sentence made from the numbers."""

import dataclasses
import functools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from ...show.formats import as_text, import_plots, replace_nonfinite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Claim(NamedTuple):
    """A question about a column: which contender has the least number in it, or with `least=False` the largest?

    `says` is the beginning of the answer, such as "a loss of 0.1 comes soonest with".  `among` names the contenders that the
    question is about; without it, it is about all.
    """

    column: str
    says: str
    least: bool = True
    among: tuple[str, ...] = ()


class LinesPanel(NamedTuple):
    """A panel with `values[contender][seed, i]` over `x[i]`: the median of the seeds, in a band from least to largest."""

    title: str
    xlabel: str
    ylabel: str
    x: Any
    values: Mapping[str, Any]
    log: str = ""  # the logarithmic axes: "", "x", "y" or "xy"


class PointsPanel(NamedTuple):
    """A panel with a column of the table: one point per seed, and a line at the median of every contender."""

    title: str
    column: str


@dataclasses.dataclass(frozen=True)
class TrickResult:
    """Several contenders, measured over several seeds.

    `rows[contender]` holds, for each of `columns`, one number per seed.  The unit of a column stands in parentheses at the
    end of its name, and infinity stands for a goal that was never reached.  `sentence` says what the numbers support and no
    more.  `table()` and printing show medians and ranges, and `figure()` draws the `panels`.
    """

    setting: str  # network and data with their dimensions, and how rates were chosen
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[Any]]
    claims: tuple[Claim, ...]
    panels: tuple[LinesPanel | PointsPanel, ...]
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
        table.add_column("", overflow="fold")
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
        import_plots()
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        from ...show.plots import STYLE

        across = 2 if len(self.panels) == 4 else len(self.panels)
        down = len(self.panels) // across
        with rc_context(STYLE):
            figure = Figure(figsize=(5.2 * across, 3.9 * down + 1.3), layout="constrained")
            figure.suptitle(self.question, fontweight="bold")
            handles: dict = {}
            alike: dict = {}  # panels of the same quantity share their axis
            for place, panel in enumerate(self.panels, 1):
                if isinstance(panel, PointsPanel):
                    _draw_points(figure.add_subplot(down, across, place), panel, self.column(panel.column))
                    continue
                axes = figure.add_subplot(down, across, place, sharey=alike.get(panel.ylabel))
                alike[panel.ylabel] = axes
                handles |= _draw_lines(axes, panel, list(self.rows))
            setting = "\n".join(textwrap.wrap(self.setting, 50 * across))
            legend = figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, title=setting)
            legend.get_title().set_multialignment("center")
        return figure

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


class Trick(NamedTuple):
    """An experiment: its name, the question that it asks, and `measure(seeds, quick)`, which returns what it found."""

    name: str
    question: str
    measure: Callable[[int, bool], TrickResult]


def trick(question: str) -> Callable[[Callable[[int, bool], TrickResult]], Trick]:
    """A decorator that makes a trick of a function and gives it the function's name."""

    def make(function):
        @functools.wraps(function)
        def measure(seeds, quick):
            return dataclasses.replace(function(seeds, quick), name=function.__name__, question=question)

        return Trick(function.__name__, question, measure)

    return make


# --- words --------------------------------------------------------------------------------------------------------


def verdict(values: Mapping[str, Any], claim: Claim) -> str:
    """Which contender wins a column `{contender: one number per seed}`, in words.

    The winner has the best median.  Contenders that it does not beat (see `beats`) share its place; if it beats none, there
    is no difference to report.
    """
    scores = {name: _larger_is_better(own, claim.least) for name, own in values.items()}
    best = max(scores, key=lambda name: np.median(scores[name]))
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


def median_and_range(values, unit: str = "", between: str = " ") -> str:
    """The median with its unit and, if the seeds differ, the range."""
    low, median, high = (number_text(f(np.asarray(values, np.float64))) for f in (np.min, np.median, np.max))
    text = f"{median} {unit}" if unit and median not in ("never", "NaN") else median
    return text if low == high else f"{text}{between}({low} – {high})"


def number_text(value: float) -> str:
    """A number to three digits, and "never" for infinity."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "never"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}·10{str(int(exponent)).translate(RAISED)}"


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def numbers_text(values) -> str:
    return ", ".join(number_text(value) for value in values)


def enumeration(words) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


# --- pictures -----------------------------------------------------------------------------------------------------


def _draw_lines(axes: "Axes", panel: LinesPanel, contenders: list[str]) -> dict:
    """Draw the panel, and return a handle for every contender in it, for the legend."""
    from ...show.plots import COLOURS, LINES, MARKERS

    handles = {}
    for contender, values in panel.values.items():
        place = contenders.index(contender)
        y = np.asarray(values, np.float64)
        y = np.where(np.isfinite(y) & ((y > 0) | ("y" not in panel.log)), y, np.nan)
        known = ~np.isnan(y).any(0)  # where a seed has no number, the line has a gap
        x, low, middle, high = (a[known] for a in (np.asarray(panel.x), y.min(0), np.median(y, 0), y.max(0)))
        axes.fill_between(x, low, high, color=COLOURS[place], alpha=0.2, linewidth=0)
        every = max(1, len(x) // 8)
        marks = (place * every // len(contenders), every)  # so that the marks of two lines do not cover each other
        (handles[contender],) = axes.plot(
            x, middle, LINES[place % len(LINES)], color=COLOURS[place], marker=MARKERS[place], markevery=marks, markersize=6
        )
    axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
    axes.set(xscale="log" if "x" in panel.log else "linear", yscale="log" if "y" in panel.log else "linear")
    if "x" not in panel.log:
        axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    return handles


def _draw_points(axes: "Axes", panel: PointsPanel, values: Mapping[str, np.ndarray]) -> None:
    from ...show.plots import COLOURS, MARKERS

    for place, own in enumerate(values.values()):
        if not np.isfinite(own).all():
            axes.text(place, 0.02, number_text(np.median(own)), ha="center", transform=axes.get_xaxis_transform())
        across = place + 0.4 * np.linspace(-0.5, 0.5, len(own))
        y = np.where(np.isfinite(own), own, np.nan)
        axes.plot(across, y, MARKERS[place], color=COLOURS[place], markersize=7, alpha=0.8)
        axes.hlines(np.median(y), place - 0.32, place + 0.32, color=COLOURS[place], linewidth=2.5)
    width = 40 // len(values)
    axes.set_xticks(range(len(values)), ["\n".join(textwrap.wrap(contender, width)) for contender in values])
    axes.set(title=panel.title, ylabel=panel.column, xlim=(-0.6, len(values) - 0.4))
    axes.grid(alpha=0.3, axis="y")
