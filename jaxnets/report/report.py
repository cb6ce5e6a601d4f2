"""The whole page on a model."""

from ..learn.presets import Problem
from .content import comparisons, describe
from .page import page_html
from .saturation import saturation
from .speed import benchmark_tables
from .training import replay


def report_html(problem: Problem, live: dict | None = None) -> str:
    """One self-contained HTML page on a model and a batch.

    A `live` page has a server behind it and asks that for the comparisons, which take longest.
    """
    compared = {"live": live, "comparisons": None} if live else {"comparisons": comparisons(problem)}
    parts = {"saturation": saturation(), "replay": replay(problem), "benchmarks": benchmark_tables()}
    return page_html({**describe(problem), **compared, **parts})
