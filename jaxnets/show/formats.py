"""Results as text and as data for JSON, and the package of pictures, which is there if matplotlib is installed."""

import dataclasses
import math
import re


def as_text(table, width: int) -> str:
    """What rich prints of an object, as text without colours."""
    from rich.console import Console

    console = Console(width=width, color_system=None, force_jupyter=False)  # or a notebook shows an empty output, too
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def in_lines(name: str, width: int = 32) -> str:
    """A long name with line breaks where it has parts: before [ and after / _ and a dot."""
    lines = [""]
    for part in re.findall(r"\[[^\]]*\]|[^\[/_.]+(?:_\d+)*[/_.]*|.", name):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def as_data(record):
    """Nested dataclasses as dictionaries and lists for JSON, without the fields that are marked as pictures."""
    if isinstance(record, (list, tuple)):
        return [as_data(one) for one in record]
    if isinstance(record, dict):
        return {key: as_data(value) for key, value in record.items()}
    if not dataclasses.is_dataclass(record):
        return record
    fields = [f.name for f in dataclasses.fields(record) if not f.metadata.get("picture")]
    return {name: as_data(getattr(record, name)) for name in fields}


def replace_nonfinite(x, replacement=lambda number: None):
    """The same data in which `replacement(number)` stands for infinity and NaN, which JSON does not know."""
    if isinstance(x, dict):
        return {key: replace_nonfinite(value, replacement) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [replace_nonfinite(value, replacement) for value in x]
    return replacement(x) if isinstance(x, float) and not math.isfinite(x) else x


def import_plots():
    """The package `plots`.  Raises ModuleNotFoundError, which says what to install, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401

        from . import plots
    except ImportError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'jaxnets[plot]'") from None
    return plots


def superscript(number) -> str:
    """A number, or a text like 2×3, written as an exponent."""
    return str(number).translate(str.maketrans("-0123456789×", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹ˣ"))


def subscript(number) -> str:
    """A number written as an index."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
