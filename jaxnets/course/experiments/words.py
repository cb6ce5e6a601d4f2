"""Numbers in words: to three digits, with their median and range, and in a list."""

import math

import numpy as np

from ...show.formats import superscript


def median_and_range(values, unit: str = "", between: str = " ") -> str:
    """The median with its unit and, if the seeds differ, the range."""
    low, median, high = (number_text(f(np.asarray(values, np.float64))) for f in (np.min, np.median, np.max))
    text = f"{median} {unit}" if unit and median not in ("never", "NaN") else median
    return text if low == high else f"{text}{between}({low} – {high})"


def number_text(value: float) -> str:
    """A number to three digits, and "never" for infinity."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "never"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}·10{superscript(int(exponent))}"


def numbers_text(values) -> str:
    """Numbers to three digits, with commas between them."""
    return ", ".join(number_text(value) for value in values)


def enumeration(words) -> str:
    """The words with commas and "and" between them."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
