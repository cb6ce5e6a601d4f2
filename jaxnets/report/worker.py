"""The process that computes for the explorer, one job after the other.

It is replaced when a job takes too long or kills it.  The process that answers requests does not run JAX: only the jobs
import it, in the process of the worker.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from ..errors import DTypeError, JacobianTooLarge

START_S = 120.0  # to import JAX, and to compile everything on the first page

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

    def __call__(self, job: Job, limit_s: float | None = None) -> str:
        if not self._places.acquire(blocking=False):
            raise Refusal(503, "busy: too many requests wait; try again in a moment")
        try:
            with self._turn:
                return self._run(job, limit_s or self._limit_s)
        finally:
            self._places.release()

    def stop(self):
        self._stopped = True
        self._process.kill()  # the running job fails, and the waiting ones find that the worker has stopped
        with self._turn:
            self._end()

    def _run(self, job: Job, limit_s: float) -> str:
        if self._stopped:
            raise Refusal(503, "the explorer has ended")
        if not self._process.is_alive():
            self._restart()
        try:
            if not self._ready:
                self._receive(START_S)
                self._ready = True
            self._connection.send((job, self._state))
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

    def _receive(self, limit_s: float) -> tuple[int, str, bytes | None]:
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
        self._connection.send(({"job": "start"}, None))  # it is answered once JAX is loaded

    def _restart(self):
        self._end()
        if not self._stopped:
            self._start()

    def _end(self):
        self._process.kill()
        self._process.join()
        self._connection.close()


# In the worker's process


def _serve_jobs(connection: Connection, jobs: Jobs):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the explorer handles Ctrl-C, and then ends this process
    try:
        while True:
            connection.send(_outcome(jobs, *connection.recv()))
    except (EOFError, OSError):
        return  # the explorer is gone


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
