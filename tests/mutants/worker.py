"""A process that holds a pytest session and runs single tests of it on demand, with mutants in place or with a record."""

import contextlib
import functools
import gc
import importlib.util
import multiprocessing
import os
import resource
import sys
import threading
import time
import types
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

MEMORY = 8 << 30  # bytes that a process may ask for: a mutant can ask for any number
LARGE = 3 << 30  # bytes in use after which a process is replaced by a fresh one
OWN = "test_mutants.py"  # tests of this tool alter functions themselves


class Outcome(NamedTuple):
    passed: bool
    seconds: float  # of processors, in all threads
    lines: frozenset[tuple[str, int]] = frozenset()  # executed, as (file below jaxnets/, line)
    asks: bool = False  # whether it depends on `--all`: then it is another test there


class Lost(Exception):
    """The process died or did not answer in time."""


class Worker:
    """The process as the measurement sees it; started where it is needed, again where it was lost or grew too large."""

    def __init__(self, suite: str, folder: Path, number: int, tests: Iterable[str] = ()):
        self.suite, self.folder, self.number, self.tests = suite, folder, number, tuple(tests)
        self.process: multiprocessing.Process | None = None
        self.items: list[str] = []

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, self.suite, str(self.folder), self.number, self.tests)
        self.process = context.Process(target=serve, args=arguments, daemon=False)
        self.process.start()
        theirs.close()
        try:
            self.items = self._answer(600)
        except (EOFError, Lost):
            self.stop()
            log = self.folder / f"worker-{self.number}.log"
            raise RuntimeError(f"the tests could not be collected: {log} tells why") from None

    def run(self, item: str, following: str | None, mutants=(), plain=True, record=False, limit=600.0) -> Outcome:
        """Run one test; Lost where it crashes the process or takes more than `limit` seconds of a processor.

        `following` is what runs next, as far as is known: fixtures that it shares are kept.  `plain` is without XLA's
        optimizations.
        """
        if self.process is None:
            self.start()
        try:
            self.connection.send((item, following, [m.key for m in mutants], plain, record))
            outcome, size = self._answer(limit)
        except (EOFError, OSError, Lost):
            self.stop()
            raise Lost(item) from None
        if size > LARGE:
            self.stop()
        return outcome

    def _answer(self, limit):
        """What the process sends; a machine may be busy, and a process may wait for ever."""
        start, used = time.monotonic(), processor_seconds(self.process.pid)
        while not self.connection.poll(1):
            if processor_seconds(self.process.pid) - used > limit or time.monotonic() - start > 10 * limit:
                raise Lost
        return self.connection.recv()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


# --- inside the process -------------------------------------------------------------------------------------------


def serve(connection: Connection, suite: str, folder: str, number: int, tests: Iterable[str]):
    import pytest

    log = os.open(Path(folder) / f"worker-{number}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
    options = ["-n0"] if importlib.util.find_spec("xdist") else []
    options += ["--all"] if suite == "whole" else []
    pytest.main(["-o", "addopts=", "-q", "-p", "no:cacheprovider", *options, *tests], plugins=[_Session(connection, folder)])


class _Session:
    """A pytest plugin: in place of running all tests, those that are asked for through the connection."""

    def __init__(self, connection: Connection, folder: str):
        self.connection, self.folder = connection, folder
        self.altered = None
        self.keys: list[tuple[str, int]] = []
        self.plain = True
        self.failed = self.asked = False

    def pytest_runtestloop(self, session):
        from .targets import ROOT, import_all, targets

        self.session = session
        import_all()
        keep_programs(Path(self.folder) / "programs")
        self.caches = own_caches(session.items)
        self.lines = lines_of({str(ROOT / t.file): t.file for t in targets()})
        self._watch_options(session.config)
        self.by_id = {item.nodeid: item for item in session.items if item.path.name != OWN}
        self.connection.send(list(self.by_id))
        with contextlib.suppress(EOFError):
            while True:
                self.connection.send(self._serve(*self.connection.recv()))
        return True

    def _serve(self, name, following, keys, plain, record):
        item, after = self.by_id[name], self.by_id.get(following)
        if keys != self.keys or plain != self.plain or record:
            self._forget()
            self._alter(keys)
        self.plain = plain
        setup = self.session._setupstate
        setup.teardown_exact(item)  # what came before may have kept fixtures for another test
        self.failed = self.asked = False
        if record:
            self.lines.start()
            after = None
        start = time.process_time()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        seconds = time.process_time() - start
        seen = self.lines.stop() if record else frozenset()
        asks = self.asked or getattr(item.obj, "is_hypothesis_test", False)  # which draws more examples there
        return Outcome(not self.failed, seconds, seen, asks), bytes_in_use()

    def _alter(self, keys):
        from .alterations import Altered, find

        if self.altered:
            self.altered.restore()
        self.altered, self.keys = Altered(find(keys)), keys

    def _forget(self):
        """Whatever was computed so far with other functions: fixtures, what tests and jaxnets keep, JAX's caches."""
        import jax

        self.session._setupstate.teardown_exact(None)
        for kept in self.caches:
            kept.cache_clear()
        jax.clear_caches()

    def _watch_options(self, config):
        known = config.getoption

        def getoption(name, *rest, **more):
            caller = Path(sys._getframe(1).f_code.co_filename).name
            self.asked |= "all" in name and caller != "conftest.py"  # what every test runs with
            return known(name, *rest, **more)

        config.getoption = getoption

    def pytest_runtest_logreport(self, report):
        self.failed |= report.failed

    def pytest_runtest_setup(self, item):
        self._optimize()

    def pytest_runtest_call(self, item):
        self._optimize()  # fixtures may have changed it

    def _optimize(self):
        import jax

        jax.config.update("jax_disable_most_optimizations", self.plain)


def keep_programs(folder: Path):
    """What XLA compiled is kept in files: most programs of a test are the same under every mutant."""
    from jax.experimental.compilation_cache import compilation_cache

    from .. import conftest

    compilation_cache.reset_cache()
    conftest.keep_programs(folder)


def own_caches(items) -> list:
    """The caches of functions in jaxnets and in the tests, but for those of this tool."""
    packages = {"jaxnets", *(item.module.__name__.split(".")[0] for item in items if hasattr(item, "module"))}
    found = [c for c in gc.get_objects() if isinstance(c, functools._lru_cache_wrapper)]
    modules = [getattr(c, "__module__", None) or "" for c in found]
    return [
        c
        for c, module in zip(found, modules, strict=True)
        if module.split(".")[0] in packages and not module.startswith(__package__)
    ]


def processor_seconds(pid: int) -> float:
    """That a process used so far, where the system tells; else by the clock."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bytes_in_use() -> int:
    """By this process, where the system tells; else the most that it ever used."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def lines_of(files: dict[str, str]) -> "Lines":
    """What records lines of these files, given as the name that each is to have."""
    return MonitoredLines(files) if hasattr(sys, "monitoring") else Lines(files)


class Lines:
    """Which lines of some files run between `start` and `stop`."""

    def __init__(self, files: dict[str, str]):
        self.files = files
        self.seen: set[tuple[str, int]] = set()

    def start(self):
        self.seen = set()
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def stop(self) -> frozenset[tuple[str, int]]:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        return frozenset(self.seen)

    def _enter(self, frame, event, argument):
        return self._line if frame.f_code.co_filename in self.files else None

    def _line(self, frame, event, argument):
        if event == "line":
            self.seen.add((self.files[frame.f_code.co_filename], frame.f_lineno))
        return self._line


class MonitoredLines(Lines):
    """The same from Python 3.12 on, where each line of these files is told once and all other code runs as ever."""

    def __init__(self, files: dict[str, str]):
        super().__init__(files)
        self.tool = sys.monitoring.COVERAGE_ID
        self.event = sys.monitoring.events.LINE
        sys.monitoring.use_tool_id(self.tool, __name__)
        sys.monitoring.register_callback(self.tool, self.event, self._at)
        waiting = [f.__code__ for f in gc.get_objects() if isinstance(f, types.FunctionType)]
        while waiting:
            code = waiting.pop()
            if code.co_filename in files:
                sys.monitoring.set_local_events(self.tool, code, self.event)
                waiting += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]

    def start(self):
        self.seen = set()
        sys.monitoring.restart_events()

    def stop(self) -> frozenset[tuple[str, int]]:
        return frozenset(self.seen)

    def _at(self, code, line):
        self.seen.add((self.files[code.co_filename], line))
        return sys.monitoring.DISABLE
