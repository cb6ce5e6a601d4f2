"""`@layer`: makes a layer of a pure forward function and the hand-written Jacobian right below it; checks its arguments."""

import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra.factors import at_least_float32
from ..algebra.jacobian import Jacobian
from ..algebra.promotion import usual_promotion
from ..checks import annotation_check, as_array, bound_arguments, checked, fits_annotation, is_floating, show_value
from ..errors import DTypeError, RuleError, ShapeError
from ..names import hint
from .marker import bind
from .samples import Example

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
PACKAGE = __name__.split(".")[0] + "."


class LayersByName(dict):
    """A dict of layers.  A KeyError tells what stands for the name of another library."""

    def __missing__(self, name):
        raise KeyError(f"no layer '{name}'{hint(name)}")


LAYERS: dict[str, "Layer"] = LayersByName()


DTYPE_KINDS = {
    "Float": jnp.floating, "Int": jnp.integer, "Bool": jnp.bool_, "Key": jax.dtypes.prng_key
}  # fmt: skip
DTYPE_WORDS = {jnp.floating: "floating", jnp.bool_: "bool", jax.dtypes.prng_key: "a key of jax.random"}


@checked
class Layer(Generic[P, R]):
    """A forward function with its Jacobian rule.  It is called as the function; `rule` is None until `.jacobian` sets it."""

    def __init__(self, forward: Callable[P, R], plain: bool = False, example: Example | None = None):
        functools.update_wrapper(self, forward)
        self.name, self.plain, self.example = forward.__name__, plain, example
        self.rule: Callable | None = None
        self.hessian_rule: Callable | None = None
        try:
            written = inspect.signature(forward, eval_str=True)
        except NameError:  # an annotation has a name that does not exist, so nothing can be checked
            written = inspect.signature(forward)
        named = _named_arrays(written)
        self.signature = _with_arrays_by_position(written, named)
        self.by_position = _count_by_position(written)
        forward = _called_by_position(forward, self.by_position, named) if named else forward
        self.forward = forward if plain else in_float32(forward)
        config = (p for p in self.signature.parameters.values() if p.kind is p.KEYWORD_ONLY)
        self._check_config = annotation_check(self.name, config)
        self.many_outputs = typing.get_origin(self.signature.return_annotation) is tuple
        known = LAYERS.get(self.name)
        if known and (known.forward.__module__, known.forward.__qualname__) != (forward.__module__, forward.__qualname__):
            raise RuleError(f"layer '{self.name}' is defined twice, in {known.forward.__module__} and {forward.__module__}")
        LAYERS[self.name] = self

    def jacobian(self, rule: Callable) -> Callable:
        """Register `rule(y, *args, **config)`.

        It returns a tuple with one rule for each argument, or a tuple of such tuples if there are several outputs.
        """
        if self.rule is not None and rule.__module__ != "__main__":  # the cell of a notebook may run again
            raise RuleError(f"layer '{self.name}' already has a Jacobian rule")
        self.rule = rule
        return rule

    def hessian(self, rule: Callable) -> Callable:
        """Register `rule(y, *args, **config)` of a loss.

        It returns the Hessian H by the predictions and a root S of it, S Sᵀ = H, or None for S.
        """
        self.hessian_rule = rule
        return rule

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        arrays, config = self.arguments(*args, **kwargs)
        present = tuple(a is not None for a in arrays)
        out = bind(self, [a for a in arrays if a is not None], present, config)
        return tuple(out) if self.many_outputs else out[0]  # type: ignore[return-value]

    def of_arrays(self, config) -> Callable[..., R]:
        """The layer with this configuration as a function of its arrays, all by position; None where one is left out."""

        @functools.wraps(self)
        def call(*arrays):
            names = self.argument_names(len(arrays))[self.by_position :]
            others = zip(names, arrays[self.by_position :], strict=True)
            return self(*arrays[: self.by_position], **dict(others), **config)  # type: ignore[call-arg]

        arrays = [p for p in self.signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
        call.__signature__ = self.signature.replace(parameters=arrays)  # type: ignore[attr-defined]
        return call

    def __get__(self, instance, owner=None):
        """As an attribute of a class a layer is a method, like any function."""
        return self if instance is None else types.MethodType(self, instance)

    def arguments(self, *args, **kwargs) -> tuple[list, tuple[tuple[str, typing.Any], ...]]:
        """The arguments as arrays that fit the annotations, and the whole configuration as pairs that can be hashed."""
        if args and isinstance(args[0], str) and self.leading_string:  # as in einsum("bi,oi->bo", x, w)
            args, kwargs = args[1:], {self.leading_string: args[0], **kwargs}
        if len(args) > self.by_position:
            raise TypeError(f"{self.name}: too many positional arguments{self._by_name(args[self.by_position :])}")
        bound = bound_arguments(self.name, self.signature, args, kwargs)
        self._check_config(bound.arguments)
        bound.apply_defaults()
        names = self.argument_names(len(bound.args))
        arrays = [None if a is None else self._as_array(n, a) for n, a in zip(names, bound.args, strict=True)]
        self._check_annotations(names, arrays)
        config = tuple(sorted((key, _hashable(value)) for key, value in bound.kwargs.items()))
        try:
            hash(config)
        except TypeError:
            raise TypeError(f"{self.name}: configuration must be hashable, got {dict(config)}") from None
        return arrays, config

    def jacobians(self, outputs, args, config) -> tuple[tuple[Jacobian | None, ...], ...]:
        """∂output/∂argument for every output and argument; None for an argument without one."""
        if self.rule is None:
            raise RuleError(f"layer '{self.name}' has no Jacobian rule: define one with @{self.name}.jacobian")
        with self.promotion():
            return self._jacobians(self.rule, outputs, args, config)

    def _jacobians(self, rule, outputs, args, config):
        y, rule_args = tuple(outputs) if self.many_outputs else outputs[0], args
        if not self.plain and sixteen_bit_dtype(args):  # the rule gets the output before it was rounded
            rule_args = args_at_least_float32(args)
            y = self.forward(*rule_args, **dict(config))
        rules = rule(y, *rule_args, **dict(config))
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

    def promotion(self):
        """The context in which its functions run: in those of this package, JAX's flags of promotion do not count."""
        return usual_promotion() if self.forward.__module__.startswith(PACKAGE) else contextlib.nullcontext()

    @property
    def leading_string(self) -> str | None:
        """The name of the static argument that is a string and may come first."""
        static = (p for p in self.signature.parameters.values() if p.kind is p.KEYWORD_ONLY)
        return next((p.name for p in static if p.annotation is str), None)

    @property
    def takes_key(self) -> bool:
        """Whether one of its arguments is a key of `jax.random`."""
        return any("Key[" in str(p.annotation) for p in self.signature.parameters.values())

    def argument_names(self, count) -> list[str]:
        """The names of `count` positional arguments; those of `*xs` are xs1, xs2, …"""
        names: list[str] = []
        for p in self.signature.parameters.values():
            if p.kind is p.VAR_POSITIONAL:
                names += [f"{p.name}{i + 1}" for i in range(count - len(names))]
            elif p.kind is not p.KEYWORD_ONLY:
                names.append(p.name)
        return names

    def annotation(self, name: str):
        """From the annotation of an argument the kind of dtype, the names of axes and whether None is allowed; or None."""
        parameters = self.signature.parameters
        many = (p for p in parameters.values() if p.kind is p.VAR_POSITIONAL)
        return _array_annotation((parameters.get(name) or next(many)).annotation)

    def _as_array(self, name, value):
        """An argument as an array; legacy keys of `jax.random` are accepted."""
        what = f"{self.name}: argument '{name}'"
        annotation = self.annotation(name)
        if isinstance(value, (list, tuple)):
            hint = self._by_name([value]) if annotation and annotation[2] else ""
            several = f", as in {self.name}(*arrays)" if name not in self.signature.parameters else ""
            raise DTypeError(f"{what} is a {type(value).__name__}; pass arrays, one by one{several}{hint}")
        given, value = value, as_array(what, value)
        if annotation and annotation[0] is jax.dtypes.prng_key and (value.dtype, value.shape) == (jnp.uint32, (2,)):
            return jax.random.wrap_key_data(value)
        if annotation and not jnp.issubdtype(value.dtype, annotation[0]):
            words = DTYPE_WORDS.get(annotation[0], annotation[0].__name__)
            hint = self._hint(name, given, value.dtype, annotation[2])
            raise DTypeError(f"{what} has dtype {value.dtype}, expected {words}{hint}")
        return value

    def _hint(self, name, given, dtype, optional) -> str:
        """Under which name an argument of a wrong dtype would fit; nothing if there is none."""
        masks = [n for n in self.signature.parameters if (self.annotation(n) or [None])[0] is jnp.bool_]
        if dtype == jnp.bool_ and masks:
            return f"; a mask is given as {masks[0]}="
        return self._by_name([given]) if optional and not jnp.shape(given) else ""

    def _by_name(self, values) -> str:
        """How to write values that were given by position, but have a name; nothing if none of the names fits."""
        names = [p for p in self.signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        words = []
        for value in values:
            fitting = next((p for p in names if fits_annotation(p.annotation, value)), None)
            if fitting is not None:
                names.remove(fitting)
                words.append(f"{fitting.name}={show_value(value)}")
        if words:
            return f"; configuration is given by name, as in {self.name}({self.argument_names(1)[0]}, {', '.join(words)})"
        known = self.argument_names(0)
        arrays = known[self.by_position :]
        return f"; after '{known[self.by_position - 1]}' arrays are given by name: {'=, '.join(arrays)}=" if arrays else ""

    def _check_annotations(self, names, arrays):
        """Raise DTypeError or ShapeError if arrays do not fit the jaxtyping annotations of the forward function."""
        sizes: dict[str, tuple[int, str]] = {}
        broadcast: dict[str, tuple[int, ...]] = {}
        for name, array in zip(names, arrays, strict=True):
            annotation = self.annotation(name)
            if annotation is None:
                continue
            _, dims, optional = annotation
            what = f"{self.name}: argument '{name}'"
            if array is None:
                if not optional:
                    raise DTypeError(f"{what} is None, expected an array [{', '.join(dims)}]")
                continue
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
            if "*#" in " ".join(dims):
                broadcast[name] = array.shape
        try:
            jnp.broadcast_shapes(*broadcast.values())
        except ValueError:
            shapes = ", ".join(f"'{name}' of shape {shape}" for name, shape in broadcast.items())
            raise ShapeError(f"{self.name}: arguments {shapes} do not broadcast") from None

    def __repr__(self):
        return f"<layer {self.name}>"


def _array_annotation(hint):
    """From an annotation of an array the kind of dtype, the names of axes and whether None is allowed; or None."""
    for part in (hint, *typing.get_args(hint)):
        if hasattr(part, "dim_str"):
            kind = next((DTYPE_KINDS[word] for word in DTYPE_KINDS if part.__name__.startswith(word)), jnp.number)
            return kind, part.dim_str.split(), type(None) in typing.get_args(hint)
    return None


def _named_arrays(signature) -> list[str]:
    """The names of arrays that are given by keyword alone."""
    return [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and _array_annotation(p.annotation)]


def _with_arrays_by_position(signature, named):
    """The signature as rules are called: all arrays come first and are positional, and configuration is keyword-only."""
    parameters = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) if p.name in named else p for p in signature.parameters.values()]
    return signature.replace(parameters=sorted(parameters, key=lambda p: p.kind))


def _count_by_position(signature) -> int:
    """How many arguments may be given by position."""
    kinds = [p.kind for p in signature.parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return sys.maxsize
    return sum(kind < inspect.Parameter.KEYWORD_ONLY for kind in kinds)


def _called_by_position(forward: Callable, count: int, named: list[str]) -> Callable:
    """The forward function with all arrays by position; those after `count` are handed on by their names."""

    @functools.wraps(forward)
    def call(*arrays, **config):
        return forward(*arrays[:count], **dict(zip(named, arrays[count:], strict=True)), **config)

    return call


@overload
def layer(forward: Callable[P, R]) -> Layer[P, R]: ...
@overload
def layer(*, plain: bool = False, example: Example | None = None) -> Callable[[Callable[P, R]], Layer[P, R]]: ...
@checked
def layer(forward: Callable | None = None, *, plain: bool = False, example: Example | None = None):
    """Make a layer of a pure function of arrays and static configuration.

    Configuration is keyword-only.  So are arrays that stand behind the `*` of the signature; rules get all arrays by
    position.

    Forward and rule get float16 and bfloat16 arguments as float32, and their results are rounded once.  `plain` layers
    get them as they are: they only move numbers, or are sums and products that accumulate in float32 themselves.
    `example` has arguments with which to show the layer, if the annotations are not enough to make some.

    >>> @jn.layer
    ... def cube(x):
    ...     return x**3
    >>> @cube.jacobian
    ... def _(y, x):
    ...     return (jn.rules.diagonal(3 * x**2),)
    >>> jn.jacobian(cube)(jnp.array([1.0, 2.0])).diagonal()
    Array([ 3., 12.], dtype=float32)
    """
    if forward is None:
        return functools.partial(Layer, plain=plain, example=example)
    return Layer(forward)


def sixteen_bit_dtype(args):
    """The dtype of the result if the floating arguments give one of 16 bits, else None."""
    floats = [a for a in args if is_floating(a)]
    dtype = jnp.result_type(*floats) if floats else None
    return dtype if floats and jnp.finfo(dtype).bits == 16 else None


def args_at_least_float32(args) -> list:
    """The arguments, of which floating ones are float32 or wider."""
    return [at_least_float32(a) if is_floating(a) else a for a in args]


def in_float32(function: Callable) -> Callable:
    """The function in float32 where its arguments have 16 bits; its results are rounded to the dtype of the arguments."""

    @functools.wraps(function)
    def call(*args, **config):
        target = sixteen_bit_dtype(args)
        if target is None:
            return function(*args, **config)
        out = function(*args_at_least_float32(args), **config)
        return jax.tree.map(lambda a: a.astype(target) if is_floating(a) else a, out)

    return call


def is_variadic(dim: str) -> bool:
    """Whether a dimension of an annotation stands for any number of axes: "...", or "*#s" if they broadcast."""
    return dim == "..." or dim.startswith("*")


def _hashable(value):
    """A value that can be hashed: lists become tuples, and NumPy's numbers become Python's, which widen no array."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    return value.item() if isinstance(value, np.generic) else value
