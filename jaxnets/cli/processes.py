"""A command that runs in several processes, on one host or on many, which start together and end together."""

import dataclasses
import multiprocessing
import os
import signal
import sys

from .common import UsageError

LOST = 3  # exit status of a process that ended because another one was lost
LOST_AFTER = 30  # seconds in which every process must answer
JOIN_WITHIN = 300  # seconds in which all processes must have come
SIGNS_OF_LOSS = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "Gloo", "Connection")  # in JAX's errors


@dataclasses.dataclass(frozen=True)
class Group:
    """A process among others: the address of the first one, how many they are, and the number of this one."""

    coordinator: str
    count: int
    number: int

    def __post_init__(self):
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(f"--coordinator must be HOST:PORT of process 0, got {self.coordinator!r}")
        if not 1 <= self.count <= 10_000:
            raise UsageError(f"--processes must be from 1 to 10000, got {self.count}")
        if not 0 <= self.number < self.count:
            raise UsageError(
                f"--process must be from 0 to {self.count - 1}, as --processes is {self.count}, got {self.number}"
            )

    def run(self, command) -> int:
        """command.run_joined(group) in a child: JAX aborts it when another one is lost, and then this process says so."""
        child = multiprocessing.get_context("spawn").Process(target=_run_in_child, args=(command, self))
        child.start()
        while child.is_alive():
            try:
                child.join()
            except KeyboardInterrupt:  # the child gets it, too, and ends
                continue
        status = child.exitcode or 0
        if status in (LOST, -signal.SIGABRT):
            print(
                f"jaxnets: process {self.number} of {self.count} ended, because another one was lost or did not answer for "
                f"{LOST_AFTER} s; to go on from the newest checkpoint, start all of them again with --resume",
                file=sys.stderr,
            )
            return LOST
        if status < 0:
            print(f"jaxnets: process {self.number} of {self.count} was ended by signal {-status}", file=sys.stderr)
            return 128 - status
        return status

    def join(self, devices: int | None):
        """Meet the other processes; on a CPU this one comes with so many virtual devices."""
        import jax

        jax.config.update("jax_num_cpu_devices", devices or 1)
        print(f"jaxnets: process {self.number} of {self.count} meets the others at {self.coordinator}", file=sys.stderr)
        try:
            jax.distributed.initialize(
                self.coordinator,
                self.count,
                self.number,
                initialization_timeout=JOIN_WITHIN,
                heartbeat_timeout_seconds=LOST_AFTER,
            )
        except RuntimeError as error:
            raise UsageError(f"process {self.number}: the others were not met within {JOIN_WITHIN} s: {error}") from None


def _run_in_child(command, group: Group):
    from .main import status_of

    def run():
        import jax

        try:
            return command.run_joined(group)
        except jax.errors.JaxRuntimeError as error:
            if not any(sign in str(error) for sign in SIGNS_OF_LOSS):
                raise
            print(f"jaxnets: {str(error).splitlines()[0][:300]}", file=sys.stderr)
            return LOST

    _speak(group.number == 0)
    status = status_of(run)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status) if status == LOST else sys.exit(status)  # leaving in good order would wait for who is lost


def _speak(first: bool):
    """Only the first process prints results, and nothing else: what libraries below Python print goes to stderr."""
    own = os.dup(1) if first else os.open(os.devnull, os.O_WRONLY)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(own, "w", encoding=sys.stdout.encoding, errors="replace")
