"""Functions that JAX has traced, as programs that can be evaluated, parted and looked into."""

import weakref
from collections.abc import Callable
from typing import Any

import jax
from jax import core
from jax.extend.core import Literal, jaxprs_in_params


def body_and_constants(inner):
    """Of a jaxpr among the parameters of an equation, which may be closed."""
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


class JaxprFunction:
    """A jaxpr as a function of its constants and arguments."""

    def __init__(self, jaxpr, constants: int):
        self.jaxpr, self.constants = jaxpr, constants

    def __call__(self, *operands):
        return evaluated(self.jaxpr, operands[: self.constants], *operands[self.constants :])


def jaxpr_evaluator(closed):
    """A closed jaxpr as a function of trees with its arguments as leaves; it returns the flat outputs."""
    return lambda *args: evaluated(closed.jaxpr, closed.consts, *jax.tree.leaves(args))


_known: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # for every jaxpr, what was found out of it


def once_for(jaxpr, key, find: Callable) -> Any:
    """What `find()` returns, found out once for every key as long as the jaxpr lives; it must not hold the jaxpr."""
    known = _known.setdefault(jaxpr, {})
    if key not in known:
        known[key] = find()
    return known[key]


def parted(closed, operands: int) -> tuple[Any, Any, tuple]:
    """What a function computes from its first operands alone, and the rest of it, as jaxprs; and the constants.

    The first jaxpr takes the constants and these operands, and returns all of them and of what it computes that the second
    one needs.  The second one takes this, then the other operands.
    """
    jaxpr, consts = body_and_constants(closed)
    first, rest = once_for(jaxpr, ("parts", operands), lambda: _parted(jaxpr, operands))
    return first, rest, tuple(consts)


def _parted(jaxpr, operands: int):
    given = [*jaxpr.constvars, *jaxpr.invars[:operands]]
    known, early, late = set(given), [], []
    for equation in jaxpr.eqns:
        used = variables(equation.invars)
        if used and known.issuperset(used) and not equation.effects:
            early.append(equation)
            known.update(equation.outvars)
        else:
            late.append(equation)
    used = [*(v for equation in late for v in equation.invars), *jaxpr.outvars]
    needed = list(dict.fromkeys(v for v in variables(used) if v in known))
    return (
        _replaced(jaxpr, constvars=[], invars=given, outvars=needed, eqns=early),
        _replaced(jaxpr, constvars=[], invars=[*needed, *jaxpr.invars[operands:]], eqns=late),
    )


def restricted(jaxpr, outvars, invars=None):
    """The jaxpr with these outputs, without what they do not need; with `invars` it has these inputs, and no effects."""
    needed, kept = set(variables(outvars)), []
    for equation in reversed(jaxpr.eqns):
        if (equation.effects and invars is None) or needed.intersection(equation.outvars):
            kept.append(equation)
            needed.update(variables(equation.invars))
    invars = jaxpr.invars if invars is None else invars
    return _replaced(jaxpr, invars=list(invars), outvars=list(outvars), eqns=kept[::-1])


def depending_on(jaxpr, operands) -> set:
    """The variables of a jaxpr that depend on these operands, or that have effects."""
    found = set(operands)
    for equation in jaxpr.eqns:
        if equation.effects or not found.isdisjoint(variables(equation.invars)):
            found.update(equation.outvars)
    return found


def depending_inside_on(jaxpr, operands) -> set:
    """The same, where what a call or a loop gives is looked at output by output."""
    found = set(operands)
    for equation in jaxpr.eqns:
        flags = [is_variable(v) and v in found for v in equation.invars]
        inner = equation.params.get("jaxpr")
        if equation.primitive.name in ("jit", "scan") and inner is not None and any(flags) and not equation.effects:
            body, (first, count) = body_and_constants(inner)[0], (0, 0)
            if equation.primitive.name == "scan":
                first, count = scan_counts(equation.params)
            moving = _outputs_depending_on(body, flags, first, count)
            found.update(v for v, flag in zip(equation.outvars, moving, strict=True) if flag)
        elif equation.effects or any(flags):
            found.update(equation.outvars)
    return found


def _outputs_depending_on(body, flags: list[bool], first: int, count: int) -> list[bool]:
    """Which outputs of a body depend on the flagged operands, of which so many from the first on are a carry."""
    while True:
        found = depending_inside_on(body, [v for v, flag in zip(body.invars, flags, strict=True) if flag])
        moving = [is_variable(v) and v in found for v in body.outvars]
        later = [*flags[:first], *map(max, flags[first:], moving[:count]), *flags[first + count :]]
        if later == flags:
            return moving
        flags = later


def scan_counts(params) -> tuple[int, int]:
    """How many of the operands of a scan are constants, and how many are carries."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carries, _ = map(len, params["ft_in"].unpack())  # from jax 0.12 on
    return consts, carries


REORDERING = {"transpose", "reshape", "squeeze", "broadcast_in_dim", "rev", "copy"}


def reordered_from(jaxpr, operands) -> dict:
    """The variables of a jaxpr that are an operand with its entries in another order, or repeated, and which one each is."""
    found = {v: v for v in operands}
    for equation in jaxpr.eqns:
        if equation.primitive.name in REORDERING and len(equation.invars) == 1:
            (v,), (w,) = equation.invars, equation.outvars
            if is_variable(v) and v in found:
                found[w] = found[v]
    return {w: v for w, v in found.items() if w is not v}


def with_replaced(values, places, new) -> list:
    """The values, of which those at these places are replaced."""
    changed = dict(zip(places, new, strict=True))
    return [changed.get(i, value) for i, value in enumerate(values)]


def variables(operands) -> list:
    """The operands that are no numbers."""
    return list(filter(is_variable, operands))


def is_variable(operand) -> bool:
    """Whether it is no number."""
    return not isinstance(operand, Literal)


def evaluated(jaxpr, consts, *operands) -> list:
    """The outputs of a jaxpr."""
    return core.eval_jaxpr(jaxpr, consts, *operands)


def _replaced(jaxpr, **parts):
    """A jaxpr with other parts, which have no names."""
    return jaxpr.replace(**parts, debug_info=jaxpr.debug_info._replace(arg_names=None, result_paths=None))


def one_way_of(params) -> str:
    """Which product JAX can form with the functions among these parameters, if it cannot form both; see `Opaque`."""
    for jaxpr in jaxprs_in_params(params):
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            found = {"while": "push", "custom_vjp_call": "pull"}.get(name) or one_way_of(equation.params)
            if found:
                return found
    return ""
