"""Pictures of the plane: points with labels, decision regions, and where a network takes the points."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ...checks import as_numbers, check_filled, check_integer, check_shape, checked
from ...errors import DTypeError, ShapeError
from .figures import COLOURS, MARKERS, STYLE, new_figure

MAX_COLUMNS = 100  # of panels
MAX_SIDE = 10_000  # of a grid, in points
CORNERS = ("#08306B", "#8C2D04", "#9ADCFF", "#FFD966")  # of a coloured plane: blue to orange, and dark to light


@checked
def plane(x, size: int = 240, margin: float = 0.08) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The points [size · size, 2] of a grid over a square that contains x[point, 2], row by row, and the sides of the
    square, (left, right, bottom, top)."""
    x = as_numbers("plane", "x", x, "points", 2)
    check_filled("plane", "x", x)
    check_integer("plane", "size", size, 1, MAX_SIDE)
    return _plane(x, size, margin)


def _plane(x, size: int, margin: float = 0.08):
    centre = (x.min(0) + x.max(0)) / 2
    half = (0.5 + margin) * float(np.ptp(x, axis=0).max())
    across, up = (np.linspace(c - half, c + half, size) for c in centre)
    points = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)
    return points, (across[0], across[-1], up[0], up[-1])


def position_colours(x) -> np.ndarray:
    """A colour [point, 3] for every point x[point, 2] of the plane: blue on the left, orange on the right, light above."""
    x = as_numbers("position_colours", "x", x, "points", 2)
    across, up = ((np.argsort(np.argsort(column)) / max(1, len(x) - 1))[:, None] for column in x.T)
    low, right, high, far = (np.array(to_rgb(c)) for c in CORNERS)
    return (1 - up) * ((1 - across) * low + across * right) + up * ((1 - across) * high + across * far)


@checked
def points(axes: Axes, x, y, size: float = 14) -> None:
    """Draw the points x[point, 2], with a colour and a marker for each label y[point]."""
    _draw_points(axes, *_labelled_points("points", x, y), size)


def _labelled_points(name: str, x, y) -> tuple[np.ndarray, np.ndarray]:
    """The points and their labels as arrays of NumPy; ShapeError or DTypeError if they are none."""
    x, y = as_numbers(name, "x", x, "points", 2), as_numbers(name, "y", y, "points")
    check_shape(name, "y", y, len(x))
    if np.issubdtype(y.dtype, np.floating):
        raise DTypeError(f"{name}: y must hold integers, got an array of {y.dtype}")
    return x, y


def _draw_points(axes: Axes, x, y, size: float = 14):
    for label in np.unique(y):
        chosen, colour, marker = x[y == label], COLOURS[label % len(COLOURS)], MARKERS[label % len(MARKERS)]
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=size,
            c=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.3,
            label=f"class {label}",
        )


@checked
def regions(axes: Axes, probabilities, extent) -> None:
    """Colour the regions where each class is the most likely one, paler where the prediction is less certain.

    `probabilities[point, class]` belong to the points of `plane`, and `extent` are the sides of its square.
    """
    grid = _as_grid("regions", "probabilities", probabilities)
    _draw_regions(axes, grid, as_numbers("regions", "extent", extent, 4))


def _as_grid(name: str, argument: str, probabilities) -> np.ndarray:
    """The probabilities [up, across, class] of the points of a plane; ShapeError if they are none."""
    found = as_numbers(name, argument, probabilities, "points", "classes")
    size = math.isqrt(len(found))
    if not size or size**2 != len(found) or found.shape[1] < 2:
        words = "a square number of points and two classes at least"
        raise ShapeError(f"{name}: {argument} has shape {found.shape}, expected {words}")
    return found.astype(np.float64).reshape(size, size, -1)


def _draw_regions(axes: Axes, grid: np.ndarray, extent):
    size, classes = len(grid), grid.shape[-1]
    certain = (grid.max(-1, keepdims=True) - 1 / classes) / (1 - 1 / classes)
    colours = np.array([to_rgb(COLOURS[k % len(COLOURS)]) for k in range(classes)])[grid.argmax(-1)]
    axes.imshow(1 - (0.12 + 0.33 * certain) * (1 - colours), extent=extent, origin="lower", interpolation="nearest")
    left, right, bottom, top = extent
    across, up = np.linspace(left, right, size), np.linspace(bottom, top, size)
    for k in range(classes):
        lead = grid[..., k] - np.delete(grid, k, -1).max(-1)
        if lead.min() < 0 < lead.max():
            axes.contour(across, up, lead, [0], colors="#444444", linewidths=1)


def _show_square(axes, extent, labels=("x₁", "x₂")):
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel=labels[0], ylabel=labels[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 3, 5, 10]))


@matplotlib.rc_context(STYLE)
@checked
def decision_regions(x, y, extent, panels: Mapping[str, Any], title: str = "") -> Figure:
    """The points alone, and then over the decision regions of each of `panels`, `{title: probabilities[point, class]}`."""
    x, y = _labelled_points("decision_regions", x, y)
    extent = as_numbers("decision_regions", "extent", extent, 4)
    grids = {name: _as_grid("decision_regions", f"panels[{name!r}]", panel) for name, panel in panels.items()}
    figure = new_figure(4.4 * (1 + len(panels)), 4.85)
    figure.suptitle(title)
    row = figure.subplots(1, 1 + len(panels), squeeze=False)[0]
    for axes, (name, grid) in zip(row, [(None, None), *grids.items()], strict=True):
        if grid is not None:
            _draw_regions(axes, grid, extent)
        _draw_points(axes, x, y)
        _show_square(axes, extent)
        axes.set_title(f"{len(x):,} held-out points" if grid is None else name)
        if grid is None:
            axes.legend(loc="upper left", markerscale=1.8, handletextpad=0, borderaxespad=0.1)
    return figure


@checked
def draw_regions(figure: Figure, x, y, extent, probabilities, title: str) -> None:
    """Draw one frame of a decision boundary in motion."""
    x, y = _labelled_points("draw_regions", x, y)
    extent = as_numbers("draw_regions", "extent", extent, 4)
    grid = _as_grid("draw_regions", "probabilities", probabilities)
    axes = figure.add_axes((0.115, 0.095, 0.86, 0.82))
    _draw_regions(axes, grid, extent)
    _draw_points(axes, x, y, 12)
    _show_square(axes, extent)
    axes.set_title(title)


@checked
def draw_stretched(figure: Figure, lines, x, y, extent, title: str, probabilities=None) -> None:
    """Draw one frame of a plane in motion: `lines[line, point, 2]` of a grid, and points with labels.

    If `probabilities` are given, they are drawn over the regions of these.
    """
    lines = as_numbers("draw_stretched", "lines", lines, "lines", "points", 2)
    x, y = _labelled_points("draw_stretched", x, y)
    extent = as_numbers("draw_stretched", "extent", extent, 4)
    grid = None if probabilities is None else _as_grid("draw_stretched", "probabilities", probabilities)
    axes = figure.add_axes((0.115, 0.095, 0.86, 0.82))
    if grid is not None:
        _draw_regions(axes, grid, extent)
    axes.add_collection(LineCollection([*lines], colors="#AAAAAA", linewidths=0.6, zorder=0.5))
    _draw_points(axes, x, y, 12)
    _show_square(axes, extent, ("", ""))
    axes.set_title(title)


@matplotlib.rc_context(STYLE)
@checked
def clouds(
    panels: Sequence[tuple[str, np.ndarray]],
    colours,
    columns: int,
    *,
    title: str = "",
    basis=None,
    limits: Sequence[float | None] | None = None,
) -> Figure:
    """Points in the plane: one `(title, x[point, 2])` per panel, and one colour per point, the same in all panels.

    `basis[panel, :, 2]` are the images of the basis vectors, which are drawn as arrows.  `limits` gives half the side of
    each panel; without it, or where it is None, a panel is as large as its points need.
    """
    check_filled("clouds", "panels", panels)
    check_integer("clouds", "columns", columns, 1, MAX_COLUMNS)
    clouds = [as_numbers("clouds", f"panels[{i}]", x, "points", 2) for i, (_, x) in enumerate(panels)]
    for i, x in enumerate(clouds):
        check_shape("clouds", f"panels[{i}]", x, len(clouds[0]), 2)
        check_filled("clouds", f"panels[{i}]", x)
    if basis is not None:
        basis = as_numbers("clouds", "basis", basis, len(panels), "vectors", 2)
    if limits is not None and len(limits) != len(panels):
        raise ShapeError(f"clouds: limits has {len(limits)} entries, expected one for each of {len(panels)} panels")
    rows = -(-len(panels) // columns)
    figure = new_figure(3.5 * columns, 3.75 * rows + 0.4)
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for i, (axes, (name, _), x) in enumerate(zip(grid, panels, clouds, strict=False)):
        axes.axhline(0, color="#CCCCCC", linewidth=0.8, zorder=0)
        axes.axvline(0, color="#CCCCCC", linewidth=0.8, zorder=0)
        try:
            axes.scatter(x[:, 0], x[:, 1], s=7, c=colours, linewidths=0)
        except (TypeError, ValueError) as error:
            raise ValueError(f"clouds: colours must hold one colour for each of {len(x)} points: {error}") from None
        names = ("e₁", "e₂") if name == "x" else ("W e₁", "W e₂")
        for arrow, label in zip(basis[i] if basis is not None else (), names, strict=False):
            axes.annotate(
                "",
                arrow,
                (0, 0),
                arrowprops={"arrowstyle": "-|>", "linewidth": 2, "color": "black", "shrinkA": 0, "shrinkB": 0},
            )
            away = arrow / max(float(np.hypot(*arrow)), 1e-9)
            side = "left" if arrow[0] > 0 else "right"
            halo = [withStroke(linewidth=3, foreground="white")]
            axes.annotate(
                label, arrow, 8 * away, textcoords="offset points", ha=side, va="center", weight="bold", path_effects=halo
            )
        half = limits[i] if limits is not None else None
        extent = (-half, half, -half, half) if half else _plane(x, 2)[1]
        _show_square(axes, extent, ("", ""))
        axes.set_title(name)
    return figure
