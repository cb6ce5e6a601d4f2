"""`python -m benchmarks list | run [NAMES] [--quick] [--scale S] | report`.

`run` prints tables and writes a JSON file to benchmarks/results.  `report` puts the newest ones into the guide and README.
"""

import argparse
import dataclasses
import importlib
import json
import sys
import time

import jax
from rich.console import Console

from jaxnets.files import written_atomically

from .harness import Disagreement, console_table, environment
from .report import RESULTS, report

QUESTIONS = (
    "input_jacobian",
    "scalar_graphs",
    "parameter_jacobian",
    "gradient",
    "hessian",
    "per_example",
    "models",
    "ntk",
    "ggn",
    "kfac",
    "laplacian",
    "compile",
    "programs",
    "loops",
    "scaling",
    "roofline",
    "devices",
    "accuracy",
    "optimizers",
    "train",  # the last one, because it changes how glibc treats memory
)


def run(modules: dict, quick: bool, scale: int) -> bool:
    """Answer the questions.  Returns False where contenders disagreed."""
    jax.config.update("jax_enable_compilation_cache", False)  # compile times count
    jax.config.update("jax_default_matmul_precision", "float32")  # for all contenders, also on devices that round more
    console, found, agreed = Console(width=150), [], True
    path = RESULTS / f"{'quick' if quick else time.strftime('%Y-%m-%d-%H%M%S')}.json"
    about = environment() | ({"scale": str(scale)} if scale > 1 else {})

    def save(results):
        with written_atomically(path) as part:
            part.write_text(json.dumps({"environment": about, "results": results}, indent=1))

    for module in modules.values():
        results = []
        try:
            for result in module.run(quick, scale):
                results.append(result)
                save([*found, *map(dataclasses.asdict, results)])  # so that a run that is stopped keeps its results
            found += map(dataclasses.asdict, results)
        except Disagreement as error:
            print(f"not written, contenders disagree: {error}", file=sys.stderr)
            agreed = False
            save(found)
        console.print(getattr(module, "console_table", console_table)(module.__doc__, results))
    print(f"written: {path}")
    return agreed


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, got {text!r}")
    return int(text)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=("list", "run", "report"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"questions: {', '.join(QUESTIONS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, only to see that everything runs")
    parser.add_argument("--scale", type=positive, default=1, metavar="S", help="batches S times as large (default: 1)")
    options = parser.parse_intermixed_args()
    unknown = set(options.names) - set(QUESTIONS)
    if unknown:
        parser.error(f"unknown question {', '.join(sorted(unknown))}; known: {', '.join(QUESTIONS)}")
    if options.command == "report" and options.names:
        parser.error("report takes no names: a table holds several questions")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in options.names or QUESTIONS}
    if options.command == "report":
        report(modules)
    elif options.command == "list":
        for name, module in modules.items():
            print(f"{name}: {module.__doc__}")
    elif not run(modules, options.quick, options.scale):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
