"""`jaxnets.jacobian` on the models of Flax, Equinox and Haiku of other_models.py."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets
from jaxnets.errors import ShapeError

from ..sweeps import swept
from .comparing import assert_same
from .other_models import MODELS, double, library, normal, widened

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


@over(MODELS, 6)
def test_jacobians_and_gradients_by_parameters_and_input(model):
    jacobians, gradients, _ = compared(model)
    assert_same(*jacobians, model.tolerance)
    assert_same(*gradients, model.tolerance)


@over([m for m in MODELS if not m.coupled and not m.scans], 6)
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

    def f(module, x):
        return jnp.tanh(module(x))

    def ours(linear, x):
        return jaxnets.dense((jaxnets.jacobian(linear)(x), jaxnets.jacobian(f, (0, 1))(linear, x)))

    def theirs(linear, x):
        return jax.jacrev(linear)(x), jax.jacrev(f, (0, 1))(linear, x)

    assert_same(*jax.jit(lambda *args: (ours(*args), theirs(*args)))(linear, x))


def test_package_imports_no_other_library():
    code = """if True:
        import importlib, pkgutil, sys, jaxnets
        for module in pkgutil.walk_packages(jaxnets.__path__, "jaxnets."):
            if module.name not in ("jaxnets.__main__", "jaxnets.site"):  # it runs the command; MkDocs loads it
                importlib.import_module(module.name)
        assert "jaxnets.cli" in sys.modules
        print({"flax", "equinox", "haiku", "torch"} & set(sys.modules))
        """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# --- leaves that are not floating ---------------------------------------------------------------------------------------


def double_arrays(tree):
    return jax.tree.map(lambda a: widened(a) if isinstance(a, jax.Array) else a, tree)


def squares(model, x):
    return jnp.sum(jax.vmap(model)(x) ** 2, 1)


@pytest.fixture(scope="module")
def equinox_model():
    eqx = library("equinox")
    return eqx, double_arrays(eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))), normal(5, 3)


def test_an_equinox_model_is_differentiated_as_it_is(equinox_model):
    """Its activation functions are leaves of it; they have None in their places, as in `eqx.filter_grad`."""
    eqx, model, x = equinox_model
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def total(model, x):
        return squares(model, x).sum()

    @jax.jit
    def run(x):
        expected = eqx.filter_grad(total)(model, x)
        dense = jax.jacrev(lambda params: squares(eqx.combine(params, static), x))(params)
        gradient, jacobians = jaxnets.grad(total)(model, x), jaxnets.jacobian(squares, (0, 1))(model, x)
        rows, norms = jaxnets.per_example_grads(squares)(model, x), jaxnets.per_example_grad_norms(squares)(model, x)
        clipped = jaxnets.clip_per_example(squares, 1.0)(model, x)[0]
        return expected, dense, gradient, jacobians, jaxnets.dense(jacobians[0]), rows, norms, clipped

    expected, dense, gradient, (by_model, by_x), found, rows, norms, clipped = run(x)
    assert_same(gradient, expected)
    assert by_model.activation is None and by_x.structure != "zero"
    assert_same(found, dense)
    assert_same(rows, dense)
    assert_same(norms, np.sqrt(sum(np.sum(np.square(g), tuple(range(1, g.ndim))) for g in jax.tree.leaves(dense))))
    assert isinstance(clipped, eqx.nn.MLP)
    with pytest.raises(jaxnets.DTypeError, match="model.activation is no array"):
        jaxnets.grad(squares, on_nonfloat="error")(model, x)


def test_curvature_of_an_equinox_model(equinox_model):
    """Vectors and results have the tree of `eqx.filter_grad`."""
    eqx, model, x = equinox_model
    params, static = eqx.partition(model, eqx.is_inexact_array)
    y = np.zeros((5, 2))

    def f(model, x):
        return jax.vmap(model)(x)

    def total(model):
        return jnp.sum(f(model, x) ** 2)

    def of_params(params, x):
        return f(eqx.combine(params, static), x)

    kernel, product = jaxnets.ntk_vector_product, jaxnets.ggn_vector_product

    @jax.jit
    def run(x, y):
        v, pairs = eqx.filter_grad(total)(model), []
        for maker in (jaxnets.hessian_vector_product, jaxnets.hessian_diagonal):
            vector = (v,) if maker is jaxnets.hessian_vector_product else ()
            pairs.append((maker(total)(model, *vector), maker(lambda p: total(eqx.combine(p, static)))(params, *vector)))
        pairs.append((kernel(f)(model, y, x, 2 * x), kernel(of_params)(params, y, x, 2 * x)))
        found = product(f, jaxnets.squared_error)(model, v, x, y)
        pairs.append((found, product(of_params, jaxnets.squared_error)(params, v, x, y)))
        pairs.append((jaxnets.ggn(f, jaxnets.squared_error)(model, x, y) @ v, found))
        return pairs

    for ours, expected in run(x, y):
        assert_same(ours, expected)


OTHER_LEAVES = [
    3,
    True,
    jnp.arange(2),
    np.uint8(1),
    jax.random.key(0),
    jax.random.PRNGKey(0),
    "relu",
    jnp.tanh,
    np.array("a"),
]


@pytest.mark.parametrize("leaf", OTHER_LEAVES, ids=lambda leaf: type(leaf).__name__)
def test_other_leaves_are_passed_through(leaf):
    def f(tree, x):
        assert tree["other"] is leaf
        return jnp.sum(tree["w"] * x)

    tree, x = {"w": jnp.ones(2), "other": leaf, "none": None}, jnp.arange(2.0)
    value, gradient = jaxnets.value_and_grad(f)(tree, x)
    assert gradient["other"] is None and gradient["none"] is None
    assert_same(gradient["w"], x)
    assert jaxnets.hessian(lambda tree: f(tree, tree["w"]))(tree)["w"]["w"].shape == (2, 2)
    assert jaxnets.jacobian(f, (0, 1))(tree, x)[0]["other"] is None
    for function in (jaxnets.grad, jaxnets.jacobian, jaxnets.value_and_grad, jaxnets.value_and_jacobian, jaxnets.hessian):
        with pytest.raises(jaxnets.DTypeError, match="other"):
            function(f, on_nonfloat="error")(tree, x)
        with pytest.raises(ValueError, match="on_nonfloat"):
            function(f, on_nonfloat="allow")(tree, x)


def test_without_a_floating_leaf_there_is_nothing_to_differentiate_by():
    for argument, words in ((3, "dtype int"), ({"a": jnp.tanh}, "no array"), ({"a": 1j, "b": 1.0}, "complex")):
        with pytest.raises(jaxnets.DTypeError, match=words):
            jaxnets.grad(lambda a: 1.0)(argument)


def test_state_that_changes_outside_says_how_to_split_it_off():
    nnx = library("flax.nnx")
    model, x = double(nnx.BatchNorm(3, rngs=nnx.Rngs(0))), normal(4, 3)
    with pytest.raises(jaxnets.MutableStateError, match=r"nnx.split[\s\S]*nnx.merge"):
        jaxnets.jacobian(lambda x: model(x))(x)
    graph, params, state = nnx.split(model, nnx.Param, ...)
    assert jaxnets.grad(lambda params: nnx.merge(graph, params, state, copy=True)(x).sum())(params)
    model.eval()
    assert jaxnets.jacobian(lambda x: model(x))(x).structure == "diagonal"
