"""Colours, an empty figure, and files of figures: PNG, SVG or PDF, and GIF for what moves.

The colours are those of Okabe and Ito, which people with colour blindness can tell apart; classes also differ in their
markers.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ...checks import check_filled, check_integer, check_positive, checked
from ...files import written_atomically
from ...learn.progress import stage

COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#009E73", "#F0E442")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
FORMATS = ("png", "svg", "pdf")
MAX_DPI = 10_000
MAX_MILLISECONDS = 655_350  # that a frame of a GIF can stay
STYLE: dict[Any, Any] = {  # sizes that can still be read when a picture is half as wide as a page
    "font.size": 11,
    "axes.titlesize": 12,
    "figure.titlesize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@checked
def save(figure: Figure, path: str | os.PathLike, dpi: int = 130) -> Path:
    """Write an SVG or a PDF if the path ends so, else a PNG, and make the folders that are missing."""
    check_integer("save", "dpi", dpi, 1, MAX_DPI)
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        kind = FORMATS[0]
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)  # the same figure gives the same bytes
    with stage("drawing", Path(path).name), matplotlib.rc_context({"svg.hashsalt": "jaxnets"}):
        return _write_whole(path, lambda part: figure.savefig(part, dpi=dpi, format=kind, metadata=undated))


@checked
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
    """Write a GIF that repeats for ever.

    `draw(figure, frame)` draws one frame on an empty figure.  A frame stays for `milliseconds`, the first and the last one
    for `rest` milliseconds.
    """
    check_filled("save_animation", "frames", frames)
    check_integer("save_animation", "dpi", dpi, 1, MAX_DPI)
    for side in size:
        check_positive("save_animation", "size", side)
    for name, time in (("milliseconds", milliseconds), ("rest", rest)):
        check_integer("save_animation", name, time, 0, MAX_MILLISECONDS)
    figure = new_figure(*size, layout="none")
    images = []
    with stage("drawing", name := Path(path).name) as told:
        for number, frame in enumerate(frames, 1):
            told.say(f"{name}, frame {number} of {len(frames)}")
            figure.clear()
            with matplotlib.rc_context(STYLE):
                draw(figure, frame)
            images.append(_pixels(figure, dpi))
    colours = Image.fromarray(np.concatenate([images[0], images[len(images) // 2], images[-1]]))
    palette = colours.quantize(256, dither=Image.Dither.NONE)  # one palette for all frames, so that nothing flickers
    entries = np.reshape(palette.getpalette() or [], (-1, 3))
    entries[(entries >= 250).all(1)] = 255  # the paper stays white
    palette.putpalette(entries.ravel().tolist())
    palette.load()
    first, *others = (Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    durations = [rest, *[milliseconds] * (len(others) - 1), rest][: len(images)]
    options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0, "optimize": False}
    return _write_whole(path, lambda part: first.save(part, format="GIF", **options))


def _write_whole(path, write) -> Path:
    with written_atomically(path) as part:
        write(part)
    return Path(path)


def _pixels(figure, dpi):
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


class Picture(Figure):
    """A figure that a notebook shows as the value of a cell, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png")
        return written.getvalue()


def new_figure(width, height, layout="constrained") -> Figure:
    figure = Picture(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure
