"""The graph of a function as a picture, with the dimensions of every Jacobian, and loops as boxes around one step."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import BoxStyle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from ...checks import checked
from ..diagram import Arrow, Diagram, Frame, Item, diagram
from ..formats import subscript
from .figures import STYLE, new_figure

ROW, LETTER = 1.05, 0.072  # inches from row to row, and of a letter of a block
SMALL_LETTER, TINY_LETTER = 0.066, 0.056  # inches of a letter at an arrow, and at the arrow of a weight
TEXT, LINE, ROUND = "#222222", "#777777", "#D55E00"
FILLS = {"cost": "#FBE3D2", "function": "#DCEBF7", "weight": "#F3F3F3", "input": "#D0D0D0", "carry": "#FDF3E7"}
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}
MOST_IN_CIRCLE = 6  # letters


@matplotlib.rc_context(STYLE)
@checked
def graph(function: Callable, *args, abstract: bool = True, title: str = "") -> Figure:
    """The block diagram of `function(*args)` with the dimensions of every Jacobian, and beside it the graph of gradients.

    Rounded blocks are functions, squares are costs, and circles are variables: shaded ones are given, open ones are
    computed.  A scalar output is C, whose gradient starts with 1.  A loop is a box with its number of steps around the
    blocks of one step, whose carry goes back along a dashed arrow.  The arguments are those of `tabulate`: of several
    arguments the first holds the weights, and `abstract=False` is for functions whose Python control flow depends on values.
    """
    found = diagram(function, *args, abstract=abstract)
    if not found.items:
        raise TypeError("graph: function must return an array")
    sides = [_Side(found, back) for back in (False, True)]
    figure = new_figure(sum(side.width for side in sides), ROW * found.rows + 1.2)
    figure.suptitle(title)
    grid = figure.subplots(1, 2, width_ratios=[side.width for side in sides])
    for side, axes in zip(sides, grid, strict=True):
        side.draw(axes)
    return figure


class _Side:
    """The values, or with `back` the gradients, of a diagram."""

    def __init__(self, found: Diagram, back: bool):
        self.found, self.back = found, back
        columns = [item.column for item in found.items] + [c for arrow in found.arrows for c, _ in arrow.way]
        self.left, self.right = min(columns), max(columns, default=0)
        self.right = max([self.right, *(frame.right for frame in found.frames)])
        along = [len(self.words(arrow)) for arrow in found.arrows if not self._is_across(arrow)]
        across = [len(self.words(arrow)) for arrow in found.arrows if self._is_across(arrow)]
        blocks = max(len(self.label(item)) for item in found.items)
        self.column = max(
            1.2,
            max(along, default=0) * SMALL_LETTER + 0.45,
            max(across, default=0) * TINY_LETTER + 0.25,
            blocks * LETTER + 0.45,
        )

    @property
    def width(self) -> float:
        """Inches of the whole side."""
        return max(4.6, self.column * (self.right - self.left + 2))

    def words(self, arrow: Arrow) -> str:
        """What stands at an arrow."""
        if arrow.block is None:
            return ""
        return arrow.gradient if self.back else arrow.block.dims

    def label(self, item: Item) -> str:
        """What stands in a block."""
        if item.module is not None:
            return item.label
        name = _short_label(item.label)
        if not self.back:
            return name
        return f"∂C/∂{name}{' = 1' if (item.kind, name) == ('output', 'C') else ''}"

    def draw(self, axes: Axes):
        middle, half = (self.left + self.right) / 2, self.width / self.column / 2
        axes.set(xlim=(middle - half, middle + half), ylim=(self.found.rows - 0.4, -0.6))
        axes.set_title("gradients" if self.back else "values")
        axes.set_axis_off()
        for frame in self.found.frames:
            self._draw_frame(axes, frame)
        labelled: set[tuple[float, float]] = set()
        for arrow in self.found.arrows:
            if self._is_across(arrow):
                self._draw_weight(axes, arrow)
            else:
                self._draw_arrow(axes, arrow, labelled)
        for item in self.found.items:
            self._draw_block(axes, item)

    def _ends(self, arrow: Arrow) -> tuple[Item, Item]:
        return self.found.items[arrow.source], self.found.items[arrow.target]

    def _is_across(self, arrow: Arrow) -> bool:
        """Whether an arrow comes from the left."""
        source, target = self._ends(arrow)
        return source.row >= target.row or source.column < 0

    # Blocks

    def _draw_block(self, axes: Axes, item: Item):
        fill = FILLS.get(item.kind, "white")
        if self.back and item.kind == "input":
            fill = "white"
        edge = ROUND if item.kind == "carry" else "#444444"
        box = {"boxstyle": self._style(item), "facecolor": fill, "edgecolor": edge}
        axes.text(item.column, item.row, self.label(item), ha="center", va="center", fontsize=9, bbox=box, zorder=4)

    def _style(self, item: Item) -> str:
        if item.kind == "cost":
            return "square,pad=0.5"
        if item.module is not None:
            return "round,pad=0.5,rounding_size=0.5"
        is_short = len(self.label(item)) <= MOST_IN_CIRCLE
        return "circle,pad=0.35" if is_short else "round,pad=0.5,rounding_size=0.8"

    def _is_circle(self, item: Item) -> bool:
        return self._style(item).startswith("circle")

    def _half_height(self, item: Item) -> float:
        """Rows from the centre of a block to its edge."""
        return (self._radius(item) if self._is_circle(item) else 0.13) / ROW + 0.03

    def _half_width(self, item: Item) -> float:
        """Columns from the centre of a block to its edge."""
        inches = self._radius(item) if self._is_circle(item) else len(self.label(item)) * LETTER / 2 + 0.09
        return inches / self.column + 0.02

    def _radius(self, item: Item) -> float:
        return max(0.1, len(self.label(item)) * LETTER / 2 + 0.05)

    # Arrows

    def _draw_path(self, axes: Axes, points: Sequence[tuple[float, float]], codes: Sequence, colour=LINE, line="-"):
        if self.back:  # the code of a point says how it is reached
            points, codes = points[::-1], [Path.MOVETO, *codes[:0:-1]]
        path = Path(points, codes)
        style = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0, "linestyle": line}
        axes.add_patch(FancyArrowPatch(path=path, color=colour, zorder=2, linewidth=1.1, **style))

    def _draw_arrow(self, axes: Axes, arrow: Arrow, labelled: set[tuple[float, float]]):
        """An arrow that goes down, through the places of its way; its words stand where no others do."""
        source, target = self._ends(arrow)
        stops: list[tuple[float, float]] = [(source.column, source.row), *arrow.way, (target.column, target.row)]
        start, stop = source.row + self._half_height(source), target.row - self._half_height(target)
        points: list[tuple[float, float]] = [(source.column, start)]
        codes: list = [Path.MOVETO]
        for i, ((c, k), (d, m)) in enumerate(itertools.pairwise(stops)):
            k, m = (start if i == 0 else k), (stop if i == len(stops) - 2 else m)
            bend = (m + k) / 2
            if c == d:
                points.append((d, m))
                codes.append(Path.LINETO)
            elif self._bends_early(arrow, i):
                points += [(c, (k + bend) / 2), (d, (k + bend) / 2), (d, bend), (d, m)]
                codes += [*3 * [Path.CURVE4], Path.LINETO]
            else:
                points += [(c, bend), (c, (bend + m) / 2), (d, (bend + m) / 2), (d, m)]
                codes += [Path.LINETO, *3 * [Path.CURVE4]]
        self._draw_path(axes, points, codes)
        if words := self.words(arrow):
            places = self._label_places(arrow, stops)
            column, row = next((place for place in places if place not in labelled), places[0])
            labelled.add((column, row))
            axes.text(column + 0.06, row, words, ha="left", va="center", fontsize=8.5, color=TEXT, bbox=PAPER, zorder=3)

    def _bends_early(self, arrow: Arrow, part: int) -> bool:
        """Whether a part of an arrow bends where it starts, as where several arrows do, and not where it ends."""
        if arrow.way:
            return part == 0
        return len(self._out(arrow)) > 1

    def _out(self, arrow: Arrow) -> list[Arrow]:
        return [other for other in self.found.arrows if other.source == arrow.source and not self._is_across(other)]

    def _into(self, arrow: Arrow) -> list[Arrow]:
        return [other for other in self.found.arrows if other.target == arrow.target and not self._is_across(other)]

    def _label_places(self, arrow: Arrow, stops: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Where the words of an arrow could stand, between rows, the best place first."""
        straight = [((c, (k + m) / 2)) for (c, k), (d, m) in itertools.pairwise(stops) if c == d]
        if arrow.way:
            inner = [((c, (k + m) / 2)) for (c, k), (d, m) in itertools.pairwise(arrow.way) if c == d]
            return [*inner[len(inner) // 2 :], *inner, *straight, *((c, float(k)) for c, k in arrow.way)]
        (c, k), (d, m) = stops
        shift = 0.16 * ((len(self._out(arrow)) > 1) - (len(self._into(arrow)) > 1))
        if c != d:
            shift = 0.16 if self._bends_early(arrow, 0) else -0.16
        return [(d if self._bends_early(arrow, 0) else c, (k + m) / 2 + shift), (c, (k + m) / 2), (d, (k + m) / 2)]

    def _draw_weight(self, axes: Axes, arrow: Arrow):
        """An arrow from the left, over other weights of the same block, or to a block in another row."""
        source, target = self._ends(arrow)
        c, k, m = source.column, source.row, target.row
        start, stop = c + self._half_width(source), target.column - self._half_width(target)
        style: dict[str, Any] = {"va": "center", "fontsize": 7.5, "color": TEXT, "bbox": PAPER, "zorder": 3}
        if k != m:
            side = self._half_height(source) if m > k else -self._half_height(source)
            self._draw_path(axes, [(c, k + side), (c, m), (c, m), (stop, m)], [Path.MOVETO, *3 * [Path.CURVE4]])
            axes.text(stop - 0.08, m + 0.17, self.words(arrow), ha="right", **style)
            return
        if any(item.row == k and c < item.column < min(0, target.column) for item in self.found.items):
            high, last = k - 0.3, k - 0.08
            self._draw_path(
                axes, [(start, k), (start + 0.3, high), (stop - 0.5, high), (stop, last)], [Path.MOVETO, *3 * [Path.CURVE4]]
            )
        else:
            self._draw_path(axes, [(start, k), (stop, k)], [Path.MOVETO, Path.LINETO])
        axes.text(c, k - 0.36, self.words(arrow), ha="center", **style)

    # Loops

    def _draw_frame(self, axes: Axes, frame: Frame):
        inset = 0.07 * frame.depth
        left, right = frame.left - 0.5 + inset, frame.right + 0.42 - inset
        top, bottom = frame.top - 0.35 + inset, frame.bottom + 0.32 - inset
        fill = "#FAFAF7" if frame.depth % 2 == 0 else "#F3F3EE"
        style = BoxStyle("Round", pad=0, rounding_size=0.12)
        box = FancyBboxPatch((left, top), right - left, bottom - top, boxstyle=style, mutation_aspect=self.column / ROW)
        box.set(facecolor=fill, edgecolor="#AAAAAA", zorder=0.5)
        axes.add_patch(box)
        axes.text(right - 0.08, top + 0.2, frame.label, ha="right", va="center", fontsize=10, color=ROUND, zorder=3)
        apart = 0.3 / max(1, len(frame.rounds))
        for i, (after, carry) in enumerate(frame.rounds):
            self._draw_round(axes, self.found.items[after], self.found.items[carry], frame.right - apart * i)

    def _draw_round(self, axes: Axes, after: Item, carry: Item, lane: float):
        """The arrow from a value after a step back to the carry before the next one, up along a lane on the right."""
        x, y = after.column + self._half_width(after), after.row
        u, v = carry.column + self._half_width(carry), carry.row
        left, low, high = lane - 0.15, y - 0.25, v + 0.25
        points = [(x, y), (left, y), (lane, y), (lane, low), (lane, high), (lane, v), (left, v), (u, v)]
        codes = [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO]
        self._draw_path(axes, points, codes, ROUND, (0, (4, 2)))


def _short_label(label: str) -> str:
    """`params[0]['w']` as w, and `params[0]` as params₀."""
    *others, last = (part.strip("'\"]") for part in re.split(r"[\[.]", label)) if "[" in label else [label]
    return others[-1] + subscript(last) if others and last.isdigit() else last
