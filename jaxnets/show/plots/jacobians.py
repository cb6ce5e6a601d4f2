"""The picture of one Jacobian: a heat map."""

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
