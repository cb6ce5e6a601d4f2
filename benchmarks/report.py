"""The tables of the guide and the README, made from the newest results."""

import json
from collections.abc import Callable
from pathlib import Path

from .harness import PEERS, best_other

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
FILES = (
    "README.md",
    "jaxnets/guide/performance.md",
    "jaxnets/guide/accuracy.md",
    "jaxnets/guide/many_devices.md",
)  # the files with the marks of tables


def report(questions: dict):
    """Rewrite every table between its marks.

    A question whose module has a `guide_table` has a table of its own.  All other questions share the table "benchmarks",
    and their ratios are summed up in the table "headlines".
    """
    groups = newest(list(questions))
    marks: dict[str, tuple[Callable, list[str]]] = {"benchmarks": (timing_table, [])}
    for name, module in questions.items():
        if hasattr(module, "guide_table"):
            marks[name] = module.guide_table, [name]
        else:
            marks["benchmarks"][1].append(name)
    for mark, (lines, names) in marks.items():
        out = []
        for about, results in groups:
            if results := [r for r in results if r["question"] in names]:
                out += [where_measured(about | getattr(questions[names[0]], "ABOUT", {})), "", *lines(about, results), ""]
        write(mark, out[:-1])
    write("headlines", headline_table(groups, {name: questions[name].__doc__ for name in marks["benchmarks"][1]}))


def newest(order: list[str]) -> list[tuple[dict, list[dict]]]:
    """For every environment the results that are the newest of their question and platform, without --quick ones."""
    groups: list[tuple[dict, list[dict]]] = []
    seen: set[tuple[str, str]] = set()
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        if path.name == "quick.json":
            continue
        data = json.loads(path.read_text())
        about = data["environment"]
        new = [r for r in data["results"] if (r["question"], about["platform"]) not in seen and r["question"] in order]
        seen |= {(r["question"], about["platform"]) for r in new}
        same = next((results for other, results in groups if other == about), None)
        if same is None:
            groups.append((about, new))
        else:
            same.extend(new)
    return [(about, sorted(results, key=lambda r: order.index(r["question"]))) for about, results in groups]


def write(mark: str, lines: list[str]):
    """Put the lines between the marks of this name, in the file that has them."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    if not lines:
        print(f"{mark}: no results yet, python -m benchmarks run")
        return
    for path in (ROOT / name for name in FILES):
        text = path.read_text()
        if begin in text and end in text:
            before, _, rest = text.partition(begin)
            path.write_text("\n".join([before + begin, *lines, end]) + rest.partition(end)[2])
            return
    print(f"{mark}: skipped, no marks {begin} and {end} in {', '.join(FILES)}")


def where_measured(about: dict) -> str:
    device = f"{about['device']} ({about['platform']}, {about.get('cores', 'unknown')} cores)"
    versions = [f"{name} {about[name]}" for name in ("jax", *PEERS) if name in about]
    versions += [about["flags"]] if "flags" in about else []
    return f"Measured on {device}, {about['dtype']}, Python {about['python']}, {', '.join(versions)}."


def finalists(result: dict) -> list[str]:
    """Our contender, and the best of the others if there is one."""
    rivals = {name: ms for name, ms in result["milliseconds"].items() if name not in result.get("references", [])}
    ours = next(iter(rivals))
    return [ours, best_other(rivals)] if any(not name.startswith("jaxnets") for name in rivals) else [ours]


def ratio(result: dict) -> float:
    """Our time divided by that of the best other."""
    ours, other = finalists(result)
    return result["milliseconds"][ours] / result["milliseconds"][other]


def headline_table(groups: list[tuple[dict, list[dict]]], questions: dict[str, str]) -> list[str]:
    """One line per question and device, with the range of the ratios of its cases."""
    out = []
    for name, asked in questions.items():
        for about, results in groups:
            if ratios := [ratio(r) for r in results if r["question"] == name and len(finalists(r)) == 2]:
                reach = f"{min(ratios):.2f}" if len(ratios) == 1 else f"{min(ratios):.2f} to {max(ratios):.2f}"
                out.append(f"| `{name}` | {asked} | {about['device']} | {len(ratios)} | {reach} |")
    header = ["| name | question | device | cases | ours / best other |", "|---|---|---|--:|--:|"]
    return [*header, *out] if out else []


def timing_table(about: dict, results: list[dict]) -> list[str]:
    told = "Medians of alternating runs, ratio of ours to the best other"
    columns = ["question", "case", "ours", "best other", "ratio"]
    if units := any(result.get("unit") for result in results):
        told += ", and both as multiples of one gradient of the same loss in their own framework"
        columns.append("of one gradient")
    out = [
        f"{told}; `python -m benchmarks report` writes this table.",
        "",
        f"| {' | '.join(columns)} |",
        "|---|---|--:|--:|--:|" + units * "--:|",
    ]
    for result in results:
        times, unit, shown = result["milliseconds"], result.get("unit", {}), finalists(result)
        cells = [f"{name} {times[name]:.3g} ms" for name in shown] + ["–"] * (2 - len(shown))
        cells.append(f"{ratio(result):.2f}" if len(shown) == 2 else "–")
        if units:
            cells.append(", ".join(f"{times[name] / times[unit[name]]:.3g}" for name in shown if name in unit))
        out.append(f"| {result['question']} | {result['case']} | {' | '.join(cells)} |")
    missing = {reason for r in results for reason in r.get("missing", {}).values() if reason.startswith("missing")}
    return out + ["", *(f"Not measured, {reason}." for reason in sorted(missing))] if missing else out
