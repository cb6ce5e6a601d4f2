"""At the end of a run: how many samples of other libraries agreed, and why the others were left out."""

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    counts, reasons = Counter(), Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "left out":
                reasons.update(value)
            else:
                counts[name] += value
    if counts:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        terminalreporter.write_line(f"samples of other libraries: {told}, {reasons.total()} left out")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"  {count} {reason}")
