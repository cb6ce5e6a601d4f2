"""What jaxnets relies on in JAX beyond what JAX promises, a test for each thing.

Every contract is tried on JAX alone.  Its docstring is a sentence that holds for every version of JAX that we support; where
a new JAX breaks it, the test fails and tells the sentence and the functions of ours that rely on it.  The tests at the end
read our source: what leans on JAX without a contract here fails there.
"""

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

PACKAGE = Path(__file__).parent.parent / "jaxnets"
CONTRACTS: list[Callable] = []


def relied_on_by(*places):
    """A contract, and the functions of ours that rely on it, each as "file: function"."""

    def wrap(test):
        @functools.wraps(test)
        def checked(**parameters):
            try:
                test(**parameters)
            except Exception as error:
                sentence = " ".join(test.__doc__.split()).format(**parameters)
                users = ", ".join(f"jaxnets/{place}" for place in places)
                message = f"jax {jax.__version__} does not keep this: {sentence}  It is relied on by {users}."
                raise AssertionError(message) from error

        checked.places = places  # type: ignore[attr-defined]
        CONTRACTS.append(checked)
        return checked

    return wrap


def traced(function, *args):
    return jax.make_jaxpr(function)(*args)


def only_equation(function, *args):
    (equation,) = traced(function, *args).eqns
    return equation


def inner_equations(jaxpr):
    """All equations, those of inner jaxprs included."""
    from jax.extend.core import jaxprs_in_params

    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from inner_equations(inner)


# Traces and tracers.


def watching():
    """A trace of the least kind that reads a function, and its tracers: what autodiff/graph.py does, with nothing more."""
    from jax import core
    from jax.extend.core import set_current_trace, take_current_trace

    class Watched(core.Tracer):
        __slots__ = ["value"]

        def __init__(self, trace, value):
            super().__init__(trace, jax.typeof(value))
            self.value = value

        def full_lower(self):
            return self

        def to_concrete_value(self):
            return self.value

    class Watching(core.Trace):
        def __init__(self, parent):
            super().__init__()
            self.parent, self.requires_low, self.seen = parent, False, []

        def split(self, x):
            return x.value if isinstance(x, Watched) and x._trace is self else x

        def stage_value(self, x):
            self.staged.append(x)
            return self.parent.stage_value(x)

        def noted(self, primitive, tracers, params, out):
            self.seen.append((primitive, tracers, params))
            return [Watched(self, y) for y in out] if primitive.multiple_results else Watched(self, out)

        def process_primitive(self, primitive, tracers, params, /):
            with set_current_trace(self.parent):
                out = primitive.bind(*map(self.split, tracers), **params)
            return self.noted(primitive, tracers, params, out)

        def process_call(self, primitive, function, tracers, params, /):
            self.seen.append((primitive, tracers, params))
            with set_current_trace(self):
                return function.call_wrapped(*tracers)

        def process_custom_jvp_call(self, primitive, function, jvp, tracers, /, *, symbolic_zeros):
            self.seen.append((primitive, tracers, (function, jvp, symbolic_zeros)))
            return self.below(primitive, tracers, (function, jvp), symbolic_zeros=symbolic_zeros)

        def process_custom_vjp_call(self, primitive, function, fwd, bwd, tracers, /, *, out_trees, symbolic_zeros):
            self.seen.append((primitive, tracers, (function, fwd, bwd, out_trees, symbolic_zeros)))
            options = {"out_trees": out_trees, "symbolic_zeros": symbolic_zeros}
            return self.below(primitive, tracers, (function, fwd, bwd), **options)

        def below(self, primitive, tracers, functions, **options):
            """A function with a derivative of its own, in the trace below: with its derivative, or the plain function."""
            values = tuple(map(self.split, tracers))
            if self.whole:
                abstract = tuple(jax.typeof(x) for x in values)
                return primitive.bind_with_trace(self.parent, values, abstract, {"subfuns": functions, **options})
            with set_current_trace(self.parent):
                return functions[0].call_wrapped(*values)

        def process_shard_map(self, primitive, function, tracers, /, **params):
            self.seen.append((primitive, tracers, (function, params)))
            with set_current_trace(self.parent):
                return primitive.bind(*map(self.split, tracers), subfuns=(function,), **params)

    def watch(function, *values, staged=None, whole=False):
        """Run the function and return its output and the primitives that the trace has seen, with their operands.

        `staged` collects the values that the trace is asked to stage; see `below` for `whole`.
        """
        arrays = [jnp.asarray(x) for x in values]
        with take_current_trace() as parent:
            trace = Watching(parent)
            trace.staged, trace.whole = [] if staged is None else staged, whole
            with set_current_trace(trace):
                out = function(*(Watched(trace, x) for x in arrays))
            return jax.tree.map(trace.split, out), trace.seen

    return watch


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
    _, seen = watching()(_custom_jvp(), 0.5)
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


def _custom_jvp():
    @jax.custom_jvp
    def double(x):
        return 2 * x

    double.defjvp(lambda primals, tangents: (double(*primals), 2 * tangents[0]))
    return double


@relied_on_by("autodiff/graph.py: _GraphTrace.process_custom_jvp_call")
def test_custom_jvp_reaches_the_trace_with_its_rule():
    """A `jax.custom_jvp` reaches process_custom_jvp_call(primitive, function, jvp, tracers, symbolic_zeros=…), and
    jvp.call_wrapped(*primals, *tangents) gives the outputs and then their tangents, flat."""
    y, seen = watching()(_custom_jvp(), np.ones(3))
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


def _custom_vjp(symbolic_zeros=False):
    @jax.custom_vjp
    def scaled_sine(x, scale):
        return scale * lax.sin(x)

    def forward(x, scale):
        if symbolic_zeros:
            assert x.perturbed is True
            x, scale = x.value, scale.value
        return scaled_sine(x, scale), (x, lax.cos(x), scale)

    def backward(stored, cotangent):
        x, cosine, scale = stored
        return scale * cosine * cotangent, None

    scaled_sine.defvjp(forward, backward, symbolic_zeros=symbolic_zeros)
    return scaled_sine


@pytest.mark.parametrize("symbolic_zeros", [False, True])
@relied_on_by("autodiff/graph.py: _GraphTrace.process_custom_vjp_call")
def test_custom_vjp_reaches_the_trace_with_its_rules(symbolic_zeros):
    """A `jax.custom_vjp` reaches process_custom_vjp_call(primitive, function, fwd, bwd, tracers, out_trees=…,
    symbolic_zeros=…).  fwd.call_wrapped takes every value followed by whether it moves, and gives what is stored and then
    the outputs, flat.  out_trees() is a triple: the second is the tree of what is stored, the third tells for each part of
    it which argument it is, or None."""
    _, seen = watching()(_custom_vjp(symbolic_zeros), 0.5, 3.0)
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

    _, seen = watching()(_custom_vjp(), 0.5, 3.0)
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
    function, values = (_custom_jvp(), ()) if kind == "custom_jvp_call" else (_custom_vjp(), (3.0,))

    def outer(x):
        return watching()(lambda _: function(x, *values), 1.0, whole=True)[0]

    y, slope = jax.value_and_grad(outer)(0.5)
    expected = (1, 2) if kind == "custom_jvp_call" else (3 * np.sin(0.5), 3 * np.cos(0.5))
    np.testing.assert_allclose((y, slope), expected, rtol=1e-6)


@relied_on_by(
    "algebra/jacobian.py: _holds_numbers", "layers/checks.py: check_range", "losses/embedding.py: _check_signs",
    "curvature/gauss_newton_matrix.py: GaussNewton._check_damping",
)  # fmt: skip
def test_a_value_that_is_traced_is_a_tracer():
    """Under a transformation of JAX an array is a `jax.core.Tracer`, and outside it is none."""
    kinds = []
    jax.jit(lambda x: kinds.append(isinstance(x, jax.core.Tracer)))(1.0)
    assert kinds == [True]
    assert not isinstance(jnp.ones(3), jax.core.Tracer)


# Jaxprs.


@relied_on_by(
    "autodiff/graph.py: _opaque_outputs", "autodiff/graph.py: _jaxpr_evaluator", "autodiff/graph.py: _JaxprFunction",
    "autodiff/graph.py: _GraphTrace.process_primitive",
)  # fmt: skip
def test_a_traced_function_is_a_jaxpr_with_its_constants():
    """`jax.make_jaxpr` gives `.jaxpr` and `.consts`, and core.eval_jaxpr(jaxpr, consts, *args) runs it to a list of
    outputs."""
    from jax import core

    constant = jnp.arange(3.0)
    closed = traced(lambda x: (x + constant, x), np.ones(3))
    assert len(closed.consts) in (0, 1)
    y, x = core.eval_jaxpr(closed.jaxpr, closed.consts, jnp.ones(3))
    assert (y.tolist(), x.tolist()) == ([1, 2, 3], [1, 1, 1])


@relied_on_by("autodiff/graph.py: _one_way", "curvature/laplacian.py: _affine", "report/jobs.py: _value_sizes")
def test_equations_of_a_jaxpr():
    """A jaxpr has `eqns`, `invars` and `outvars`; an equation has `primitive`, `params`, `invars` and `outvars`, and every
    variable an `aval` with its shape."""
    jaxpr = traced(lambda x: lax.sin(x) + 1.0, np.ones(3)).jaxpr
    sine, sum_ = jaxpr.eqns
    assert [e.primitive.name for e in jaxpr.eqns] == ["sin", "add"]
    assert sine.invars == list(jaxpr.invars)
    assert sum_.outvars == list(jaxpr.outvars)
    assert sum_.outvars[0].aval.shape == (3,)
    assert isinstance(sine.params, dict)
    assert len({*jaxpr.invars, *sine.outvars}) == 2  # variables can be told apart in a set


@relied_on_by("curvature/laplacian.py: _affine")
def test_a_literal_has_a_val_and_a_variable_has_none():
    """Among the operands of an equation and the outputs of a jaxpr a literal has the attribute `val`, and a variable has
    not."""
    jaxpr = traced(lambda x: (x + 1.0, 2.0), 1.0).jaxpr
    x, one = jaxpr.eqns[0].invars
    assert (hasattr(x, "val"), one.val) == (False, 1.0)
    assert [hasattr(y, "val") for y in jaxpr.outvars] == [False, True]


@relied_on_by("autodiff/graph.py: _GraphTrace.process_primitive", "autodiff/graph.py: INLINED")
def test_jit_holds_the_jaxpr_of_its_function():
    """`jax.jit` is a primitive `jit` whose parameter `jaxpr` has `jaxpr` and `consts`."""
    from jax import core

    equation = only_equation(jax.jit(lambda x: lax.sin(x)), 1.0)
    inner = equation.params["jaxpr"]
    assert equation.primitive.name == "jit"
    assert [e.primitive.name for e in inner.jaxpr.eqns] == ["sin"]
    assert core.eval_jaxpr(inner.jaxpr, inner.consts, jnp.asarray(0.5)) == [jnp.sin(0.5)]


@relied_on_by("autodiff/graph.py: _GraphTrace.process_primitive", "autodiff/graph.py: INLINED")
def test_checkpoint_holds_the_jaxpr_of_its_function():
    """`jax.checkpoint` is a primitive `remat2` whose parameter `jaxpr` core.eval_jaxpr runs, with `consts` of its own or
    without constants."""
    from jax import core

    equation = only_equation(jax.checkpoint(lambda x: lax.sin(x)), 1.0)
    inner = equation.params["jaxpr"]
    assert equation.primitive.name == "remat2"
    jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
    assert core.eval_jaxpr(jaxpr, consts, jnp.asarray(0.5)) == [jnp.sin(0.5)]


def _body(c, x):
    return c + lax.sin(x), c


LOOPS = {
    "scan": (lambda x: lax.scan(_body, x[0], x, reverse=True), {"jaxpr", "length", "reverse"}),
    "while": (lambda x: lax.while_loop(lambda x: x[0] < 3, lambda x: x + lax.sin(x), x), {"cond_jaxpr", "body_jaxpr"}),
    "cond": (lambda x: lax.cond(x[0] > 0, lax.sin, lax.cos, x), {"branches"}),
}


@pytest.mark.parametrize("kind", LOOPS)
@relied_on_by("autodiff/graph.py: _one_way", "autodiff/opaque.py: BoundPrimitive")
def test_control_flow_holds_its_bodies_and_binds_again(kind):
    """The primitive {kind} holds its bodies as jaxprs in its parameters, where jaxprs_in_params finds them, and binds again
    with the same parameters to the same values."""
    from jax.extend.core import jaxprs_in_params

    run, keys = LOOPS[kind]
    x = np.ones(4)
    (equation,) = (e for e in traced(run, x).eqns if e.primitive.name == kind)
    assert keys <= set(equation.params)
    bodies = [getattr(inner, "jaxpr", inner) for inner in jaxprs_in_params(equation.params)]
    assert "sin" in {e.primitive.name for inner in bodies for e in inner.eqns}
    _, seen = watching()(run, x)
    ((primitive, operands, params),) = (entry for entry in seen if entry[0].name == kind)
    again = primitive.bind(*(getattr(operand, "value", operand) for operand in operands), **params)
    assert [y.shape for y in again] == [v.aval.shape for v in equation.outvars]


@relied_on_by("autodiff/graph.py: _one_way")
def test_custom_vjp_in_a_jaxpr_is_named_and_holds_its_function():
    """In a jaxpr a `jax.custom_vjp` is an equation of the primitive `custom_vjp_call`, and jaxprs_in_params finds the jaxpr
    of its function."""
    from jax.extend.core import jaxprs_in_params

    equation = only_equation(_custom_vjp(), 0.5, 3.0)
    assert equation.primitive.name == "custom_vjp_call"
    (inner,) = jaxprs_in_params(equation.params)
    assert [e.primitive.name for e in getattr(inner, "jaxpr", inner).eqns] == ["sin", "mul"]


@pytest.mark.parametrize("kind", ["custom_jvp_call", "custom_vjp_call"])
@relied_on_by("autodiff/graph.py: _GraphTrace.process_primitive", "autodiff/graph.py: _JaxprFunction")
def test_a_custom_derivative_in_a_jaxpr_comes_back_when_the_jaxpr_runs(kind):
    """core.eval_jaxpr gives an equation of {kind} to the current trace as the function itself would, with its rules."""
    from jax import core

    values = (0.5,) if kind == "custom_jvp_call" else (0.5, 3.0)
    closed = traced(_custom_jvp() if kind == "custom_jvp_call" else _custom_vjp(), *values)
    _, seen = watching()(lambda *xs: core.eval_jaxpr(closed.jaxpr, closed.consts, *xs), *values)
    ((primitive, _, given),) = seen
    assert (primitive.name, len(given)) == (kind, 3 if kind == "custom_jvp_call" else 5)
    tangents = given[1].call_wrapped(jnp.asarray(0.5), jnp.asarray(1.0)) if kind == "custom_jvp_call" else [2.0]
    assert float(tangents[-1]) == 2


@relied_on_by("autodiff/graph.py: _GraphTrace.process_shard_map")
def test_shard_map_reaches_the_trace_with_its_function():
    """`jax.shard_map` reaches process_shard_map(primitive, function, operands, …); the primitive binds again with the
    function in the parameter `subfuns` and the other parameters as they are, to a tree of outputs that has `map` and can
    be iterated."""
    _, seen = watching()(_sharded(lambda x: (lax.sin(x), x)), np.ones(4))
    ((primitive, operands, (function, params)),) = seen
    assert (primitive.name, primitive.multiple_results, len(operands)) == ("shard_map", True, 1)
    closed = traced(lambda x: list(primitive.bind(x, subfuns=(function,), **params)), np.ones(4))
    assert [e.primitive.name for e in closed.jaxpr.eqns] == ["shard_map"]
    tree = primitive.bind(jnp.ones(4), subfuns=(function,), **params)
    assert [float(y[0]) for y in tree] == [float(jnp.sin(1.0)), 1]
    names = iter("ab")
    assert list(tree.map(lambda _: next(names))) == ["a", "b"]


@relied_on_by("autodiff/graph.py: _one_way", "autodiff/graph.py: _JaxprFunction")
def test_shard_map_in_a_jaxpr_holds_its_function():
    """In a jaxpr a `jax.shard_map` is an equation of the primitive `shard_map`, in whose parameters jaxprs_in_params finds
    the jaxpr of its function, and core.eval_jaxpr runs it."""
    from jax import core
    from jax.extend.core import jaxprs_in_params

    closed = traced(_sharded(lax.sin), np.ones(4))
    (equation,) = closed.jaxpr.eqns
    (inner,) = jaxprs_in_params(equation.params)
    assert [e.primitive.name for e in getattr(inner, "jaxpr", inner).eqns] == ["sin"]
    (y,) = core.eval_jaxpr(closed.jaxpr, closed.consts, jnp.ones(4))
    np.testing.assert_allclose(y, np.sin(np.ones(4)), rtol=1e-6)


def _sharded(function):
    from jax.sharding import AxisType, PartitionSpec

    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return jax.shard_map(function, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"))


# Primitives of our own.


def own_primitive(rules=("jvp", "transpose", "batch"), many=False):
    """A primitive that multiplies by 2, made as layers/marker.py makes its own, and what its rules were given."""
    from jax import core
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    given = []
    double_p = Primitive("double")
    double_p.multiple_results = many

    def run(x, y, *, times):
        out = times * x + y
        return [out] if many else out

    def abstract(x, y, *, times):
        shapes = jax.eval_shape(functools.partial(run, times=times), x, y)
        return jax.tree.map(lambda s: core.ShapedArray(s.shape, s.dtype), shapes)

    def jvp(primals, tangents, **params):
        given.append(tangents)
        moved = tangents[0] if isinstance(tangents[1], ad.Zero) else tangents[0] + tangents[1]
        return double_p.bind(*primals, **params), double_p.bind(moved, jnp.zeros_like(primals[1]), **params)

    def transpose(cotangent, x, y, **params):
        given.append((cotangent, x, y))
        return [double_p.bind(cotangent, jnp.zeros(x.aval.shape, x.aval.dtype), **params), None]

    def batch(arrays, axes, **params):
        given.append(axes)
        return jax.vmap(functools.partial(run, **params), in_axes=tuple(axes))(*arrays), [0] if many else 0

    double_p.def_impl(run)
    double_p.def_abstract_eval(abstract)
    if "jvp" in rules:
        ad.primitive_jvps[double_p] = jvp
    if "transpose" in rules:
        ad.primitive_transposes[double_p] = transpose
    if "batch" in rules:
        batching.primitive_batchers[double_p] = batch
    mlir.register_lowering(double_p, mlir.lower_fun(run, multiple_results=many))
    return functools.partial(double_p.bind, times=2), given


@pytest.mark.parametrize("many", [False, True])
@relied_on_by("layers/marker.py: _forward", "layers/marker.py: _abstract_eval", "layers/marker.py: _product")
def test_a_primitive_of_our_own_runs_and_compiles(many):
    """A jax.extend.core.Primitive runs by def_impl, has its shape by def_abstract_eval, which gives a core.ShapedArray for
    each output and may hand its abstract values to `jax.eval_shape`, and compiles by mlir.register_lowering of
    mlir.lower_fun(function, multiple_results=…)."""
    bind, _ = own_primitive(many=many)
    first = (lambda out: out[0]) if many else (lambda out: out)
    x = np.arange(3.0)
    for run in (bind, jax.jit(bind)):
        assert first(run(x, 1.0)).tolist() == [1, 3, 5]
    assert first(jax.eval_shape(bind, x, 1.0)).shape == (3,)
    assert only_equation(bind, x, 1.0).params == {"times": 2}


@relied_on_by("layers/marker.py: _jvp", "layers/marker.py: _moving_only", "layers/marker.py: _product_jvp")
def test_primitive_jvps_holds_the_rule_of_a_primitive():
    """ad.primitive_jvps[primitive](primals, tangents, **params) gives outputs and their tangents; the tangent of an argument
    that does not move is an ad.Zero."""
    from jax.interpreters import ad

    bind, given = own_primitive()
    y, t = jax.jvp(lambda x: bind(x, 1.0), (3.0,), (5.0,))
    assert (float(y), float(t)) == (7, 10)
    assert [isinstance(tangent, ad.Zero) for tangent in given[0]] == [False, True]


@relied_on_by("layers/marker.py: _product_transpose")
def test_primitive_transposes_holds_the_rule_of_a_primitive():
    """ad.primitive_transposes[primitive](cotangent, *operands, **params) gives a cotangent for every operand, None for one
    that is known; the operand to transpose by has an `aval`, and ad.Zero(aval) is its zero."""
    from jax.interpreters import ad

    bind, given = own_primitive()
    assert float(jax.grad(lambda x: bind(x, 1.0))(3.0)) == 2
    cotangent, x, y = given[-1]
    assert (float(cotangent), x.aval.shape, y.shape) == (1, (), ())
    assert isinstance(ad.Zero(x.aval), ad.Zero) and ad.Zero(x.aval).aval.shape == ()


@relied_on_by("layers/marker.py: _batch", "layers/marker.py: _product_batch")
def test_primitive_batchers_holds_the_rule_of_a_primitive():
    """batching.primitive_batchers[primitive](arrays, axes, **params) gives outputs and their axes; the axis of an operand
    that is not mapped is None."""
    bind, given = own_primitive()
    y = jax.vmap(bind, in_axes=(1, None))(np.ones((3, 2)), 1.0)
    assert (y.shape, given) == ((2, 3), [(1, None)])
    bind, _ = own_primitive(many=True)
    assert jax.vmap(bind, in_axes=(1, None))(np.ones((3, 2)), 1.0)[0].shape == (2, 3)


@relied_on_by("layers/marker.py: with_rules", "layers/marker.py: bind")
def test_a_user_context_is_part_of_what_jit_compiles_for():
    """`jax.make_user_context(default)` has a `value`, is set by calling it in a `with` statement, and `jax.jit` compiles
    again where it differs."""
    context, seen = jax.make_user_context(False), []
    run = jax.jit(lambda x: seen.append(context.value) or x)
    run(1.0)
    with context(True):
        run(1.0)
    run(1.0)
    assert (seen, context.value) == ([False, True], False)


# Primitives of JAX: their names and parameters.


@dataclasses.dataclass
class Made:
    """A program that makes a primitive, and what its parameters then are: at least these, or exactly these."""

    program: Callable
    args: tuple
    params: dict = dataclasses.field(default_factory=dict)
    exactly: bool = False
    since: tuple[int, int] = (0, 10)


A = np.full((3, 4), 0.5, np.float32)
ROW = np.ones(4, np.float32)
CUBE = np.ones((2, 3, 4), np.float32)
WINDOW = {
    "window_dimensions": (1, 2), "window_strides": (1, 2), "padding": ((0, 0), (0, 0)), "base_dilation": (1, 1),
    "window_dilation": (1, 1),
}  # fmt: skip


def elementwise(name, count=1):
    return Made(getattr(lax, name), (A,) * count)


def window(init, op):
    return Made(lambda x: lax.reduce_window(x, init, op, (1, 2), (1, 2), "VALID"), (A,), WINDOW, exactly=True)


def cumulative(name):
    return Made(lambda x: getattr(lax, name)(x, 1), (A,), {"axis": 1})


PRIMITIVES = {
    **{name: elementwise(name) for name in (
        "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "cos", "cosh",
        "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "is_finite", "lgamma", "log", "log1p",
        "logistic", "neg", "optimization_barrier", "round", "rsqrt", "sign", "sin", "sinh", "sqrt", "square",
        "stop_gradient", "tan", "tanh",
    )},
    **{name: elementwise(name, 2) for name in (
        "add", "atan2", "div", "igamma", "igammac", "max", "min", "mul", "nextafter", "polygamma", "pow", "rem", "sub",
        "zeta",
    )},
    "add_any": Made(jax.grad(lambda x: jnp.sum(lax.sin(x) * lax.cos(x))), (A,)),
    "betainc": elementwise("betainc", 3),
    "broadcast_in_dim": Made(lambda x: lax.broadcast_in_dim(x, (2, 4), (1,)), (ROW,), {"broadcast_dimensions": (1,)}),
    "clamp": elementwise("clamp", 3),
    "concatenate": Made(lambda x, y: lax.concatenate([x, y], 1), (A, A), {"dimension": 1}, exactly=True),
    "conv_general_dilated": Made(
        lambda x, w: lax.conv_general_dilated(
            x, w, (2,), [(1, 0)], (1,), (3,), ("NWC", "OIW", "NCW"), feature_group_count=2),
        (np.ones((2, 9, 4), np.float32), np.ones((6, 2, 2), np.float32)),
        {"window_strides": (2,), "padding": ((1, 0),), "lhs_dilation": (1,), "rhs_dilation": (3,),
         "dimension_numbers": ((0, 2, 1), (0, 1, 2), (0, 1, 2)), "feature_group_count": 2, "batch_group_count": 1},
    ),
    "convert_element_type": Made(lambda x: lax.convert_element_type(x, np.float16), (A,)),
    "copy": Made(jnp.copy, (A,)),
    "cumlogsumexp": cumulative("cumlogsumexp"),
    "cummax": cumulative("cummax"),
    "cummin": cumulative("cummin"),
    "cumprod": cumulative("cumprod"),
    "cumsum": cumulative("cumsum"),
    "dot_general": Made(
        lambda x, y: lax.dot_general(x, y, (((2,), (1,)), ((0,), (0,)))), (CUBE, CUBE.transpose(0, 2, 1)),
        {"dimension_numbers": (((2,), (1,)), ((0,), (0,)))},
    ),
    "dynamic_slice": Made(lambda x, i: lax.dynamic_slice(x, (i, 0), (2, 4)), (A, 1), {"slice_sizes": (2, 4)}),
    "gather": Made(
        lambda x, i: jnp.take_along_axis(x, i, 1, mode="clip"), (A, np.zeros((3, 1), np.int32)),
        {"dimension_numbers": lax.GatherDimensionNumbers(
            offset_dims=(), collapsed_slice_dims=(1,), start_index_map=(1,), operand_batching_dims=(0,),
            start_indices_batching_dims=(0,)),
         "slice_sizes": (1, 1), "mode": lax.GatherScatterMode.CLIP},
    ),
    "integer_pow": Made(lambda x: lax.integer_pow(x, 3), (A,)),
    "log2": Made(jnp.log2, (A,), since=(0, 12)),
    "name": Made(lambda x: checkpoint_name(x, "hidden"), (A,)),
    "one_minus_square": Made(jax.grad(lambda x: lax.tanh(x).sum()), (A,), since=(0, 12)),
    "pad": Made(lambda x: lax.pad(x, np.float32(0), ((1, 2, 3),)), (ROW,), {"padding_config": ((1, 2, 3),)}, exactly=True),
    "psum": Made(
        jax.vmap(lambda x: lax.psum(x, "b"), axis_name="b"), (A,), {"axes": (0,), "axis_index_groups": None}),
    "real": Made(lax.real, (A.astype(np.complex64),)),
    "reduce_max": Made(lambda x: x.max(1), (A,), {"axes": (1,)}),
    "reduce_min": Made(lambda x: x.min(1), (A,), {"axes": (1,)}),
    "reduce_precision": Made(lambda x: lax.reduce_precision(x, 8, 7), (A,)),
    "reduce_prod": Made(lambda x: x.prod(1), (A,), {"axes": (1,)}),
    "reduce_sum": Made(lambda x: x.sum(1), (A,), {"axes": (1,)}),
    "reduce_window_max": window(-np.inf, lax.max),
    "reduce_window_min": window(np.inf, lax.min),
    "reduce_window_sum": window(0.0, lax.add),
    "reshape": Made(lambda x: lax.reshape(x, (2, 6), (1, 0)), (A,), {"dimensions": (1, 0)}),
    "rev": Made(lambda x: lax.rev(x, (1,)), (A,), {"dimensions": (1,)}, exactly=True),
    "select_n": Made(lax.select_n, (A > 0, A, A)),
    "slice": Made(
        lambda x: lax.slice(x, (1, 0), (3, 4), (1, 2)), (A,), {"start_indices": (1, 0), "strides": (1, 2)}),
    "sort": Made(lambda x: lax.sort(x, dimension=0), (A,), {"dimension": 0}),
    "split": Made(lambda x: lax.split(x, (1, 3), 1), (A,), {"sizes": (1, 3), "axis": 1}, exactly=True),
    "squeeze": Made(lambda x: lax.squeeze(x, (0,)), (A[:1],)),
    "stack": Made(lambda x, y: jnp.stack([x, y], 1), (A, A), {"axis": 1}, exactly=True),
    "tile": Made(lambda x: jnp.tile(x, (2, 3)), (A,), {"reps": (2, 3)}, exactly=True),
    "transpose": Made(lambda x: lax.transpose(x, (1, 0)), (A,), {"permutation": (1, 0)}, exactly=True),
    "unstack": Made(lambda x: jnp.unstack(x, axis=1), (A,), {"axis": 1}, exactly=True),
}  # fmt: skip
PRIMITIVES["regularized_incomplete_beta"] = PRIMITIVES.pop("betainc")
VERSION = tuple(int(part) for part in jax.__version__.split(".")[:2])


PRESENT = {name: ", ".join(made.params) or "none" for name, made in PRIMITIVES.items() if made.since <= VERSION}


@pytest.mark.parametrize(("name", "parameters"), PRESENT.items(), ids=PRESENT)
@relied_on_by("autodiff/primitives.py: rules_for")
def test_names_and_parameters_of_primitives(name, parameters):
    """JAX has a primitive {name}, and these of its parameters are read as the table PRIMITIVES shows them: {parameters}."""
    made = PRIMITIVES[name]
    found = [e for e in inner_equations(traced(made.program, *made.args)) if e.primitive.name == name]
    assert found, "no primitive of this name"
    params = found[0].params
    assert {key: params[key] for key in made.params} == made.params
    assert not made.exactly or set(params) == set(made.params)


@relied_on_by("autodiff/opaque.py: _solver_operands")
def test_a_linear_solve_tells_what_its_operands_are_for():
    """The parameter `const_lengths` of the primitive custom_linear_solve counts the operands of `matvec`, `vecmat`, `solve`
    and `transpose_solve`, in this order before those of the right-hand side."""

    def solve(a, s, b):
        return lax.custom_linear_solve(lambda x: a * x, b, lambda _, y: y / s, lambda _, y: y / s / s)

    equation = only_equation(solve, 2.0, 3.0, 4.0)
    assert equation.primitive.name == "custom_linear_solve"
    lengths = equation.params["const_lengths"]
    assert (lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve) == (1, 1, 1, 1)
    a, also_a, s, also_s, b = equation.invars
    assert (a, s) == (also_a, also_s) and len({a, s, b}) == 3


@relied_on_by("autodiff/primitives.py: _elementwise_rule", "autodiff/opaque.py: BoundPrimitive")
def test_a_primitive_binds_with_its_parameters_to_what_it_gave():
    """primitive.bind(*operands, **params) runs a primitive again, gives a list where `multiple_results`, and JAX
    differentiates it."""
    power, split = (only_equation(PRIMITIVES[name].program, A) for name in ("integer_pow", "split"))
    assert (power.primitive.multiple_results, split.primitive.multiple_results) == (False, True)
    _, slope = jax.jvp(lambda x: power.primitive.bind(x, **power.params), (2.0,), (1.0,))
    assert slope == 12
    assert [part.shape for part in split.primitive.bind(A, **split.params)] == [(3, 1), (3, 3)]


# Nothing else is relied on: our source, read.

SEMI_PUBLIC = ("jax.core", "jax.extend", "jax.interpreters", "jax._src", "jax.custom_derivatives")
FILES = ("layers/marker.py", "autodiff/graph.py")  # where they may be touched; isinstance(x, jax.core.Tracer) is for all


def modules():
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def dotted(node) -> str:
    """`a.b.c` of an expression, "" for others."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return node.id if isinstance(node, ast.Name) else ""


def touches(tree) -> set[str]:
    """The names of semi-public modules of JAX, and of what is in them, that a file imports or uses."""
    aliases, found = {"jax": "jax"}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "jax":
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names = {alias.asname: alias.name for alias in node.names if alias.asname}
            aliases |= names
            found |= {alias.name for alias in node.names}
    found |= set(aliases.values())
    for node in ast.walk(tree):
        head, _, rest = dotted(node).partition(".")
        if rest and head in aliases:
            found.add(f"{aliases[head]}.{rest}")
    inside = {name for name in found if name.startswith(tuple(f"{module}." for module in SEMI_PUBLIC))}
    return inside | (found & set(SEMI_PUBLIC))


def words(tree) -> set[str]:
    """Every name, attribute, argument and text in a file."""
    found = set()
    for node in ast.walk(tree):
        found |= {getattr(node, field) for field in ("attr", "id", "arg", "name", "module") if hasattr(node, field)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


@functools.cache
def here() -> set[str]:
    """The words of the contracts in this file: of all that stands above the tests of our source."""
    text = Path(__file__).read_text()
    return words(ast.parse(text[: text.index("\nSEMI_PUBLIC")]))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_semi_public_modules_of_jax_are_touched_in_two_files(path):
    found = touches(parsed(path))
    assert not found - {"jax.core", "jax.core.Tracer"} or str(path.relative_to(PACKAGE)) in FILES


def test_a_touch_is_found_however_it_is_written():
    for line in (
        "from jax import core", "import jax.extend", "import jax.interpreters.ad as ad", "from jax._src import config",
        "import jax\njax.extend.core.Primitive", "from jax import interpreters as i\ni.ad.Zero",
        "def f():\n    from jax.custom_derivatives import SymbolicZero",
    ):  # fmt: skip
        assert touches(ast.parse(line)) - {"jax.core.Tracer"}, line
    assert touches(ast.parse("import jax\nisinstance(x, jax.core.Tracer)")) == {"jax.core", "jax.core.Tracer"}
    assert not touches(ast.parse("import jax\nfrom jax import lax\njax.jit, lax.scan, x.core"))


@pytest.mark.parametrize("file", FILES)
def test_what_is_taken_from_semi_public_modules_has_a_contract(file):
    taken = {name.rpartition(".")[2] for name in touches(parsed(PACKAGE / file))}
    assert taken >= {"core", "SymbolicZero"}
    assert not taken - here()


@functools.cache
def ours() -> set[str]:
    """The names of our functions, classes and fields, `jaxpr` left out: `_JaxprFunction` has one, and JAX's are meant."""
    found = set()
    for node in (node for path in modules() for node in ast.walk(parsed(path))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            found.add(getattr(node.target, "id", getattr(node.target, "attr", "")))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted(node).startswith("self."):
            found.add(node.attr)
    return found - {"jaxpr"}


def handed(tree, body) -> set[str]:
    """The attributes and keys that a part of a file reads of values that neither we nor Python nor an array brought."""
    statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {alias.asname or alias.name.split(".")[0] for node in statements for alias in node.names}
    imported -= {"core", "ad", "batching", "mlir"}
    plain = {name for kind in (jax.Array, list, dict, set, str, np.dtype) for name in dir(kind)}
    plain |= {"f_back", "f_code", "f_lineno", "co_filename"}  # Python's frames
    read = set()
    for node in ast.walk(body):
        if isinstance(node, ast.Attribute) and dotted(node).split(".")[0] not in imported:
            read.add(node.attr)
        elif isinstance(node, ast.Call) and dotted(node.func) in ("hasattr", "getattr", "params.get"):
            read |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            read |= {node.slice.value} - {"pull", "tree", "maps"}  # parameters of product_p, ours
    return read - ours() - plain


RULE_FILES = (
    "autodiff/opaque.py",
    *(f"autodiff/{path.name}" for path in sorted((PACKAGE / "autodiff").glob("primitive*.py"))),
)


@pytest.mark.parametrize("files", [*((file,) for file in FILES), RULE_FILES], ids=lambda files: files[0])
def test_what_is_read_of_what_jax_hands_us_has_a_contract(files):
    trees = [parsed(PACKAGE / file) for file in files]
    read = set().union(*(handed(tree, tree) for tree in trees))
    assert len(read) > 5
    assert not read - here()


def test_what_is_read_of_a_traced_function_has_a_contract():
    readers = [
        (path, node) for path in modules() for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef) and "make_jaxpr" in words(node)
    ]  # fmt: skip
    assert {node.name for _, node in readers} >= {"_opaque_outputs", "_affine"}
    for path, node in readers:
        assert not handed(parsed(path), node) - here(), f"{path}: {node.name}"


@pytest.mark.parametrize("file", FILES)
def test_overridden_methods_have_a_contract_with_their_arguments(file):
    from jax import core

    for node in ast.walk(parsed(PACKAGE / file)):
        bases = [dotted(base) for base in getattr(node, "bases", ())]
        if not any(base.startswith("core.") for base in bases):
            continue
        (base,) = (getattr(core, name.removeprefix("core.")) for name in bases)
        methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
        overridden = [m for m in methods if hasattr(base, m.name) or m.name.startswith("process_")]
        assert overridden
        for method in overridden:
            assert {method.name, *(arg.arg for arg in method.args.kwonlyargs)} <= here(), method.name


def test_every_primitive_with_a_rule_has_a_contract():
    from jaxnets.autodiff import graph, primitives

    by_name = {
        *primitives.RULES,
        *primitives.ELEMENTWISE,
        *primitives.WITHOUT_DERIVATIVE,
        *primitives.LIKE_IDENTITY,
        *primitives.UNMIXED_AXES,
    }
    assert by_name == set(PRIMITIVES)
    assert graph.INLINED | set(primitives.INERT_OPERANDS) <= here()


def test_every_parameter_that_a_rule_takes_has_a_contract():
    from jaxnets.autodiff import primitives

    for name, rule in primitives.RULES.items():
        parameters = inspect.signature(rule).parameters.values()
        named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        rest = any(p.kind is p.VAR_KEYWORD for p in parameters)
        made = PRIMITIVES[name]
        sharing = {key for other, same in primitives.RULES.items() if same is rule for key in PRIMITIVES[other].params}
        assert {p.name for p in named if p.default is p.empty} <= set(made.params), name
        assert {p.name for p in named} <= sharing, name
        assert rest or made.exactly, f"the rule of {name} takes no other parameters, and its contract does not say so"


def test_every_parameter_that_tells_shared_axes_has_a_contract():
    from jaxnets.autodiff import primitives

    class Noted(dict):
        def __getitem__(self, key):
            read.add(key)
            return super().__getitem__(key)

    for name, shared in primitives.UNMIXED_AXES.items():
        read: set[str] = set()
        made = PRIMITIVES[name]
        (equation,) = (e for e in inner_equations(traced(made.program, *made.args)) if e.primitive.name == name)
        shared(0, equation.invars[0].aval, equation.outvars[0].aval, Noted(equation.params))
        assert read <= set(made.params), name
        assert read or made.exactly, name


def test_the_places_that_contracts_name_exist():
    def is_named(node, name):
        return getattr(node, "name", None) == name or name in {getattr(t, "id", None) for t in getattr(node, "targets", ())}

    def exists(place):
        file, _, dotted_name = place.partition(": ")
        body = parsed(PACKAGE / file).body
        for name in dotted_name.split("."):
            found = [node for node in body if is_named(node, name)]
            if not found:
                return False
            body = getattr(found[0], "body", [])
        return True

    assert len(CONTRACTS) > 25
    assert not [place for place in sorted({p for contract in CONTRACTS for p in contract.places}) if not exists(place)]
