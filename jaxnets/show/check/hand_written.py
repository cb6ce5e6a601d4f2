"""A function and the Jacobians that somebody wrote for it, and the arguments at which they are judged."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...algebra.jacobian import Jacobian
from ...autodiff.transforms import parameter_names
from ...catalogue import example_arguments, kinds_from_annotations
from ...checks import as_array
from ...errors import DTypeError, RuleError
from ...layers.layer import Layer
from .mistakes import as_type, is_real

SIZES = {"own": (5, 3, 4, 6, 7, 2), "other": (3, 4, 2, 5, 6, 7), "square": (3,) * 6}  # of the axes with a name
LEADING = {"own": (4, 5), "other": (2, 3), "square": (3, 3)}  # of the axes that `...` stands for
NOT_COMPILED = ()  # a tuple in place of an array


def hand_written_rule(function, jacobian, config) -> "HandWrittenRule":
    """The rule to judge.  Raises TypeError where there is none."""
    if not callable(function):
        raise TypeError(f"check_rule: my_layer must be callable, got {type(function).__name__}")
    if jacobian is None and not isinstance(function, Layer):
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"check_rule: '{name}' is no layer: pass jacobian=, a function that gives its Jacobian")
    if jacobian is not None and not callable(jacobian):
        raise TypeError(f"check_rule: jacobian must be callable, got {type(jacobian).__name__}")
    return HandWrittenRule(function, jacobian, config)


class HandWrittenRule:
    """A forward function of arrays that returns a tuple of outputs, and the Jacobians that somebody wrote for it."""

    def __init__(self, function, jacobian, config):
        self.function, self.by_hand, self.config = function, jacobian, config
        self.layer: Any = function if isinstance(function, Layer) else None
        self.name = str(getattr(function, "__name__", "function"))
        self.outputs = jax.jit(self.forward)
        self.compiled = jax.jit(self.entries)

    def forward(self, *args) -> tuple:
        run = self.layer.forward if self.layer else self.function
        out = run(*args, **self.config)
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        return tuple(as_array("check_rule: the value of my_layer", y) for y in outputs)

    def names(self, count) -> list[str]:
        if self.layer:
            return self.layer.argument_names(count)
        return parameter_names(functools.partial(self.function, **self.config), [None] * count, range(count))

    def rows(self, outputs, args):
        """What the rule returns: one row per output."""
        if self.by_hand:
            found = self.by_hand(*args, **self.config)
        elif self.layer.many_outputs:
            found = self.layer.rule(outputs, *args, **self.config)
        else:
            found = self.layer.rule(outputs[0], *args, **self.config)
        if found is None or found is ...:  # the body of a function that nobody has written yet
            return []
        rows = found if len(outputs) > 1 else (found,)
        return [row if isinstance(row, tuple) else (row,) for row in rows]

    def wrong_count(self, outputs, args) -> tuple[str, str] | None:
        """A diagnosis and its sentence where there is no rule, or where it does not return one Jacobian per argument."""
        if not self.by_hand and self.layer.rule is None:
            return "no rule", f"no rule: define one with @{self.name}.jacobian"
        try:
            counts = self.counts(outputs, args)
        except Exception:  # the judgement of each argument reports it, or what explains it
            return None
        if not counts:
            return "nothing returned", f"nothing is returned yet: expected {self.expected(outputs, args)}"
        wrong = [count for count in counts if count not in (len(args), *([1] if self.by_hand and len(args) == 1 else []))]
        if len(counts) == len(outputs) and not wrong:
            return None
        got = f"{wrong[0]} for {len(args)} arguments" if wrong else f"{len(counts)} rows for {len(outputs)} outputs"
        return "wrong count", f"wrong number of Jacobians: {got}; None stands for an argument without one"

    def expected(self, outputs, args) -> str:
        """What should be returned: a rule for every argument, or the name and the shape of every array."""
        if not self.by_hand:
            return f"a tuple of rules, one for each of {', '.join(self.names(len(args)))}"
        return ", ".join(
            f"{self.label(o, k, outputs, args)} of shape {[*y.shape, *x.shape]}"
            for o, y in enumerate(outputs)
            for k, x in enumerate(args)
            if is_real(x)
        )

    def label(self, o, k, outputs, args) -> str:
        """The name of the Jacobian of output o by argument k, after a function whose name is a letter, such as ∂L/∂w."""
        letter = self.name if len(self.name) == 1 else "y"
        return f"∂{letter}{o if len(outputs) > 1 else ''}/∂{self.names(len(args))[k]}"

    def counts(self, outputs, args) -> list[int]:
        """How many Jacobians each row has.  Nothing is computed if the rule needs no numbers to tell."""
        found: list[int] = []

        def count(outputs, args):
            found[:] = map(len, self.rows(outputs, args))

        try:
            jax.eval_shape(count, outputs, args)
        except Exception:  # NumPy, control flow that depends on values, or a mistake
            count(outputs, args)
        return found

    def given(self, o, k, outputs, args) -> np.ndarray | None:
        """The Jacobian of output o by argument k as an array.  It is compiled if possible, for speed at many points."""
        try:
            found = self.compiled(outputs, args)[o][k]
        except Exception:  # NumPy, control flow that depends on values, or a mistake, which is raised again uncompiled
            found = NOT_COMPILED
        if isinstance(found, tuple):
            found = self.array(self.rows(outputs, args)[o][k], o, k, outputs, args)
        return None if found is None else np.asarray(found)

    def entries(self, outputs, args) -> list[list]:
        """All Jacobians as arrays, so that one program computes them; NOT_COMPILED for one that cannot be compiled."""

        def compiled(entry, o, k):
            try:
                return self.array(entry, o, k, outputs, args)
            except Exception:
                return NOT_COMPILED

        return [[compiled(entry, o, k) for k, entry in enumerate(row)] for o, row in enumerate(self.rows(outputs, args))]

    def array(self, entry, o, k, outputs, args):
        """What the rule gave for output o by argument k as an array, or None."""
        if entry is None:
            return None
        if not self.by_hand:
            if not callable(entry):
                raise RuleError(f"it gave {type(entry).__name__} where a rule is expected, as rules.diagonal(slope)")
            entry = entry(outputs[o], args[k])
            if not isinstance(entry, Jacobian):
                raise RuleError(f"it gave {type(entry).__name__} where a Jacobian is expected, as those of jaxnets.rules")
        return entry.dense(math.inf) if isinstance(entry, Jacobian) else entry

    def argument_sets(self, args) -> dict[str, list]:
        """Arguments to judge the rule at: of their own sizes, and of other sizes if they are made from annotations."""
        if args:
            return {"own": self._checked(args)}
        if self.layer is None:
            raise ValueError(f"check_rule: pass the arguments of '{self.name}' to judge its Jacobian with")
        if self.layer.example:
            made, config = example_arguments(self.layer, jax.random.key(0), "float64")
            self.config = config | self.config
            return {"own": self._checked(made)}
        sets = {name: self._checked(list(self._from_annotations(name))) for name in SIZES}
        return {name: found for name, found in sets.items() if name == "own" or self._accepts(found)}

    def _checked(self, args) -> list:
        if self.layer:
            arrays, config = self.layer.arguments(*args, **self.config)
            self.config = dict(config)
        else:
            arrays = [None if a is None else self._array(i, a) for i, a in enumerate(args)]
        return [as_type(x, "float64") if is_real(x) else x for x in arrays]

    def _array(self, i, value):
        try:
            return value if isinstance(value, jax.Array) else jnp.asarray(value)
        except (TypeError, ValueError):
            raise DTypeError(
                f"check_rule: argument {i} of '{self.name}' is no array: {type(value).__name__}; "
                "pass a function of arrays, as lambda w, b: loss({'w': w, 'b': b})"
            ) from None

    def _accepts(self, args) -> bool:
        """Whether the function takes arguments of these sizes; some functions need particular ones."""
        try:
            jax.eval_shape(self.forward, *args)
        except Exception:
            return False
        return True

    def _from_annotations(self, sizes) -> Iterator:
        """One array per argument: real numbers, integers, a mask, a key, or None where the argument may be left out."""
        known: dict[str, int] = {}
        fresh = iter(SIZES[sizes] * 4)

        def size(dim):
            if dim.isdigit():
                return int(dim)
            return known[dim] if dim in known else known.setdefault(dim, next(fresh))

        kinds = kinds_from_annotations(self.layer, size, LEADING[sizes], min(SIZES[sizes][:5]))
        try:
            for i, kind in enumerate(kinds):
                normal = None if kind is None else np.random.default_rng(i).normal(size=kind.shape)
                yield None if kind is None else kind.from_normal(jnp.asarray(normal, "float64"))
        except ValueError as error:
            raise ValueError(f"check_rule: {error}") from None
