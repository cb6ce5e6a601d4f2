"""Pictures of training: curves, mistakes and calibration of a classifier, and ensembles of networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ...checks import as_numbers, as_numpy, check_filled, check_shape, checked
from .figures import COLOURS, LINES, MARKERS, STYLE, new_figure


@matplotlib.rc_context(STYLE)
@checked
def learning_curves(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Loss, and for labels accuracy, of the training and the held-out examples over epochs.

    Raises ValueError if there is no epoch, or one without its number.
    """
    check_filled("learning_curves", "history", history)
    for i, row in enumerate(history):
        if "epoch" not in row:
            raise ValueError(f"learning_curves: history[{i}] must have an 'epoch', got {sorted(row)}")
    panels = [("loss", "log"), ("accuracy", "linear")][: 1 + any("accuracy" in row for row in history)]
    figure = new_figure(5 * len(panels), 4.2)
    figure.suptitle(title)
    epochs = [row["epoch"] for row in history]
    kinds = (("training, during the epoch", ""), ("held out", "validation_"))
    for axes, (name, scale) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
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
@checked
def confusion(counts, title: str = "", names: Sequence[str] | None = None) -> Figure:
    """The matrix `counts[true, predicted]`, with the `names` of the classes or their numbers.

    A cell is coloured by the square root of its share of the true class, so that a few errors show beside many hits.
    """
    counts = as_numbers("confusion", "counts", counts, "true", "predicted")
    classes = len(counts)
    check_shape("confusion", "counts", counts, classes, classes)
    check_filled("confusion", "counts", counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = list(map(str, range(classes))) if names is None else [str(name) for name in names]
    if len(names) != classes:
        raise ValueError(f"confusion: names must be {classes}, one for each class, got {len(names)}")
    longest = max(map(len, names))
    room = 0.09 * min(longest, 24)
    figure = new_figure(0.56 * classes + 1.4 + room, 0.56 * classes + 1.2 + room)
    axes = figure.subplots()
    axes.imshow(share**0.5, cmap=LinearSegmentedColormap.from_list("", ("white", COLOURS[0])), vmin=0, vmax=1)
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[true, predicted] > 0.3 else "black"
        axes.text(predicted, true, f"{counts[true, predicted]}", ha="center", va="center", color=colour)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.set_xticks(range(classes), names, rotation=90 if longest > 3 else 0)
    axes.set_yticks(range(classes), names)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#DDDDDD", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
@checked
def calibration(bins, title: str = "") -> Figure:
    """How often predictions are right, against how sure they are: `bins[bin]` is (mean confidence, accuracy, examples)."""
    bins = as_numbers("calibration", "bins", bins, "bins", 3)
    check_filled("calibration", "bins", bins)
    confidence, accuracy, counts = bins.astype(np.float64).T
    edges = np.linspace(0, 1, len(counts) + 1)
    figure = new_figure(5.6, 6.4)
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
@checked
def mistakes(images, labels, predictions, confidence, columns: int = 6, title: str = "") -> Figure:
    """Images [image, height, width], each with its label, what the network took it for, and how sure it was."""
    images = as_numbers("mistakes", "images", images, "images", "height", "width")
    labels, predictions = (
        as_numpy("mistakes", name, value) for name, value in (("labels", labels), ("predictions", predictions))
    )
    check_shape("mistakes", "labels", labels, len(images))
    check_shape("mistakes", "predictions", predictions, len(images))
    confidence = as_numbers("mistakes", "confidence", confidence, len(images))
    columns = max(4, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = new_figure(1.75 * columns, 2.25 * rows + 0.6)
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, label, seen, sure in zip(grid, images, labels, predictions, confidence, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(f"{label}, seen as {seen}\n{sure:.0%} sure")
    return figure


@matplotlib.rc_context(STYLE)
@checked
def ensemble(x, panels: Mapping[str, Any], data, interval, title: str = "") -> Figure:
    """The predictions of several networks over x[point], and their mean ± standard deviation.

    There is one panel for each of `panels`, `{title: predictions[network, point]}`.  `data` are the points (x, y) that the
    networks learned from, and `interval` is where these lie; it is shaded.
    """
    x = as_numbers("ensemble", "x", x, "points")
    check_filled("ensemble", "x", x)
    check_filled("ensemble", "panels", panels)
    panels = {
        name: as_numbers("ensemble", f"panels[{name!r}]", values, "networks", len(x)) for name, values in panels.items()
    }
    data = as_numbers("ensemble", "data", data, 2, "points")
    interval = as_numbers("ensemble", "interval", interval, 2)
    figure = new_figure(5.4 * len(panels), 4.9)
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
@checked
def variance(x, variances: Mapping[str, Any], interval, title: str = "") -> Figure:
    """How much networks disagree over x[point]: `{name: variance[point]}` on a logarithmic axis."""
    x = as_numbers("variance", "x", x, "points")
    check_filled("variance", "x", x)
    variances = {name: as_numbers("variance", f"variances[{name!r}]", v, len(x)) for name, v in variances.items()}
    interval = as_numbers("variance", "interval", interval, 2)
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    axes.axvspan(*interval, color="#EEEEEE", zorder=0, label="training interval")
    for (name, values), colour, line in zip(variances.items(), COLOURS, LINES, strict=False):
        axes.plot(x, values, line, color=colour, label=name)
    axes.set(yscale="log", xlabel="x", ylabel="variance of the predictions", xlim=(x[0], x[-1]), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=True, framealpha=1, edgecolor="none")
    return figure
