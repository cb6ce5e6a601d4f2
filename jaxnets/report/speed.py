"""The benchmark tables of the guide, as data."""

import itertools
import re
from importlib.resources import files


def benchmark_tables() -> list[dict]:
    """The tables that `python -m benchmarks report` wrote into the guide's page on performance.

    With each comes the line above it, which says where it was measured.
    """
    text = files("jaxnets").joinpath("guide", "performance.md").read_text(encoding="utf-8")
    marked = re.search(r"<!-- benchmarks -->(.*)<!-- end of benchmarks -->", text, re.S)
    found, measured = [], ""
    for is_table, lines in itertools.groupby(marked.group(1).splitlines() if marked else [], lambda s: s.startswith("|")):
        if is_table:
            head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            found.append({"measured": measured, "columns": head, "rows": rows})
        else:
            measured = next((line for line in lines if line.startswith("Measured")), measured)
    return found
