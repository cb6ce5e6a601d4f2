"""What `on_opaque` says of primitives without a rule, and where it points."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets

from .comparing import X, assert_same, both
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
    [p for p in OTHERS if p.name in {"reverse cumsum of everything", "prod of everything"}],
    ids=lambda program: program.name,
)
def test_opaque_values_are_right_and_named(program):
    with pytest.raises(jaxnets.OpaqueError, match=r"programs\.py:\d+"):
        jaxnets.jacobian(program.function, program.argnums, on_opaque="error")(*program.arrays)


@jax.custom_vjp
def clip_gradient(low, high, x):
    return x


clip_gradient.defvjp(
    lambda low, high, x: (x, (low, high)),
    lambda bounds, cotangent: (None, None, jnp.clip(cotangent, *bounds)),
)


@pytest.mark.parametrize("bound", [0.75, np.float32(0.75), 5.0], ids=str)
def test_numbers_as_arguments_and_residuals_of_a_custom_vjp(bound):
    """A backward function that clips is not linear, so it must get the whole cotangent: 6·cos of what follows, or 7."""

    def once(x):
        return 6 * clip_gradient(-bound, bound, jnp.sin(x)).sum()

    def several_paths(x):
        y = clip_gradient(-bound, bound, jnp.sin(x))
        return 3 * jnp.cos(y).sum() + (2 * y).sum() + 5 * clip_gradient(-bound, bound, y)[0]

    for f in (once, several_paths):
        assert_same(*both(jaxnets.grad(f), jax.grad(f))(X))
    assert "B of" in repr(jaxnets.jacobian(lambda x: clip_gradient(-bound, bound, x), on_opaque="allow")(X))


def test_a_linear_backward_function_has_the_jacobian_of_jax():
    def f(x):
        return clip_gradient(-9.0, 9.0, jnp.sin(x)) * 3

    assert_same(*both(lambda x: jaxnets.dense(jaxnets.jacobian(f)(x)), jax.jacrev(f))(X))


def test_a_backward_function_deep_inside_is_only_pulled():
    """JAX has no forward mode of a custom_vjp, also of one that stands behind other operations in a branch."""

    def f(x):
        return lax.cond(x[0] > 0, lambda x: clip_gradient(-9.0, 9.0, jnp.sin(x)) * x, lambda x: x, x)

    def ours(x):
        return jaxnets.jacobian(f, order="forward", on_opaque="allow")(x).dense()

    assert_same(*both(ours, jax.jacrev(f))(X))
