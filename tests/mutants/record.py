"""What the tests of a suite execute, and how long each takes: kept in a file for as long as the sources stay."""

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .alterations import Mutant


@dataclass(eq=False)
class Item:
    """A test, and what one run of it without mutants showed."""

    name: str
    seconds: float = 1.0
    lines: frozenset[tuple[str, int]] | None = None  # None: not known
    sound: bool | None = None  # whether it passes without mutants; None: not tried
    plain: bool = True  # whether it does so without XLA's optimizations
    asks: bool = False

    @property
    def function(self) -> str:
        return self.name.split("[")[0]

    def runs(self, mutant: Mutant) -> bool:
        """Whether it can notice the mutant: it runs the line, or what it runs is not known."""
        if self.lines is None:
            return True
        return any((mutant.target.file, line) in self.lines for line in mutant.lines)

    @property
    def limit(self) -> float:
        """Seconds of a processor after which a run has taken far too long."""
        return 600 if self.lines is None else 30 + 10 * self.seconds


def digest() -> str:
    """Of all that a record depends on."""
    root = Path(__file__).parents[2]
    files = sorted(path for folder in ("jaxnets", "tests") for path in (root / folder).rglob("*.py"))
    files = [path for path in files if Path(__file__).parent not in path.parents]
    versions = f"{sys.version} {version('jax')}".encode()
    return hashlib.sha256(b"\0".join([versions, *(path.read_bytes() for path in files)])).hexdigest()


def save(tests: Iterable[Item], path: Path, key: str):
    places: dict[tuple[str, int], int] = {}
    rows = []
    for test in tests:
        known = test.lines is not None
        bits = sorted(places.setdefault(line, len(places)) for line in test.lines) if known else None
        rows.append([test.name, round(test.seconds, 4), test.sound, test.plain, test.asks, bits])
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"key": key, "places": list(places), "tests": rows}))
    part.replace(path)


def load(path: Path, key: str) -> list[Item] | None:
    if not path.exists() or (kept := json.loads(path.read_text()))["key"] != key:
        return None
    places = [(file, line) for file, line in kept["places"]]
    return [
        Item(name, seconds, None if bits is None else frozenset(places[i] for i in bits), sound, plain, asks)
        for name, seconds, sound, plain, asks, bits in kept["tests"]
    ]
