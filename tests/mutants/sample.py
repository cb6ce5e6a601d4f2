"""Which mutants are tried, and which of those that are listed as equivalent there are."""

import random
from collections.abc import Iterable
from itertools import islice

from .alterations import Mutant, is_mutant, source
from .equivalent import EQUIVALENT
from .targets import targets


def sample(count: int, seed: int = 0, wanted: Iterable[str] = ()) -> list[Mutant]:
    """At least one mutant of each target, then by the number of changes; none that EQUIVALENT lists."""
    chosen = [t for t in targets() if not wanted or any(word in t.name or word in t.file for word in wanted)]
    sizes = {target: len(source(target).changes) for target in chosen}
    share = max(count - len(chosen), 0) / max(sum(sizes.values()), 1)
    found: list[Mutant] = []
    carried = 0.5
    for target in chosen:
        carried += share * sizes[target]
        extra, carried = int(carried), carried - int(carried)
        changes = list(range(sizes[target]))
        random.Random(f"{seed} {target.name}").shuffle(changes)
        fitting = (Mutant(target, change) for change in changes if is_mutant(target, change))
        found += islice((m for m in fitting if not is_equivalent(m)), 1 + extra)
    return found


def listed_mutants(wanted: Iterable[str] = ()) -> list[Mutant]:
    """Those that EQUIVALENT lists."""
    known = {name for name, _ in EQUIVALENT}
    chosen = [t for t in targets() if t.name in known and (not wanted or any(word in t.name for word in wanted))]
    found = [Mutant(t, change) for t in chosen for change in range(len(source(t).changes))]
    return [m for m in found if is_equivalent(m) and is_mutant(m.target, m.change)]


def is_equivalent(mutant: Mutant) -> bool:
    return (mutant.target.name, mutant.text) in EQUIVALENT


def stale() -> list[tuple[str, str]]:
    """Entries of EQUIVALENT that are no mutant of anything."""
    made: dict[str, set[str]] = {}
    for target in targets():
        if any(target.name == name for name, _ in EQUIVALENT):
            made[target.name] = {source(target).text(change) for change in range(len(source(target).changes))}
    return [(name, text) for name, text in EQUIVALENT if text not in made.get(name, ())]
