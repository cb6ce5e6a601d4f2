"""Clipping and norms of a GPT with a tied head take hardly more than its gradient: FLOPs and bytes of compiled programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from benchmarks import nanogpt

from .counting import costs

FLOPS, BYTES = 1.06, 1.1  # of one gradient
BATCH = 4


@pytest.fixture(scope="module")
def program():
    """The loss of one text in a batch of one, and its arguments."""
    sizes = nanogpt.sizes(1)._replace(layers=1)
    losses = functools.partial(nanogpt.losses, heads=sizes.heads)
    args = (nanogpt.params(sizes), *nanogpt.texts(sizes, BATCH))
    return losses, lambda *args: jnp.mean(losses(*args)), args


@pytest.mark.optimized
def test_clipping_a_gpt_costs_a_gradient(program):
    losses, loss, args = program
    _, *gradient = costs(jax.grad(lambda *args: jnp.sum(losses(*args))), *args)
    clipped = jn.clipped_grad(loss, l2_clip_norm=1.0, batch_argnums=(1, 2), return_grad_norms=True)
    (_, told), *of_clipping = costs(clipped, *args)
    norms, *of_norms = costs(jn.per_example_grad_norms(losses), *args)
    np.testing.assert_allclose(told.grad_norms, norms, rtol=1e-4)
    for flops, size in (of_clipping, of_norms):
        assert flops <= FLOPS * gradient[0], f"{flops / gradient[0]:.3f} times the FLOPs"
        assert size <= BYTES * gradient[1], f"{size / gradient[1]:.3f} times the bytes"
