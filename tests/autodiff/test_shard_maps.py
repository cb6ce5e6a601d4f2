"""`jax.shard_map` with collectives in functions that are differentiated, on meshes whose axes are automatic or explicit."""

import subprocess
import sys

import pytest

from ..sweeps import swept


@pytest.mark.parametrize("kind", swept(["Auto", "Explicit"], ["Auto"]))
def test_what_devices_compute_themselves_is_followed(kind):
    command = [sys.executable, "-m", "tests.autodiff.on_shard_maps", kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert not done.returncode, done.stderr
