"""Contracts on jaxprs: what they and their equations hold, and how they run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from .contracts import only_equation, relied_on_by, traced, watching, with_custom_jvp, with_custom_vjp


@relied_on_by(
    "autodiff/graph.py: _opaque_outputs", "autodiff/jaxprs.py: jaxpr_evaluator", "autodiff/jaxprs.py: JaxprFunction",
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


@relied_on_by("autodiff/jaxprs.py: one_way_of", "curvature/laplacian.py: _affine", "report/jobs.py: _value_sizes")
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


@relied_on_by("autodiff/jaxprs.py: _parted", "autodiff/jaxprs.py: restricted", "autodiff/jaxprs.py: _replaced")
def test_a_jaxpr_can_be_made_of_parts_of_another():
    """`jaxpr.replace` takes other `constvars`, `invars`, `outvars`, `eqns` and a `debug_info`, whose `_replace` leaves out
    `arg_names` and `result_paths`; an operand that is needed by no equation may be None when it runs; what Literal of
    jax.extend.core names is no variable."""
    from jax import core
    from jax.extend.core import Literal

    jaxpr = traced(lambda a, x: (lax.sin(a), lax.cos(x) + 1.0), 0.5, np.ones(3)).jaxpr
    assert not jaxpr.constvars
    sine, _, sum_ = jaxpr.eqns
    names = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    part = jaxpr.replace(constvars=[], outvars=[sine.outvars[0]] * 2, eqns=[sine], debug_info=names)
    assert core.eval_jaxpr(part, (), jnp.asarray(0.5), None) == [jnp.sin(0.5)] * 2
    assert [isinstance(v, Literal) for v in sum_.invars] == [False, True]


@relied_on_by("autodiff/jaxprs.py: _parted", "autodiff/jaxprs.py: depending_on")
def test_an_equation_tells_its_effects():
    """`equation.effects` is empty for arithmetic, and not for what prints."""
    jaxpr = traced(lambda x: (jax.debug.print("{}", x), lax.sin(x))[1], 1.0).jaxpr
    assert [bool(e.effects) for e in jaxpr.eqns] == [e.primitive.name != "sin" for e in jaxpr.eqns]
    assert len(jaxpr.eqns) == 2


@relied_on_by("autodiff/loop_body.py: _read_body")
def test_a_jaxpr_is_traced_again_from_its_variables():
    """The `aval` of a variable has its shape, dtype and `weak_type`, from which jax.make_jaxpr traces a function; `jaxpr`
    and `consts` of the result run it, and a jaxpr can be held by a weak reference, with which it can be told from others."""
    import weakref

    jaxpr = traced(lambda x: x * 2.0, 1.0).jaxpr
    (variable,) = jaxpr.invars
    assert (variable.aval.shape, variable.aval.weak_type) == ((), True)
    again = jax.make_jaxpr(lambda x: x)(jax.ShapeDtypeStruct((), variable.aval.dtype, weak_type=True))
    assert (again.jaxpr.invars[0].aval.weak_type, again.consts, len(again.jaxpr.outvars)) == (True, [], 1)
    known = weakref.WeakKeyDictionary({jaxpr: 1})
    assert again.jaxpr not in known


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
    "scan": (lambda x: lax.scan(_body, x[0], x, reverse=True), {"jaxpr", "length", "reverse", "unroll"}),
    "while": (lambda x: lax.while_loop(lambda x: x[0] < 3, lambda x: x + lax.sin(x), x), {"cond_jaxpr", "body_jaxpr"}),
    "cond": (lambda x: lax.cond(x[0] > 0, lax.sin, lax.cos, x), {"branches"}),
}


@pytest.mark.parametrize("kind", LOOPS)
@relied_on_by("autodiff/jaxprs.py: one_way_of", "autodiff/opaque.py: BoundPrimitive")
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


@relied_on_by("autodiff/jaxprs.py: one_way_of")
def test_custom_vjp_in_a_jaxpr_is_named_and_holds_its_function():
    """In a jaxpr a `jax.custom_vjp` is an equation of the primitive `custom_vjp_call`, and jaxprs_in_params finds the jaxpr
    of its function."""
    from jax.extend.core import jaxprs_in_params

    equation = only_equation(with_custom_vjp(), 0.5, 3.0)
    assert equation.primitive.name == "custom_vjp_call"
    (inner,) = jaxprs_in_params(equation.params)
    assert [e.primitive.name for e in getattr(inner, "jaxpr", inner).eqns] == ["sin", "mul"]


@pytest.mark.parametrize("kind", ["custom_jvp_call", "custom_vjp_call"])
@relied_on_by("autodiff/graph.py: _GraphTrace.process_primitive", "autodiff/jaxprs.py: JaxprFunction")
def test_a_custom_derivative_in_a_jaxpr_comes_back_when_the_jaxpr_runs(kind):
    """core.eval_jaxpr gives an equation of {kind} to the current trace as the function itself would, with its rules."""
    from jax import core

    values = (0.5,) if kind == "custom_jvp_call" else (0.5, 3.0)
    closed = traced(with_custom_jvp() if kind == "custom_jvp_call" else with_custom_vjp(), *values)
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


@relied_on_by("autodiff/jaxprs.py: one_way_of", "autodiff/jaxprs.py: JaxprFunction")
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


@relied_on_by("autodiff/shard_maps.py: _mapped", "autodiff/shard_maps.py: _rule", "layers/marker.py: _type")
def test_the_equation_of_a_shard_map_says_how_it_is_mapped():
    """The equation of a `jax.shard_map` has the parameters mesh, in_specs, out_specs, newly_manual_axes, check_vma, jaxpr;
    types in that jaxpr have mat.varying, the mesh axes along which an array differs, `jax.eval_shape` hands that on as
    manual_axis_type, and `psum` is `psum_invariant` with the parameter axes there."""
    seen = []

    def summed(x):
        seen.append(jax.eval_shape(lambda x: 2 * x, jax.typeof(x)).manual_axis_type)
        return lax.psum(x, "d") + x

    (equation,) = traced(_sharded(summed), np.ones(4)).eqns
    params = equation.params
    assert (dict(params["mesh"].shape), params["newly_manual_axes"], params["check_vma"]) == ({"d": 1}, {"d"}, True)
    assert [tuple(spec) for spec in (*params["in_specs"], *params["out_specs"])] == [("d",), ("d",)]
    inner = params["jaxpr"]
    total = next(e for e in inner.eqns if e.primitive.name == "psum_invariant")
    assert (total.params["axes"], set(total.outvars[0].aval.mat.varying)) == (("d",), set())
    assert set(inner.outvars[0].aval.mat.varying) == set(seen[0].varying) == {"d"}


@relied_on_by("algebra/sizes.py: known_size")
def test_a_symbolic_size_has_a_value_for_values_of_its_symbols():
    """`size._get_vars()` of a size that `jax.export.symbolic_shape` made are its symbols, and `size._evaluate(values)` is
    its value."""
    b, c = jax.export.symbolic_shape("b, c")
    size = 3 * b + c
    assert set(size._get_vars()) == {"b", "c"}
    assert size._evaluate({"b": 2, "c": 5}) == 11


@relied_on_by("algebra/sharding.py: explicit_mesh", "layers/marker.py: _abstract_eval")
def test_types_say_how_arrays_are_spread():
    """`jax.typeof(x).sharding` of an array on a mesh with explicit axes is a NamedSharding with that mesh, inside `jax.jit`,
    too, and `jax.eval_shape` hands it on."""
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Explicit,))
    x = jax.device_put(np.ones((2, 3)), NamedSharding(mesh, PartitionSpec(None, "d")))
    seen = []
    jax.jit(lambda x: seen.append(jax.typeof(x).sharding))(x)
    for sharding in (jax.typeof(x).sharding, seen[0], jax.eval_shape(lambda x: 2 * x, x).sharding):
        assert isinstance(sharding, NamedSharding)
        assert sharding.mesh.axis_types == (AxisType.Explicit,)
        assert sharding.spec == PartitionSpec(None, "d")


def _sharded(function):
    from jax.sharding import AxisType, PartitionSpec

    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return jax.shard_map(function, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"))
