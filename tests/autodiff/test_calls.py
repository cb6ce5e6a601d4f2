"""How the transformations may be called: trees, argnums, auxiliary output, kinds of callables; and what they refuse."""

import functools
import re
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets

from .comparing import X, assert_same, both, curved, d
from .programs import layers, mlp, r

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")

# --- gradients: trees, aux, argnums ---------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")
TREES = {
    "array": jnp.asarray(X),
    "dict": {"w": jnp.asarray(X), "b": jnp.asarray(0.5)},
    "tuple": (X, (X * 2,)),
    "list with None": [X, None, {"empty": {}}, 2 * X],
    "namedtuple": Point(X, jnp.asarray(2.0)),
    "Python floats": {"a": 0.5, "b": (1.5,)},
    "NumPy": np.array([0.1, 0.2]),
    "layers": layers(3, 2),
}


def energy(tree, scale=1.0):
    return scale * sum(jnp.sum(jnp.sin(x) * x) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_grad_of_trees(tree):
    def gradients(package):  # of the tree as it is: not traced by jit
        return package.grad(energy)(tree), package.value_and_grad(energy)(tree, scale=2.0)

    expected = jax.jit(lambda: gradients(jax))()
    assert_same(jax.jit(lambda: gradients(jaxnets))(), expected)
    assert_same(jaxnets.grad(energy)(tree), expected[0])  # not compiled either


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (1, 0), (0, 1), (-1,), (np.int32(0), 1)], ids=str)
def test_argnums(argnums):
    def f(a, b):
        return (a["x"] * b[:, None]).sum() + b.prod()

    def vector(a, b):
        return b * f(a, b), {"s": a["x"]}

    def ours(*args):
        return jaxnets.grad(f, argnums)(*args), jaxnets.dense(jaxnets.jacobian(vector, argnums)(*args))

    def theirs(*args):
        return jax.grad(f, argnums)(*args), jax.jacrev(vector, argnums)(*args)

    assert_same(*both(ours, theirs)({"x": np.ones((2, 3)), "y": None}, np.array([1.0, 2.0])))


def test_argnums_that_numpy_counted():
    def f(a, b):
        return (a * b).sum()

    ours = jaxnets.grad(f, np.int64(1))(X, 2 * X)
    np.testing.assert_allclose(ours, X)


def test_aux_of_grad():
    def f(x):
        return (x**2).sum(), {"twice": 2 * x, "kept": jnp.arange(3), "none": None}

    (ours, expected), (ours_with_value, expected_with_value) = jax.jit(
        lambda x: [
            (jaxnets.grad(f, has_aux=True)(x), jax.grad(f, has_aux=True)(x)),
            (jaxnets.value_and_grad(f, has_aux=True)(x), jax.value_and_grad(f, has_aux=True)(x)),
        ]
    )(X)
    assert_same(ours, expected)
    assert_same(ours_with_value, expected_with_value)
    assert_same(jaxnets.grad(f, has_aux=True)(X), expected)
    eager = jaxnets.value_and_grad(f, has_aux=True)(X)
    assert_same(eager, expected_with_value)
    jax.block_until_ready(eager[0][1])  # an array, no tracer that leaked


def test_aux_of_jacobian():
    def f(x):
        return x**2, (x.sum(), "text", 3)

    ours, aux = jaxnets.jacobian(f, has_aux=True)(X)
    theirs, expected = jax.jacrev(f, has_aux=True)(X)
    assert_same(ours.dense(), theirs)
    assert aux[1:] == expected[1:] == ("text", 3)
    assert aux[0] == expected[0]
    (value, aux), ours = jaxnets.value_and_jacobian(f, has_aux=True)(X)
    assert_same(value, X**2)
    assert aux[1] == "text"


def test_keyword_arguments_and_static_ones():
    def f(x, w=1.0, *, mode, table):
        return jnp.tanh(x * w) @ table["m"] if mode == "tanh" else x

    options = {"w": 2.0, "mode": "tanh", "table": {"m": np.ones((3, 2))}}
    expected = jax.jit(lambda x: jax.jacrev(f)(x, **options))(X)
    assert_same(jaxnets.jacobian(f)(X, **options).dense(), expected)  # not compiled: the table is no tracer
    assert_same(jax.jit(lambda x: jaxnets.jacobian(f)(x, **options).dense())(X), expected)


class Model:
    def __init__(self):
        self.w = jnp.ones((2, 3))

    def __call__(self, x):
        return jnp.tanh(self.w @ x)

    def method(self, x):
        return self(x) * 2


CALLABLES = {
    "partial": functools.partial(jnp.multiply, 3.0),
    "partial of mlp": functools.partial(mlp, layers(3, 2)),
    "object": Model(),
    "method": Model().method,
    "jitted": jax.jit(curved),
    "jnp": jnp.sin,
}


@pytest.mark.parametrize("f", CALLABLES.values(), ids=CALLABLES)
def test_kinds_of_callables(f):
    ours, theirs = both(d(f), jax.jacrev(f))(X)
    assert_same(ours, theirs)
    assert_same(d(f)(X), theirs)  # not compiled


def test_wraps_the_function():
    assert jaxnets.jacobian(curved).__name__ == "curved"
    assert jaxnets.grad(energy).__name__ == "energy"


def test_optimisation_step_of_optax():
    """A training loop with jaxnets.grad in place of jax.grad ends at the same weights."""
    import optax

    params, x, t = layers(3, 4, 1), r(8, 3), r(8, 1)
    optimiser = optax.adam(1e-2)

    def train(grad, params):
        def step(carry, _):
            p, state = carry
            g = grad(lambda p: optax.l2_loss(mlp(p, x), t).mean())(p)
            updates, state = optimiser.update(g, state)
            return (optax.apply_updates(p, updates), state), None

        return lax.scan(step, (params, optimiser.init(params)), None, length=10)[0][0]

    ours, theirs = both(functools.partial(train, jaxnets.grad), functools.partial(train, jax.grad))(params)
    assert_same(ours, theirs, 1e-8)


def test_names_of_argument_and_output():
    def f(params, x):
        return {"z": params["w"] @ x}

    row = jax.eval_shape(jaxnets.jacobian(f, (0, 1)), {"w": np.ones((2, 3))}, X)["z"]
    assert "z" in row[0]["w"].formula.split("/")[0]
    assert "params['w']" in row[0]["w"].formula
    assert "∂x" in row[1].formula


def test_function_runs_once():
    """Side effects of tracing, as printing or counting, happen once, and the value comes from the same run."""
    calls = []

    def f(x):
        calls.append(1)
        return x**2

    jaxnets.value_and_jacobian(f)(X)
    assert len(calls) == 1


def test_no_tracer_leaks():
    with jax.checking_leaks():
        jaxnets.jacobian(jnp.sin)(X)
        jax.jit(jaxnets.grad(lambda x: curved(x).sum()))(X)


def test_after_an_error_inside_the_function():
    """The trace is popped when the function raises."""

    def bad(x):
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        jaxnets.jacobian(bad)(X)
    assert isinstance(jnp.sin(X), jax.Array)
    assert_same(*both(d(curved), jax.jacrev(curved))(X))


# --- errors ---------------------------------------------------------------------------------------------------------


def by_name(weights, x):
    return weights["w"] * x


def called(f, *args, **options):
    return lambda: jaxnets.jacobian(f, **options)(*args)


class Unreadable:
    def __array__(self, dtype=None, copy=None):
        raise KeyError("column")


INTS = jnp.arange(3, dtype=jnp.int32)
DTYPE, SHAPE = jaxnets.DTypeError, jaxnets.ShapeError
BAD_CALLS = {
    "int input": (DTYPE, r"\bx\b.*int32", called(by_name, {"w": X}, INTS, argnums=1)),
    "Python int": (DTYPE, r"\bx\b.*int", called(lambda x: x * 2.0, 3)),
    "bool input": (DTYPE, r"\bx\b.*bool", called(lambda x: x * 2.0, jnp.array([True]))),
    "int in a tree": (DTYPE, r"weights\['w'\].*int", called(by_name, {"w": INTS}, X)),
    "complex input": (DTYPE, r"\bx\b.*complex", called(lambda x: x * 2, X + 1j)),
    "object input": (DTYPE, r"\bx\b.*Unreadable", called(lambda x: x * 2.0, Unreadable())),
    "object output": (DTYPE, r"output y.*Unreadable", called(lambda x: Unreadable(), X)),
    "text input": (DTYPE, r"\bx\b.*str", called(lambda x: 2.0, "word")),
    "int output": (DTYPE, r"output y\['n'\].*int", called(lambda x: {"n": (x > 0).astype(int)}, X)),
    "bool output": (DTYPE, r"output.*bool", called(lambda x: x > 0, X)),
    "complex output": (DTYPE, r"output.*complex", called(lambda x: x * 1j, X)),
    "text output": (DTYPE, r"output.*str", called(lambda x: "word", X)),
    "not callable": (TypeError, r"callable, got 3", lambda: jaxnets.jacobian(3)(X)),
    "argnums too large": (ValueError, r"argnums.*1 positional", called(curved, X, argnums=1)),
    "argnums twice": (ValueError, r"argnums.*once.*\(0, 0\)", lambda: jaxnets.grad(by_name, (0, 0))({"w": X}, X)),
    "argnums twice, from the end": (ValueError, r"argnums.*once", lambda: jaxnets.jacobian(by_name, (1, -1))({"w": X}, X)),
    "no argnums": (ValueError, r"argnums.*one at least", called(curved, X, argnums=())),
    "argnums that is a word": (TypeError, r"argnums.*integer.*'x'", called(curved, X, argnums="x")),
    "argnums that is a float": (TypeError, r"argnums.*integer.*1.0", called(by_name, {"w": X}, X, argnums=(0, 1.0))),
    "argnums too small": (ValueError, r"argnums", lambda: jaxnets.grad(energy, (0, -2))(X)),
    "vector gradient": (SHAPE, r"scalar.*\(3,\)", lambda: jaxnets.grad(curved)(X)),
    "tree gradient": (SHAPE, r"scalar", lambda: jaxnets.grad(lambda x: (x.sum(), x.sum()))(X)),
    "shape (1,) gradient": (SHAPE, r"scalar.*\(1,\)", lambda: jaxnets.grad(lambda x: x[:1])(X)),
    "int gradient": (DTYPE, r"int", lambda: jaxnets.grad(lambda x: (x > 0).sum())(X)),
    "int of grad": (DTYPE, r"grad.*\bx\b.*int", lambda: jaxnets.grad(lambda x: x * 2.0)(3)),
    "on_opaque": (ValueError, r"on_opaque.*warn.*'loud'", called(curved, X, on_opaque="loud")),
    "on_opaque of hessian": (ValueError, r"on_opaque.*warn.*'loud'", lambda: jaxnets.hessian(curved, on_opaque="loud")(X)),
}


@pytest.mark.parametrize("error, message, call", BAD_CALLS.values(), ids=BAD_CALLS)
def test_errors(error, message, call):
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value)), f"message was: {caught.value}"


def test_aux_must_be_a_pair():
    with pytest.raises((TypeError, ValueError), match="has_aux|pair|unpack"):
        jaxnets.jacobian(lambda x: x, has_aux=True)(X)
