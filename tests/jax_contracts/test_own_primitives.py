"""Contracts on primitives of our own, the rules that JAX takes for them, and what `jax.jit` compiles again for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .contracts import only_equation, relied_on_by


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
        return jax.tree.map(lambda s: core.ShapedArray(s.shape, s.dtype, sharding=s.sharding), shapes)

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
