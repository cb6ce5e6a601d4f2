"""How `jax.shard_map` is followed: what every device computes is one program, mapped over one more axis for each mesh axis.

An array that is split along a mesh axis is a stack of its parts, `x[d, a]`, which lie where they lay.  What devices send
each other then has a rule as any other primitive: `psum` is a sum over d, `all_gather` lays d beside another axis,
`ppermute` picks along d, and `axis_index` is d itself.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec, get_abstract_mesh

from ..algebra.sharding import explicit_mesh, laid_out, names_of, parts
from ..checks import is_floating
from .jaxprs import body_and_constants, is_variable, jaxprs_in_params, with_replaced

SUMS = {"psum", "psum_invariant", "pmax", "pmin"}
GATHERS = {"all_gather", "all_gather_invariant"}
ALONG_ONE_AXIS = {*GATHERS, "ppermute", "reduce_scatter", "all_to_all", "axis_index"}
JOINING = {"select_n", "clamp", "concatenate", "dynamic_update_slice"}  # operands of one kind
CALLS = {"jit", "remat2", "closed_call"}


def why_not_followed(jaxpr) -> str:
    """Why a jaxpr that calls `shard_map` cannot be run as one program; "" if it can."""
    maps = (equation for equation in jaxpr.eqns if equation.primitive.name == "shard_map")
    return next(filter(None, (_why_not(equation.params["jaxpr"]) for equation in maps)), "")


def mapped_over_devices(jaxpr, operands) -> list:
    """The outputs of a jaxpr that calls `shard_map`, run as one program; the operands begin with its constants."""
    count = len(jaxpr.constvars)
    return _evaluated(jaxpr, operands[:count], {}, *operands[count:])


def _mapped(params, operands) -> list:
    """The results of a `shard_map` with these parameters."""
    mesh, jaxpr, specs = params["mesh"], params["jaxpr"], params["in_specs"]
    names = [name for name in mesh.axis_names if name in params["newly_manual_axes"]]
    differing = [set(v.aval.mat.varying) for v in jaxpr.outvars]
    if not params["check_vma"]:
        differing = _varying(jaxpr, list(map(_spread_over, specs)))
    kept = [own | _spread_over(spec) for own, spec in zip(differing, params["out_specs"], strict=True)]
    call = functools.partial(_evaluated, jaxpr, (), _rules(jaxpr, params))
    for name in reversed(names):
        axes = [0 if name in _spread_over(spec) else None for spec in specs]
        out = [0 if name in own else None for own in kept]
        call = jax.vmap(call, axes, out, axis_size=mesh.shape[name], axis_name=name, spmd_axis_name=name)
    found = call(*(_split(x, spec, mesh) for x, spec in zip(operands, specs, strict=True)))
    rows = zip(found, jaxpr.outvars, kept, params["out_specs"], strict=True)
    return [_joined(y, [n for n in names if n in own], v.aval.shape, spec, mesh) for y, v, own, spec in rows]


def _spread_over(spec) -> set[str]:
    """The mesh axes that an array is spread over."""
    return {name for entry in spec for name in names_of(entry)}


def _split(x, spec, mesh):
    """The array with an axis for every mesh axis that it is spread over, in the mesh's order, before those of a part."""
    entries = [names_of(entry) for entry in (*spec, *[None] * (x.ndim - len(spec)))]
    shape: list[int] = []
    layout: list[str | None] = []
    places: dict[str, int] = {}
    for size, names in zip(x.shape, entries, strict=True):
        for name in names:
            places[name] = len(shape)
            shape.append(mesh.shape[name])
            layout.append(name)
        shape.append(size // parts(mesh, names))
        layout.append(None)
    if not places:
        return x
    first = [places[name] for name in mesh.axis_names if name in places]
    x = laid_out(x, shape, layout, mesh)
    return x.transpose([*first, *(a for a in range(x.ndim) if a not in first)])


def _joined(y, names, shape, spec, mesh):
    """The array of which `_split` gives y, whose first axes are those of these names; `shape` is that of a part."""
    kept = _spread_over(spec)
    y = y[tuple(slice(None) if name in kept else 0 for name in names)]  # what all devices have is taken from the first
    first = [name for name in names if name in kept]
    order, whole = [], []
    for a, size in enumerate(shape):
        own = names_of(spec[a]) if a < len(spec) else ()
        order += [*(first.index(name) for name in own), len(first) + a]
        whole.append(size * parts(mesh, own))
    return laid_out(y.transpose(order), whole, spec, mesh)


def _why_not(jaxpr) -> str:
    """What of a jaxpr cannot be mapped over an axis in place of devices; "" if all can."""
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        along = params.get("axis_name", ())
        along = along if isinstance(along, (tuple, list)) else (along,)
        if name == "shard_map":
            return "a shard_map inside of it"
        if name == "custom_vjp_call":
            return "a custom_vjp inside of it"
        if params.get("axis_index_groups") is not None:
            return f"{name} of groups of devices"
        if name in ALONG_ONE_AXIS and len(along) != 1:
            return f"{name} along several mesh axes"
        if along and name not in ALONG_ONE_AXIS and name not in SUMS:
            return name
        if name == "ppermute" and len(params["perm"]) != len({source for source, _ in params["perm"]}):
            return name
        for inner in jaxprs_in_params(params):
            if reason := _why_not(body_and_constants(inner)[0]):
                return reason
    return ""


def _varying(jaxpr, operands: list[set[str]]) -> list[set[str]]:
    """Along which mesh axes every output may differ, from those of the operands."""
    known = dict(zip(jaxpr.invars, operands, strict=True))

    def of(v) -> set[str]:
        return known.get(v, set()) if is_variable(v) else set()

    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        given = [of(v) for v in equation.invars]
        inner = [body_and_constants(j)[0] for j in jaxprs_in_params(params)]
        if name in CALLS and len(inner) == 1:
            results = _varying(inner[0], given)
        else:
            every = set().union(*given, *map(_own_indices, inner))
            if name == "axis_index":
                every = set(names_of(params["axis_name"]))
            elif name in SUMS:
                every -= set(params["axes"])
            elif name in GATHERS:
                every -= set(names_of(params["axis_name"]))
            elif name in ("all_to_all", "reduce_scatter"):
                every |= set(names_of(params["axis_name"]))
            results = [every] * len(equation.outvars)
        known.update(zip(equation.outvars, results, strict=True))
    return [of(v) for v in jaxpr.outvars]


def _own_indices(jaxpr) -> set[str]:
    """The mesh axes along which what a jaxpr computes may differ where its operands do not."""
    found: set[str] = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("axis_index", "all_to_all", "reduce_scatter"):
            found |= set(names_of(equation.params["axis_name"]))
        for inner in jaxprs_in_params(equation.params):
            found |= _own_indices(body_and_constants(inner)[0])
    return found


def _evaluated(jaxpr, consts, rules, *operands) -> list:
    """The outputs of a jaxpr of a device, outside of `shard_map`.

    There types do not say along which mesh axes arrays differ, so what only changes such types is left out.
    """
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*map(_untyped, consts), *operands], strict=True))

    def value(v):
        return known[v] if is_variable(v) else np.asarray(v.val, v.aval.dtype)

    for equation in jaxpr.eqns:
        results = _results(equation, rules, list(map(value, equation.invars)))
        known.update(zip(equation.outvars, results, strict=True))
    return list(map(value, jaxpr.outvars))


def _untyped(constant):
    """A constant whose type is not that of an array inside of `shard_map`."""
    traced = isinstance(constant, jax.core.Tracer)
    return constant if traced or jnp.issubdtype(constant.dtype, jax.dtypes.extended) else np.asarray(constant)


def _results(equation, rules, values) -> list:
    primitive, params = equation.primitive, equation.params
    name = primitive.name
    inner = [body_and_constants(j) for j in jaxprs_in_params(params)]
    if name in ("pvary", "pcast"):
        return values
    if name == "shard_map":
        return _mapped(params, values)
    if name == "custom_jvp_call":
        return _with_own_derivative(equation, rules, values)
    if name in ("psum", "psum_invariant") and all(isinstance(axis, str) for axis in params["axes"]):
        return [functools.reduce(_summed_over, params["axes"], values[0])]
    if name in GATHERS:
        return [lax.all_gather(values[0], params["axis_name"], axis=params["all_gather_dimension"], tiled=params["tiled"])]
    if name in CALLS and len(inner) == 1:
        return _evaluated(*inner[0], rules, *values)
    if name in JOINING and explicit_mesh(*values):
        values = _all_mapped(values)
    params = {key: _outside(value, rules) for key, value in params.items()}
    out = primitive.bind(*values, **primitive.get_bind_params(params))
    return list(out) if primitive.multiple_results else [out]


def _summed_over(x, name):
    """`lax.psum(x, name)`, of which a type of jax 0.12 is wrong on a mesh with explicit axes."""
    return jnp.sum(lax.all_gather(x, name), 0, dtype=x.dtype)


def _all_mapped(values) -> list:
    """The values, each mapped over the axes that any is mapped over: JAX does not lay a repeated one as the others lie."""
    never = [lax.reduce_or(lax.ne(x, x) & False, range(np.ndim(x))) for x in values]
    zero = functools.reduce(lax.bitwise_or, never)
    return [x | zero if x.dtype == bool else x + lax.convert_element_type(zero, x.dtype) for x in values]


def _with_own_derivative(equation, rules, values) -> list:
    """The results of a `custom_jvp_call`, with the author's rule."""
    body, consts = body_and_constants(equation.params["call_jaxpr"])
    call = jax.custom_jvp(lambda *xs: _evaluated(body, consts, rules, *xs))

    def rule(primals, tangents):
        moving = [t for t in tangents if t.dtype != jax.dtypes.float0]
        found = rules[id(equation)](rules, [*primals, *moving])
        outputs, moved = found[: len(body.outvars)], iter(found[len(body.outvars) :])
        return outputs, [next(moved) if is_floating(y) else np.zeros(y.shape, jax.dtypes.float0) for y in outputs]

    call.defjvp(rule)
    return call(*values)


def _rules(jaxpr, params) -> dict[int, Callable]:
    """The rules of every `custom_jvp_call` in the jaxpr of a `shard_map`, as they are on one device.

    What a device computes is read inside of a `shard_map`, since its types are those of arrays there.
    """
    found: dict[int, Callable] = {}
    for equation in jaxpr.eqns:
        if equation.primitive.name == "custom_jvp_call":
            found[id(equation)] = _rule(equation, params)
        for inner in jaxprs_in_params(equation.params):
            found |= _rules(body_and_constants(inner)[0], params)
    return found


def _rule(equation, params) -> Callable:
    mesh, manual, typed = params["mesh"], tuple(params["newly_manual_axes"]), params["check_vma"]
    avals = [v.aval for v in equation.invars]
    moving = [i for i, aval in enumerate(avals) if jnp.issubdtype(aval.dtype, jnp.inexact)]
    bound = functools.partial(equation.primitive.bind, **equation.primitive.get_bind_params(equation.params))
    operands = [*avals, *(avals[i] for i in moving)]

    def tangents(*arrays):
        pairs = zip(arrays, operands, strict=True)
        own = [lax.pcast(x, tuple(aval.mat.varying), to="varying") if typed else x for x, aval in pairs]
        primals, directions = own[: len(avals)], own[len(avals) :]

        def call(*some):
            outputs = bound(*with_replaced(primals, moving, some))
            return [y for y in outputs if is_floating(y)], outputs

        _, moved, outputs = jax.jvp(call, [primals[i] for i in moving], directions, has_aux=True)
        return [y if y.ndim else y[None] for y in (*outputs, *moved)]

    mapped = jax.shard_map(
        tangents,
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(manual),
        axis_names=set(manual),
        check_vma=typed,
    )
    (made,) = jax.make_jaxpr(mapped)(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands)).eqns
    ranks = [v.aval.ndim for v in equation.outvars]
    ranks += [v.aval.ndim for v in equation.outvars if jnp.issubdtype(v.aval.dtype, jnp.inexact)]

    def run(rules, values):
        found = _evaluated(made.params["jaxpr"], (), rules, *values)
        return [y if rank else y[0] for y, rank in zip(found, ranks, strict=True)]

    return run


def _outside(parameter, rules):
    """A parameter of an equation, in which jaxprs have no types of devices."""
    if type(parameter) in (tuple, list):
        return type(parameter)(_outside(p, rules) for p in parameter)
    if isinstance(parameter, NamedSharding):
        return NamedSharding(get_abstract_mesh(), parameter.spec) if _spread_over(parameter.spec) else None
    if not hasattr(parameter, "eqns"):
        return parameter
    jaxpr, consts = body_and_constants(parameter)
    closed = jax.make_jaxpr(functools.partial(_evaluated, jaxpr, consts, rules))(*(_whole(v.aval) for v in jaxpr.invars))
    return closed if hasattr(parameter, "consts") else closed.jaxpr


def _whole(aval):
    """What stands for an array that no device has a part of."""
    mesh = get_abstract_mesh()
    sharding = None if mesh.empty else NamedSharding(mesh, PartitionSpec(*[None] * aval.ndim))
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type, sharding=sharding)
