"""What notebooks show of Jacobians: tables and pictures in HTML and SVG, without script or style sheet."""

import numpy as np

from ..algebra.picture import Markup, colour, escaped

THUMBNAIL = 24, 24, 90  # rows, columns and width of a picture in a table
FRAME = "border-collapse:collapse;font-size:90%"
CELL = "text-align:left;vertical-align:top;padding:.3em .7em;border-bottom:1px solid #8886"


def html_table(title: str, columns, rows, notes=()) -> Markup:
    """A table whose cells are texts or Markup, with notes below it."""
    head = "".join(f'<th style="{CELL}">{escaped(name)}</th>' for name in columns)
    body = "".join("<tr>" + "".join(f'<td style="{CELL}">{escaped(c)}</td>' for c in row) + "</tr>" for row in rows)
    below = "".join(f"<p>{escaped(note)}</p>" for note in notes if note)
    caption = f'<caption style="text-align:left;caption-side:top">{escaped(title)}</caption>'
    return Markup(f'<table style="{FRAME}">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}')


def error_bar(ulp: float) -> Markup:
    """A bar whose length is the number of digits of an error, at most ten."""
    length = 10 * min(10.0, max(0.0, np.log10(1 + ulp))) if np.isfinite(ulp) else 100
    return Markup(
        f'<svg role="img" aria-label="{ulp:.2g} ULP" width="100" height="10"><rect width="100" height="6" y="2" '
        f'fill="#8883"/><rect width="{length:.0f}" height="6" y="2" fill="{colour(1)}"/></svg>'
    )
