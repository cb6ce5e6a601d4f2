"""A page on a model: its graph, every module's formula, code and Jacobian, the order in which they are multiplied, how they
compare with autodiff, why LogSoftMax, a training, and the benchmarks."""

from ..spec import Problem
from .content import comparisons, describe
from .page import page
from .saturation import saturation
from .speed import tables
from .training import replay


def report_data(problem: Problem, timed: bool = True) -> dict:
    """All that the page shows, as data for JSON."""
    parts = {"comparisons": comparisons(problem, timed), "saturation": saturation(), "replay": replay(problem)}
    return {**describe(problem), **parts, "benchmarks": tables()}


def report(problem: Problem, timed: bool = True) -> str:
    """One self-contained HTML page on a model and a batch, from `spec.problem`."""
    return page(report_data(problem, timed))
