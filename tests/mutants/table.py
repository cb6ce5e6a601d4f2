"""What a measurement found, for people and for a file."""

from collections import Counter
from collections.abc import Iterable

from .measure import Measurement, Verdict


def table(verdicts: Iterable[Verdict], whole: bool) -> str:
    """For every file, and for every wing: mutants, noticed by the short suite, by the whole one."""
    rows: dict[str, Counter] = {}
    for verdict in verdicts:
        file = verdict.mutant.target.file
        for name in (file, file.split("/")[0] + "/", "all"):
            row = rows.setdefault(name, Counter())
            row["mutants"] += 1
            row["short"] += verdict.suite == "short"
            row["whole"] += bool(verdict.suite)
    lines = [f"{'':28} {'mutants':>8} {'short':>6} {'whole':>6} {'short/whole':>12}"]
    for name in sorted(rows, key=lambda n: (n == "all", n)):
        row = rows[name]
        found = f"{row['whole']:6} {100 * row['short'] / max(row['whole'], 1):10.1f} %" if whole else f"{'':6} {'':>12}"
        lines.append(f"{name:28} {row['mutants']:8} {row['short']:6} {found}")
    return "\n".join(lines)


def report(measurement: Measurement, whole: bool) -> str:
    verdicts = list(measurement.verdicts.values())
    parts = [table(verdicts, whole)]
    only = [f"  {v.mutant}\n    noticed by {v.test}" for v in verdicts if v.suite == "whole"]
    none = [f"  {v.mutant}" for v in verdicts if not v.suite]
    if whole:
        parts.append("\n".join([f"Only the whole suite notices {len(only)}:", *only]))
    parts.append("\n".join([f"No test notices {len(none)}:", *none]))
    return "\n\n".join(parts)


def results(measurement: Measurement) -> dict:
    """For a file."""
    return {
        "seconds": measurement.times,
        "mutants": [
            {
                "file": v.mutant.target.file,
                "target": v.mutant.target.name,
                "line": v.mutant.lines.start,
                "text": v.mutant.text,
                "suite": v.suite,
                "test": v.test,
                "executed_by": sum(t.runs(v.mutant) for t in measurement.short),
            }
            for v in measurement.verdicts.values()
        ],
    }
