"""What `on_opaque` says of primitives without a rule, and where it points."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxnets

from .comparing import X
from .programs import OTHERS, STRUCTURED

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")

# --- on_opaque ------------------------------------------------------------------------------------------------------


def two_opaque(x):
    a = lax.cumsum(x)
    b = lax.cumprod(x)  # a second place
    return a * b


LINE = two_opaque.__code__.co_firstlineno + 1


@pytest.mark.parametrize("program", STRUCTURED, ids=lambda program: program.name)
def test_structured_programs_are_not_opaque(program):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.make_jaxpr(jaxnets.jacobian(program.function, program.argnums, on_opaque="error"))(*program.arrays)


def test_opaque_error_names_primitive_and_place():
    with pytest.raises(jaxnets.OpaqueError, match=rf"cumsum.*test_opaque\.py:{LINE}\b"):
        jaxnets.jacobian(two_opaque, on_opaque="error")(X)


def opaque_warnings(f, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # Python's own: each text once a line
        jax.eval_shape(jaxnets.jacobian(f, **options), X)
    return [str(w.message) for w in caught]


def test_opaque_warns_once_a_place():
    def looped(x):
        for _ in range(3):
            x = two_opaque(x)
        return x

    messages = opaque_warnings(looped)
    assert len(messages) == 2
    assert f"test_opaque.py:{LINE}" in messages[0]
    assert f"test_opaque.py:{LINE + 1}" in messages[1]
    assert opaque_warnings(two_opaque, on_opaque="warn") == messages


def test_opaque_warning_points_at_the_user():
    """`warnings` shows the file that called jaxnets, not a file of the package."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jaxnets.jacobian(two_opaque)(X)
    assert {w.filename for w in caught} == {__file__}


def test_opaque_allow_is_silent():
    assert opaque_warnings(two_opaque, on_opaque="allow") == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jaxnets.jacobian(two_opaque, on_opaque="allow")(X)
        jaxnets.grad(lambda x: two_opaque(x).sum())(X)
        jax.eval_shape(jaxnets.hessian(two_opaque), X)


def test_opaque_only_counts_on_the_way():
    """A primitive without a rule that the output does not need, or that no input reaches, is no reason to complain."""

    def f(x):
        lax.cumsum(x)
        return x * lax.cumsum(jnp.ones(3))

    jaxnets.jacobian(f, on_opaque="error")(X)


@pytest.mark.parametrize(
    "program",
    [p for p in OTHERS if p.name in {"sort of a vector", "scan in reverse", "prod of everything", "cond with closure"}],
    ids=lambda program: program.name,
)
def test_opaque_values_are_right_and_named(program):
    with pytest.raises(jaxnets.OpaqueError, match=r"programs\.py:\d+"):
        jaxnets.jacobian(program.function, program.argnums, on_opaque="error")(*program.arrays)
