"""The process that computes for the explorer, one job after the other.

It is replaced when a job takes too long or kills it.  The process that answers requests does not run JAX: only the jobs
import it, in the process of the worker.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import DTypeError, JacobianTooLarge

START_S = 120.0  # to import JAX, and to compile everything on the first page
TAKE_S = 10.0  # to take a job
BUSY = "busy: too many requests wait; try again in a moment"

Job = dict[str, Any]
Jobs = Callable[[Job, bytes | None], tuple[str, bytes | None]]


class Refusal(Exception):
    """Why a request gets no answer: an HTTP status and one line."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status, self.text = status, text


# Where requests are answered


class Worker:
    """Runs `jobs(job, state) -> (answer, state)` in a process of its own, one job at a time.

    The state after the last job that succeeded is kept here, so that it outlives the process.  Raises Refusal: 503 where
    more than `waiting` jobs wait, 504 after `limit_s` seconds, 500 where the process died, or the refusal of the job itself.
    """

    def __init__(self, jobs: Jobs, limit_s: float, waiting: int):
        self._jobs, self._limit_s = jobs, limit_s
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._turn = threading.Lock()
        self._state: bytes | None = None
        self._stopped = self._ready = False
        self._start()

    def __call__(self, job: Job, limit_s: float | None = None, is_wanted: Callable[[], bool] = lambda: True) -> str:
        """The answer to a job.  Where it had to wait, it begins only if it is still wanted."""
        if not self._places.acquire(blocking=False):
            raise Refusal(503, BUSY)
        try:
            with self._taken_turn() as waited:
                if waited and not is_wanted():
                    raise Refusal(503, "nobody waits for the answer any more")
                return self._run(job, limit_s or self._limit_s)
        finally:
            self._places.release()

    @contextlib.contextmanager
    def _taken_turn(self):
        """Hold the turn; gives whether it had to be waited for."""
        waited = not self._turn.acquire(blocking=False)
        if waited:
            self._turn.acquire()
        try:
            yield waited
        finally:
            self._turn.release()

    def stop(self):
        self._stopped = True
        self._kill()  # the running job fails, and the waiting ones find that the worker has stopped
        with self._turn:
            self._end()

    def _run(self, job: Job, limit_s: float) -> str:
        if self._stopped:
            raise Refusal(503, "the explorer has ended")
        try:
            self._hand_over(job)
            status, text, state = self._receive(limit_s)
        except TimeoutError:
            self._restart()
            raise Refusal(
                504, f"{job['job']}: took longer than {limit_s:g} s; try a smaller model, input or batch"
            ) from None
        except (EOFError, OSError):
            self._restart()
            raise Refusal(500, f"{job['job']}: the computation broke off, for lack of memory perhaps") from None
        if status != 200:
            raise Refusal(status, text)
        self._state = state
        return text

    def _hand_over(self, job: Job):
        """Give the job to the process, or to a new one if that has died before it took the job."""
        try:
            self._send(job)
        except (EOFError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            self._restart()
            self._send(job)

    def _send(self, job: Job):
        """Send the job, and wait until the process has taken it."""
        if not self._ready:
            self._receive(START_S)
            self._ready = True
        self._connection.send((job, self._state))
        self._receive(TAKE_S)

    def _receive(self, limit_s: float) -> Any:
        if not self._connection.poll(limit_s):
            raise TimeoutError
        return self._connection.recv()

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve_jobs, args=(theirs, self._jobs), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the process ends
        self._ready = False

    def _restart(self):
        self._end()
        if not self._stopped:
            self._start()

    def _end(self):
        self._kill()
        self._process.join()
        self._connection.close()

    def _kill(self):
        """End the process and those that it has started."""
        if hasattr(os, "killpg") and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or not begun to lead its group
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()


# In the worker's process


def _serve_jobs(connection: Connection, jobs: Jobs):
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # with the processes that it starts, so that they end with it; and Ctrl-C is for the explorer alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_explorer, daemon=True).start()
    try:
        _outcome(jobs, {"job": "start"}, None)
        connection.send("ready")
        while True:
            job, state = connection.recv()
            connection.send("taken")
            connection.send(_outcome(jobs, job, state))
    except (EOFError, OSError):
        return  # the explorer is gone


def _end_with_the_explorer():
    """End this process and those that it has started as soon as the explorer is gone, even in the middle of a job."""
    explorer = multiprocessing.parent_process()
    if explorer is not None:
        wait([explorer.sentinel])
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _outcome(jobs: Jobs, job: Job, state: bytes | None) -> tuple[int, str, bytes | None]:
    try:
        return 200, *jobs(job, state)
    except (ValueError, DTypeError, JacobianTooLarge, OverflowError, ModuleNotFoundError) as error:
        return 400, str(error), None
    except Exception as error:
        return 500, f"{job['job']}: {type(error).__name__}: {error}", None


def run_job(job: Job, state: bytes | None) -> tuple[str, bytes | None]:
    """Run a job of the explorer by its name, at the precision that it asks for."""
    import jax

    from .jobs import JOBS

    with jax.enable_x64(job.get("dtype") == "float64"):
        return JOBS[job["job"]](job, state)
