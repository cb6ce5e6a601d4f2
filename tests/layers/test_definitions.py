"""Layers that are wrongly defined: without a rule, with two, with one that does not fit, of a name that is taken."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets
from jaxnets import RuleError, ShapeError

from .arguments import ones


@pytest.fixture
def scratch():
    """Layers made in a test are forgotten after it."""
    before = dict(jaxnets.LAYERS)
    yield
    jaxnets.LAYERS.clear()
    jaxnets.LAYERS.update(before)


def throwaway():
    @jaxnets.layer
    def throwaway(x):
        return 2 * x

    return throwaway


def test_layer_without_a_rule(scratch):
    layer = throwaway()
    np.testing.assert_array_equal(layer(ones(2)), [2, 2])
    with pytest.raises(RuleError, match="'throwaway'.*no Jacobian rule"):
        jaxnets.jacobian(layer)(ones(2))


def test_second_rule(scratch):
    layer = throwaway()
    layer.jacobian(lambda y, x: (jaxnets.rules.scaled(2.0),))
    np.testing.assert_array_equal(jaxnets.jacobian(layer)(ones(2)).dense(), 2 * np.eye(2))
    with pytest.raises(RuleError, match="'throwaway' already has"):
        layer.jacobian(lambda y, x: (jaxnets.rules.scaled(3.0),))


def test_second_layer_of_a_name(scratch):
    def relu(x):
        return x

    with pytest.raises(RuleError, match="'relu'.*twice"):
        jaxnets.layer(relu)


@pytest.mark.parametrize("rule", [
    lambda y, x: (), lambda y, x: (None, None), lambda y, x: jaxnets.rules.scaled(2.0), lambda y, x: (lambda y, x: 2.0,),
], ids=["none", "two", "no tuple", "no Jacobian"])  # fmt: skip
def test_rule_that_does_not_fit(scratch, rule):
    layer = throwaway()
    layer.jacobian(rule)
    with pytest.raises(RuleError, match="throwaway"):
        jaxnets.jacobian(layer)(ones(2))


def test_rule_of_a_wrong_shape(scratch):
    """A Jacobian that does not fit output and argument is refused, not returned."""
    layer = throwaway()
    layer.jacobian(lambda y, x: (lambda y, x: jaxnets.rules.scaled(2.0)(jnp.ones(3), jnp.ones(3)),))
    with pytest.raises((RuleError, ShapeError), match="throwaway"):
        jaxnets.jacobian(layer)(ones(2))
