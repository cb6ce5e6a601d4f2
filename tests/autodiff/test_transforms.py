"""`jaxnets.jacobian` and its kin against JAX's own transformations, over the programs of programs.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets

from ..sweeps import swept
from .comparing import X, assert_same, both, curved, d
from .programs import PROGRAMS

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")

TRACED = [p for p in PROGRAMS if not p.concrete]


def over(programs, short=None):
    """A test over programs; where `short` says which, the short suite tries only these."""
    return pytest.mark.parametrize("program", swept(programs, short or programs), ids=lambda program: program.name)


def reference(program):
    return (jax.jacfwd if program.forward_only else jax.jacrev)(program.function, program.argnums)


def compiled_reference(program):
    """Compiled where it can be, because eager JAX compiles every operation by itself."""
    return reference(program) if program.concrete else jax.jit(reference(program))


def dense_jacobian(program):
    return lambda *args: jaxnets.dense(jaxnets.jacobian(program.function, program.argnums)(*args))


# --- the drop-in promise --------------------------------------------------------------------------------------------


@over(TRACED, 4)
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
    dense = jax.jit(jaxnets.dense)(jacobians)
    assert_same(dense, compiled_reference(program)(*program.arrays), program.tolerance)


# Programs whose rules look most at axes and at values.
MAPPED = {"custom_vjp", "cond", "switch", "while_loop", "embedding", "dynamic slice", "sort", "convnet", "attention",
          "max with ties", "reshape does not refine", "pad with interior", "inverse", "power spectrum", "RNN"}  # fmt: skip


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


def test_python_control_flow_under_a_transformation_of_jax():
    """JAX's own tracer has a value here, and `if` looks at it through ours."""

    def f(x):
        return x**3 if x > 0 else -x

    assert jax.grad(lambda x: jaxnets.grad(f)(x))(2.0) == 12
    assert jax.grad(lambda x: jaxnets.grad(f)(x))(-2.0) == 0
