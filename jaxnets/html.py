"""What notebooks show of Jacobians: tables and pictures as HTML and SVG that need nothing else."""

import html

import numpy as np

LEVELS = 12  # shades of a colour
THUMBNAIL = 24, 24, 90  # rows, columns and width of a picture in a table
BLUE, WHITE, ORANGE = (33, 102, 172), (247, 247, 247), (201, 90, 10)  # told apart by the colour-blind, in print too
FRAME = "border-collapse:collapse;font-size:90%"
CELL = "text-align:left;vertical-align:top;padding:.3em .7em;border-bottom:1px solid #8886"


class Markup(str):
    """Text that is HTML already."""


def escaped(text) -> str:
    """As HTML: angle brackets and the like escaped, lines kept."""
    return text if isinstance(text, Markup) else html.escape(str(text)).replace("\n", "<br>")


def table(title: str, columns, rows, notes=()) -> Markup:
    """A table of cells that are texts or Markup, and lines below it."""
    head = "".join(f'<th style="{CELL}">{escaped(name)}</th>' for name in columns)
    body = "".join("<tr>" + "".join(f'<td style="{CELL}">{escaped(c)}</td>' for c in row) + "</tr>" for row in rows)
    below = "".join(f"<p>{escaped(note)}</p>" for note in notes if note)
    caption = f'<caption style="text-align:left;caption-side:top">{escaped(title)}</caption>'
    return Markup(f'<table style="{FRAME}">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}')


def figure(words, picture: str) -> Markup:
    """Lines of text over a picture."""
    return Markup(f'<figure style="margin:.5em 0">{lines(*words)}{picture}</figure>')


def lines(*parts) -> Markup:
    """Parts under each other."""
    return Markup("".join(f"<div>{escaped(part)}</div>" for part in parts))


def error_bar(ulp: float) -> Markup:
    """A bar as long as an error has digits, ten of them at most."""
    length = 10 * min(10.0, max(0.0, np.log10(1 + ulp))) if np.isfinite(ulp) else 100
    return Markup(
        f'<svg role="img" aria-label="{ulp:.2g} ULP" width="100" height="10"><rect width="100" height="6" y="2" '
        f'fill="#8883"/><rect width="{length:.0f}" height="6" y="2" fill="{colour(1)}"/></svg>'
    )


def code(text: str) -> Markup:
    return Markup(f"<code>{html.escape(text)}</code>")


def colour(share: float) -> str:
    """From blue at −1 over nearly white at 0 to orange at 1; black where there is no number."""
    if not np.isfinite(share):
        return "#000"
    end = BLUE if share < 0 else ORANGE
    mixed = (round(w + (e - w) * min(1.0, abs(share))) for w, e in zip(WHITE, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def shares(values) -> np.ndarray:
    """Every number as a share of the largest one, which is ±1, by the square root: small ones are seen as well."""
    values = np.asarray(values, np.float64)
    largest = np.max(np.abs(values), initial=0, where=np.isfinite(values)) or 1
    return np.sign(values) * np.sqrt(np.abs(values) / largest)


def heat_map(values, possible, words: str, width: int) -> Markup:
    """A picture of a matrix: numbers from blue (negative) to orange, and nothing but the hatched ground where `possible`
    tells that an entry is zero by structure.  Without `values`, None, only where entries may differ from zero.
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
