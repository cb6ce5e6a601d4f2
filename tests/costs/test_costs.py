"""No cliffs: what we compute costs no more than the best of plain JAX, on programs as people write them.

FLOPs and temporary bytes of compiled programs are counted, which is exact and the same on every run.
"""

import jax
import numpy as np
import pytest

from ..computing import largest
from ..sweeps import swept
from .architectures import ARCHITECTURES
from .counting import QUESTIONS, SMALL_BYTES, SMALL_FLOPS, asked, compared
from .programs import PROGRAMS

pytestmark = [pytest.mark.optimized, pytest.mark.filterwarnings("ignore:.*derivative is opaque")]

FLOPS = 1.1
# Norms hold what every layer passes back until the end, where JAX takes the norm of a layer at once.
BYTES = {"gradient": 1.25, "jacobian": 1.25, "norms": 2.1, "clipped": 2.1}

# What is still dearer, with what it costs today: (FLOPs, bytes) in multiples of JAX's.  No line may grow.
DEARER = {
    ("rfft", "jacobian"): (1.1, 1.7),
    ("map", "jacobian"): (1.1, 1.7),
    ("contrastive", "gradient"): (1.1, 1.8),
    ("unrolled RNN", "gradient"): (1.1, 2.0),
    ("resnet", "norms"): (1.1, 2.8),
    ("resnet", "clipped"): (1.1, 2.9),
    ("U-Net", "norms"): (1.45, 2.8),
    ("U-Net", "clipped"): (1.45, 2.8),
    ("Fourier layer", "jacobian"): (1.6, 1.4),
}
NAMED = {
    f"{question} of {program.name}": (program, question)
    for program in [*PROGRAMS, *ARCHITECTURES]
    for question in asked(program)
}
SHORT = [
    "norms of labels by range", "norms of labels by vmap", "norms of a column set", "jacobian of top_k", "norms of scan",
    "norms of rfft", "gradient of head", "gradient of graph network", "jacobian of custom_vjp", "gradient of PPO",
    "clipped of mixture of experts",
]  # fmt: skip


@pytest.mark.parametrize("name", swept(NAMED, SHORT))
def test_no_program_costs_more_than_in_plain_jax(name):
    program, question = NAMED[name]
    (flops, size), (least_flops, least_size) = compared(program, question)
    flops_limit, bytes_limit = DEARER.get((program.name, question), (FLOPS, BYTES[question]))
    assert flops <= flops_limit * least_flops + SMALL_FLOPS, f"{flops / least_flops:.2f} times the FLOPs"
    assert size <= bytes_limit * least_size + SMALL_BYTES, f"{size / least_size:.2f} times the bytes"


APART = {name: row for name, row in NAMED.items() if not row[0].scalar}


@pytest.mark.parametrize("name", swept(APART, 25))
def test_no_array_has_the_examples_twice(name):
    """Of twice as many examples the largest array is at most twice as large."""
    program, question = APART[name]
    ours, _ = QUESTIONS[question](program)
    twice = jax.tree.map(lambda a: np.concatenate([a, a]), (program.x, program.y))
    assert largest(ours, program.params, *twice) <= 2 * largest(ours, program.params, program.x, program.y)


def test_the_exceptions_are_asked():
    assert set(DEARER) <= {(program.name, question) for program, question in NAMED.values()}
    assert set(SHORT) <= set(NAMED) and set(BYTES) == set(QUESTIONS)
