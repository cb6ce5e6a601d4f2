"""What is told of work that takes a while: on terminals, on dumb ones, in pipes, and where nobody asked."""

import os
import pty
import re
import sys
import threading

import pytest

from jaxnets.learn import progress
from jaxnets.learn.progress import display, in_words, paused, stage


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Terminal:
    """A pseudo-terminal in the place of stderr, and all that was written to it."""

    def __init__(self, monkeypatch, kind: str):
        ours, theirs = pty.openpty()
        self.written = b""
        self._ours, self._stream = ours, os.fdopen(theirs, "w", encoding="utf-8")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        monkeypatch.setenv("TERM", kind)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "stderr", self._stream)

    def _read(self):
        try:
            while some := os.read(self._ours, 65536):
                self.written += some
        except OSError:  # the other side was closed
            pass

    def text(self) -> str:
        self._stream.close()
        self._reader.join()
        os.close(self._ours)
        return self.written.decode()


def work():
    """Parts, steps, a result in between, and stages inside of stages."""
    with display(), stage("lesson") as lesson:
        lesson.say("soon over")
        with stage("exercise", total=2, unit="task") as exercise:
            exercise.next_part("add")
            with stage("adding", "by hand"), paused():
                print("a result")
            exercise.next_part("multiply")
        with stage("training", "compiling", total=100) as training:
            for step in range(0, 96, 5):
                training.at(step, f"loss {1 / (1 + step):.2f}")


LINES = """\
exercise, task 1 of 2: add
exercise, task 2 of 2: multiply
training: compiling
training, step 10 of 100: loss 0.09
training, step 20 of 100: loss 0.05
training, step 30 of 100: loss 0.03
training, step 40 of 100: loss 0.02
training, step 50 of 100: loss 0.02
training, step 60 of 100: loss 0.02
training, step 70 of 100: loss 0.01
training, step 80 of 100: loss 0.01
training, step 90 of 100: loss 0.01
training, step 95 of 100: loss 0.01
"""


def test_nothing_is_told_without_a_display(capsys):
    with stage("training", "compiling", total=3) as told:
        told.at(1, "loss 0.5")
        told.say("evaluating")
        told.next_part("more")
    with display(wanted=False), paused(), stage("another", "text"):
        pass
    assert not told.is_shown
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_plain_lines_on_stderr(capsys):
    work()
    assert capsys.readouterr() == ("a result\n", LINES)


def test_a_dumb_terminal_gets_plain_lines(capsys, monkeypatch):
    terminal = Terminal(monkeypatch, "dumb")
    work()
    assert terminal.text().replace("\r\n", "\n") == LINES
    assert capsys.readouterr().out == "a result\n"


def test_a_terminal_gets_rows_that_move_and_go(capsys, monkeypatch):
    terminal = Terminal(monkeypatch, "xterm")
    work()
    text = terminal.text()
    for words in ("lesson", "exercise", "task 1 of 2: add", "adding", "by hand", "training", "compiling"):
        assert words in text
    assert "\x1b[?25l" in text  # the cursor is hidden while rows move
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert re.search(r"(\x1b\[1A\x1b\[2K)+\x1b\[\?25h\r$", text)  # and in the end they are gone
    assert max(map(len, re.sub(r"\x1b\[[\d;?]*\w", "", text).replace("\r", "\n").splitlines())) <= 80
    assert capsys.readouterr().out == "a result\n"


def test_what_is_known_so_far_is_shown_on_a_terminal_until_it_is_printed(capsys, monkeypatch):
    terminal = Terminal(monkeypatch, "xterm")
    with display(), stage("compare") as told:
        told.say("method 1 of 2", "half of a table")
        with stage("inner"):
            pass
        told.say("")
        with paused():
            print("the whole table")
    assert "half of a table" in terminal.text()
    assert capsys.readouterr().out == "the whole table\n"


def test_many_parts_are_told_by_tenths_and_what_is_left_by_what_was_done(capsys, clock):
    with display(), stage("compare all") as told:
        told.expect(50, "function", "50 functions")
        for number in range(1, 51):
            told.next_part(f"layer {number}")
            with stage("layer", "not told: there are many"):
                clock[0] += 2
            assert told.seconds_left == (pytest.approx(2 * (50 - (number - 1)) - 2) if number > 1 else None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["compare all: 50 functions", "compare all, function 5 of 50: layer 5 (about 92 s left)"]
    assert lines[-1] == "compare all, function 50 of 50: layer 50"
    assert len(lines) == 11
    assert [in_words(seconds) for seconds in (0.4, 99, 100, 300, 7200)] == ["0 s", "99 s", "2 min", "5 min", "2 h"]


def test_displays_do_not_pile_up_and_failures_end_them(capsys):
    with pytest.raises(ZeroDivisionError), display(), stage("outer", "begins"), display(), stage("inner", "begins"):
        raise ZeroDivisionError
    with stage("later", "begins") as told:
        assert not told.is_shown
    assert capsys.readouterr().err == "outer: begins\ninner: begins\n"
