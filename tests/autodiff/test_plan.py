"""Which order is chosen and what it costs, counted on shapes; what `order`, `chunk_size` and `explain_plan` say and do."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import jaxnets
from jaxnets.autodiff.eliminate import local_jacobians
from jaxnets.autodiff.plan import choose_plan, measure_plan
from jaxnets.autodiff.transforms import trace_graph
from tests.autodiff.comparing import assert_same
from tests.autodiff.programs import attention, convnet, layers, mlp, r, residual
from tests.autodiff.test_eliminate import calls, compiled, flops, net, scratch

from ..sweeps import swept


def planned(f, *args, use=choose_plan):
    """What `use(edges, nodes, sinks)` finds for the Jacobian of f by its first argument."""
    found = []

    def run(*args):
        graph, *_ = trace_graph("plan", f, 0, args, {})
        found.append(use(*local_jacobians(graph)))
        return graph.values

    jax.eval_shape(run, *args)
    return found[0]


def product(widths):
    """A chain of matrices without non-linearities in between: its cost is that of the classical problem."""
    matrices = [np.ones(pair) for pair in itertools.pairwise(widths)]
    return lambda x: functools.reduce(jnp.matmul, matrices, x)


def cheapest(widths):
    """Multiplications of the best parenthesisation of [w0×w1]·[w1×w2]·…, as textbooks compute it."""

    @functools.cache
    def cost(i, j):
        return min((cost(i, k) + cost(k, j) + widths[i] * widths[k] * widths[j] for k in range(i + 1, j)), default=0)

    return cost(0, len(widths) - 1)


@given(st.lists(st.integers(2, 64), min_size=3, max_size=9))
@example([3, 2, 3, 8, 2, 2, 16])  # equal widths with a matrix in between
def test_chains_are_multiplied_in_the_best_order(widths):
    def cost(edges, nodes, sinks):
        plan = choose_plan(edges, nodes, sinks)
        measure_plan(edges, plan)
        return plan

    plan = planned(product(widths), np.ones(widths[0]), use=cost)
    assert plan.multiplies <= 1.05 * cheapest(widths)  # a sweep is preferred where it is nearly as cheap


def test_counts_are_those_by_hand():
    """[96×64]·d64·[64×4]·d4·[4×64]·d64·[64×96], where d is a diagonal."""
    reverse, forward, meeting = jaxnets.explain_plan(net(96, 64, 4, 64, 96), jnp.ones(96)).costs
    by_rows = 96 * 64 + 96 * 64 * 4 + 96 * 4 + 96 * 4 * 64 + 96 * 64 + 96 * 64 * 96
    assert [cost.multiplies for cost in (reverse, forward)] == [by_rows, by_rows]
    assert reverse.peak_bytes == 8 * 96 * 64
    assert meeting.multiplies == 3 * 4 * 64 + 2 * 96 * 64 * 4 + 96 * 4 * 96
    assert [cost.chosen for cost in (reverse, forward, meeting)] == [False, False, True]


def test_counts_of_maps_without_an_array():
    """Ten rows through a selection, a diagonal and a convolution of 3×3, each for what one product with it costs."""
    k, w, x = jax.device_put((r(4, 2, 3, 3), r(10, 4 * 4 * 4), r(3, 2, 8, 8)))

    def f(x):
        return jaxnets.max_pool(jaxnets.relu(jaxnets.conv(x, k, padding=1)), kernel_size=2).reshape(3, -1) @ w.T

    reverse, forward, *_ = jaxnets.explain_plan(f, x).costs
    assert reverse.multiplies == 3 * 10 * (4 * 4 * 4 + 4 * 8 * 8 + 4 * 8 * 8 * 2 * 9)
    assert forward.multiplies > 3 * 2 * 8 * 8 * 4 * 8 * 8  # [4·8·8 × 2·8·8] for each example, at least


def test_sums_that_leave_less_are_carried_out():
    """By a bias of images every place counts; by a weight matrix examples are left apart."""
    k, b, x = jax.device_put((r(4, 2, 3, 3), r(4), r(3, 2, 8, 8)))
    by_k, by_b = jax.eval_shape(jaxnets.jacobian(lambda k, b: jnp.sum(jaxnets.conv(x, k, b) ** 2, (1, 2, 3)), (0, 1)), k, b)
    assert by_b.nbytes <= by_b.dense_nbytes and by_k.nbytes <= by_k.dense_nbytes


def test_paths_that_branch_share_their_sum():
    """A residual network has 2^depth paths; each block costs the same."""

    def counts(depth):
        params = jax.device_put(layers(*[4] * (depth + 1)))
        return np.array([c.multiplies for c in jaxnets.explain_plan(lambda x: residual(params, x), jnp.ones(4)).costs[:2]])

    five, ten, fifteen = counts(5), counts(10), counts(15)
    np.testing.assert_array_equal(fifteen - ten, ten - five)


def test_branches_that_only_move_axes_share_their_product():
    a, b = jax.device_put(r(7, 6)), jax.device_put(r(6, 9))

    def forward(f):
        return jaxnets.explain_plan(f, jnp.ones(7), order="forward").costs[1].multiplies

    def before(x):
        return (jnp.tanh(x @ a) @ b).reshape(3, 3)

    def after(x):
        y = before(x)
        return y + y.T

    assert forward(after) <= forward(before) + 2 * 9 * 7


def test_plan_as_text():
    text = str(jaxnets.explain_plan(net(96, 64, 4, 64, 96), jax.ShapeDtypeStruct((2, 96), jnp.float64)))
    assert "meeting at dot_general[2, 4] (chosen)" in text
    assert re.search(r"reverse +│ +1,291,520 │ +7\.43 │ +98\.3 kB", text)
    assert text.index("eliminated in this order: tanh[2, 64], add[2, 64]") > 0
    nothing = jaxnets.explain_plan(lambda x: x, jnp.ones(3))
    assert "nothing lies between" in str(nothing)
    assert [cost.multiplies for cost in nothing.costs] == [0, 0]


def test_plan_of_a_function_that_looks_at_values():
    def f(x):
        return jnp.sin(x) if x[0] > 0 else jnp.cos(x) @ jnp.ones((3, 2))

    with pytest.raises(jax.errors.ConcretizationTypeError):
        jaxnets.explain_plan(f, jnp.ones(3))
    assert jaxnets.explain_plan(f, jnp.ones(3), abstract=False).order == ("sin[3]",)
    assert jaxnets.explain_plan(f, -jnp.ones(3), abstract=False).order == ("dot_general[2]", "cos[3]")


def test_plan_of_a_chosen_order_and_argument():
    params, x = jax.device_put((layers(6, 5, 4), r(3, 6)))
    for order in ("forward", "reverse"):
        costs = jaxnets.explain_plan(mlp, params, x, argnums=1, order=order).costs
        assert [cost.name for cost in costs if cost.chosen] == [order]
    first = jaxnets.explain_plan(mlp, params, x, order="forward").order
    assert first == tuple(reversed(jaxnets.explain_plan(mlp, params, x, order="reverse").order))


DEEP = {"chain": mlp, "residual": residual}


@pytest.mark.parametrize("name", DEEP)
def test_planning_is_linear_in_depth(name):
    def planning(depth):
        params = jax.device_put(layers(*[4] * (depth + 1)))
        return planned(lambda x: DEEP[name](params, x), jnp.ones(4), use=lambda *graph: calls(choose_plan, *graph))

    assert planning(80) < 15 * planning(10)  # 8 if linear, 64 if quadratic


def test_orders_are_carried_out():
    f, x = net(48, 32, 4, 32, 48), jax.device_put(r(3, 48))
    auto, forward, reverse = (
        flops(lambda x, order=order: jaxnets.jacobian(f, order=order)(x).per_example(), x)
        for order in ("auto", "forward", "reverse")
    )
    assert forward <= 1.1 * flops(jax.vmap(jax.jacfwd(f)), x)
    assert reverse <= 1.1 * flops(jax.vmap(jax.jacrev(f)), x)
    assert auto < 0.3 * min(forward, reverse)


def test_examples_do_not_change_the_choice():
    """A matrix serves all examples, a product of Jacobians is one for each."""
    for batch in (1, 1000):
        *_, meeting = jaxnets.explain_plan(net(48, 32, 4, 32, 48), jnp.ones((batch, 48))).costs
        assert meeting.chosen and meeting.name == f"meeting at dot_general[{batch}, 4]"


def test_passes_over_entries_count():
    """x + tanh(w x + b): products are the same both ways; forwards the sum is part of the pass that multiplies by tanh'."""

    def blocks(x):
        for w in r(8, 64, 64):
            x = x + jnp.tanh(x @ w)
        return x

    reverse, forward, *_ = jaxnets.explain_plan(blocks, jnp.ones((4, 64))).costs
    assert forward.multiplies == pytest.approx(reverse.multiplies, rel=0.02)
    assert not reverse.chosen


# --- some rows at a time ----------------------------------------------------------------------------------------------

M, P, C = r(3, 9), layers(7, 8, 5), (r(3, 3, 1, 2), r(2, 2, 2, 2), r(8, 3))
CHUNKED = {
    "MLP": (mlp, (P, r(4, 7))),
    "narrow to wide": (functools.partial(mlp, layers(3, 6, 11)), (r(2, 3),)),
    "bottleneck": (functools.partial(mlp, layers(9, 6, 2, 6, 9)), (r(2, 9),)),
    "softmax": (lambda x: jaxnets.softmax(mlp(P, x)), (r(4, 7),)),
    "convnet": (convnet, (*C, r(2, 6, 4, 1))),
    "attention": (functools.partial(attention, mask=np.ones((3, 3), bool)), (r(1, 3, 2, 2), r(1, 3, 2, 2), r(1, 3, 2, 2))),
    "two outputs": (lambda x: (mlp(P, x), jnp.sin(x)[:, :3] @ M), (r(4, 7),)),
    "slices": (lambda x: jnp.concatenate([x[1:] * x[:-1], x[::2]]) @ M, (r(4, 3),)),
    "no axis of its own": (lambda x: jnp.sin(x) * x, (r(7),)),
    "opaque": (lambda x: jnp.cumsum(jnp.sin(x) * x), (r(7),)),
    "constant": (lambda x: jnp.ones(3), (r(7),)),
}  # fmt: skip


@pytest.mark.parametrize("name", swept(CHUNKED, 2))
def test_chunks_give_the_same(name):
    f, args = CHUNKED[name]
    args, argnums = jax.device_put(args), tuple(range(len(args)))

    @jax.jit
    def run(*args):
        options = [{"chunk_size": 3}, {"chunk_size": 1, "order": "forward"}, {"chunk_size": 4, "order": "reverse"}]
        ours = [jaxnets.jacobian(f, argnums, on_opaque="allow", **choice)(*args) for choice in options]
        return [jaxnets.dense(j) for j in ours], jax.jacrev(f, argnums)(*args)

    found, expected = run(*args)
    for ours in found:
        assert_same(ours, expected, tolerance=1e-12)


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_chunks_bound_memory(order):
    """Wide in the middle: whole products hold [4, 64, 512] numbers, a chunk [4, 8, 512]."""
    f, x = net(64, 512, 512, 64), jax.device_put(r(4, 64))

    def run(x, **options):
        return jaxnets.jacobian(f, order=order, **options)(x).per_example()

    whole, chunks = scratch(run, x), scratch(functools.partial(run, chunk_size=8), x)
    assert whole > 8 * 4 * 64 * 512
    assert chunks < whole / 3


def test_chunks_keep_structure():
    x = jax.device_put(r(4, 7))
    j = jax.eval_shape(jaxnets.jacobian(mlp, chunk_size=2), P, x)
    assert "x" in j[0]["w"].formula and j[0]["w"].nbytes < j[0]["w"].dense_nbytes
    assert jax.eval_shape(jaxnets.jacobian(functools.partial(mlp, P), chunk_size=2), x).batched


# --- what the compiler gets -------------------------------------------------------------------------------------------

SIZES = {
    "MLP": (mlp, (layers(*[6] * 9), r(4, 6))),
    "residual": (residual, (layers(*[6] * 9), r(4, 6))),
    "convnet": (convnet, (r(3, 3, 1, 4), r(2, 2, 4, 4), r(32, 3), r(4, 8, 8, 1))),
}


@pytest.mark.parametrize("name", swept(SIZES, 2))
def test_program_is_not_much_larger(name):
    f, args = SIZES[name]
    *params, x = jax.device_put(args)
    network = functools.partial(f, *params)

    def instructions(function):
        return compiled(function, x).as_text().count(" = ")

    ours = instructions(lambda x: jaxnets.jacobian(network, on_opaque="allow")(x).per_example())
    assert ours <= 1.5 * instructions(jax.vmap(lambda v: jax.jacrev(lambda v: network(v[None])[0])(v)))


# --- bad options ------------------------------------------------------------------------------------------------------

BAD = {
    "order": (ValueError, {"order": "backward"}, r"order must be one of \('auto', 'forward', 'reverse'\), got 'backward'"),
    "chunk of nothing": (ValueError, {"chunk_size": 0}, "chunk_size must be a positive integer or None, got 0"),
    "half a chunk": (TypeError, {"chunk_size": 2.5}, "chunk_size must be an integer or None, got 2.5"),
    "chunk of True": (TypeError, {"chunk_size": True}, "chunk_size must be an integer or None, got True"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options(name):
    error, options, message = BAD[name]
    for transform in (jaxnets.jacobian, jaxnets.value_and_jacobian):
        with pytest.raises(error, match=message):
            transform(jnp.sin, **options)(jnp.ones(3))
    if name == "order":
        with pytest.raises(error, match=message):
            jaxnets.explain_plan(jnp.sin, jnp.ones(3), **options)


def test_plan_wants_real_arguments_and_outputs():
    with pytest.raises(jaxnets.DTypeError, match="explain_plan: argument x"):
        jaxnets.explain_plan(lambda x: x, jnp.ones(3, jnp.int32))
    with pytest.raises(jaxnets.DTypeError, match="explain_plan: output"):
        jaxnets.explain_plan(lambda x: x > 0, jnp.ones(3))
