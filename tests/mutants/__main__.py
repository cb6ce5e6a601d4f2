"""`python -m tests.mutants`: see the package's docstring."""

import argparse
import json
from pathlib import Path

from . import __doc__ as described


def main():
    layout = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.mutants", description=described, formatter_class=layout)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--short-only", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--whole-seconds", type=float)
    parser.add_argument("--folder", type=Path, default=Path(".pytest_cache/mutants"))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--stale", action="store_true")
    parser.add_argument("--tests", nargs="+", default=[])
    options = parser.parse_args()
    from .measure import Measurement
    from .sample import listed_mutants, sample, stale
    from .table import report, results

    for name, text in stale():
        print(f"listed as equivalent, but no such mutant: {name}: {text}")
    chosen = listed_mutants(options.names) if options.stale else sample(options.count, options.seed, options.names)
    chosen = chosen[:: options.every]
    if options.list:
        print("\n".join(map(str, chosen)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    measurement = Measurement(chosen, options.folder, options.seconds, options.tests, lambda text: print(text, flush=True))
    measurement.run(options.short_only, options.whole_seconds)
    (options.folder / "result.json").write_text(json.dumps(results(measurement), indent=1, ensure_ascii=False))
    print(report(measurement, not options.short_only))


if __name__ == "__main__":
    main()
