"""`@layer`: a pure forward function and, right below it, its hand-written Jacobian.

All layers share one JAX primitive whose every rule runs the forward function.  JAX's transformations see through it,
so `jax.grad` of a layer is autodiff's own answer; the graph reader sees the layer and uses the rule.
"""

import dataclasses
import functools
import inspect
import operator
import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .errors import DTypeError, RuleError, ShapeError
from .jacobian import Jacobian

LAYERS: dict[str, "Layer"] = {}


class Layer:
    """A forward function with its Jacobian rule.  Call it as the function; `rule` is None until `.jacobian` gave one."""

    def __init__(self, forward: Callable):
        functools.update_wrapper(self, forward)
        self.forward, self.name = forward, forward.__name__
        self.rule: Callable | None = None
        try:
            self.signature = inspect.signature(forward, eval_str=True)
        except NameError:  # an annotation that names what is not there: no checks
            self.signature = inspect.signature(forward)
        self.many_outputs = typing.get_origin(self.signature.return_annotation) is tuple
        known = LAYERS.get(self.name)
        if known and (known.forward.__module__, known.forward.__qualname__) != (forward.__module__, forward.__qualname__):
            raise RuleError(f"layer '{self.name}' is defined twice, in {known.forward.__module__} and {forward.__module__}")
        LAYERS[self.name] = self

    def jacobian(self, rule: Callable) -> Callable:
        """Register `rule(y, *args, **config)`: a tuple with one rule an argument; of such tuples where outputs are many."""
        if self.rule is not None:
            raise RuleError(f"layer '{self.name}' already has a Jacobian rule")
        self.rule = rule
        return rule

    def __call__(self, *args, **kwargs):
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        names = self.argument_names(len(bound.args))
        arrays = [None if a is None else _as_array(self.name, n, a) for n, a in zip(names, bound.args, strict=True)]
        self._check(names, arrays)
        config = tuple(sorted(bound.kwargs.items()))
        try:
            hash(config)
        except TypeError:
            raise TypeError(f"{self.name}: configuration must be hashable, got {dict(config)}") from None
        given = tuple(a is not None for a in arrays)
        out = layer_p.bind(*(a for a in arrays if a is not None), layer=self, given=given, config=config)
        return tuple(out) if self.many_outputs else out[0]

    def jacobians(self, outputs, args, config) -> tuple[tuple[Jacobian | None, ...], ...]:
        """∂output/∂argument for every output and argument; None for an argument without one."""
        if self.rule is None:
            raise RuleError(f"layer '{self.name}' has no Jacobian rule: define one with @{self.name}.jacobian")
        rules = self.rule(tuple(outputs) if self.many_outputs else outputs[0], *args, **dict(config))
        table = rules if self.many_outputs else (rules,)
        if not isinstance(rules, tuple) or len(table) != len(outputs) or any(len(row) != len(args) for row in table):
            raise RuleError(
                f"layer '{self.name}': its rule must return a tuple with one Jacobian for each of the "
                f"{len(args)} arguments, for each of the {len(outputs)} outputs"
            )
        names = self.argument_names(len(args))

        def block(y, rule, argument, name):
            if rule is None or argument is None:
                return None
            j = rule(y, argument)
            if not isinstance(j, Jacobian) or j.shape != y.shape + argument.shape:
                got = f"one of shape {j.shape}" if isinstance(j, Jacobian) else type(j).__name__
                raise RuleError(
                    f"layer '{self.name}': its rule for '{name}' gave {got}, expected a Jacobian of shape "
                    f"{y.shape + argument.shape}"
                )
            return dataclasses.replace(j, names=("y", name))

        return tuple(tuple(map(block, [y] * len(args), row, args, names)) for y, row in zip(outputs, table, strict=True))

    def argument_names(self, count) -> list[str]:
        """The names of `count` positional arguments: those of `*xs` are xs1, xs2, …"""
        names: list[str] = []
        for p in self.signature.parameters.values():
            if p.kind is p.VAR_POSITIONAL:
                names += [f"{p.name}{i + 1}" for i in range(count - len(names))]
            elif p.kind is not p.KEYWORD_ONLY:
                names.append(p.name)
        return names

    def annotation(self, name: str):
        """The dtype kind, the dimension names and whether None may stand for an argument; from its annotation, or None."""
        parameters = self.signature.parameters
        many = (p for p in parameters.values() if p.kind is p.VAR_POSITIONAL)
        hint = (parameters.get(name) or next(many)).annotation
        for part in (hint, *typing.get_args(hint)):
            if hasattr(part, "dim_str"):
                kind = jnp.floating if part.__name__.startswith("Float") else jnp.number
                return kind, part.dim_str.split(), type(None) in typing.get_args(hint)
        return None

    def _check(self, names, arrays):
        """Compare the arrays with the jaxtyping annotations of the forward function."""
        sizes: dict[str, tuple[int, str]] = {}
        broadcast: dict[str, tuple[int, ...]] = {}
        for name, array in zip(names, arrays, strict=True):
            annotation = self.annotation(name)
            if annotation is None:
                continue
            kind, dims, optional = annotation
            what = f"{self.name}: argument '{name}'"
            if array is None:
                if not optional:
                    raise DTypeError(f"{what} is None, expected an array [{', '.join(dims)}]")
                continue
            if not jnp.issubdtype(array.dtype, kind):
                raise DTypeError(f"{what} has dtype {array.dtype}, expected {kind.__name__}")
            start = next((i for i, dim in enumerate(dims) if is_variadic(dim)), None)
            fixed = [dim for dim in dims if not is_variadic(dim)]
            if array.ndim < len(fixed) or (array.ndim > len(fixed) and start is None):
                raise ShapeError(f"{what} has shape {array.shape}, expected [{', '.join(dims)}]")
            start = len(dims) if start is None else start
            own = array.shape[:start] + array.shape[array.ndim - (len(fixed) - start) :]
            for dim, size in zip(fixed, own, strict=True):
                known, source = sizes.setdefault(dim, (size, name))
                if known != size:
                    raise ShapeError(
                        f"{what} has shape {array.shape}, expected [{', '.join(dims)}] with {dim} = {known} as in '{source}'"
                    )
            if "*#" in dims[0]:
                broadcast[name] = array.shape
        try:
            np.broadcast_shapes(*broadcast.values())
        except ValueError:
            shapes = ", ".join(f"'{name}' of shape {shape}" for name, shape in broadcast.items())
            raise ShapeError(f"{self.name}: arguments {shapes} do not broadcast") from None

    def __repr__(self):
        return f"<layer {self.name}>"


def layer(forward: Callable) -> Layer:
    """Make a layer of a pure function of arrays (positional) and static configuration (keyword-only)."""
    return Layer(forward)


def is_variadic(dim: str) -> bool:
    """Whether a dimension of an annotation stands for any number of axes: "...", or "*#s" where they broadcast."""
    return dim == "..." or dim.startswith("*")


def check_axis(layer: str, x, axis, name: str = "axis") -> int:
    """An axis of x as an integer from 0; TypeError or ShapeError where it is none."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{layer}: {name} must be an integer, got {axis!r}") from None
    if not -x.ndim <= number < x.ndim:
        raise ShapeError(f"{layer}: {name} {axis} is no axis of an array of shape {x.shape}")
    return number % x.ndim


def layers_of(*modules) -> dict[str, Layer]:
    """The layers that these modules define."""
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Layer) and value.forward.__module__ == module.__name__
    }


def _as_array(layer_name, name, value):
    if isinstance(value, (list, tuple)):
        raise DTypeError(f"{layer_name}: argument '{name}' is a {type(value).__name__}; pass arrays, one by one")
    try:
        return value if isinstance(value, jax.Array) else jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{layer_name}: argument '{name}' is no array: {type(value).__name__}") from error


# The marker primitive: every rule runs the forward function.

layer_p = Primitive("layer")
layer_p.multiple_results = True


def arguments(arrays, given) -> list:
    """Put the None arguments back."""
    arrays = iter(arrays)
    return [next(arrays) if there else None for there in given]


def _run(*arrays, layer, given, config):
    out = layer.forward(*arguments(arrays, given), **dict(config))
    return list(out) if layer.many_outputs else [out]


def _abstract(*avals, **params):
    shapes = jax.eval_shape(functools.partial(_run, **params), *avals)
    return [core.ShapedArray(s.shape, s.dtype) for s in shapes]


def _jvp(primals, tangents, **params):
    moving = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]

    def run(*some):
        arrays = list(primals)
        for i, x in zip(moving, some, strict=True):
            arrays[i] = x
        return _run(*arrays, **params)

    return jax.jvp(run, [primals[i] for i in moving], [tangents[i] for i in moving])


def _batch(arrays, axes, **params):
    out = jax.vmap(functools.partial(_run, **params), in_axes=tuple(axes))(*arrays)
    return out, [0] * len(out)


layer_p.def_impl(_run)
layer_p.def_abstract_eval(_abstract)
ad.primitive_jvps[layer_p] = _jvp
batching.primitive_batchers[layer_p] = _batch
mlir.register_lowering(layer_p, mlir.lower_fun(_run, multiple_results=True))
