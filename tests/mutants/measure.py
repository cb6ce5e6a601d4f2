"""Which mutants of a sample the tests notice: the short suite, and what only `--all` runs."""

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from .alterations import Mutant
from .record import Item, digest, load, save
from .worker import Lost, Outcome, Worker

PROCESSES = 2
CHUNK = 40.0  # seconds of tests that a process takes at a time


# --- processes ----------------------------------------------------------------------------------------------------


class Crew:
    """Worker processes of one suite, each driven by a thread of its own."""

    def __init__(self, suite: str, folder: Path, tests: Iterable[str] = (), processes: int = PROCESSES):
        self.workers = [Worker(suite, folder, i, tests) for i in range(processes)]

    def items(self) -> list[str]:
        self.workers[0].start()
        return self.workers[0].items

    def each(self, jobs: Iterable, work: Callable[[Worker, object], None]):
        """work(worker, job) for every job, in their order, as many at a time as there are workers."""
        waiting, lock, errors = deque(jobs), threading.Lock(), []

        def drive(worker):
            while not errors:
                with lock:
                    if not waiting:
                        return
                    job = waiting.popleft()
                try:
                    work(worker, job)
                except BaseException as error:
                    errors.append(error)
                    raise

        threads = [threading.Thread(target=drive, args=[worker], daemon=True) for worker in self.workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for worker in self.workers:
            worker.stop()


def attempt(worker: Worker, test: Item, chosen=(), following: Item | None = None, record=False) -> Outcome:
    """One run; what crashes or takes far too long has not passed."""
    try:
        return worker.run(test.name, following and following.name, chosen, test.plain, record, test.limit)
    except Lost:
        return Outcome(False, test.limit)


def recorded(worker: Worker, test: Item):
    """Runs the test without mutants: with XLA's optimizations from now on, if it passes with them only."""
    outcome = attempt(worker, test, record=True)
    if not outcome.passed and test.plain:
        test.plain = False
        outcome = attempt(worker, test, record=True)
    test.sound, test.seconds, test.lines, test.asks = outcome.passed, outcome.seconds, outcome.lines, outcome.asks


# --- judging ------------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What noticed a mutant, if anything did."""

    mutant: Mutant
    test: str = ""
    suite: str = ""
    tried: set[str] = field(default_factory=set)  # tests that passed with the mutant alone in place


class Measurement:
    def __init__(self, chosen: list[Mutant], folder: Path, seconds: float = 10.0, tests: Iterable[str] = (), say=print):
        self.verdicts = {m: Verdict(m) for m in chosen}
        self.folder, self.seconds, self.paths, self.say = folder, seconds, tuple(tests), say
        self.lock = threading.Lock()
        self.kills: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.confirmed: set[str] = set()
        self.times: dict[str, float] = {}

    @property
    def left(self) -> list[Mutant]:
        return [m for m, verdict in self.verdicts.items() if not verdict.suite]

    @property
    def noticed(self) -> int:
        return len(self.verdicts) - len(self.left)

    def run(self, short_only: bool = False, whole_seconds: float | None = None):
        with Crew("short", self.folder, self.paths) as crew:
            self.short = self._timed("record", self._record, crew)
            self._timed("alone", self._alone, crew, self.short, self.seconds, "short")
            if short_only or whole_seconds is None:
                self._timed("together", self._together, crew, self.short, "short")
        if short_only:
            return
        with Crew("whole", self.folder, self.paths) as crew:
            same = {test.name for test in self.short if not test.asks}
            more = like_siblings([Item(name) for name in crew.items() if name not in same], self.short)
            self.say(f"{len(more)} tests run with --all only")
            if whole_seconds is None:
                self._timed("whole", self._together, crew, more, "whole")
            else:
                self._timed("whole", self._alone, crew, more, whole_seconds, "whole")
        if whole_seconds is not None:
            with Crew("short", self.folder, self.paths) as crew:
                self._timed("rest of short", self._again, crew)

    def _timed(self, step, work, *arguments):
        start = time.perf_counter()
        result = work(*arguments)
        self.times[step] = time.perf_counter() - start
        self.say(f"{step}: {self.times[step]:.0f} s, {self.noticed} of {len(self.verdicts)} noticed")
        return result

    # the record

    def _record(self, crew: Crew) -> list[Item]:
        path, key = self.folder / "record.json", digest() + " ".join(self.paths)
        tests = load(path, key) or [Item(name) for name in crew.items()]
        missing = [test for test in tests if test.lines is None]
        if missing:
            self.say(f"recording {len(missing)} of {len(tests)} tests")
        left = len(missing)

        def record(worker, test):
            nonlocal left
            recorded(worker, test)
            with self.lock:
                left -= 1
                if left % 200 == 0:  # so that what is interrupted goes on from there
                    save(tests, path, key)
                    self.say(f"  {left} left")

        crew.each(missing, record)
        return tests

    # one mutant at a time

    def _alone(self, crew: Crew, tests: list[Item], seconds: float, suite: str):
        def judge(worker, mutant):
            verdict = self.verdicts[mutant]
            spent = 0.0
            for test in self._promising(mutant, tests):
                if spent and spent + test.seconds > seconds:
                    return None
                passed = attempt(worker, test, [mutant]).passed
                spent += test.seconds
                self.tries[test.function] += 1
                if not passed and self._confirmed(worker, test):
                    self.kills[test.function] += 1
                    return self._note(mutant, test, suite)
                if passed and suite == "short":
                    verdict.tried.add(test.name)
            return None

        draw = random.Random(0)
        order = self.left
        draw.shuffle(order)  # so that what is learnt of tests serves all files
        crew.each(order, judge)

    def _promising(self, mutant: Mutant, tests: list[Item]) -> list[Item]:
        """The tests that run the mutant's line: one of each function first, those that notice much for their time."""
        able = [t for t in tests if t.sound is not False and t.runs(mutant)]
        able.sort(key=lambda t: (t.function, t.seconds))
        ranked = []
        for function, group in groupby(able, key=lambda t: t.function):
            rate = (1 + self.kills[function]) / (2 + self.tries[function])
            ranked += [((k + 1) * (0.2 + t.seconds) / rate, t.name, t) for k, t in enumerate(group)]
        return [test for *_, test in sorted(ranked, key=lambda row: row[:2])]

    def _again(self, crew: Crew):
        """What only the whole suite noticed goes through the rest of the short one."""
        by_whole = {m: v.test for m, v in self.verdicts.items() if v.suite == "whole"}
        for m in by_whole:
            self.verdicts[m].suite = ""
        self._together(crew, self.short, "short", list(by_whole))
        for m, test in by_whole.items():
            if not self.verdicts[m].suite:
                self.verdicts[m].test, self.verdicts[m].suite = test, "whole"

    def _confirmed(self, worker: Worker, test: Item) -> bool:
        """The test passes without mutants, here and now."""
        if test.name not in self.confirmed:
            recorded(worker, test)
            if test.sound:
                self.confirmed.add(test.name)
        return bool(test.sound)

    def _note(self, mutant: Mutant, test: Item, suite: str):
        with self.lock:
            verdict = self.verdicts[mutant]
            if not verdict.suite:
                verdict.test, verdict.suite = test.name, suite
                if self.noticed % 25 == 0:
                    self.say(f"  {self.noticed} of {len(self.verdicts)} noticed")

    # all that are left at a time

    def _together(self, crew: Crew, tests: list[Item], suite: str, chosen: list[Mutant] | None = None):
        for group in compatible(self.left if chosen is None else chosen):
            wanted = [t for t in tests if t.sound is not False and any(self._needs(t, m) for m in group)]
            self.say(f"{len(group)} mutants at a time on {len(wanted)} tests")
            parts = [group]  # which are in place one after the other
            crew.each(chunks(wanted), lambda worker, chunk, parts=parts: self._sweep(worker, chunk, parts, suite))

    def _needs(self, test: Item, mutant: Mutant) -> bool:
        return test.name not in self.verdicts[mutant].tried and test.runs(mutant)

    def _sweep(self, worker: Worker, chunk: list[Item], parts: list[list[Mutant]], suite: str):
        """All tests of the chunk with one part in place, then with the next: changing mutants empties all caches."""
        waiting = [(part, 0) for part in parts]
        while waiting:
            part, first = waiting.pop()
            for k in range(first, len(chunk)):
                test, following = chunk[k], chunk[k + 1] if k + 1 < len(chunk) else None
                alive = [m for m in part if not self.verdicts[m].suite]
                if not any(self._needs(test, m) for m in alive):
                    continue
                if attempt(worker, test, alive, following).passed or not self._confirmed(worker, test):
                    continue
                if guilty := self._guilty(worker, test, [m for m in alive if test.runs(m)]):
                    self._note(guilty, test, suite)
                    waiting.append((part, k))
                    break
                if len(alive) > 1:
                    waiting += [(half, k) for half in self._parted(part, alive, parts, test)]
                    break

    def _parted(self, part: list[Mutant], alive: list[Mutant], parts: list[list[Mutant]], test: Item) -> list[list[Mutant]]:
        """Two parts of mutants that only together make a test fail, in place of their part, for this test and all others."""
        suspects = [m for m in alive if test.runs(m)]
        moved = set((suspects if len(suspects) > 1 else alive)[1::2])
        halves = [[m for m in alive if (m in moved) == side] for side in (False, True)]
        with self.lock:
            if part in parts:
                parts.remove(part)
                parts.extend(halves)
        self.say(f"  only several together make {test.name} fail: {len(parts)} parts from now on")
        return halves

    def _guilty(self, worker: Worker, test: Item, suspects: list[Mutant]) -> Mutant | None:
        """One mutant with which alone the test fails: half of the suspects at a time."""
        if not suspects:
            return None
        if len(suspects) == 1:
            return suspects[0] if not attempt(worker, test, suspects).passed else None
        middle = len(suspects) // 2
        for half in (suspects[:middle], suspects[middle:]):
            if (len(half) == 1 or not attempt(worker, test, half).passed) and (found := self._guilty(worker, test, half)):
                return found
        return None


def like_siblings(tests: list[Item], known: Iterable[Item]) -> list[Item]:
    """These tests, expected to run the lines of those of their function that are known, or else of their file, as long."""
    for name_of in (lambda test: test.function, lambda test: test.name.split("::")[0]):
        lines: dict[str, frozenset] = {}
        seconds: dict[str, list[float]] = {}
        for test in known:
            lines[name_of(test)] = lines.get(name_of(test), frozenset()) | (test.lines or frozenset())
            seconds.setdefault(name_of(test), []).append(test.seconds)
        for test in tests:
            if test.lines is None and (found := lines.get(name_of(test))):
                test.lines, test.seconds = found, sum(seconds[name_of(test)]) / len(seconds[name_of(test)])
    return tests


def compatible(chosen: Iterable[Mutant]) -> list[list[Mutant]]:
    """Groups, few of them, in which no mutant changes what another one does."""
    groups: list[list[Mutant]] = []
    for mutant in chosen:
        group = next((g for g in groups if all(mutant.fits(other) for other in g)), None)
        if group is None:
            groups.append(group := [])
        group.append(mutant)
    return groups


def chunks(tests: list[Item]) -> Iterator[list[Item]]:
    """In their order, a few seconds of tests at a time, of one file where fixtures are shared there."""
    chunk: list[Item] = []
    for test in tests:
        if chunk and sum(t.seconds for t in chunk) + test.seconds > CHUNK:
            yield chunk
            chunk = []
        chunk.append(test)
    if chunk:
        yield chunk
