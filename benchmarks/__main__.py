"""`python -m benchmarks list | run [NAMES] [--quick] | report`.

`run` prints tables and writes a JSON file in benchmarks/results; `report` puts the newest results into the README.
"""

import argparse
import dataclasses
import importlib
import json
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

QUESTIONS = ("input_jacobian", "gradient", "accuracy")
RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def report():
    """Rewrite the README's tables, each from the newest results of its kind."""
    write("benchmarks", timing_lines(*newest("milliseconds")))
    write("accuracy", accuracy_lines(*newest("ulp")))


def newest(kind: str) -> tuple[dict, list[dict]]:
    """The environment and the results that have this key, from the newest file with such results."""
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        data = json.loads(path.read_text())
        found = [result for result in data["results"] if kind in result]
        if found and path.name != "quick.json":
            return data["environment"], found
    raise SystemExit(f"no results with {kind} yet: python -m benchmarks run")


def write(name: str, lines: list[str]):
    """Put lines between the README's marks of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = README.read_text().split(begin)
    README.write_text("\n".join([before + begin, *lines, end]) + rest.split(end)[1])


def timing_lines(about: dict, results: list[dict]) -> list[str]:
    lines = [
        f"Measured on {about['device']} ({about['platform']}), {about['dtype']}, jax {about['jax']}, "
        f"Python {about['python']}; medians of alternating runs, ratio of ours to the best other.  "
        "`python -m benchmarks report` writes this table.",
        "",
        "| question | case | ours | best other | ratio |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        (ours, ms), *others = result["milliseconds"].items()
        best = min((pair for pair in others if not pair[0].startswith("jaxnets")), key=lambda pair: pair[1])
        cells = [
            result["question"],
            result["case"],
            f"{ours} {ms:.3g} ms",
            f"{best[0]} {best[1]:.3g} ms",
            f"{ms / best[1]:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def accuracy_lines(about: dict, results: list[dict]) -> list[str]:
    from .accuracy import ENTRIES, cells

    exact = [r["case"] for r in results if not any(error for ulp in r["ulp"].values() for error in ulp.values())]
    rows = [[r["case"], *cells(r["ulp"])] for r in results if r["case"] not in exact]
    return [
        "Largest errors against mpmath in units of the last place, float32 / float64, over normal results; "
        f"{about['platform']}, jax {about['jax']}.  `python -m benchmarks run accuracy` measures.",
        "",
        f"| layer | {' | '.join(ENTRIES)} |",
        "|---|" + "--:|" * len(ENTRIES),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"No error at all: {', '.join(exact)}.",
    ]


def timings(title: str | None, results: list) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("case", "contender", "median ms", "ratio of ours", "first call s", "temporary MB"):
        table.add_column(column, justify="left" if column in ("case", "contender") else "right")
    for result in results:
        ours = next(iter(result.milliseconds.values()))
        for i, (name, ms) in enumerate(result.milliseconds.items()):
            cells = [f"{ms:.3g}", f"{ours / ms:.2f}", f"{result.first_call[name]:.2f}"]
            cells.append(f"{result.temporary_bytes[name] / 1e6:.3g}")
            last = i == len(result.milliseconds) - 1
            table.add_row(result.case if i == 0 else "", name, *cells, end_section=last)
    return table


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=("list", "run", "report"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"questions: {', '.join(QUESTIONS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: does it run at all?")
    options = parser.parse_args()
    unknown = set(options.names) - set(QUESTIONS)
    if unknown:
        parser.error(f"unknown question {', '.join(sorted(unknown))}; known: {', '.join(QUESTIONS)}")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in options.names or QUESTIONS}
    if options.command == "report":
        report()
        return
    if options.command == "list":
        for name, module in modules.items():
            print(f"{name}: {module.__doc__}")
        return
    from .harness import environment

    console, found = Console(width=150), []
    for module in modules.values():
        results = list(module.run(options.quick))
        found += map(dataclasses.asdict, results)
        console.print(getattr(module, "table", timings)(module.__doc__, results))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{'quick' if options.quick else time.strftime('%Y-%m-%d-%H%M%S')}.json"
    path.write_text(json.dumps({"environment": environment(), "results": found}, indent=1))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
