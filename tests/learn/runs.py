"""Runs of training for tests: small models and data, and what is compared of two runs or data sets."""

import hashlib
import json

import jax
import numpy as np
import optax

import jaxnets as jn
from jaxnets.learn.checkpoint import ARRAYS, checkpoints
from jaxnets.learn.data import Dataset, spiral, split
from jaxnets.learn.models import conv, dropout, linear, max_pool, plain, serial
from jaxnets.learn.train import fit


def same(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)
    return (one.classes, one.name) == (other.classes, other.name)


def timeless(history):
    return [{k: v for k, v in metrics.items() if k not in ("seconds", "examples_per_second")} for metrics in history]


def bits(tree):
    return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def newest(folder):
    """The step and the arrays of the newest checkpoint."""
    path = checkpoints(folder)[-1]
    return int(path.name[5:]), (path / ARRAYS).read_bytes()


def images(count=12):
    rng = np.random.default_rng(1)
    return Dataset(rng.normal(size=(count, 1, 4, 4)), rng.integers(0, 2, count), "images", 2)


IMAGE_NET = serial(conv(1), plain("relu"), max_pool(2), plain("flatten"), linear(2), plain("log_softmax"))
_rng = np.random.default_rng(0)
POINTS = Dataset(_rng.normal(size=(24, 2)), _rng.normal(size=(24, 1)))

MODEL = serial(dropout(0.25), linear(3), plain("log_softmax"))
DATA, VALIDATION = split(spiral(12), 8)  # 28 and 8 examples: 5 steps of 5 an epoch, and 3 left over
STEPS, EPOCHS = 5, 6


def run(**changes):
    """Dropout, shuffling, a schedule, validation and patience at once."""
    usual = {"epochs": EPOCHS, "batch_size": 5, "validation": VALIDATION, "patience": 4, "key": jax.random.key(3)}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 40))
    return fit(MODEL, jn.nll, changes.pop("data", DATA), optimizer, **usual | changes)


def checksums(contents):
    """The file of checksums for these contents by name, as `sha256sum` writes it."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()).encode()
