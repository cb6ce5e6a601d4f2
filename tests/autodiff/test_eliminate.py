"""Cost and structure: what the order of elimination must keep, measured on compiled code."""

import cProfile
import functools
import importlib
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxnets
from jaxnets.autodiff.plan import Plan
from tests.autodiff.programs import attention, convnet, layers, mlp, r, residual

from ..sweeps import swept

elimination = importlib.import_module("jaxnets.autodiff.eliminate")


def compiled(f, *args):
    return jax.jit(f).lower(*args).compile()


def flops_of(program):
    cost = program.cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def flops(f, *args):
    return flops_of(compiled(f, *args))


def scratch_of(program):
    """Bytes that the compiled function allocates beside its arguments and results."""
    return program.memory_analysis().temp_size_in_bytes


def scratch(f, *args):
    return scratch_of(compiled(f, *args))


def calls(f, *args):
    """How many functions Python calls while f runs: a count of work that no other program on the machine disturbs."""
    profile = cProfile.Profile()
    profile.runcall(f, *args)
    return sum(entry.callcount for entry in profile.getstats())


def dense(f, argnums=0):
    return lambda *args: jaxnets.dense(jaxnets.jacobian(f, argnums, on_opaque="allow")(*args))


def net(*widths):
    return functools.partial(mlp, jax.device_put(layers(*widths)))


def batch(n, width):
    return jax.device_put(r(n, width))


# --- a batch stays a batch ------------------------------------------------------------------------------------------

SMALL, SQUARE = net(20, 30, 5), net(20, 30, 20)
NETS = {
    "MLP": net(20, 30, 30, 5),
    "softmax MLP": lambda x: jaxnets.softmax(SMALL(x)),
    "jax.nn MLP": lambda x: jax.nn.log_softmax(jax.nn.relu(SMALL(x))),
    "residual": lambda x: (x + SQUARE(x))[:, :5] * 2,
}


@pytest.mark.parametrize("f", swept(NETS.values(), [NETS["softmax MLP"], NETS["residual"]]), ids=NETS)
def test_no_array_has_two_batch_axes(f):
    def per_example(x):
        return jaxnets.jacobian(f)(x).per_example()

    small, large = scratch(per_example, batch(64, 20)), scratch(per_example, batch(128, 20))
    unit = 64 * 5 * 30 * 8
    assert small <= 6 * unit
    assert large <= 2.3 * small
    with_batches = scratch(lambda x: jnp.sum(jax.jacrev(f)(x) ** 2), batch(128, 20))
    assert large < with_batches / 4


@pytest.mark.parametrize("f", swept(NETS.values(), [NETS["jax.nn MLP"], NETS["residual"]]), ids=NETS)
def test_per_example_costs_no_more_than_vmap(f):
    x = batch(32, 20)
    theirs = min(flops(jax.vmap(d(lambda v: f(v[None])[0])), x) for d in (jax.jacrev, jax.jacfwd))
    assert flops(lambda x: jaxnets.jacobian(f)(x).per_example(), x) <= 1.1 * theirs


def test_jacobian_vector_products_of_a_batch_stay_small():
    x, f = batch(128, 20), NETS["MLP"]
    assert scratch(lambda x: jaxnets.jacobian(f)(x) @ x, x) <= 6 * 128 * 30 * 5 * 8


# --- the cheapest order ---------------------------------------------------------------------------------------------


def test_autoencoder_meets_at_the_bottleneck():
    f, x = net(96, 64, 4, 64, 96), batch(2, 96)
    ours = flops(dense(f), x)
    assert ours < 0.6 * flops(jax.jacrev(f), x)
    assert ours < 0.6 * flops(jax.jacfwd(f), x)


def test_narrow_to_wide_goes_forward():
    f, x = net(4, 48, 64, 96), batch(1, 4)[0]
    forward = flops(jax.jacfwd(f), x)
    assert forward < flops(jax.jacrev(f), x) / 2
    assert flops(dense(f), x) <= 1.1 * forward


def test_wide_to_narrow_goes_backward():
    f, x = net(96, 64, 48, 4), batch(1, 96)[0]
    backward = flops(jax.jacrev(f), x)
    assert backward < flops(jax.jacfwd(f), x) / 2
    assert flops(dense(f), x) <= 1.1 * backward


WIDTHS = [(4, 48, 64, 96), (96, 64, 48, 4), (24, 24, 24), (16, 2, 40, 2, 16), (8, 64, 8)]


@pytest.mark.parametrize("widths", swept(WIDTHS, [(24, 24, 24), (16, 2, 40, 2, 16)]), ids=str)
@pytest.mark.parametrize("n", swept([None, 3], [3]))
def test_never_slower_than_the_better_of_both(widths, n):
    f, x = net(*widths), batch(n or 1, widths[0])
    x = x if n else x[0]
    assert flops(dense(f), x) <= 1.1 * min(flops(jax.jacrev(f), x), flops(jax.jacfwd(f), x))


def test_residual_net_of_thirty_blocks():
    """2^30 paths: products are merged on the way."""
    params, x = jax.device_put(layers(*[8] * 31)), batch(1, 8)[0]
    f = functools.partial(residual, params)
    assert len(jax.eval_shape(jaxnets.jacobian(f), x).terms) <= 8
    assert flops(dense(f), x) <= 1.3 * flops(jax.jacrev(f), x)


def test_batched_residual_net():
    params, x = jax.device_put(layers(*[8] * 11)), batch(16, 8)
    f = functools.partial(residual, params)

    def ours(x):
        return jaxnets.jacobian(f)(x).per_example()

    assert flops(ours, x) <= 1.3 * flops(jax.vmap(jax.jacrev(functools.partial(residual, params))), x)


def test_dense_connections():
    """Every value uses every earlier one."""

    def f(x):
        values = [x]
        for _ in range(10):
            values.append(jnp.tanh(sum(values) * 0.3))
        return values[-1]

    x = batch(4, 6)

    @jax.jit
    def run(x):
        j = jaxnets.jacobian(f)(x)
        return j, j.diagonal(), jax.grad(lambda x: f(x).sum())(x)

    j, ours, theirs = run(x)
    assert len(j.terms) <= 16  # there are 2^9 paths
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_deep_chain_traces_in_linear_time():
    def f(x, depth):
        for _ in range(depth):
            x = jnp.sin(x)
        return x

    def tracing(depth):
        return calls(jax.eval_shape, jaxnets.jacobian(functools.partial(f, depth=depth)), jnp.ones(3))

    tracing(10)
    assert tracing(200) < 15 * tracing(20)  # 10 if linear, 100 if quadratic


# --- structure is stored, nothing else ------------------------------------------------------------------------------


def test_elementwise_network_stores_order_n():
    x = jax.device_put(r(10_000))
    j = jax.jit(jaxnets.jacobian(lambda x: jnp.tanh(jnp.exp(jnp.sin(x) * x) + x**2)))(x)
    assert j.structure == "diagonal"
    assert j.nbytes <= 8 * x.nbytes
    assert j.reduced().nbytes == x.nbytes
    assert j.dense_nbytes == 8 * 10**8
    assert scratch(lambda x: jaxnets.jacobian(lambda x: jnp.tanh(jnp.sin(x) * x))(x).diagonal(), x) <= 4 * x.nbytes


def test_parameter_jacobian_stays_factored():
    """∂y/∂w = δ ⊗ x, stored as the two."""
    params, x = jax.device_put((layers(20, 30, 30, 10), r(32, 20)))
    j = jax.jit(jaxnets.jacobian(mlp))(params, x)
    for inputs, row in zip((20, 30, 30), j, strict=True):
        n, outputs = 32, row["w"].in_shape[0]
        assert row["w"].nbytes <= 8 * (n * 10 * outputs + n * inputs)
        assert row["w"].nbytes < row["w"].dense_nbytes / 5
        assert row["b"].nbytes <= 1.25 * row["b"].dense_nbytes


def test_gradients_of_a_batch_share_their_arrays():
    """The δ of a layer is one array, used for w and for b."""
    params, x = jax.device_put((layers(6, 5, 4), r(3, 6)))
    first = jaxnets.jacobian(mlp)(params, x)[0]
    assert {id(a) for a in jax.tree.leaves(first["b"])} <= {id(a) for a in jax.tree.leaves(first["w"])}


def test_last_product_is_left_to_its_user():
    """The norm of per-example gradients needs no gradient of any example."""
    params, x = jax.device_put((layers(64, 64, 1), r(64, 64)))

    def norms(params, x):
        w = jaxnets.jacobian(lambda p: mlp(p, x)[:, 0])(params)[0]["w"]
        return (w @ w.T).diagonal()

    assert scratch(norms, params, x) < 64 * 64 * 64 * 8 / 4

    @jax.jit
    def run(params, x):
        return norms(params, x), jax.vmap(jax.grad(lambda p, v: mlp(p, v)[0]), (None, 0))(params, x)[0]["w"]

    ours, theirs = map(np.asarray, run(params, x))
    np.testing.assert_allclose(ours, (theirs**2).sum((1, 2)), rtol=1e-10)


NUMBERS = {
    "MLP": (mlp, (layers(20, 30, 10), r(16, 20))),
    "deep MLP": (mlp, (layers(*[12] * 8), r(8, 12))),
    "residual": (residual, (layers(*[64] * 6), r(8, 64))),  # wide: XLA may compute an erfc twice, in two fusions
    "attention": (attention, (r(2, 8, 2, 6), r(2, 8, 2, 6), r(2, 8, 2, 6), np.ones((8, 8), bool))),
    "convnet": (convnet, (r(3, 3, 1, 4), r(2, 2, 4, 4), r(32, 3), r(4, 8, 8, 1))),
}  # fmt: skip


@functools.cache
def compiled_gradients(name):
    """Ours and JAX's."""
    f, args = NUMBERS[name]

    def loss(*args):
        return jnp.mean(f(*args) ** 2)

    return [compiled(grad(loss), *jax.device_put(args)) for grad in (jaxnets.grad, jax.grad)]


@pytest.mark.parametrize("name", NUMBERS)
def test_gradient_costs_what_it_costs_in_jax(name):
    ours, theirs = map(flops_of, compiled_gradients(name))
    assert ours <= 1.1 * theirs


@pytest.mark.parametrize("name", ["MLP", "deep MLP", "attention"])
def test_gradient_needs_little_more_memory(name):
    """Results count, XLA uses their memory on the way; the accurate tanh' keeps its input where JAX keeps its output."""
    results = sum(a.nbytes for a in jax.tree.leaves(NUMBERS[name][1][0]))
    ours, theirs = map(scratch_of, compiled_gradients(name))
    assert results + ours <= 2 * (results + theirs)


# --- every order gives the same -------------------------------------------------------------------------------------


def in_order(f, order):
    """The Jacobian of f by eliminating its inner nodes in the order that `order(nodes)` gives."""

    def run(*args):
        def choose_plan(edges, nodes, *_):
            return Plan("given", order([node for node in nodes if node in edges]))

        with mock.patch.object(elimination, "choose_plan", choose_plan):
            return jaxnets.dense(jaxnets.jacobian(f, tuple(range(len(args))), on_opaque="allow")(*args))

    return run


def shuffled(seed):
    return lambda nodes: [nodes[i] for i in np.random.default_rng(seed).permutation(len(nodes))]


ORDERS = {"reverse": lambda nodes: nodes[::-1], "forward": list, **{f"random {i}": shuffled(i) for i in range(3)}}

GRAPHS = {
    "MLP by all": (lambda x, w: jnp.tanh(jnp.tanh(x @ w) @ w.T), (r(3, 4), r(4, 2))),
    "attention": (functools.partial(attention, mask=np.ones((3, 3), bool)), (r(1, 3, 2, 2), r(1, 3, 2, 2), r(1, 3, 2, 2))),
    "two outputs of one node": (lambda x: [p * x[:, :1] for p in jnp.split(jnp.sin(x), 2, 1)], (r(3, 4),)),
    "output inside": (lambda x: (jnp.sin(x), jnp.cos(jnp.sin(x)).sum(0)), (r(3, 2),)),
    "softmax": (lambda x: jaxnets.softmax(x * jaxnets.softmax(x)), (r(3, 4),)),
    "opaque": (lambda x: jnp.cumsum(jnp.sin(jnp.cumsum(x.ravel())) * x.ravel()), (r(2, 3),)),
    "misaligned reshapes": (lambda x: jnp.sin(jnp.sin(x * 2).reshape(24)).reshape(3, 8) * 2, (r(4, 6),)),
    "slices": (lambda x: jnp.concatenate([x[1:] * x[:-1], x[::2]]), (r(4, 3),)),
}  # fmt: skip


@pytest.mark.parametrize("name", swept(GRAPHS, 2))
def test_all_orders_agree(name):
    f, args = GRAPHS[name]
    args = jax.device_put(tuple(args))

    @jax.jit
    def run(*args):
        return [in_order(f, order)(*args) for order in ORDERS.values()], jax.jacrev(f, tuple(range(len(args))))(*args)

    found, expected = run(*args)
    for order, ours in zip(ORDERS, found, strict=True):
        assert jax.tree.structure(ours) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max()), err_msg=order)


M = r(3, 3) / 2
UNARY = [jnp.sin, lambda x: x @ M, lambda x: x - x.mean(0), jaxnets.softmax, lambda x: 2 * x, lambda x: x[::-1],
         lambda x: x.reshape(3, 2).T, lambda x: jnp.broadcast_to(x.sum(1, keepdims=True), (2, 3))]  # fmt: skip
BINARY = [jnp.add, jnp.multiply, lambda x, y: x - 2 * y, lambda x, y: (x @ y.T) @ x, lambda x, y: jnp.where(x > y, x, y)]


@st.composite
def programs(draw):
    """A random acyclic program on (2, 3) arrays: at every step an operation on earlier values."""
    steps = []
    for i in range(draw(st.integers(2, 6))):
        values = st.integers(0, i)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(UNARY)), (draw(values),)))
        else:
            steps.append((draw(st.sampled_from(BINARY)), (draw(values), draw(values))))
    return steps


@given(programs(), st.integers(0, 1000))
def test_random_orders_of_random_programs(steps, seed):
    def f(x):
        values = [x]
        for operation, arguments in steps:
            values.append(operation(*(values[i] for i in arguments)))
        return values[-1], values[len(values) // 2]

    @jax.jit
    def run(x):
        orders = [shuffled(seed), shuffled(seed + 1), list]
        return [in_order(f, order)(x) for order in orders] + [dense(f)(x)], jax.jacrev(f)(x)

    found, expected = run(jax.device_put(np.random.default_rng(seed).normal(size=(2, 3))))
    for ours in found:
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(1, np.abs(b).max()))


def test_nothing_is_computed_while_planning():
    """Choosing an order looks at shapes: a network that would take terabytes in a bad order is planned at once."""
    f = net(8, 2000, 2000, 8)
    planned = jaxnets.jacobian(f, on_opaque="allow")
    argument = jax.ShapeDtypeStruct((4096, 8), jnp.float64)
    shape = jax.eval_shape(lambda x: planned(x).dense(limit=math.inf), argument)  # whatever this machine has free
    assert shape.shape == (4096, 8, 4096, 8)
    assert math.prod(shape.shape) > 10**9
