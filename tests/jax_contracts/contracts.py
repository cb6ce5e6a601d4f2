"""What makes a test a contract, and what contracts look with: traces, jaxprs, functions with derivatives of their own."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

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


def with_custom_jvp():
    @jax.custom_jvp
    def double(x):
        return 2 * x

    double.defjvp(lambda primals, tangents: (double(*primals), 2 * tangents[0]))
    return double


def with_custom_vjp(symbolic_zeros=False):
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
