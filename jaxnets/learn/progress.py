"""What is being done and how far it is, told on stderr: rows that move on a terminal, plain lines elsewhere.

Code that may take seconds opens a `stage` and tells how far it is.  Nothing is shown unless a `display` is open; the
commands open one, and so does `fit(progress=True)`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

MANY = 12  # parts or steps: of more than these, plain lines tell every tenth alone
LONG = 20.0  # seconds: plain lines tell what is left where it is more


class Stage:
    """Something that may take seconds: what it is, how much of it is done, and what is done now.

    `total` is the number of its parts or steps where that is known, `unit` what one of them is called.
    """

    def __init__(self, what: str, total: int | None, unit: str, text: str, display: "Rows | Lines | None"):
        self.what, self.total, self.unit, self.text = what, total, unit, text
        self.done = 0
        self.number = 0  # of the part that is being done, or of the last step that was done
        self.table: Any = None  # what is known so far
        self.began = time.monotonic()
        self._display = display
        self._counted: list[tuple[int, float]] = []  # what was done at first and what is done now, and when that was

    @property
    def is_shown(self) -> bool:
        """Whether it is worth the time to find out what could be told."""
        return self._display is not None

    def expect(self, total: int, unit: str, text: str):
        """Now it is known how many parts or steps there are; `text` says so."""
        self.total, self.unit, self.text = total, unit, text
        if self._display is not None:
            self._display.tell(self)

    def next_part(self, text: str):
        """One more part begins."""
        self._count(self.number, self.number + 1, text)

    def at(self, done: int, text: str = ""):
        """So many steps are done."""
        self._count(done, done, text)

    def say(self, text: str, table: Any = None):
        """What is done now and soon over, and a table of what is known so far: for terminals alone."""
        self.text, self.table = text, table

    def _count(self, done: int, number: int, text: str):
        before, self.done, self.number, self.text = self.number, done, number, text
        self._counted = [*self._counted[:1], (done, time.monotonic())]
        if self._display is not None:
            self._display.counted(self, before)

    @property
    def seconds_left(self) -> float | None:
        """Until the end, if the rest goes on as what has been counted; None where parts are few, which are not alike."""
        if self.total is None or self.total <= MANY or len(self._counted) < 2:
            return None
        (first, began), (done, now) = self._counted
        if done <= first:
            return None
        return max(0.0, (now - began) / (done - first) * (self.total - done) - (time.monotonic() - now))

    def progress(self) -> str:
        """How much is done and what is done now: "step 40 of 100: loss 0.2"."""
        number = f"{self.unit} {self.number:,} of {self.total:,}" if self.total and self.number else ""
        return ": ".join(filter(None, (number, self.text)))


class Rows:
    """On a terminal: the open stages, how long they have taken or will take, and the tables of what is known so far."""

    def __init__(self, console: Console):
        self._console, self._stages, self._spinner = console, list[Stage](), Spinner("dots")
        self._live: Live | None = None
        self._with_tables = True

    def _draw(self):
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=1)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_column(width=12)
        grid.add_column(justify="right", no_wrap=True)
        for stage in list(self._stages):
            left = stage.seconds_left
            clock = in_words(time.monotonic() - stage.began) if left is None else f"{in_words(left)} left"
            bar = ProgressBar(total=stage.total, completed=stage.done, width=12) if stage.total else ""
            grid.add_row(self._spinner, Text(stage.what), bar, clock)
            if words := stage.progress():
                grid.add_row("", Text(words, "dim"), "", "")
        tables = [stage.table for stage in self._stages if stage.table is not None and self._with_tables]
        return Group(grid, *tables)

    def _start(self):
        # Not the last one again: it would move the cursor up over what was printed since.  Results on stdout are not its
        # concern, they may go to a file.
        options: Any = {"transient": True, "refresh_per_second": 8, "redirect_stdout": False}
        self._live, self._with_tables = Live(console=self._console, get_renderable=self._draw, **options), True
        self._live.start(refresh=True)

    def _stop(self):
        self._with_tables = False  # when it ends, Live draws all lines once more, also those that find no room
        if self._live is not None:
            self._live.stop()
        self._live = None

    def opened(self, stage: Stage):
        self._stages.append(stage)
        if self._live is None:
            self._start()
        else:
            self._live.refresh()

    def tell(self, stage: Stage):
        """It is drawn several times a second anyway."""

    def counted(self, stage: Stage, before: int):
        """As `tell`."""

    def closed(self, stage: Stage):
        self._stages.remove(stage)
        if not self._stages:
            self._stop()

    def ended(self):
        self._stop()

    @contextmanager
    def hidden(self):
        self._stop()
        yield
        if self._stages:
            self._start()


class Lines:
    """Elsewhere: a line where a stage that has a text begins, for a part, for every tenth of many, and for the last step.

    Stages inside of one other are told, too, but not those that are parts of many, and none that lie deeper.
    """

    def __init__(self, file):
        self._file, self._stages, self._told = file, list[Stage](), dict[Stage, int]()

    def tell(self, stage: Stage, more: str = ""):
        around = self._stages[: self._stages.index(stage)]
        if len(around) < 2 and all((other.total or 0) <= MANY for other in around):
            separator = ", " if stage.number else ": "
            print(separator.join(filter(None, (stage.what, stage.progress()))) + more, file=self._file, flush=True)
        self._told[stage] = stage.number

    def opened(self, stage: Stage):
        self._stages.append(stage)
        if stage.text:
            self.tell(stage)

    def counted(self, stage: Stage, before: int):
        total = stage.total or 1
        if total <= MANY or stage.number * 10 // total > before * 10 // total:
            left = stage.seconds_left or 0
            self.tell(stage, f" (about {in_words(left)} left)" if left > LONG else "")

    def closed(self, stage: Stage):
        if stage.number > self._told.get(stage, 0):
            self.tell(stage)
        self._told.pop(stage, None)
        self._stages.remove(stage)

    def ended(self):
        pass

    @contextmanager
    def hidden(self):
        yield


def in_words(seconds: float) -> str:
    """A duration: "50 s" or "3 min"."""
    return (
        f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
    )


_display: Rows | Lines | None = None


@contextmanager
def display(wanted: bool = True) -> Iterator[None]:
    """Show the stages that are opened until its end; inside of another display they are shown in that one."""
    global _display
    if not wanted or _display is not None:
        yield
        return
    console = Console(stderr=True)
    moves = sys.stderr.isatty() and console.is_interactive  # a dumb terminal is not
    _display = Rows(console) if moves else Lines(sys.stderr)
    try:
        yield
    finally:
        _display.ended()
        _display = None


@contextmanager
def stage(what: str, text: str = "", *, total: int | None = None, unit: str = "step") -> Iterator[Stage]:
    """Something that may take seconds, which is shown until its end where a `display` is open.

    `text` says what is done at first; without it no plain line tells that it begins.
    """
    shown = _display
    one = Stage(what, total, unit, text, shown)
    if shown is None:
        yield one
        return
    shown.opened(one)
    try:
        yield one
    finally:
        shown.closed(one)


@contextmanager
def paused() -> Iterator[None]:
    """Nothing moves meanwhile, so that results can be printed."""
    if _display is None:
        yield
        return
    with _display.hidden():
        yield
