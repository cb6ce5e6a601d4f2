"""Arrays that are spread over eight virtual devices, on meshes whose axes are automatic or explicit."""

import subprocess
import sys

import pytest

from ..sweeps import swept


@pytest.mark.parametrize("kind, some", swept([("Explicit", 8), ("Explicit", 1), ("Auto", 1)], 3, several=True))
def test_what_is_spread_stays_spread_and_right(kind, some):
    """Every question, and every so many layers."""
    command = [sys.executable, "-m", "tests.autodiff.on_eight_devices", kind, str(some)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stderr
