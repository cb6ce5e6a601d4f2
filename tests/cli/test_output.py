"""Where the output goes: closed, full, gone, narrow, or without the letters of a formula."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

JAXNETS = f"{sys.executable} -m jaxnets"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(command, **environment):
    """Exit status and stderr of a command that /bin/sh runs."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    return done.returncode, done.stderr


@pytest.mark.parametrize("column", ["1", "2", "6"])
def test_help_ends_in_a_very_narrow_terminal(column):
    assert shell(f"{JAXNETS} layers --help", COLUMNS=column) == (0, "")


@needs_full
@pytest.mark.parametrize("command", ["guide start", "layers --json"])
def test_a_full_device_is_one_line(command):
    status, said = shell(f"{JAXNETS} {command} > /dev/full")
    assert status == 2 and said.startswith("jaxnets: ") and said.count("\n") == 1


def test_a_closed_output_is_one_line():
    assert shell(f"{JAXNETS} guide start >&-") == (2, "jaxnets: the standard output is closed\n")


def test_letters_that_the_output_lacks_are_replaced():
    assert shell(f"{JAXNETS} guide accuracy > /dev/null", PYTHONIOENCODING="ascii") == (0, "")


def test_a_reader_that_has_gone_is_no_failure():
    """A status of 1 would say that a comparison failed."""
    command = [*JAXNETS.split(), "shapes", "mynet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, "")
