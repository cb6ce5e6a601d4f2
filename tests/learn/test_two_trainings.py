"""Two trainings never write to one place: the second is refused at its start, and a lock ends with its process."""

import errno
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import jaxnets as jn
from jaxnets import files
from jaxnets.files import locked

from .runs import run

pytestmark = pytest.mark.usefixtures("kept_programs")

CHILD = """
import sys, time
from jaxnets.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(100)
"""


def holder(path):
    """A process that holds the lock file at this path."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_training_is_refused_before_its_first_step(tmp_path):
    """While the first is between two epochs; the same folder, the same log, and neither."""
    refusals = []

    def second(epoch, params, metrics):
        for where in ({"checkpoint": tmp_path / "a"}, {"log": tmp_path / "log"}):
            with pytest.raises(jn.CheckpointError, match="another training is writing here") as raised:
                run(epochs=1, resume="checkpoint" in where, **where)
            refusals.append(str(raised.value).split(":")[0])
        run(epochs=1, checkpoint=tmp_path / f"b{epoch}", log=tmp_path / "other log")

    run(epochs=2, checkpoint=tmp_path / "a", log=tmp_path / "log", after_epoch=second)
    assert refusals == [str(tmp_path / "a"), str(tmp_path / "log")] * 2
    assert not list(tmp_path.rglob("*.lock"))
    run(epochs=3, checkpoint=tmp_path / "a", log=tmp_path / "log", resume=True)


def test_a_second_command_ends_with_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "jaxnets", "train", "spiral", "--no-pictures", "--output", str(tmp_path)]
    with subprocess.Popen([*command, "--epochs", "99999"], stderr=subprocess.DEVNULL) as first:
        try:
            while not (tmp_path / "metrics.jsonl").exists():
                assert first.poll() is None
                time.sleep(0.1)
            second = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=100)
            assert second.returncode == 2
            error = second.stderr.splitlines()[-1]
            assert error.startswith(f"jaxnets: {tmp_path / 'checkpoints'}: another training is writing here")
            assert "Traceback" not in second.stderr
            assert first.poll() is None  # the first goes on
        finally:
            first.kill()


def test_a_killed_process_holds_nothing(tmp_path):
    path = tmp_path / "new" / ".lock"
    process = holder(path)
    with pytest.raises(BlockingIOError), locked(path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()  # it is left behind, and locks nothing
    with locked(path), pytest.raises(BlockingIOError), locked(path):
        pass
    assert not path.exists()


RIVALS = """
import os, sys, time
from jaxnets.files import locked
end, held = time.monotonic() + 1, 0
while time.monotonic() < end:
    try:
        with locked(sys.argv[1]):
            os.close(os.open(sys.argv[1] + ".inside", os.O_CREAT | os.O_EXCL))
            os.unlink(sys.argv[1] + ".inside")
            held += 1
    except BlockingIOError:
        pass
assert held
"""


def test_rivals_hold_a_lock_one_at_a_time(tmp_path):
    """Although the file is removed and made again all the time."""
    command = [sys.executable, "-c", RIVALS, str(tmp_path / "lock")]
    rivals = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [(rival.communicate(timeout=60)[1], rival.returncode) for rival in rivals] == [("", 0)] * 3
    assert os.listdir(tmp_path) == []


def test_windows_locks_with_its_own_function(tmp_path, monkeypatch):
    held = []

    def locking(handle, mode, count):
        if (mode, count, held) != ("without waiting", 1, []):
            raise OSError(errno.EACCES, "Permission denied")
        held.append(handle)

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK="without waiting"))
    with locked(tmp_path / "lock"), pytest.raises(BlockingIOError), locked(tmp_path / "lock"):
        pass
    assert len(held) == 1 and os.listdir(tmp_path) == []


def test_where_there_are_no_locks_training_is_as_without(tmp_path, monkeypatch):
    def flock(handle, how):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with locked(tmp_path / "lock"):
        pass
