"""The whole page on a model."""

from ..learn.presets import Problem
from ..learn.progress import stage
from .content import comparisons, describe
from .engine import engine_data
from .page import page_html
from .saturation import saturation
from .speed import benchmark_tables
from .training import replay


def report_html(problem: Problem, live: dict | None = None, language: str = "en") -> str:
    """One self-contained HTML page on a model and a batch, which begins in a language and can change it.

    A `live` page has a server behind it and asks that for the comparisons, which take longest, when they are wanted.
    Another page computes by itself, where the network is small enough.
    """
    with stage("the page", total=3 if live else 4, unit="part") as told:
        told.next_part("the diagram, and every module's formulae and numbers")
        data = describe(problem)
        if live:
            data |= {"live": live, "comparisons": None}
        else:
            told.next_part("every Jacobian, compared with autodiff")
            data |= {"comparisons": comparisons(problem), "engine": engine_data(problem, data["diagram"])}
        told.next_part("why LogSoftMax")
        data |= {"saturation": saturation()}
        told.next_part("a training")
        data |= {"replay": replay(problem), "benchmarks": benchmark_tables()}
        return page_html(data, language)
