"""Pictures of data, networks and training: functions from arrays to matplotlib figures, and files of them.

Colours are those of Okabe and Ito, which the colour-blind tell apart; classes differ in their markers too.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from ..algebra.jacobian import Jacobian
from ..algebra.picture import BLUE, ORANGE, WHITE
from ..algebra.sizes import show_sizes
from ..files import written_atomically
from .diagram import diagram

COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#009E73", "#F0E442")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
CORNERS = ("#08306B", "#8C2D04", "#9ADCFF", "#FFD966")  # of a coloured plane: blue to orange, and dark to light
STYLE: dict[Any, Any] = {  # sizes that stay readable when a picture is half as wide as a page
    "font.size": 11,
    "axes.titlesize": 12,
    "figure.titlesize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


# --- files --------------------------------------------------------------------------------------------------------


def save(figure: Figure, path: str | os.PathLike, dpi: int = 130) -> Path:
    """Write a PNG; missing folders are made."""
    return _write(path, lambda part: figure.savefig(part, dpi=dpi, format="png"))


def save_animation(
    frames: Sequence[Any],
    draw: Callable[[Figure, Any], None],
    path: str | os.PathLike,
    *,
    size: tuple[float, float] = (5.4, 5.4),
    milliseconds: int = 100,
    rest: int = 1500,
    dpi: int = 100,
) -> Path:
    """Write a GIF that runs for ever: `draw(figure, frame)` on an empty figure makes a frame; first and last rest."""
    figure = _figure(*size, layout="none")
    images = []
    for frame in frames:
        figure.clear()
        with matplotlib.rc_context(STYLE):
            draw(figure, frame)
        images.append(_pixels(figure, dpi))
    colours = Image.fromarray(np.concatenate([images[0], images[len(images) // 2], images[-1]]))
    palette = colours.quantize(256, dither=Image.Dither.NONE)  # one for all frames: nothing flickers
    entries = np.reshape(palette.getpalette() or [], (-1, 3))
    entries[(entries >= 250).all(1)] = 255  # white paper
    palette.putpalette(entries.ravel().tolist())
    palette.load()
    first, *others = (Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    durations = [rest, *[milliseconds] * (len(others) - 1), rest][: len(images)]
    options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0, "optimize": False}
    return _write(path, lambda part: first.save(part, format="GIF", **options))


def _write(path, write) -> Path:
    with written_atomically(path) as part:
        write(part)
    return Path(path)


def _pixels(figure, dpi):
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _figure(width, height, layout="constrained") -> Figure:
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


# --- the plane ----------------------------------------------------------------------------------------------------


def plane(x, size: int = 240, margin: float = 0.08) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The points [size · size, 2] of a square that holds x[point, 2], row by row, and its (left, right, bottom, top)."""
    centre = (x.min(0) + x.max(0)) / 2
    half = (0.5 + margin) * float(np.ptp(x, axis=0).max())
    across, up = (np.linspace(c - half, c + half, size) for c in centre)
    points = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)
    return points, (across[0], across[-1], up[0], up[-1])


def position_colours(x) -> np.ndarray:
    """[point, 3]: a colour for every place x[point, 2] of the plane, blue on the left, orange on the right, light above."""
    across, up = ((np.argsort(np.argsort(column)) / max(1, len(x) - 1))[:, None] for column in x.T)
    low, right, high, far = (np.array(to_rgb(c)) for c in CORNERS)
    return (1 - up) * ((1 - across) * low + across * right) + up * ((1 - across) * high + across * far)


def points(axes: Axes, x, y, size: float = 14) -> None:
    """x[point, 2] with a colour and a marker for every label y[point]."""
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


def regions(axes: Axes, probabilities, extent) -> None:
    """Where each class is the likeliest, paler where less certain: probabilities[point, class] at the points of `plane`."""
    size = round(len(probabilities) ** 0.5)
    grid = np.asarray(probabilities, np.float64).reshape(size, size, -1)
    classes = grid.shape[-1]
    certain = (grid.max(-1, keepdims=True) - 1 / classes) / (1 - 1 / classes)
    colours = np.array([to_rgb(COLOURS[k % len(COLOURS)]) for k in range(classes)])[grid.argmax(-1)]
    axes.imshow(1 - (0.12 + 0.33 * certain) * (1 - colours), extent=extent, origin="lower", interpolation="nearest")
    left, right, bottom, top = extent
    across, up = np.linspace(left, right, size), np.linspace(bottom, top, size)
    for k in range(classes):
        lead = grid[..., k] - np.delete(grid, k, -1).max(-1)
        if lead.min() < 0 < lead.max():
            axes.contour(across, up, lead, [0], colors="#444444", linewidths=1)


def _square(axes, extent, labels=("x₁", "x₂")):
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel=labels[0], ylabel=labels[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 3, 5, 10]))


@matplotlib.rc_context(STYLE)
def decision_regions(x, y, extent, panels: Mapping[str, Any], title: str = "") -> Figure:
    """The points alone, then once a panel `{title: probabilities[point, class]}` over the decision regions."""
    figure = _figure(4.4 * (1 + len(panels)), 4.85)
    figure.suptitle(title)
    for axes, (name, grid) in zip(figure.subplots(1, 1 + len(panels)), {"data": None, **panels}.items(), strict=True):
        if grid is not None:
            regions(axes, grid, extent)
        points(axes, x, y)
        _square(axes, extent)
        axes.set_title(f"{len(x):,} held-out points" if grid is None else name)
        if grid is None:
            axes.legend(loc="upper left", markerscale=1.8, handletextpad=0, borderaxespad=0.1)
    return figure


def draw_regions(figure: Figure, x, y, extent, probabilities, title: str) -> None:
    """One frame of a decision boundary in motion."""
    axes = figure.add_axes((0.115, 0.095, 0.86, 0.82))
    regions(axes, probabilities, extent)
    points(axes, x, y, 12)
    _square(axes, extent)
    axes.set_title(title)


def draw_stretched(figure: Figure, lines, x, y, extent, title: str, probabilities=None) -> None:
    """One frame of a plane in motion: lines[line, point, 2] of a grid and points with labels, over regions if given."""
    axes = figure.add_axes((0.115, 0.095, 0.86, 0.82))
    if probabilities is not None:
        regions(axes, probabilities, extent)
    axes.add_collection(LineCollection(lines, colors="#AAAAAA", linewidths=0.6, zorder=0.5))
    points(axes, x, y, 12)
    _square(axes, extent, ("", ""))
    axes.set_title(title)


@matplotlib.rc_context(STYLE)
def clouds(
    panels: Sequence[tuple[str, np.ndarray]], colours, columns: int, *, title: str = "", basis=None, limits=None
) -> Figure:
    """Points in the plane, `(title, x[point, 2])` a panel; a colour a point, the same in all panels.

    `basis[panel, :, 2]`: the images of the basis vectors, drawn as arrows.  `limits`: half the side of every panel; None: as
    close as its points allow.
    """
    rows = -(-len(panels) // columns)
    figure = _figure(3.5 * columns, 3.75 * rows + 0.4)
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for i, (axes, (name, x)) in enumerate(zip(grid, panels, strict=False)):
        axes.axhline(0, color="#CCCCCC", linewidth=0.8, zorder=0)
        axes.axvline(0, color="#CCCCCC", linewidth=0.8, zorder=0)
        axes.scatter(x[:, 0], x[:, 1], s=7, c=colours, linewidths=0)
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
        extent = (-half, half, -half, half) if half else plane(x, 2)[1]
        _square(axes, extent, ("", ""))
        axes.set_title(name)
    return figure


# --- training and evaluation --------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def learning_curves(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Loss and accuracy of the training and the held-out examples over epochs."""
    figure = _figure(10, 4.2)
    figure.suptitle(title)
    epochs = [row["epoch"] for row in history]
    kinds = (("training, during the epoch", ""), ("held out", "validation_"))
    for axes, (name, scale) in zip(figure.subplots(1, 2), (("loss", "log"), ("accuracy", "linear")), strict=True):
        for (label, prefix), colour, line, marker in zip(kinds, COLOURS, LINES, MARKERS, strict=False):
            values = [row.get(prefix + name, np.nan) for row in history]
            last = f"{values[-1]:.3f}" if name == "loss" else f"{values[-1]:.1%}"
            marker = marker if len(epochs) <= 40 else ""
            axes.plot(epochs, values, line, color=colour, marker=marker, markersize=4.5, label=f"{label}: {last}")
        axes.set(xlabel="epoch", title=name, yscale=scale)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        if name == "accuracy":
            axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=None))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


@matplotlib.rc_context(STYLE)
def confusion(counts, title: str = "") -> Figure:
    """counts[true, predicted], coloured by the root of their share of the true class: a few errors show beside many hits."""
    counts = np.asarray(counts)
    classes = len(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = _figure(0.56 * classes + 1.4, 0.56 * classes + 1.2)
    axes = figure.subplots()
    axes.imshow(share**0.5, cmap=LinearSegmentedColormap.from_list("", ("white", COLOURS[0])), vmin=0, vmax=1)
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[true, predicted] > 0.3 else "black"
        axes.text(predicted, true, f"{counts[true, predicted]}", ha="center", va="center", color=colour)
    axes.set(xticks=range(classes), yticks=range(classes), xlabel="predicted class", ylabel="true class", title=title)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#DDDDDD", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def calibration(bins, title: str = "") -> Figure:
    """How often predictions are right, by how sure they are: bins[bin] is (mean confidence, accuracy, examples)."""
    confidence, accuracy, counts = np.asarray(bins, np.float64).T
    edges = np.linspace(0, 1, len(counts) + 1)
    figure = _figure(5.6, 6.4)
    figure.suptitle(title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    used = counts > 0
    middle, width = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    centre = (accuracy * counts + 0.5) / (counts + 1)  # Wilson's interval of one standard deviation
    half = np.sqrt(counts * accuracy * (1 - accuracy) + 0.25) / (counts + 1)
    above.plot([0, 1], [0, 1], ":", color="#666666", label="calibrated")
    above.vlines(confidence[used], (centre - half)[used], (centre + half)[used], color=COLOURS[0], linewidth=1.5)
    above.plot(
        confidence[used], accuracy[used], "o", color=COLOURS[0], markersize=7, label="network, with Wilson's interval"
    )
    above.set(ylim=(0, 1.04), ylabel="share that is right")
    above.grid(alpha=0.3)
    above.legend(loc="lower right")
    below.bar(middle, counts, 0.92 * width, color=COLOURS[3])
    below.set(xlim=(0, 1.02), yscale="symlog", xlabel="confidence: probability of the predicted class", ylabel="examples")
    below.set_ylim(0, 3 * max(1, counts.max()))
    for x, n in zip(middle[used], counts[used], strict=True):
        below.text(x, n, f"{n:.0f}", ha="center", va="bottom", fontsize=9)
    figure.align_ylabels()
    return figure


@matplotlib.rc_context(STYLE)
def mistakes(images, labels, predictions, confidence, columns: int = 6, title: str = "") -> Figure:
    """Images [image, height, width], each with what it is, what the network saw, and how sure it was."""
    columns = max(4, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = _figure(1.75 * columns, 2.25 * rows + 0.6)
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, label, seen, sure in zip(grid, images, labels, predictions, confidence, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(f"{label}, seen as {seen}\n{sure:.0%} sure")
    return figure


# --- ensembles ----------------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def ensemble(x, panels: Mapping[str, Any], data, interval, title: str = "") -> Figure:
    """Networks over x[point], `{title: predictions[network, point]}` a panel: each one, their mean ± standard deviation.

    `data`: points (x, y) they learned from; `interval`: where these lie, shaded.
    """
    figure = _figure(5.4 * len(panels), 4.9)
    figure.suptitle(title)
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for k, (axes, (name, predictions)) in enumerate(zip(grid, panels.items(), strict=True)):
        mean, deviation, colour = predictions.mean(0), predictions.std(0), COLOURS[k % len(COLOURS)]
        axes.axvspan(*interval, color="#EEEEEE", zorder=0, label="training interval")
        axes.scatter(*data, s=9, color="#777777", linewidths=0, label="training points")
        for i, one in enumerate(predictions):
            axes.plot(x, one, color=colour, linewidth=0.8, alpha=0.7, label=None if i else "one network")
        axes.plot(x, mean, color=colour, linewidth=2.6, label="mean of the networks")
        axes.fill_between(
            x, mean - deviation, mean + deviation, color=colour, alpha=0.25, linewidth=0, label="± standard deviation"
        )
        axes.set(title=name, xlabel="x", xlim=(x[0], x[-1]))
        axes.locator_params("x", nbins=5)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("y")
    grid[0].legend(loc="upper left", fontsize=9)
    return figure


@matplotlib.rc_context(STYLE)
def variance(x, variances: Mapping[str, Any], interval, title: str = "") -> Figure:
    """How far networks disagree over x[point]: `{name: variance[point]}` on a logarithmic axis."""
    figure = _figure(7.2, 4.6)
    axes = figure.subplots()
    axes.axvspan(*interval, color="#EEEEEE", zorder=0, label="training interval")
    for (name, values), colour, line in zip(variances.items(), COLOURS, LINES, strict=False):
        axes.plot(x, values, line, color=colour, label=name)
    axes.set(yscale="log", xlabel="x", ylabel="variance of the predictions", xlim=(x[0], x[-1]), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=True, framealpha=1, edgecolor="none")
    return figure


# --- Jacobians and graphs -----------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def jacobian(j: Jacobian, title: str = "", rows: int = 64, columns: int = 64) -> Figure:
    """A heat map of a Jacobian: of one example where examples are apart, and of at most `rows` × `columns` of its corner.

    Blue is negative and orange positive; the hatched ground is zero by structure, a white cell happens to be zero.
    """
    values = np.asarray(j.corner(rows, columns), np.float64)
    possible = np.asarray(j.possible(rows, columns))
    (out, inp), (height, width) = j.block_shape, values.shape
    figure = _figure(3.2 + 6 * width / max(width, height), 2.2 + 6 * height / max(width, height))
    axes = figure.subplots()
    largest = np.abs(values[np.isfinite(values)]).max(initial=0) or 1.0
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, facecolor="white", edgecolor="#BBBBBB", hatch="///", zorder=-1))
    ends = [tuple(part / 255 for part in colour) for colour in (BLUE, WHITE, ORANGE)]
    shades = LinearSegmentedColormap.from_list("signed", ends).with_extremes(bad=(0, 0, 0, 0), over="black")
    shown = np.ma.masked_array(np.where(np.isfinite(values), values, 2 * largest), ~possible)
    image = axes.imshow(shown, cmap=shades, vmin=-largest, vmax=largest, interpolation="nearest", aspect="equal")
    figure.colorbar(image, ax=axes, shrink=0.8)
    (y, y_index), (x, x_index) = (_split(side) for side in j.formula.split(" = ")[0].removeprefix("∂").split("/∂"))
    axes.set(
        ylabel=_axis(y, y_index, out, height, j.examples_are_independent),
        xlabel=_axis(x, x_index, inp, width, j.examples_are_independent),
        title="\n".join([*([title] if title else []), f"∂{y}/∂{x}  [{show_sizes(out)} × {show_sizes(inp)}], {j.structure}"]),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(8, integer=True))
    return figure


def _split(side: str) -> tuple[str, list[str]]:
    """The name and the indices of `y[b,o]`."""
    name, _, indices = side.partition("[")
    return name, indices.removesuffix("]").split(",") if indices else []


def _axis(name, indices, shape, shown, apart) -> str:
    """What runs along an axis of the heat map."""
    text = f"{name}[{','.join(['0', *indices[1:]] if apart else indices)}]" if indices else name
    return text if shown == np.prod(shape) else f"{text}, the first {shown} of {int(np.prod(shape)):,}"


@matplotlib.rc_context(STYLE)
def graph(function: Callable, *args, abstract: bool = True, title: str = "") -> Figure:
    """The block diagram of `function(*args)` with the dimensions of every Jacobian, and beside it the graph of gradients.

    Rounded blocks are functions, squares costs, circles variables.  With several arguments the first holds the weights, as
    for `tabulate`; `abstract=False` runs functions whose Python control flow looks at values.
    """
    found = diagram(function, *args, abstract=abstract)
    left = min(item.column for item in found.items)
    right = max(item.column for item in found.items)
    width = max(4.6, 1.7 * (right - left + 1) + 1.6)
    figure = _figure(2 * width, 1.05 * found.rows + 1.2)
    figure.suptitle(title)
    for back, axes in enumerate(figure.subplots(1, 2)):
        axes.set(xlim=(left - 0.75, right + 1.25), ylim=(found.rows - 0.4, -0.6), title="gradients" if back else "values")
        axes.set_axis_off()
        for arrow in found.arrows:
            _arrow(axes, found.items[arrow.source], found.items[arrow.target], arrow, bool(back))
        for item in found.items:
            _block(axes, item, bool(back))
    return figure


def _block(axes, item, back):
    shape = {"cost": "square,pad=0.5", "function": "round,pad=0.5,rounding_size=0.5"}.get(item.kind, "circle,pad=0.35")
    fill = {"cost": "#FBE3D2", "function": "#DCEBF7", "weight": "#F3F3F3"}.get(item.kind, "white")
    label = item.label if item.module is not None else _short(item.label)
    box = {"boxstyle": shape, "facecolor": fill, "edgecolor": "#444444"}
    label = f"∂C/∂{label}" if back and item.module is None else label
    axes.text(item.column, item.row, label, ha="center", va="center", fontsize=9, bbox=box, zorder=3)


def _short(label: str) -> str:
    """`params[0]['w']` as w."""
    return re.split(r"[\[.]", label)[-1].strip("'\"]") if "[" in label else label


def _arrow(axes, source, target, arrow, back):
    start, end = (source.column, source.row), (target.column, target.row)
    across = target.row == source.row  # from a weight
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
