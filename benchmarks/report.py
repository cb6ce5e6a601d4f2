"""The README's tables, made of the newest results."""

import json
from collections.abc import Callable
from pathlib import Path

from .harness import PEERS, best_other

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def report(questions: dict):
    """Rewrite the tables between the README's marks: a question's own where its module has `lines`, else "benchmarks"."""
    groups = newest(list(questions))
    marks: dict[str, tuple[Callable, list[str]]] = {"benchmarks": (timing_lines, [])}
    for name, module in questions.items():
        if hasattr(module, "lines"):
            marks[name] = module.lines, [name]
        else:
            marks["benchmarks"][1].append(name)
    for mark, (lines, names) in marks.items():
        out = []
        for about, results in groups:
            if results := [r for r in results if r["question"] in names]:
                out += [heading(about), "", *lines(about, results), ""]
        write(mark, out[:-1])


def newest(order: list[str]) -> list[tuple[dict, list[dict]]]:
    """By environment: of every question on every platform the newest results; --quick is none."""
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
    """Put lines between the README's marks of this name."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    text = README.read_text()
    if not lines:
        print(f"{mark}: no results yet, python -m benchmarks run")
    elif begin not in text or end not in text:
        print(f"{mark}: skipped, the README has no marks {begin} and {end}")
    else:
        before, _, rest = text.partition(begin)
        README.write_text("\n".join([before + begin, *lines, end]) + rest.partition(end)[2])


def heading(about: dict) -> str:
    device = f"{about['device']} ({about['platform']}, {about.get('cores', 'unknown')} cores)"
    versions = [f"{name} {about[name]}" for name in ("jax", *PEERS) if name in about]
    versions += [about["flags"]] if "flags" in about else []
    return f"Measured on {device}, {about['dtype']}, Python {about['python']}, {', '.join(versions)}."


def timing_lines(about: dict, results: list[dict]) -> list[str]:
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
        times, unit, references = result["milliseconds"], result.get("unit", {}), result.get("references", [])
        rivals = {name: figure for name, figure in times.items() if name not in references}
        ours = next(iter(rivals))
        shown = [ours, best_other(rivals)] if any(not name.startswith("jaxnets") for name in rivals) else [ours]
        cells = [f"{name} {times[name]:.3g} ms" for name in shown] + ["–"] * (2 - len(shown))
        cells.append(f"{times[ours] / times[shown[1]]:.2f}" if len(shown) == 2 else "–")
        if units:
            cells.append(", ".join(f"{times[name] / times[unit[name]]:.3g}" for name in shown if name in unit))
        out.append(f"| {result['question']} | {result['case']} | {' | '.join(cells)} |")
    missing = {reason for r in results for reason in r.get("missing", {}).values() if reason.startswith("missing")}
    return out + ["", *(f"Not measured, {reason}." for reason in sorted(missing))] if missing else out
