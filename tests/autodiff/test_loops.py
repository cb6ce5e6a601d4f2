"""Loops are followed: their Jacobians are right and structured, and every quantity can be asked of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets as jn

from ..computing import largest, leaks_looked_for
from ..sweeps import swept
from .comparing import assert_same, both, d, gradient_norms
from .loop_programs import LOOPS, elman, linear_recurrence, lstm
from .programs import pos, r

NAMED = {program.name: program for program in LOOPS}


@pytest.mark.parametrize("name", swept(NAMED, 4))
def test_jacobians_through_loops_are_those_of_jax(name):
    program = NAMED[name]

    @jax.jit
    def both(*args):
        ours = jn.jacobian(program.function, program.argnums, on_opaque="allow")(*args)
        return jn.dense(ours), jax.jacrev(program.function, program.argnums)(*args)

    assert_same(*both(*program.arrays))


@pytest.mark.parametrize("name", swept(NAMED, 6))
def test_gradients_through_loops_are_those_of_jax(name):
    program = NAMED[name]

    def total(*args):
        found = jax.tree.leaves(program.function(*args))
        return sum(jnp.sum(jnp.sin(y)) for y in found if jnp.issubdtype(y.dtype, jnp.floating))

    @jax.jit
    def both(*args):
        return jn.grad(total, program.argnums)(*args), jax.grad(total, program.argnums)(*args)

    assert_same(*both(*program.arrays))


B, T, H, D = 3, 4, 3, 2
WEIGHTS, X = (r(4 * H, H), r(4 * H, D)), r(B, T, D)


def states(w, x):
    """The states of an LSTM at all times, [B, T, H]."""
    return lstm(*w, jnp.zeros((len(x), H), x.dtype), x.swapaxes(0, 1))[2].swapaxes(0, 1)


def losses(w, x):
    return jnp.sum(jnp.sin(states(w, x)), (1, 2))


def per_example(function):
    """A function of the weights and one example."""
    return lambda w, x: function(w, x[None])[0]


def rows(w, x):
    """The Jacobian of the states of every example by all weights, [B, T·H, weights]."""
    found = jax.vmap(jax.jacrev(per_example(states)), (None, 0))(w, x)
    return jnp.concatenate([j.reshape(len(x), T * H, -1) for j in jax.tree.leaves(found)], -1)


def flat(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def trace(hessian):
    return jnp.trace(hessian.reshape(T * D, T * D))


QUANTITIES = {
    "per_example_grads": (
        lambda w, x: jn.per_example_grads(losses)(w, x),
        lambda w, x: jax.vmap(jax.grad(per_example(losses)), (None, 0))(w, x),
    ),
    "per_example_grad_norms": (
        lambda w, x: jn.per_example_grad_norms(losses)(w, x),
        gradient_norms(losses),
    ),
    "clip_per_example": (
        lambda w, x: flat(jn.clip_per_example(losses, 0.1)(w, x)[0]),
        lambda w, x: jax.vmap(lambda x: optax_clipped(flat(jax.grad(per_example(losses))(w, x))))(x).sum(0),
    ),
    "ntk": (
        lambda w, x: jn.ntk(states)(w, x, x).reshape(B * T * H, -1),
        lambda w, x: (rows(w, x).reshape(B * T * H, -1)) @ rows(w, x).reshape(B * T * H, -1).T,
    ),
    "ggn_diagonal": (
        lambda w, x: flat(jn.ggn_diagonal(states, jn.squared_error)(w, x, jnp.zeros((B, T, H)))),
        lambda w, x: 2 * jnp.sum(rows(w, x) ** 2, (0, 1)),  # the Hessian of a squared error is 2
    ),
    "jacobian_norm": (
        lambda w, x: jn.jacobian_norm(lambda x: states(w, x))(x),
        lambda w, x: jax.vmap(lambda x: jnp.linalg.norm(jax.jacrev(lambda x: per_example(states)(w, x))(x).ravel()))(x),
    ),
    "forward": (
        lambda w, x: jn.dense(jn.jacobian(states, order="forward")(w, x)),
        lambda w, x: jax.jacfwd(states)(w, x),
    ),
    "chunks": (
        lambda w, x: jn.dense(jn.jacobian(states, (0, 1), chunk_size=2)(w, x)),
        lambda w, x: jax.jacrev(states, (0, 1))(w, x),
    ),
    "hessian": (
        lambda w, x: jn.dense(jn.hessian(lambda x: losses(w, x).sum())(x)),
        lambda w, x: jax.hessian(lambda x: losses(w, x).sum())(x),
    ),
    "jacobian of a jacobian": (
        lambda w, x: jn.dense(jn.jacobian(lambda x: jn.dense(jn.jacobian(lambda x: losses(w, x))(x)))(x)),
        lambda w, x: jax.jacrev(jax.jacrev(lambda x: losses(w, x)))(x),
    ),
    "laplacian": (
        lambda w, x: jn.laplacian(lambda x: losses(w, x))(x),
        lambda w, x: jax.vmap(lambda x: trace(jax.hessian(lambda x: per_example(losses)(w, x))(x)))(x),
    ),
    "gradient of a gradient": (
        lambda w, x: jax.grad(lambda x: jnp.sum(jn.grad(lambda x: losses(w, x).sum())(x) ** 2))(x),
        lambda w, x: jax.grad(lambda x: jnp.sum(jax.grad(lambda x: losses(w, x).sum())(x) ** 2))(x),
    ),
    "under vmap": (
        lambda w, x: jax.vmap(lambda x: jn.dense(jn.jacobian(lambda x: per_example(states)(w, x))(x)))(x),
        lambda w, x: jax.vmap(jax.jacrev(lambda x: per_example(states)(w, x)))(x),
    ),
}  # fmt: skip


def optax_clipped(g):
    """A gradient of a norm of at most 0.1."""
    return g * jnp.minimum(1, 0.1 / jnp.linalg.norm(g))


@pytest.mark.parametrize("name", swept(QUANTITIES, 2))
def test_quantities_of_a_loop_are_those_of_jax(name):
    ours, theirs = QUANTITIES[name]
    assert_same(*jax.jit(lambda w, x: (ours(w, x), theirs(w, x)))(WEIGHTS, X))


def test_kronecker_factors_count_the_steps_as_places():
    """ "expand" is exact where one step uses the weight, and for more steps has the sums over all of them."""

    def last(w, x):
        return elman(w, jnp.ones((H, D)), jnp.ones((len(x), H)), x.swapaxes(0, 1))[0]

    w, target = r(H, H), np.zeros((B, H))
    for steps in (1, T):
        block = jax.eval_shape(jn.kfac_factors(last, jn.squared_error), w, r(B, steps, D), target)
        assert (block.first.shape, block.last.shape) == ((H, H), (H, H))
    one = r(1, 1, D)

    @jax.jit
    def block_and_row(w):
        block = jn.kfac_factors(lambda w, x: last(w, x)[:, :1], jn.squared_error)(w, one, target[:1, :1])
        return block.matrix(), jax.jacrev(lambda w: last(w, one)[:, 0])(w).reshape(1, -1)

    matrix, row = map(np.asarray, block_and_row(w))
    np.testing.assert_allclose(matrix, 2 * row.T @ row, atol=1e-12)  # the Hessian of a squared error is 2


def test_examples_stay_apart_through_a_loop():
    j = jax.eval_shape(jn.jacobian(lambda x: states(WEIGHTS, x)), X)
    assert j.batched
    assert all(leaf.size < B * B * T * T * H * D for leaf in jax.tree.leaves(j.terms))


def test_a_diagonal_recurrence_stores_no_two_times():
    """∂y[t,i]/∂x[s,i] has an entry for every two times, which are not stored: neither by a scan nor if it is reversed."""
    a, x = pos(H), r(64, H)
    for reverse in (False, True):

        def f(x, reverse=reverse):
            return jax.lax.scan(lambda h, u: (a * h + u,) * 2, jnp.zeros(H), x, reverse=reverse)[1]

        j = jax.jit(jn.jacobian(f))(x)
        assert j.nbytes < 64 * 8 * H
        v = r(64, H)
        tangent = jax.jvp(f, (x,), (v,))[1]
        np.testing.assert_allclose(j @ v, tangent, rtol=1e-12)
        np.testing.assert_allclose(v @ j, jax.vjp(f, x)[1](v)[0], rtol=1e-12)


def test_a_row_goes_through_a_loop_once():
    """However many weights the body has: the program has the loop forwards and one loop backwards."""

    def loops(function, *args):
        return str(jax.make_jaxpr(function)(*args)).count(" scan[")

    assert loops(jn.per_example_grad_norms(losses), WEIGHTS, X) == 2
    assert loops(jn.grad(lambda w, x: losses(w, x).sum()), WEIGHTS, X) == 2


STEPS = 24
SMALL = r(H, D), r(H, H)


def added(e):
    """The last state of a loop, of which e[b, t] is added to the state after step t."""

    def step(h, e):
        return jnp.tanh(h @ SMALL[1]) + e, None

    return jax.lax.scan(step, jnp.ones_like(e[:, 0]), e.swapaxes(0, 1))[0]


def from_one_input(x):
    """The input x of one step, and then zeros."""
    return jnp.pad(x, ((0, 0), (0, STEPS - 1), (0, 0)))


ENDS = {  # a function of which the input or the output belongs to one step, and the shape of its input
    "last state": (lambda x: states(WEIGHTS, x)[:, -1], (B, STEPS, D)),
    "last state by what is added to all": (added, (B, STEPS, H)),
    "last state but one of a layer": (lambda x: jn.rnn(x, *SMALL)[:, -2], (B, STEPS, D)),
    "all states by the first input": (lambda x: states(WEIGHTS, from_one_input(x)), (B, 1, D)),
    "those of a layer by the first input": (lambda x: jn.rnn(from_one_input(x), *SMALL), (B, 1, D)),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_jacobian_of_one_state_makes_no_array_of_two_times(name):
    """What follows from the state after one step, or from the input of one, takes a vector for each of its entries."""
    function, shape = ENDS[name]
    x = r(*shape)

    def ours(x):
        return jn.jacobian(function)(x).per_example()

    found, expected = both(ours, jax.vmap(jax.jacrev(lambda x: function(x[None])[0])))(x)
    assert_same(found, expected)
    assert largest(ours, x) <= 8 * found.size  # the rows by four gates; with two times it would be 24 times as large


def test_a_body_is_read_once_and_compiled_once():
    """A second call outside of jit takes what the first one found out of the same body."""
    read = []

    def step(h, x):
        read.append(1)
        return jnp.tanh(h * x), h

    def f(x):
        return jax.lax.scan(step, x[0], x)[0]

    first = jn.dense(jn.jacobian(f)(jnp.ones((T, H))))
    count = len(read)
    assert_same(jn.dense(jn.jacobian(f)(jnp.ones((T, H)))), first)
    assert len(read) == count


def test_what_is_opaque_in_a_body_is_named():
    def f(x):
        return jax.lax.scan(lambda c, v: (jnp.sum(jax.lax.cumprod(c)) * v, c), x[0], x)[0]

    with pytest.raises(jn.OpaqueError, match=r"cumprod|scan"):
        jn.jacobian(lambda x: f(x) * jax.lax.cumlogsumexp(x[0]), on_opaque="error")(jnp.ones((T, H)))


def test_the_graph_of_a_loop_shows_the_values_of_its_body():
    rows = jn.tabulate(states, WEIGHTS, X).rows
    assert [(row.layer, row.depth) for row in rows if row.steps] == [(f"scan × {T}", 0)]
    assert [row.becomes for row in rows if row.becomes] == ["carry 2", "carry 1"]
    assert [row.output for row in rows if row.layer == "dot_general" and row.depth] == 2 * [(B, 4 * H)]


def test_an_associative_scan_has_the_jacobian_of_the_scan():
    a = pos(H)

    def by_scan(x):
        return jax.lax.scan(lambda h, u: (a * h + u,) * 2, jnp.zeros(H), x)[1]

    assert_same(*both(d(lambda x: linear_recurrence(a, x)), d(by_scan))(r(T, H)), 1e-12)


# --- Faults that were found -------------------------------------------------------------------------------------------


def test_effects_in_a_body_happen_once_a_step():
    seen = []

    def step(c, x):
        jax.debug.callback(lambda v: seen.append(float(v)), c[0])
        jax.debug.callback(lambda: seen.append(-1.0))
        return jnp.sin(c) * x, c

    x = r(T, H)
    ours = jn.jacobian(lambda x: jax.lax.scan(step, x[0], x)[0])(x).dense()
    jax.effects_barrier()
    assert len(seen) == 2 * T
    assert_same(ours, jax.jacrev(lambda x: jax.lax.scan(step, x[0], x)[0])(x))


def test_a_loop_whose_operands_are_all_constant():
    def f(w):
        return jax.lax.scan(lambda _, __: (None, jnp.ones(2)), None, length=3)[1].sum() * w.sum()

    assert_same(jn.grad(f)(r(H)), jnp.full(H, 6.0))


def test_every_array_of_a_carry_keeps_its_dtype():
    def f(p):
        def step(c, _):
            return (c[0] * jnp.cos(c[1]).astype(jnp.float32), jnp.sin(c[1] + c[0])), None

        return jax.lax.scan(step, (p, jnp.ones(H)), length=3)[0][0].sum()

    p = jnp.asarray(r(H), jnp.float32)
    assert_same(jn.grad(f)(p), jax.grad(f)(p), 1e-5)
    assert_same(jn.jacobian(f)(p).dense(), jax.grad(f)(p), 1e-5)


def test_a_python_number_beside_a_complex_carry():
    def f(a):
        return jax.lax.scan(lambda c, _: ((jnp.exp(1j * a) * c[0], c[1]), None), (a + 0j, 0.0), length=2)[0][0].real

    assert_same(*both(lambda a: jn.jacobian(f, on_opaque="allow")(a).dense(), jax.jacrev(f))(X[0, 0]))


def test_no_tracer_outlives_a_loop():
    def f(w, x):
        def outer(c, _):
            return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), c, length=2)[0], None

        return jnp.sum(jax.lax.scan(outer, x, length=2)[0] ** 2, 1)

    with leaks_looked_for():
        jax.eval_shape(jn.per_example_grad_norms(f), r(H, H), r(B, H))
        jax.eval_shape(jn.hessian(lambda x: f(jnp.eye(H), x).sum()), r(B, H))


def test_examples_stay_apart_where_the_body_merges_axes():
    """In `[b, s, i]` → `[b·s, i]` → a product → `[b, s, o]` no example meets another."""

    def f(w, x):
        def step(c, _):
            return jnp.tanh((c.reshape(-1, 4) @ w).reshape(c.shape)), None

        return jnp.sum(jax.lax.scan(step, x, length=3)[0] ** 2, (1, 2))

    def most(examples):
        args = np.ones((4, 4)), np.ones((examples, 5, 4))
        traced = jax.make_jaxpr(jn.per_example_grad_norms(f))(*args)
        return max(v.aval.size for v in traced.jaxpr.outvars + [v for e in traced.eqns for v in e.outvars])

    assert most(32) <= 4 * most(8)


def test_products_with_loops_in_a_map_run_them_side_by_side():
    w, x, v = 0.7 * r(3, 3), r(4, 3), r(4, 3)

    def f(x):
        return lax.map(lambda u: lax.scan(lambda c, _: (jnp.tanh(w @ c + u), None), u, None, length=3)[0], x)

    def ours(x, v):
        j = jn.jacobian(f)(x)
        return j @ v, v @ j

    def theirs(x, v):
        return jax.jvp(f, (x,), (v,))[1], jax.vjp(f, x)[1](v)[0]

    for found, expected in zip(jax.jit(ours)(x, v), jax.jit(theirs)(x, v), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
