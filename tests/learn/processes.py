"""Programs of their own processes, which train on several devices or meet in one training."""

import os
import socket
import subprocess
import sys

COMMON = """
import json, sys
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np, optax
import jaxnets as jn
from jaxnets.learn import descent
from jaxnets.learn.checkpoint import checkpoints
from jaxnets.learn.data import spiral
from jaxnets.learn.models import dropout, linear, plain, serial
from jaxnets.learn.pieces import whole
from jaxnets.learn.train import fit

model = serial(linear(5), plain("tanh"), dropout(0.2), linear(3), plain("log_softmax"))
data = spiral(22)  # 66 examples: 4 steps of 16 an epoch, and 2 left over
folder = Path(sys.argv[2])

def meet(count, **options):
    jax.distributed.initialize(f"localhost:{sys.argv[4]}", count, int(sys.argv[3]), **options)

def run(**changes):
    usual = {"epochs": 3, "batch_size": 16, "validation": spiral(3, seed=1), "patience": 9}
    return fit(changes.pop("model", model), jn.nll, data, optax.adam(0.05), **usual | changes)

def values(history):
    return [[v for k, v in metrics.items() if k not in ("seconds", "examples_per_second")] for metrics in history]

def said(found):
    return [values(found.history), [whole(leaf).tolist() for leaf in jax.tree.leaves(found.params)]]

def same(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), found.params, expected.params)
    np.testing.assert_allclose(values(found.history), values(expected.history), rtol=1e-6)  # sums of losses are float32

def same_bits(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)
"""


def environment(folder):
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles a fifth faster
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start(code, *arguments, environment):
    command = [sys.executable, "-c", COMMON + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process):
    """The lines of its output."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.splitlines()
