"""Orders of vertex elimination: what they cost, which one is the best, and the scalar programs of the literature."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxnets
from benchmarks.scalar_programs import PROGRAMS
from jaxnets.autodiff.plan import candidate_plans, choose_plan, measure_plan, vertex_plan
from jaxnets.autodiff.scalar_orders import ScalarGraph, best_order, disjoint_paths, lower_bounds
from jaxnets.autodiff.skeleton import skeleton
from jaxnets.autodiff.vertex_orders import least_degree_order, multiplies_of
from tests.autodiff.comparing import assert_same, d
from tests.autodiff.programs import layers, mlp, residual
from tests.autodiff.test_eliminate import calls
from tests.autodiff.test_plan import planned

from ..sweeps import swept


def read(f, *args):
    """The skeleton of the graph of f by its first argument."""
    return planned(f, *args, use=skeleton)


@st.composite
def expressions(draw):
    """A function of three scalars that makes two, and few steps of sums, products and sines of anything before."""
    steps = draw(st.integers(2, 6))
    program = [(draw(st.sampled_from("+*s")), *(draw(st.integers(0, 2 + i)) for _ in range(2))) for i in range(steps)]

    def f(x):
        values = list(x)
        for kind, i, k in program:
            a, b = values[i], values[k]
            values.append(a + b if kind == "+" else a * b if kind == "*" else jnp.sin(a))
        return jnp.stack(values[-2:])

    return f


@given(expressions())
def test_no_order_is_better_than_the_best_or_below_the_bound(f):
    graph = read(f, jnp.ones(3))
    counts = [multiplies_of(graph, order) for order in itertools.permutations(graph.inner)]
    worst = max(itertools.permutations(graph.inner), key=lambda order: multiplies_of(graph, order))
    best = best_order(graph, list(worst))
    assert best.multiplies == best.at_least == min(counts) == multiplies_of(graph, best.order)
    assert sum(lower_bounds(graph).values()) <= min(counts)
    assert ScalarGraph(graph).multiplies_of(worst) == max(counts)  # counted in another way


def test_search_that_is_stopped_says_what_it_has_shown():
    graph = read(PROGRAMS["robot arm"].function, jnp.ones(6))
    known = least_degree_order(graph)
    best = best_order(graph, known, max_states=5)
    assert best.order == known and sum(lower_bounds(graph).values()) <= best.at_least < best.multiplies


def test_disjoint_paths():
    """Two ways of three lead through 5; the third may leave its first way for another."""
    after = {0: [5], 1: [5, 6], 2: [6, 7], 5: [8], 6: [8, 9], 7: [9], 8: [], 9: []}
    assert [disjoint_paths(starts, after.get) for starts in ([0], [0, 1], [0, 1, 2], [])] == [1, 2, 2, 0]


def test_least_degree_by_hand():
    """A node with many parents and children, and before it one with many parents and one child: the latter comes first."""

    def f(x):
        a = jnp.sin(x[0] * x[1])
        b = jnp.exp(a)
        return jnp.stack([jnp.sin(b), jnp.cos(b), jnp.tan(b)])

    graph = read(f, jnp.ones(2))
    order = [graph.nodes[v].name for v in least_degree_order(graph)]
    assert order == ["sin", "mul", "exp"]
    assert multiplies_of(graph, least_degree_order(graph)) == 1 + 2 + 2 * 3


@pytest.mark.parametrize("name", swept(PROGRAMS, [name for name in PROGRAMS if name != "Roe flux, 3-d"]))
def test_counts_of_scalar_programs(name):
    """What is chosen is not dearer than any other order; what the skeleton counts is what the products take."""
    program = PROGRAMS[name]

    def counts(edges, nodes, sinks):
        graph, plans = skeleton(edges, nodes, sinks), candidate_plans(edges, nodes, sinks)
        for plan in plans:
            measure_plan(edges, plan)
        chosen, by_entries = choose_plan(edges, nodes, sinks), vertex_plan(edges, nodes, sinks)
        measure_plan(edges, chosen)
        measure_plan(edges, by_entries)
        place = {node: i for i, node in enumerate(graph.nodes)}
        inner = [place[node] for node in by_entries.order if node not in graph.renaming]
        assert by_entries.multiplies == multiplies_of(graph, inner)
        others = [graph.inner, graph.inner[::-1], least_degree_order(graph)]
        return chosen.multiplies, [plan.multiplies for plan in plans] + [multiplies_of(graph, order) for order in others]

    chosen, others = planned(program.function, program.points(1)[0], use=counts)
    assert chosen <= min(others)
    explained = jaxnets.explain_plan(program.function, program.points(1)[0])
    assert explained.bound.multiplies <= chosen
    assert explained.bound.reached == (explained.bound.multiplies == chosen)


def test_counts_for_a_batch_are_those_of_its_examples():
    program = PROGRAMS["human heart dipole"]
    one, batch = (
        jaxnets.explain_plan(f, x) for f, x in ((program.function, program.points(1)[0]), (each(program), program.points(5)))
    )
    assert [cost.multiplies for cost in batch.costs if cost.chosen] == [5 * c.multiplies for c in one.costs if c.chosen]
    assert batch.bound.multiplies == 5 * one.bound.multiplies


def each(program):
    return jax.vmap(program.function)


@pytest.mark.parametrize("name", swept(PROGRAMS, 3))
def test_jacobians_of_scalar_programs(name):
    program = PROGRAMS[name]
    x = program.points(4)

    @jax.jit
    def run(x):
        ours = jax.vmap(d(program.function))(x), jaxnets.jacobian(each(program))(x).per_example()
        return ours, jax.vmap(jax.jacfwd(program.function))(x)

    (vmapped, batched), expected = run(x)
    assert_same(vmapped, expected)
    assert_same(batched, expected)


@pytest.mark.parametrize("name", swept(PROGRAMS, 3))
def test_flops_of_scalar_programs(name):
    """Without fusion, in which XLA computes a number again for each of its uses."""
    program = PROGRAMS[name]
    x = jnp.asarray(program.points(64))

    def flops(derivative):
        lowered = jax.jit(jax.vmap(derivative(program.function))).lower(x)
        return lowered.compile(compiler_options={"xla_disable_hlo_passes": "fusion"}).cost_analysis()["flops"]

    assert flops(d) <= 1.1 * min(flops(jax.jacrev), flops(jax.jacfwd))


def test_optimum_and_bound_as_text():
    proven = str(jaxnets.explain_plan(PROGRAMS["propane combustion"].function, jnp.ones(11)))
    assert "1.00 of the optimum, proven: no order of vertex elimination takes fewer than 29" in proven
    bounded = jaxnets.explain_plan(PROGRAMS["Black-Scholes"].function, jnp.ones(5))
    (chosen,) = [cost for cost in bounded.costs if cost.chosen]
    ratio = chosen.multiplies / bounded.bound.multiplies
    assert f"{ratio:.2f} × the lower bound" in str(bounded)
    assert jaxnets.explain_plan(lambda x: x @ jnp.ones((3, 3)), jnp.ones(3)).bound is None


def test_best_order_of_a_small_graph_is_chosen():
    """Products of pairs, where both sweeps and the least degree are dearer than the best order."""
    proven = 0
    for f in map(butterfly, range(12)):
        graph, explained = read(f, jnp.ones(3)), jaxnets.explain_plan(f, jnp.ones(3))
        (chosen,) = [cost.multiplies for cost in explained.costs if cost.chosen]
        least = min(multiplies_of(graph, order) for order in (graph.inner, graph.inner[::-1], least_degree_order(graph)))
        assert explained.bound.multiplies <= chosen <= least
        assert explained.bound.reached == (chosen == explained.bound.multiplies)
        proven += explained.bound.reached and chosen < least
    assert proven


def butterfly(seed):
    """Three scalars through three layers of products of random pairs, and sines."""
    pairs = np.random.default_rng(seed).integers(0, 3, (3, 3, 2))

    def f(x):
        values = list(x)
        for layer in pairs:
            values = [jnp.sin(values[i]) * values[k] for i, k in layer]
        return jnp.stack(values)

    return f


# --- where it is tried ------------------------------------------------------------------------------------------------


def test_chains_and_large_graphs_have_no_vertex_plan():
    params = jax.device_put(layers(*[4] * 30))
    assert planned(lambda x: mlp(params, x), jnp.ones(4), use=vertex_plan) is None

    def wide(x):
        return jnp.stack([jnp.sin(x[i % 3]) * jnp.cos(x[i % 2]) for i in range(80)])

    assert planned(wide, jnp.ones(3), use=vertex_plan) is None


def test_planning_of_chains_takes_no_more():
    """Finding that a graph is a chain takes a small part of the work of measuring its two sweeps."""
    params = jax.device_put(layers(*[4] * 41))
    for f in (mlp, residual):
        graph = planned(lambda x, f=f: f(params, x), jnp.ones(4), use=lambda *graph: graph)
        assert calls(vertex_plan, *graph) < 0.2 * calls(choose_plan, *graph)
