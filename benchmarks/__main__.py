"""`python -m benchmarks list` and `python -m benchmarks run [NAMES] [--quick]`: tables, and JSON in benchmarks/results."""

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


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=("list", "run"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"questions: {', '.join(QUESTIONS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: does it run at all?")
    options = parser.parse_args()
    unknown = set(options.names) - set(QUESTIONS)
    if unknown:
        parser.error(f"unknown question {', '.join(sorted(unknown))}; known: {', '.join(QUESTIONS)}")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in options.names or QUESTIONS}
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


main()
