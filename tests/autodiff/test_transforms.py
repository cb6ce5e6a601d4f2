"""`jaxnets.jacobian` and its kin against JAX's own transformations, over the programs of programs.py."""

import functools
import re
import warnings
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets
from tests.autodiff.programs import OTHERS, PROGRAMS, STRUCTURED, layers, mlp, r

from ..sweeps import swept

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")

TRACED = [p for p in PROGRAMS if not p.concrete]


def over(programs, short=None):
    """A test over programs; where `short` says which, the short suite tries only these."""
    return pytest.mark.parametrize("program", swept(programs, short or programs), ids=lambda program: program.name)


def assert_same(ours, theirs, tolerance=1e-10):
    """Same tree, shapes, dtypes; values to a tolerance relative to the largest entry of each leaf."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0)))


def reference(program):
    return (jax.jacfwd if program.forward_only else jax.jacrev)(program.function, program.argnums)


def compiled_reference(program):
    """Compiled where it can be, because eager JAX compiles every operation by itself."""
    return reference(program) if program.concrete else jax.jit(reference(program))


def dense_jacobian(program):
    return lambda *args: jaxnets.dense(jaxnets.jacobian(program.function, program.argnums)(*args))


# --- the drop-in promise --------------------------------------------------------------------------------------------


@over(TRACED)
def test_value_and_jacobian_under_jit(program):
    @jax.jit
    def run(*args):
        value, jacobians = jaxnets.value_and_jacobian(program.function, program.argnums)(*args)
        expected = jax.tree.map(jnp.asarray, program.function(*args))
        return (value, jaxnets.dense(jacobians)), (expected, reference(program)(*args))

    ours, theirs = run(*program.arrays)
    assert_same(ours, theirs, program.tolerance)


# Eager JAX compiles every operation by itself: a sample of the programs, and all that must be eager.
EAGER = [p for i, p in enumerate(PROGRAMS) if p.concrete or i % 12 == 0]


@over(EAGER, [p.name for p in EAGER if p.concrete] + [p.name for p in EAGER if not p.concrete][::3])
def test_eager_and_out_of_jit(program):
    """Traced eagerly; then the pytree of Jacobians goes into jit and comes out of jit."""
    jacobians = jaxnets.jacobian(program.function, program.argnums)(*program.arrays)
    expected = compiled_reference(program)(*program.arrays)
    assert_same(jax.jit(jaxnets.dense)(jacobians), expected, program.tolerance)
    again = jax.jit(lambda j: j)(jacobians)
    assert jax.tree.structure(again) == jax.tree.structure(jacobians)
    for j, e in zip(jax.tree.leaves(again, is_leaf=is_jacobian), jax.tree.leaves(expected), strict=True):
        assert j.shape == e.shape
        assert j.dtype == e.dtype
        assert repr(j).startswith("Jacobian(")


@over([p for i, p in enumerate(TRACED) if i % 10 == 3], 4)
def test_pytree_out_of_jit(program):
    jacobians = jax.jit(jaxnets.jacobian(program.function, program.argnums))(*program.arrays)
    dense = jax.tree.map(lambda j: j.dense(), jacobians, is_leaf=is_jacobian)
    assert_same(dense, compiled_reference(program)(*program.arrays), program.tolerance)


# Programs whose rules look most at axes and at values.
MAPPED = {"custom_vjp", "cond", "switch", "while_loop", "embedding", "dynamic slice", "sort", "convnet", "attention",
          "max with ties", "reshape does not refine", "pad with interior", "inverse", "power spectrum", "RNN"}  # fmt: skip


def both(ours, theirs):
    """Both functions of the same arguments, compiled as one program."""
    return jax.jit(lambda *args: (ours(*args), theirs(*args)))


def is_jacobian(x):
    return isinstance(x, jaxnets.Jacobian)


@over([p for i, p in enumerate(TRACED) if i % 3 == 0 or p.name in MAPPED], MAPPED)
def test_vmap(program):
    """Mapped over the first differentiable argument, against one call of JAX an example."""
    first, axes = program.argnums[0], [0 if i == program.argnums[0] else None for i in range(len(program.args))]

    @jax.jit
    def run(*args):
        examples = [args[first], jax.tree.map(lambda x: (x * 1.1).astype(x.dtype), args[first])]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *examples)
        ours = jax.vmap(dense_jacobian(program), axes)(*args[:first], stacked, *args[first + 1 :])
        theirs = [reference(program)(*args[:first], x, *args[first + 1 :]) for x in examples]
        return ours, jax.tree.map(lambda *x: jnp.stack(x), *theirs)

    ours, theirs = run(*program.arrays)
    assert_same(ours, theirs, program.tolerance)


def scalarised(program):
    def f(*args):
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(program.function(*args)))

    return f


@over([p for i, p in enumerate(TRACED) if i % 5 == 1 and not p.forward_only], 2)
def test_value_and_grad(program):
    f = scalarised(program)
    ours, theirs = both(jaxnets.value_and_grad(f, program.argnums), jax.value_and_grad(f, program.argnums))(*program.arrays)
    assert_same(ours, theirs, program.tolerance)


SMOOTH = [p for p in PROGRAMS if p.name in {
    "MLP", "softmax by hand", "log-softmax of jax.nn", "layer norm", "x times x", "reshape shifts a factor", "tied weights",
    "where", "max of rows", "matrix times its transpose", "cumprod", "RNN", "attention", "inverse", "embedding", "identity",
    "tuple of outputs", "many uses", "x over x", "power", "custom_jvp of two", "prod", "cond", "pad", "concatenate",
}]  # fmt: skip


@over(SMOOTH, 2)
def test_hessian(program):
    """By the last differentiable argument: the cheap one."""
    f, last = program.function, program.argnums[-1]
    ours, theirs = both(lambda *args: jaxnets.dense(jaxnets.hessian(f, last)(*args)), jax.hessian(f, last))(*program.arrays)
    assert_same(ours, theirs, 1e-9)


@over([p for p in SMOOTH if p.name != "attention"], 3)
def test_jax_differentiates_through(program):
    """JAX's gradient of a function of our Jacobian: second derivatives by JAX, of our numbers."""

    def measure(jacobian):
        return lambda x: sum(jnp.sum(jnp.sin(j)) for j in jax.tree.leaves(jacobian(x)))

    args, last = program.arrays, program.argnums[-1]

    def f(x):
        return program.function(*args[:last], x, *args[last + 1 :])

    ours, theirs = both(jax.grad(measure(d(f))), jax.grad(measure(jax.jacrev(f))))(args[last])
    assert_same(ours, theirs, 1e-9)


# --- nesting --------------------------------------------------------------------------------------------------------

X = jnp.array([0.3, -0.7, 1.1])


def curved(x):
    return jnp.stack([jnp.sin(x[0] * x[1]), x[1] ** 2 * x[2], jnp.exp(x).sum()])


def d(f):
    return lambda x: jaxnets.dense(jaxnets.jacobian(f)(x))


THIRD = jax.jit(jax.jacfwd(jax.jacfwd(jax.jacrev(curved))))


@pytest.mark.parametrize("outer", [jax.jacrev, jax.jacfwd, d], ids=["jacrev", "jacfwd", "jaxnets"])
@pytest.mark.parametrize("middle", swept([jax.jacrev, jax.jacfwd, d], [d]), ids=["jacrev", "jacfwd", "jaxnets"])
def test_third_order(outer, middle):
    ours = jax.jit(outer(middle(d(curved))))(X)
    assert_same(ours, THIRD(X), 1e-9)


@pytest.mark.parametrize("inner", [jax.jacrev, jax.jacfwd], ids=["jacrev", "jacfwd"])
def test_jacobian_of_jax_jacobian(inner):
    assert_same(*both(d(inner(curved)), jax.hessian(curved))(X))


def test_hessian_of_a_gradient_is_symmetric():
    h = jax.jit(jaxnets.hessian(lambda x: curved(x).prod()))(X)
    assert h.shape == (3, 3)
    dense = np.asarray(jax.jit(jaxnets.dense)(h))
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)


def test_inside_scan_and_cond():
    def newton(x, _):
        return x - jnp.linalg.solve(d(lambda v: v**3 - 1)(x), x**3 - 1), None

    root = lax.scan(newton, np.array([2.0, 0.5]), None, length=30)[0]
    np.testing.assert_allclose(root, 1, atol=1e-12)
    assert_same(*both(lambda x: lax.cond(x[0] > 0, d(curved), lambda x: jnp.zeros((3, 3)), x), jax.jacrev(curved))(X))


def test_inside_a_tracked_scan():
    """Our Jacobian as part of a program of which our Jacobian is taken."""

    def flow(x):
        return lax.scan(lambda x, _: (x - 0.1 * jaxnets.grad(lambda v: curved(v).sum())(x), x), x, None, length=3)[1]

    def flow_of_jax(x):
        return lax.scan(lambda x, _: (x - 0.1 * jax.grad(lambda v: curved(v).sum())(x), x), x, None, length=3)[1]

    assert_same(*both(d(flow), jax.jacrev(flow_of_jax))(X))


def test_two_levels_close_over_each_other():
    """The inner function uses the outer variable: the traces must not be confused."""

    def outer(jacobian):
        return lambda x: jacobian(lambda y: x * y**2 + jnp.sin(x * y))(2 * x)

    assert_same(*both(d(outer(d)), jax.jacrev(outer(jax.jacrev)))(X))


def test_perturbation_confusion():
    ours = jaxnets.grad(lambda x: x * jaxnets.grad(lambda y: x + y)(1.0))(1.0)
    assert ours == 1.0


# --- gradients: trees, aux, argnums ---------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")
TREES = {
    "array": X,
    "dict": {"w": X, "b": jnp.asarray(0.5)},
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


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (1, 0), (0, 1), (-1,)])
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


INTS = jnp.arange(3, dtype=jnp.int32)
DTYPE, SHAPE = jaxnets.DTypeError, jaxnets.ShapeError
BAD_CALLS = {
    "int input": (DTYPE, r"\bx\b.*int32", called(by_name, {"w": X}, INTS, argnums=1)),
    "Python int": (DTYPE, r"\bx\b.*int", called(lambda x: x * 2.0, 3)),
    "bool input": (DTYPE, r"\bx\b.*bool", called(lambda x: x * 2.0, jnp.array([True]))),
    "int in a tree": (DTYPE, r"weights\['w'\].*int", called(by_name, {"w": INTS}, X)),
    "complex input": (DTYPE, r"\bx\b.*complex", called(lambda x: x * 2, X + 1j)),
    "text input": (DTYPE, r"\bx\b.*str", called(lambda x: 2.0, "word")),
    "int output": (DTYPE, r"output y\['n'\].*int", called(lambda x: {"n": (x > 0).astype(int)}, X)),
    "bool output": (DTYPE, r"output.*bool", called(lambda x: x > 0, X)),
    "complex output": (DTYPE, r"output.*complex", called(lambda x: x * 1j, X)),
    "text output": (DTYPE, r"output.*str", called(lambda x: "word", X)),
    "not callable": (TypeError, r"callable.*int", lambda: jaxnets.jacobian(3)(X)),
    "argnums too large": (ValueError, r"argnums.*1 positional", called(curved, X, argnums=1)),
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


# --- on_opaque ------------------------------------------------------------------------------------------------------


def two_opaque(x):
    a = lax.cumsum(x)
    b = lax.cumprod(x)  # a second place
    return a * b


LINE = two_opaque.__code__.co_firstlineno + 1


@over(STRUCTURED)
def test_structured_programs_are_not_opaque(program):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.make_jaxpr(jaxnets.jacobian(program.function, program.argnums, on_opaque="error"))(*program.arrays)


def test_opaque_error_names_primitive_and_place():
    with pytest.raises(jaxnets.OpaqueError, match=rf"cumsum.*test_transforms\.py:{LINE}\b"):
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
    assert f"test_transforms.py:{LINE}" in messages[0]
    assert f"test_transforms.py:{LINE + 1}" in messages[1]
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


@over([p for p in OTHERS if p.name in {"sort of a vector", "scan in reverse", "prod of everything", "cond with closure"}])
def test_opaque_values_are_right_and_named(program):
    with pytest.raises(jaxnets.OpaqueError, match=r"programs\.py:\d+"):
        jaxnets.jacobian(program.function, program.argnums, on_opaque="error")(*program.arrays)
