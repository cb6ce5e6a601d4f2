"""The picture of an experiment: panels with curves over an x, or with one point per seed, side by side."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...show.formats import import_plots
from .words import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FEW = 6  # of so many places on a logarithmic axis each has its number


class LinesPanel(NamedTuple):
    """A panel with `values[contender][seed, i]` over `x[i]`: the median of the seeds, in a band from least to largest."""

    title: str
    xlabel: str
    ylabel: str
    x: Any
    values: Mapping[str, Any]
    log: str = ""  # the logarithmic axes: "", "x", "y" or "xy"
    diagonal: bool = False  # a line y = x to compare with


class ImagesPanel(NamedTuple):
    """A panel of images `images[column][row, height, width]`, each scaled by its largest entry: red above 0, blue below."""

    title: str
    images: Mapping[str, Any]


class PointsPanel(NamedTuple):
    """A panel with a column of the table: one point per seed, and a line at the median of every contender."""

    title: str
    column: str


Panel = LinesPanel | PointsPanel | ImagesPanel


def draw_panels(
    panels: Sequence[Panel],
    columns: Mapping[str, Mapping[str, np.ndarray]],
    title: str,
    setting: str,
) -> "Figure":
    """The panels side by side, in two rows where there are four, over a legend of the contenders.

    `columns[name][contender]` holds one number per seed.  Needs the extra `plot`, or raises ModuleNotFoundError.
    """
    style = import_plots().STYLE
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    across = 2 if len(panels) == 4 else len(panels)
    down = len(panels) // across
    named = [name for panel in panels if isinstance(panel, LinesPanel) for name in panel.values]
    contenders = list(dict.fromkeys([*next(iter(columns.values())), *named]))
    with rc_context(style):
        figure = Figure(figsize=(5.2 * across, 3.9 * down + 1.3), layout="constrained")
        figure.suptitle(title, fontweight="bold")
        handles: dict = {}
        axes_of: dict = {}  # a quantity and the first axes that show it, with which the others share theirs
        for place, panel in enumerate(panels, 1):
            if isinstance(panel, PointsPanel):
                _draw_points(figure.add_subplot(down, across, place), panel, columns[panel.column])
                continue
            if isinstance(panel, ImagesPanel):
                _draw_images(figure.add_subplot(down, across, place), panel)
                continue
            axes = figure.add_subplot(down, across, place, sharey=axes_of.get(panel.ylabel))
            axes_of.setdefault(panel.ylabel, axes)
            handles |= _draw_lines(axes, panel, contenders)
        lines = "\n".join(textwrap.wrap(setting, 50 * across))
        legend = figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, title=lines)
        legend.get_title().set_multialignment("center")
    return figure


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
    if panel.diagonal:
        axes.plot([0, 1], [0, 1], ":", color="#666666", transform=axes.transData, zorder=0)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
    elif "x" in panel.log and len(panel.x) <= FEW:
        axes.set_xticks(panel.x, [f"{value:g}" for value in panel.x])
        axes.minorticks_off()
    elif "x" not in panel.log:
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
    width = 50 // len(values)
    labels = ["\n".join(textwrap.wrap(contender, width, break_long_words=False)) for contender in values]
    axes.set_xticks(range(len(values)), labels)
    axes.set(title=panel.title, ylabel=panel.column, xlim=(-0.6, len(values) - 0.4))
    axes.grid(alpha=0.3, axis="y")


def _draw_images(axes: "Axes", panel: ImagesPanel) -> None:
    from matplotlib import colormaps

    columns = []
    for images in panel.images.values():
        images = np.asarray(images, np.float64)
        largest = np.maximum(np.abs(images).max((1, 2), keepdims=True), 1e-30)
        signed = bool((images < 0).any())
        shades = colormaps["RdBu_r"](0.5 + images / largest / 2) if signed else colormaps["gray_r"](images / largest)
        framed = np.pad(shades[..., :3], [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1)
        columns.append(framed.reshape(-1, *framed.shape[2:]))
    axes.imshow(np.concatenate(columns, 1), interpolation="nearest")
    width = columns[0].shape[1]
    labels = ["\n".join(textwrap.wrap(name, 10, break_long_words=False)) for name in panel.images]
    axes.set_xticks((np.arange(len(columns)) + 0.5) * width - 0.5, labels, fontsize=9)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(panel.title)
