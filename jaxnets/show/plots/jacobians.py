"""Pictures of Jacobians: the heat map of one, and the graph of a function with the dimensions of all of them."""

import re
from collections.abc import Callable

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...algebra.jacobian import Jacobian
from ...algebra.picture import BLUE, ORANGE, WHITE
from ...algebra.sizes import show_sizes
from ...checks import check_counts, checked
from ..diagram import diagram
from .figures import STYLE, new_figure


@matplotlib.rc_context(STYLE)
@checked
def jacobian(j: Jacobian, title: str = "", rows: int = 64, columns: int = 64) -> Figure:
    """A heat map of the first `rows` rows and `columns` columns of a Jacobian, or of its first example if it has a batch.

    Blue is negative and orange is positive.  A hatched cell is zero because of the structure; a white cell happens to be
    zero.
    """
    check_counts("jacobian", rows=rows, columns=columns)
    values = np.asarray(j.corner(rows, columns), np.float64)
    possible = np.asarray(j.possible(rows, columns))
    (out, inp), (height, width) = j.block_shape, values.shape
    figure = new_figure(3.2 + 6 * width / max(width, height), 2.2 + 6 * height / max(width, height))
    axes = figure.subplots()
    largest = np.abs(values[np.isfinite(values)]).max(initial=0) or 1.0
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, facecolor="white", edgecolor="#BBBBBB", hatch="///", zorder=-1))
    ends = [tuple(part / 255 for part in colour) for colour in (BLUE, WHITE, ORANGE)]
    shades = LinearSegmentedColormap.from_list("signed", ends).with_extremes(bad=(0, 0, 0, 0), over="black")
    shown = np.ma.masked_array(np.where(np.isfinite(values), values, 2 * largest), ~possible)
    image = axes.imshow(shown, cmap=shades, vmin=-largest, vmax=largest, interpolation="nearest", aspect="equal")
    figure.colorbar(image, ax=axes, shrink=0.8)
    (y, y_index), (x, x_index) = (
        _name_and_indices(side) for side in j.formula.split(" = ")[0].removeprefix("∂").split("/∂")
    )
    axes.set(
        ylabel=_axis_label(y, y_index, out, height, j.examples_are_independent),
        xlabel=_axis_label(x, x_index, inp, width, j.examples_are_independent),
        title="\n".join([*([title] if title else []), f"∂{y}/∂{x}  [{show_sizes(out)} × {show_sizes(inp)}], {j.structure}"]),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(8, integer=True))
    return figure


def _name_and_indices(side: str) -> tuple[str, list[str]]:
    """The name and the indices of `y[b,o]`."""
    name, _, indices = side.partition("[")
    return name, indices.removesuffix("]").split(",") if indices else []


def _axis_label(name, indices, shape, shown, of_one_example) -> str:
    """The label of an axis of the heat map: which indices run along it."""
    text = f"{name}[{','.join(['0', *indices[1:]] if of_one_example else indices)}]" if indices else name
    return text if shown == np.prod(shape) else f"{text}, the first {shown} of {int(np.prod(shape)):,}"


@matplotlib.rc_context(STYLE)
@checked
def graph(function: Callable, *args, abstract: bool = True, title: str = "") -> Figure:
    """The block diagram of `function(*args)` with the dimensions of every Jacobian, and beside it the graph of gradients.

    Rounded blocks are functions, squares are costs, and circles are variables; a scalar output is C, whose gradient starts
    with 1.  The arguments are those of `tabulate`: of
    several arguments the first holds the weights, and `abstract=False` is for functions whose Python control flow depends
    on values.
    """
    found = diagram(function, *args, abstract=abstract)
    if not found.items:
        raise TypeError("graph: function must return an array")
    left = min(item.column for item in found.items)
    right = max(item.column for item in found.items)
    width = max(4.6, 1.7 * (right - left + 1) + 1.6)
    figure = new_figure(2 * width, 1.05 * found.rows + 1.2)
    figure.suptitle(title)
    for back, axes in enumerate(figure.subplots(1, 2)):
        axes.set(xlim=(left - 0.75, right + 1.25), ylim=(found.rows - 0.4, -0.6), title="gradients" if back else "values")
        axes.set_axis_off()
        for arrow in found.arrows:
            _draw_arrow(axes, found.items[arrow.source], found.items[arrow.target], arrow, bool(back))
        for item in found.items:
            _draw_block(axes, item, bool(back))
    return figure


def _draw_block(axes, item, back):
    shape = {"cost": "square,pad=0.5", "function": "round,pad=0.5,rounding_size=0.5"}.get(item.kind, "circle,pad=0.35")
    fill = {"cost": "#FBE3D2", "function": "#DCEBF7", "weight": "#F3F3F3"}.get(item.kind, "white")
    label = item.label if item.module is not None else _short_label(item.label)
    box = {"boxstyle": shape, "facecolor": fill, "edgecolor": "#444444"}
    if back and item.module is None:
        label = f"∂C/∂{label} = 1" if (item.kind, item.label) == ("output", "C") else f"∂C/∂{label}"
    axes.text(item.column, item.row, label, ha="center", va="center", fontsize=9, bbox=box, zorder=3)


def _short_label(label: str) -> str:
    """`params[0]['w']` as w."""
    return re.split(r"[\[.]", label)[-1].strip("'\"]") if "[" in label else label


def _draw_arrow(axes, source, target, arrow, back):
    start, end = (source.column, source.row), (target.column, target.row)
    across = target.row == source.row  # an arrow from a weight
    skips = target.row - source.row > 1 or (across and target.column - source.column > 1)
    bend = "arc3,rad=-0.35" if skips else "arc3,rad=0"
    ends, style = ((end, start), "arc3,rad=0.35" if skips else bend) if back else ((start, end), bend)
    line = {"arrowstyle": "-|>", "color": "#777777", "shrinkA": 16, "shrinkB": 16, "connectionstyle": style}
    axes.annotate("", ends[1], ends[0], arrowprops=line, zorder=1)
    if arrow.block is None:
        return
    text = arrow.gradient if back else arrow.block.dims
    if across:
        place, side = (source.column, source.row - 0.36), "center"
    else:
        away = 0.55 if skips else 0.08
        place, side = ((source.column + target.column) / 2 + away, (source.row + target.row) / 2), "left"
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}
    axes.text(*place, text, ha=side, va="center", fontsize=7.5 if across else 8.5, color="#222222", bbox=paper, zorder=2)
