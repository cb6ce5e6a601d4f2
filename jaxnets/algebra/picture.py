"""The picture of a Jacobian as SVG, and the few HTML elements around it."""

import html

import numpy as np

LEVELS = 12  # of shades on each side of zero
BLUE, WHITE, ORANGE = (
    (33, 102, 172),
    (247, 247, 247),
    (201, 90, 10),
)  # colour-blind people can distinguish them, in print as well


class Markup(str):
    """Text that is HTML, so that it is not escaped again."""


def escaped(text) -> str:
    """Text as HTML: special characters are escaped, line breaks are kept."""
    return text if isinstance(text, Markup) else html.escape(str(text)).replace("\n", "<br>")


def figure(words, picture: str) -> Markup:
    """A figure with lines of text above the picture."""
    return Markup(f'<figure style="margin:.5em 0">{lines(*words)}{picture}</figure>')


def lines(*parts) -> Markup:
    """One line for each part."""
    return Markup("".join(f"<div>{escaped(part)}</div>" for part in parts))


def code(text: str) -> Markup:
    """Text in the font of code."""
    return Markup(f"<code>{html.escape(text)}</code>")


def colour(share: float) -> str:
    """From blue at −1 over nearly white at 0 to orange at 1; black for NaN and ∞."""
    if not np.isfinite(share):
        return "#000"
    end = BLUE if share < 0 else ORANGE
    mixed = (round(w + (e - w) * min(1.0, abs(share))) for w, e in zip(WHITE, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def shares(values) -> np.ndarray:
    """The square root of each number as a share of the largest one, with its sign; the root makes small numbers visible."""
    values = np.asarray(values, np.float64)
    largest = np.max(np.abs(values), initial=0, where=np.isfinite(values)) or 1
    return np.sign(values) * np.sqrt(np.abs(values) / largest)


def heat_map(values, possible, words: str, width: int) -> Markup:
    """A picture of a matrix: numbers are blue (negative) to orange, and entries that are zero by structure, where `possible`
    is False, are hatched.  If `values` is None, all other entries are grey.
    """
    rows, columns = np.shape(possible)
    level = np.round(shares(values) * LEVELS) / LEVELS if values is not None else np.full((rows, columns), 0.5)
    cells: dict[str, str] = {}
    for r, c in np.argwhere(possible):
        shade = colour(level[r, c]) if values is not None else "#6b7280"
        cells[shade] = cells.get(shade, "") + f"M{c} {r}h1v1h-1z"
    paths = "".join(f'<path fill="{shade}" d="{d}"/>' for shade, d in cells.items())
    hatches = "".join(f'<path d="M-9 {k}l{columns + 18} {-columns - 18}"/>' for k in range(0, rows + columns + 18, 2))
    size = f'width="{max(24, min(width, 14 * columns))}" height="{max(14, min(1.5 * width, 14 * rows)):.0f}"'
    return Markup(
        f'<svg role="img" aria-label="{html.escape(words)}" viewBox="0 0 {columns} {rows}" {size} '
        'preserveAspectRatio="none" style="border:1px solid #8888;overflow:hidden" shape-rendering="crispEdges">'
        f'<title>{html.escape(words)}</title><g stroke="#9ca3af" stroke-width=".12" opacity=".6">{hatches}</g>{paths}</svg>'
    )
