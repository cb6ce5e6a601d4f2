"""The two JAX primitives behind layers.  Only this file and graph.py use what is half public of JAX.

`layer_p` marks a layer.  All of its rules for JAX run the forward function, so JAX's transformations see through it, and
`jax.grad` of a layer is autodiff's own answer.  The graph reader sees the layer and uses its hand-written rule.
`product_p` is the product of a Jacobian with an array.  JAX differentiates, transposes and batches it into products with
the same Jacobian.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import core
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..algebra.sharding import spread_as
from ..checks import checked

layer_p = Primitive("layer")
layer_p.multiple_results = True


def with_absent_arguments(arrays, present) -> list:
    """The arguments with None where one was not given."""
    arrays = iter(arrays)
    return [next(arrays) if there else None for there in present]


def _forward(*arrays, layer, present, config):
    with layer.promotion():
        out = layer.forward(*with_absent_arguments(arrays, present), **dict(config))
    return list(out) if layer.many_outputs else [out]


def _abstract_eval(run, *avals, **params):
    shapes = jax.eval_shape(functools.partial(run, **params), *avals)
    return jax.tree.map(_type, shapes)


def _type(shape):
    """The type of an array of this shape; inside of `jax.shard_map` it says along which mesh axes the array differs."""
    made = core.ShapedArray(shape.shape, shape.dtype, sharding=shape.sharding)
    return made if shape.manual_axis_type is None else made.update(manual_axis_type=shape.manual_axis_type)


def _moving_only(run, primals, tangents):
    """`run` as a function of the arguments that have a tangent, these arguments, and their tangents."""
    moving = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]

    def some(*changed):
        arrays = list(primals)
        for i, x in zip(moving, changed, strict=True):
            arrays[i] = x
        return run(*arrays)

    return some, [primals[i] for i in moving], [tangents[i] for i in moving]


def _jvp(primals, tangents, **params):
    return jax.jvp(*_moving_only(functools.partial(_forward, **params), primals, tangents))


def _batch(arrays, axes, **params):
    out = jax.vmap(functools.partial(_forward, **params), in_axes=tuple(axes))(*arrays)
    return out, [0] * len(out)


layer_p.def_impl(_forward)
layer_p.def_abstract_eval(functools.partial(_abstract_eval, _forward))
ad.primitive_jvps[layer_p] = _jvp
batching.primitive_batchers[layer_p] = _batch
mlir.register_lowering(layer_p, mlir.lower_fun(_forward, multiple_results=True))


# In products with a Jacobian `leaves` are the arrays of the Jacobian, and `maps` has the axes of every vmap around it.

product_p = Primitive("jacobian_product")


def product(j, v) -> jax.Array:
    """J @ v, whose transpose is u @ J."""
    leaves, tree = jax.tree.flatten(j)
    return product_p.bind(v, *leaves, tree=tree, pull=False, maps=())


def _product(v, *leaves, tree, pull, maps):
    def apply(v, *leaves):
        j = jax.tree.unflatten(tree, leaves)
        return v @ j if pull else j @ v

    for axes in maps:
        apply = jax.vmap(apply, in_axes=(0, *axes))
    return apply(v, *leaves)


def _product_jvp(primals, tangents, **params):
    v, *leaves = primals
    out = product_p.bind(*primals, **params)
    parts = [] if isinstance(tangents[0], ad.Zero) else [product_p.bind(tangents[0], *leaves, **params)]
    if any(not isinstance(t, ad.Zero) for t in tangents[1:]):
        parts.append(jax.jvp(*_moving_only(functools.partial(_product, v, **params), leaves, tangents[1:]))[1])
    return out, functools.reduce(jnp.add, parts)


def _product_transpose(cotangent, v, *leaves, pull, **params):
    back = cotangent if isinstance(cotangent, ad.Zero) else product_p.bind(cotangent, *leaves, pull=not pull, **params)
    return [ad.Zero(v.aval) if isinstance(back, ad.Zero) else spread_as(back, v.aval), *[None] * len(leaves)]


def _product_batch(args, axes, *, maps, **params):
    v, *leaves = args
    size = next(x.shape[a] for x, a in zip(args, axes, strict=True) if a is not None)
    v = jnp.broadcast_to(v, (size, *v.shape)) if axes[0] is None else jnp.moveaxis(v, axes[0], 0)
    return product_p.bind(v, *leaves, maps=(*maps, tuple(axes[1:])), **params), 0


product_p.def_impl(_product)
product_p.def_abstract_eval(functools.partial(_abstract_eval, _product))
ad.primitive_jvps[product_p] = _product_jvp
ad.primitive_transposes[product_p] = _product_transpose
batching.primitive_batchers[product_p] = _product_batch
mlir.register_lowering(product_p, mlir.lower_fun(_product, multiple_results=False))


_rules_in_jax = jax.make_user_context(False)


@checked
def with_rules(function: Callable) -> Callable:
    """The same function, in which JAX's own transformations use the layers' hand-written Jacobians.

    `jax.grad`, `jacfwd`, `jacrev`, `jvp` and `vjp` of the result are as accurate as `jaxnets.grad`, and as fast as JAX's
    own: a layer becomes a `jax.custom_jvp` whose tangent is J @ v and whose transpose is u @ J.  Layers that are plain sums
    and products, where autodiff loses no accuracy, stay as they are.  Works under `jit` and `vmap`, and with control flow.

    >>> f = jn.with_rules(lambda x: jn.log_softmax(x)[0])
    >>> f"{jax.grad(f)(jnp.array([40.0, 0.0]))[0]:.4g}"
    '4.248e-18'
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with _rules_in_jax(True):
            return function(*args, **kwargs)

    return wrapped


def with_weak_type(x) -> jax.Array:
    """x with a dtype that gives way to that of other arrays, as the dtype of a Python number does."""
    return jax.lax.convert_element_type_p.bind(x, new_dtype=x.dtype, weak_type=True, sharding=None)


def bind(layer, arrays, present, config) -> list:
    """The outputs of a layer."""
    marked = functools.partial(layer_p.bind, layer=layer, present=present, config=config)
    if not _rules_in_jax.value or layer.plain or layer.rule is None:
        return marked(*arrays)
    call = jax.custom_jvp(marked)

    def jvp(primals, tangents):
        primals = [x if isinstance(x, jax.Array) else jnp.asarray(x) for x in primals]
        outputs = call(*primals)
        table = layer.jacobians(outputs, with_absent_arguments(primals, present), dict(config))
        places = [i for i, there in enumerate(present) if there]

        def tangent(y, row):
            parts = [
                product(row[i], t)
                for i, t in zip(places, tangents, strict=True)
                if row[i] is not None and not isinstance(t, SymbolicZero) and t.dtype != jax.dtypes.float0
            ]
            return spread_as(functools.reduce(jnp.add, parts).astype(y.dtype), jax.typeof(y)) if parts else jnp.zeros_like(y)

        return outputs, [tangent(y, row) for y, row in zip(outputs, table, strict=True)]

    call.defjvp(jvp, symbolic_zeros=True)
    return call(*arrays)
