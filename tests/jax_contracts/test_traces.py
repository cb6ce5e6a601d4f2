"""Contracts on traces and tracers: what reaches them, functions with derivatives of their own included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.source_info_util import current_name_stack

from .contracts import inner_equations, relied_on_by, traced, watching, with_custom_jvp, with_custom_vjp


@relied_on_by("autodiff/graph.py: _traced_outputs", "autodiff/graph.py: _GraphTrace.process_primitive")
def test_a_trace_is_given_every_primitive():
    """A core.Trace that set_current_trace has made current gets every primitive through
    process_primitive(primitive, tracers, params), take_current_trace gives the one below, and there the primitive binds
    again."""
    y, seen = watching()(lambda x: lax.mul(lax.sin(x), 2.0), 0.5)
    assert [primitive.name for primitive, _, _ in seen] == ["sin", "mul"]
    assert all(isinstance(params, dict) for _, _, params in seen)
    assert y == jnp.sin(0.5) * 2


@relied_on_by("autodiff/graph.py: _GraphTrace.process_primitive")
def test_a_primitive_of_constants_reaches_the_trace_too():
    """A primitive all of whose operands are plain arrays goes to the current trace as well, and to process_primitive."""
    _, seen = watching()(lambda x: lax.add(x, lax.cos(np.ones(3))), np.ones(3))
    assert [primitive.name for primitive, _, _ in seen] == ["cos", "add"]


@relied_on_by("autodiff/graph.py: _GraphTracer")
def test_a_tracer_has_a_trace_and_an_abstract_value():
    """A core.Tracer is made of its trace and an abstract value, which it keeps as `_trace` and `aval`; its shape, dtype and
    operators are an array's."""

    def look(x):
        assert (x.aval.shape, x.aval.dtype, x.shape, x.dtype) == ((3,), np.float32, (3,), np.float32)
        assert isinstance(x, jax.Array) and type(x._trace).__name__ == "Watching"
        return -x

    y, _ = watching()(look, np.ones(3, np.float32))
    assert y.tolist() == [-1] * 3


@relied_on_by("autodiff/graph.py: _GraphTracer.to_concrete_value")
def test_python_looks_at_a_tracer_through_to_concrete_value():
    """`bool` and `int` of a core.Tracer ask its to_concrete_value for an array, so that Python control flow may look at
    values."""
    y, _ = watching()(lambda x: x * 2 if x > 1 and int(x) == 3 else x, 3)
    assert y == 6


@relied_on_by("autodiff/graph.py: _GraphTracer.full_lower")
def test_a_tracer_may_keep_itself_under_full_lower():
    """JAX asks core.Tracer.full_lower for a lower value of the same meaning, and a tracer that returns itself goes into
    `jax.jit` as it is."""
    from jax import core

    assert hasattr(core.Tracer, "full_lower")
    _, seen = watching()(jax.jit(lambda x: lax.sin(x)), 0.5)
    assert [primitive.name for primitive, _, _ in seen] == ["jit"]
    assert type(seen[0][1][0]).__name__ == "Watched"


@relied_on_by("autodiff/graph.py: _GraphTrace.stage_value")
def test_a_trace_is_asked_to_stage_a_value():
    """`jnp.asarray` of a NumPy array asks the current core.Trace to lift it by stage_value(value), which may hand it to the
    trace below."""
    staged = []
    y, _ = watching()(lambda x: lax.mul(x, jnp.asarray(np.full(3, 2.0))), np.ones(3), staged=staged)
    assert (y.tolist(), [np.asarray(x).tolist() for x in staged]) == ([2] * 3, [[2] * 3])


@relied_on_by("autodiff/graph.py: _GraphTrace.__init__")
def test_a_trace_says_whether_it_wants_lowered_primitives():
    """A core.Trace has `requires_low`, true unless it says otherwise; where it is false, functions with derivatives of their
    own reach it whole."""
    from jax import core

    assert core.Trace().requires_low is True
    _, seen = watching()(with_custom_jvp(), 0.5)
    assert [primitive.name for primitive, *_ in seen] == ["custom_jvp_call"]


@relied_on_by("autodiff/graph.py: _GraphTrace.process_call", "autodiff/graph.py: INLINED")
def test_a_call_of_a_jaxpr_can_be_entered():
    """What partial evaluation leaves as a call of a jaxpr is either a call primitive, which reaches process_call with a
    function that has call_wrapped, or the primitive `eval_jaxpr` with the parameter `call_jaxpr`."""
    from jax import core

    def loop(x):
        return lax.scan(lambda c, y: (c + lax.sin(y), lax.tanh(c) * y), x[0], x)[1].sum()

    closed = traced(jax.grad(jax.checkpoint(loop)), np.ones((3, 2)))
    (call,) = (e for e in inner_equations(closed) if e.primitive.name in ("closed_call", "eval_jaxpr"))
    assert hasattr(call.params["call_jaxpr"], "consts")

    def run(*args):
        if call.primitive.name == "eval_jaxpr":
            return call.primitive.bind(*args, **call.params)
        bound = call.primitive.get_bind_params(call.params)
        return call.primitive.bind(*args, **bound)

    values = [np.ones(v.aval.shape, v.aval.dtype) for v in call.invars]
    out, seen = watching()(run, *values)
    inner = call.params["call_jaxpr"]
    expected = core.eval_jaxpr(inner.jaxpr, inner.consts, *values)
    assert [y.shape for y in out] == [y.shape for y in expected]
    assert (len(seen) > 1) if hasattr(core.Trace, "process_call") else (len(seen) == 1)


@relied_on_by("autodiff/graph.py: _GraphTrace.process_custom_jvp_call")
def test_custom_jvp_reaches_the_trace_with_its_rule():
    """A `jax.custom_jvp` reaches process_custom_jvp_call(primitive, function, jvp, tracers, symbolic_zeros=…), and
    jvp.call_wrapped(*primals, *tangents) gives the outputs and then their tangents, flat."""
    y, seen = watching()(with_custom_jvp(), np.ones(3))
    ((primitive, tracers, (function, jvp, symbolic_zeros)),) = seen
    assert (primitive.name, primitive.multiple_results, len(tracers), symbolic_zeros) == ("custom_jvp_call", True, 1, False)
    out, tangent = jvp.call_wrapped(jnp.ones(3), jnp.full(3, 5.0))
    assert (y.tolist(), out.tolist(), tangent.tolist()) == ([2] * 3, [2] * 3, [10] * 3)


@relied_on_by("autodiff/graph.py: _GraphTrace.process_custom_jvp_call", "layers/marker.py: bind")
def test_custom_jvp_with_symbolic_zeros_is_given_them():
    """With symbolic_zeros=True the rule of a `jax.custom_jvp` gets a SymbolicZero of the tangent's abstract value for an
    argument that does not move, and the trace is told so."""
    from jax.custom_derivatives import SymbolicZero

    given = []

    @jax.custom_jvp
    def product(x, y):
        return x * y

    def rule(primals, tangents):
        given.extend(tangents)
        return product(*primals), tangents[0] * primals[1]

    product.defjvp(rule, symbolic_zeros=True)
    jax.jvp(lambda x: product(x, 3.0), (2.0,), (1.0,))
    assert [isinstance(t, SymbolicZero) for t in given] == [False, True]

    given.clear()
    _, seen = watching()(product, 2.0, 3.0)
    ((_, _, (_, jvp, symbolic_zeros)),) = seen
    assert symbolic_zeros is True
    zero = SymbolicZero(jax.typeof(jnp.asarray(3.0)).to_tangent_aval())
    assert [float(y) for y in jvp.call_wrapped(jnp.asarray(2.0), jnp.asarray(3.0), jnp.asarray(1.0), zero)] == [6, 3]
    assert isinstance(given[1], SymbolicZero)


@relied_on_by("autodiff/graph.py: _GraphTrace.process_custom_jvp_call", "layers/marker.py: bind")
def test_tangents_of_integers_are_of_float0():
    """The abstract value of an integer array has a tangent abstract value of dtype `jax.dtypes.float0`."""
    assert jax.typeof(jnp.arange(3)).to_tangent_aval().dtype == jax.dtypes.float0
    assert jax.typeof(jnp.ones(3, np.float32)).to_tangent_aval().dtype == np.float32


@pytest.mark.parametrize("symbolic_zeros", [False, True])
@relied_on_by("autodiff/graph.py: _GraphTrace.process_custom_vjp_call")
def test_custom_vjp_reaches_the_trace_with_its_rules(symbolic_zeros):
    """A `jax.custom_vjp` reaches process_custom_vjp_call(primitive, function, fwd, bwd, tracers, out_trees=…,
    symbolic_zeros=…).  fwd.call_wrapped takes every value followed by whether it moves, and gives what is stored and then
    the outputs, flat.  out_trees() is a triple: the second is the tree of what is stored, the third tells for each part of
    it which argument it is, or None."""
    _, seen = watching()(with_custom_vjp(symbolic_zeros), 0.5, 3.0)
    ((primitive, tracers, (_, fwd, bwd, out_trees, told)),) = seen
    assert (primitive.name, len(tracers), told) == ("custom_vjp_call", 2, symbolic_zeros)
    x, scale = jnp.asarray(0.5), jnp.asarray(3.0)
    found = fwd.call_wrapped(x, True, scale, True)
    _, tree, forwarded = out_trees()
    assert tree.num_leaves == len(forwarded) == 3
    own = [part for part, place in zip(range(3), forwarded, strict=True) if place is None]
    assert len(found) == len(own) + 1
    assert all([x, scale][place] is not None for place in forwarded if place is not None)
    np.testing.assert_allclose(found[-1], 3 * np.sin(0.5), rtol=1e-6)


@relied_on_by("autodiff/graph.py: _GraphTrace.process_custom_vjp_call", "autodiff/graph.py: _is_symbolic_zero")
def test_the_backward_rule_of_custom_vjp_gives_a_cotangent_for_every_argument():
    """The backward rule that process_custom_vjp_call gets is a function, or has call_wrapped.  It takes what is stored and
    the cotangents, flat, and gives a list of cotangents for the arguments, or such a list and one of logs; a missing one is
    an ad.Zero or a SymbolicZero."""
    from jax.custom_derivatives import SymbolicZero
    from jax.interpreters import ad

    _, seen = watching()(with_custom_vjp(), 0.5, 3.0)
    ((_, _, (_, fwd, bwd, out_trees, _)),) = seen
    values = jnp.asarray(0.5), jnp.asarray(3.0)
    found = iter(fwd.call_wrapped(values[0], True, values[1], True))
    stored = [next(found) if place is None else values[place] for place in out_trees()[2]]
    pulled = getattr(bwd, "call_wrapped", bwd)(*stored, jnp.asarray(2.0))
    pulled = pulled[0] if isinstance(pulled[0], (list, tuple)) else pulled
    by_x, by_scale = pulled
    np.testing.assert_allclose(by_x, 2 * 3 * np.cos(0.5), rtol=1e-6)
    assert isinstance(by_scale, (SymbolicZero, ad.Zero))


@pytest.mark.parametrize("kind", ["custom_jvp_call", "custom_vjp_call"])
@relied_on_by("autodiff/graph.py: _GraphTrace.rebind")
def test_a_custom_derivative_binds_again_in_the_trace_below(kind):
    """The primitive {kind} goes on in the trace below by primitive.bind_with_trace(trace, values, abstract values, params),
    with its functions in the parameter `subfuns`, and keeps its derivative there."""
    function, values = (with_custom_jvp(), ()) if kind == "custom_jvp_call" else (with_custom_vjp(), (3.0,))

    def outer(x):
        return watching()(lambda _: function(x, *values), 1.0, whole=True)[0]

    y, slope = jax.value_and_grad(outer)(0.5)
    expected = (1, 2) if kind == "custom_jvp_call" else (3 * np.sin(0.5), 3 * np.cos(0.5))
    np.testing.assert_allclose((y, slope), expected, rtol=1e-6)


@relied_on_by(
    "algebra/jacobian.py: _holds_numbers", "checks/arguments.py: check_range", "losses/embedding.py: _check_signs",
    "curvature/gauss_newton_matrix.py: GaussNewton._check_damping",
)  # fmt: skip
def test_a_value_that_is_traced_is_a_tracer():
    """Under a transformation of JAX an array is a `jax.core.Tracer`, and outside it is none."""
    kinds = []
    jax.jit(lambda x: kinds.append(isinstance(x, jax.core.Tracer)))(1.0)
    assert kinds == [True]
    assert not isinstance(jnp.ones(3), jax.core.Tracer)


@relied_on_by("autodiff/graph.py: _current_scope")
def test_the_scopes_around_a_primitive_have_names():
    """`jax.extend.source_info_util.current_name_stack` has the names of all scopes, also inside of vmap and of a jaxpr."""
    with jax.named_scope("net"), jax.named_scope("dense_0"):
        assert str(current_name_stack()) == "net/dense_0"
        jaxpr = traced(jax.vmap(jax.named_scope("inner")(jnp.sin)), jnp.ones(2))
    assert [str(equation.source_info.name_stack) for equation in jaxpr.eqns][0].endswith("vmap(inner)")
