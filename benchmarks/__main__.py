"""`python -m benchmarks list | run [NAMES] [--quick] | report`.

`run` prints tables and writes a JSON file in benchmarks/results; `report` puts the newest of them into the README.
"""

import argparse
import dataclasses
import importlib
import json
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

QUESTIONS = ("input_jacobian", "gradient")
RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- end of benchmarks -->"


def report():
    """Rewrite the README's table from the newest results."""
    newest = max((path for path in RESULTS.glob("*.json") if path.name != "quick.json"), default=None)
    if newest is None:
        raise SystemExit("no results yet: python -m benchmarks run")
    data = json.loads(newest.read_text())
    about = data["environment"]
    lines = [
        f"Measured on {about['device']} ({about['platform']}), {about['dtype']}, jax {about['jax']}, "
        f"Python {about['python']}; medians of alternating runs, ratio of ours to the best other.  "
        "`python -m benchmarks report` writes this table.",
        "",
        "| question | case | ours | best other | ratio |",
        "|---|---|---|---|---|",
    ]
    for result in data["results"]:
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
    text = README.read_text()
    before, rest = text.split(BEGIN)
    README.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1])


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
        table = Table(title=module.__doc__, title_justify="left")
        for column in ("case", "contender", "median ms", "ratio of ours", "first call s", "temporary MB"):
            table.add_column(column, justify="left" if column in ("case", "contender") else "right")
        for result in module.run(options.quick):
            found.append(dataclasses.asdict(result))
            ours = next(iter(result.milliseconds.values()))
            for i, (name, ms) in enumerate(result.milliseconds.items()):
                cells = [f"{ms:.3g}", f"{ours / ms:.2f}", f"{result.first_call[name]:.2f}"]
                cells.append(f"{result.temporary_bytes[name] / 1e6:.3g}")
                last = i == len(result.milliseconds) - 1
                table.add_row(result.case if i == 0 else "", name, *cells, end_section=last)
        console.print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{'quick' if options.quick else time.strftime('%Y-%m-%d-%H%M%S')}.json"
    path.write_text(json.dumps({"environment": environment(), "results": found}, indent=1))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
