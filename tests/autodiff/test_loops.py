"""Loops are followed: their Jacobians are right, structured, and as small as those of the loop written out."""

import jax
import pytest

import jaxnets

from .comparing import assert_same
from .loop_programs import LOOPS


@pytest.mark.parametrize("program", LOOPS, ids=lambda program: program.name)
def test_jacobians_through_loops_are_those_of_jax(program):
    @jax.jit
    def both(*args):
        return (
            jaxnets.dense(jaxnets.jacobian(program.function, program.argnums, on_opaque="allow")(*args)),
            jax.jacrev(program.function, program.argnums)(*args),
        )

    assert_same(*both(*program.arrays))
