"""`jaxnets.jacobian` on the models of Flax, Equinox and Haiku of other_models.py."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import jaxnets
from jaxnets.errors import ShapeError

from ..sweeps import swept
from .comparing import assert_same
from .other_models import MODELS, double, library, normal

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")


def over(models, short=1):
    """A test over models; the short suite tries one in `short` of them."""
    return pytest.mark.parametrize("model", swept(models, short), ids=[m.build.__name__ for m in models])


@functools.cache
def built(model):
    library(model.library)
    apply, params, x = model.build()
    return apply, double(params), x


def traced(model, **options):
    """The Jacobians by parameters and input, their structure and shapes alone."""
    apply, params, x = built(model)
    return jax.eval_shape(jaxnets.jacobian(apply, (0, 1), **options), params, x)


@functools.cache
def compared(model):
    """What we say and what JAX says: Jacobians, gradients, blocks of examples.  In one compilation: that takes the time."""
    apply, params, x = built(model)

    def loss(params, x):
        return jnp.mean((apply(params, x) - 1) ** 2)

    def one(params, x):
        return apply(params, x[None])[0]

    def ours(params, x):
        jacobians = jaxnets.jacobian(apply, (0, 1))(params, x)
        blocks = jacobians[1].per_example() if jacobians[1].batched else None
        return jaxnets.dense(jacobians), jaxnets.grad(loss, (0, 1))(params, x), blocks

    def theirs(params, x):
        blocks = None if model.coupled or model.scans else jax.vmap(jax.jacrev(one, 1), (None, 0))(params, x)
        return jax.jacrev(apply, (0, 1))(params, x), jax.grad(loss, (0, 1))(params, x), blocks

    return jax.jit(lambda *args: list(zip(ours(*args), theirs(*args), strict=True)))(params, x)


@over(MODELS, 4)
def test_jacobians_and_gradients_by_parameters_and_input(model):
    jacobians, gradients, _ = compared(model)
    assert_same(*jacobians, model.tolerance)
    assert_same(*gradients, model.tolerance)


@over([m for m in MODELS if not m.coupled and not m.scans], 4)
def test_examples_stay_apart(model):
    ours, theirs = compared(model)[2]
    assert ours is not None, f"not batched: {traced(model)[1].structure}"
    assert_same(ours, theirs, model.tolerance)


@over([m for m in MODELS if m.coupled])
def test_batch_norm_in_training_couples_examples(model):
    with pytest.raises(ShapeError, match="independent"):
        traced(model)[1].per_example()


@over([m for m in MODELS if not m.scans])
def test_every_primitive_has_a_rule(model):
    traced(model, on_opaque="error")


LINEAR = {
    "flax.nnx": lambda nnx: nnx.Linear(3, 2, rngs=nnx.Rngs(0)),
    "equinox": lambda eqx: eqx.nn.Linear(3, 2, key=jax.random.key(0)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_module_is_a_function_and_an_argument(name):
    """A module that is callable and a pytree of arrays goes into `jacobian` as it is."""
    linear, x = double(LINEAR[name](library(name))), normal(3)
    assert_same(jaxnets.jacobian(linear)(x).dense(), jax.jacrev(linear)(x))

    def f(module, x):
        return jnp.tanh(module(x))

    assert_same(jaxnets.dense(jaxnets.jacobian(f, (0, 1))(linear, x)), jax.jacrev(f, (0, 1))(linear, x))


def test_package_imports_no_other_library():
    code = """if True:
        import importlib, pkgutil, sys, jaxnets
        for module in pkgutil.walk_packages(jaxnets.__path__, "jaxnets."):
            if module.name != "jaxnets.__main__":
                importlib.import_module(module.name)
        assert "jaxnets.cli" in sys.modules
        print({"flax", "equinox", "haiku", "torch"} & set(sys.modules))
        """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
