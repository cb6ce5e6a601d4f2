"""No cliffs: what we compute costs no more than the best of plain JAX, on programs as people write them.

FLOPs and temporary bytes of compiled programs are counted, which is exact and the same on every run.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ..computing import largest
from ..jax_contracts.contracts import inner_equations
from ..sweeps import swept
from .architectures import ARCHITECTURES
from .counting import QUESTIONS, SMALL_BYTES, SMALL_FLOPS, asked, compared
from .programs import PROGRAMS

pytestmark = [pytest.mark.optimized, pytest.mark.filterwarnings("ignore:.*derivative is opaque")]

FLOPS = 1.1
# Norms hold what every layer passes back until the end, where JAX takes the norm of a layer at once.
BYTES = {"gradient": 1.25, "jacobian": 1.25, "norms": 2.1, "clipped": 2.1, "ntk": 1.25, "ggn_diagonal": 1.25}

# What is still dearer, with what it costs today: (FLOPs, bytes) in multiples of JAX's.  No line may grow.
DEARER = {
    ("rfft", "jacobian"): (1.1, 1.7),
    ("map", "jacobian"): (1.1, 1.7),
    ("contrastive", "gradient"): (1.1, 1.8),
    ("unrolled RNN", "gradient"): (1.1, 2.0),
    # A row that is the same for all examples is repeated for them before it goes through a loop.
    ("scan", "jacobian"): (1.1, 1.5),
    # In forward mode JAX sees that a transform is linear, so its derivative is the same for all examples.
    ("Fourier layer", "jacobian"): (1.6, 1.4),
    # Windows of images are stored and multiplied as matrices.  JAX convolves, which stores less and counts no padding, and
    # takes more than twice the time for the U-Net.
    ("resnet", "norms"): (1.1, 2.8),
    ("resnet", "clipped"): (1.1, 2.9),
    ("U-Net", "norms"): (1.45, 2.8),
    ("U-Net", "clipped"): (1.45, 2.8),
    ("U-Net", "ntk"): (1.45, 2.8),
    ("segmentation", "norms"): (1.45, 2.8),
    ("segmentation", "clipped"): (1.45, 2.8),
    # The factors of a weight that is used many times are stacked, for one product in place of many.  JAX stores less, and
    # takes twice (Hopfield) and four times (RNN) the time for the kernel.
    ("unrolled RNN", "ntk"): (1.1, 1.35),
    ("Hopfield", "ntk"): (1.1, 1.9),
    ("Hopfield", "ggn_diagonal"): (1.1, 2.1),
    # XLA computes JAX's rows where they are multiplied and stores none of them, for nine times the FLOPs.
    ("RNN of tokens", "ggn_diagonal"): (1.1, 9.0),
    # JAX has one way with few bytes, and another one with few FLOPs: ours takes 0.4 and 0.6 times their FLOPs.
    ("mixture of experts", "jacobian"): (1.1, 1.5),
}
NAMED = {
    f"{question} of {program.name}": (program, question)
    for program in [*PROGRAMS, *ARCHITECTURES]
    for question in asked(program)
}
# A third of the rows would take 150 CPU seconds.  These take 25, with every question and, of the mechanisms, all but those
# whose programs compile for long: attention, long unrolled loops, dynamic programs.
SHORT = [
    # labels, and what is read, written or sorted at computed places
    "norms of labels by range", "norms of labels by vmap", "ggn_diagonal of labels one-hot", "gradient of head",
    "norms of a column set", "jacobian of top_k", "ntk of sort", "clipped of skip-gram", "gradient of graph network",
    "clipped of mixture of experts", "norms of sparse layer",
    # what has no rule: loops, branches, transforms, factorizations, functions with their own derivative
    "norms of scan", "jacobian of cond", "ntk of map", "norms of rfft", "norms of determinants", "jacobian of custom_vjp",
    # sums: paths that join, parts that are joined, a weight that is used at many places
    "jacobian of layer norm", "ggn_diagonal of residual", "jacobian of gate", "jacobian of vmap", "norms of flow",
    "ggn_diagonal of Hopfield", "ntk of convnet", "norms of LoRA", "gradient of PPO", "gradient of k-means",
]  # fmt: skip


@pytest.mark.parametrize("name", swept(NAMED, SHORT))
def test_no_program_costs_more_than_in_plain_jax(name):
    program, question = NAMED[name]
    (flops, size), (least_flops, least_size) = compared(program, question)
    flops_limit, bytes_limit = DEARER.get((program.name, question), (FLOPS, BYTES[question]))
    assert flops <= flops_limit * least_flops + SMALL_FLOPS, f"{flops / least_flops:.2f} times the FLOPs"
    assert size <= bytes_limit * least_size + SMALL_BYTES, f"{size / least_size:.2f} times the bytes"


# A kernel has the examples twice itself.
APART = {name: row for name, row in NAMED.items() if not row[0].scalar and row[1] != "ntk"}


@pytest.mark.parametrize("name", swept(APART, 40))
def test_no_array_has_the_examples_twice(name):
    """Of twice as many examples the largest array is at most twice as large.

    Where another order of products is taken it may be larger once, or twice.
    """
    program, question = APART[name]
    ours, _ = QUESTIONS[question](program)

    def largest_of(times):
        repeated = jax.tree.map(lambda a: np.concatenate([a] * times), (program.x, program.y))
        return largest(ours, program.params, *repeated)

    assert any(largest_of(2 * times) <= 2 * largest_of(times) for times in (1, 2, 4))


@pytest.mark.parametrize("name", swept(NAMED, ["ntk of labels by range", "ggn_diagonal of MLP-Mixer"]))
def test_nothing_is_computed_in_wider_numbers(name):
    """Programs in float32 stay so where JAX's own do, although float64 is the default in these tests."""
    program, question = NAMED[name]
    ours, theirs = QUESTIONS[question](program)
    args = program.params, program.x, program.y
    if not computed_in(jnp.float64, theirs[0], *args):
        assert not computed_in(jnp.float64, ours, *args)


def computed_in(dtype, function, *args) -> list:
    """The sums and products of arrays that a function computes in this dtype."""
    equations = inner_equations(jax.make_jaxpr(function)(*args).jaxpr)
    found = [e.outvars[0].aval for e in equations if e.primitive.name in ("add", "dot_general", "mul")]
    return [aval for aval in found if aval.dtype == dtype and aval.ndim]


def test_the_exceptions_are_asked():
    assert set(DEARER) <= {(program.name, question) for program, question in NAMED.values()}
    assert set(SHORT) <= set(NAMED) and set(BYTES) == set(QUESTIONS)
