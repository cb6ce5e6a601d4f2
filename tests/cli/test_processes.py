"""A training in several processes from the command line."""

import json
import os
import subprocess
import sys

import pytest

from jaxnets.cli.common import UsageError
from jaxnets.cli.processes import LOST, Group

from ..learn.processes import environment, free_port


class Aborted:
    """What JAX does when another process is lost."""

    def run_joined(self, group):
        os.abort()


class Status:
    def run_joined(self, group):
        print(f"process {group.number}")
        return 7


def test_a_process_says_that_another_one_was_lost(capfd):
    assert Group("localhost:1", 3, 2).run(Aborted()) == LOST
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "jaxnets: process 2 of 3 ended, because another one was lost or did not answer for 30 s; to go on"
    )


@pytest.mark.parametrize(("number", "printed"), [(0, "process 0\n"), (1, "")])
def test_only_the_first_process_prints(capfd, number, printed):
    assert Group("localhost:1", 2, number).run(Status()) == 7
    assert capfd.readouterr().out == printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("localhost", 2, 0), "--coordinator must be HOST:PORT of process 0, got 'localhost'"),
        (("localhost:a", 2, 0), "--coordinator must be HOST:PORT"),
        (("localhost:1", 0, 0), "--processes must be from 1 to 10000, got 0"),
        (("localhost:1", 2, 2), "--process must be from 0 to 1, as --processes is 2, got 2"),
        (("localhost:1", 2, -1), "--process must be from 0 to 1, as --processes is 2, got -1"),
    ],
)
def test_what_does_not_fit_is_named(arguments, words):
    with pytest.raises(UsageError, match=words):
        Group(*arguments)


def test_two_processes_train_a_task(tmp_path):
    port, folder = free_port(), tmp_path / "run"
    command = [sys.executable, "-m", "jaxnets", "train", "circles", "--epochs", "1", "--no-pictures", "--json", "--fsdp"]
    joined = ["--output", str(folder), "--coordinator", f"localhost:{port}", "--processes", "2"]
    running = [
        subprocess.Popen(
            [*command, *joined, "--process", str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path / "compiled"),
        )
        for number in range(2)
    ]
    (first, said), (second, other) = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], said + other
    assert json.loads(first)["task"] == "circles" and second == ""
    assert f"process 1 of 2 meets the others at localhost:{port}" in other
    (checkpoint, *_) = (folder / "checkpoints").iterdir()
    assert {path.name for path in checkpoint.glob("arrays*")} == {f"arrays-{i}-of-2.safetensors" for i in (1, 2)}
