"""Kinds of arguments, from which the examples are made that layers are shown, compared and tested with.

Each kind makes its values from standard normal numbers of its shape, so that the caller decides how these are drawn.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr


@dataclasses.dataclass(frozen=True)
class Real:
    """Any real numbers."""

    shape: tuple[int, ...]
    letter: ClassVar[str] = ""  # stands for the kind in the names of tests
    differentiable: ClassVar[bool] = True  # whether a derivative by such an argument makes sense

    def from_normal(self, normal):
        """Values of this kind, from standard normal numbers of its shape."""
        return normal


@dataclasses.dataclass(frozen=True)
class Positive(Real):
    """Positive numbers."""

    letter = "+"

    def from_normal(self, normal):
        return jnp.exp(normal)


@dataclasses.dataclass(frozen=True)
class Unit(Real):
    """Numbers between 0 and 1."""

    letter = "u"

    def from_normal(self, normal):
        return ndtr(normal)


@dataclasses.dataclass(frozen=True)
class Probabilities(Real):
    """Positive numbers that sum to 1 along the last axis; their logarithms if `log`."""

    log: bool = False
    letter = "p"

    def from_normal(self, normal):
        return (jax.nn.log_softmax if self.log else jax.nn.softmax)(normal)


@dataclasses.dataclass(frozen=True)
class Signs(Real):
    """1 or −1, as real numbers or as integers."""

    integer: bool = False
    letter = "s"

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        return not self.integer

    def from_normal(self, normal):
        return jnp.where(normal < 0, -1, 1).astype(jnp.int32 if self.integer else normal.dtype)


@dataclasses.dataclass(frozen=True)
class Mask(Real):
    """Booleans, most of them True."""

    letter = "m"
    differentiable = False

    def from_normal(self, normal):
        return normal > -0.5


@dataclasses.dataclass(frozen=True)
class Labels(Real):
    """Integers from 0 to below `classes`."""

    classes: int = 6
    letter = "k"
    differentiable = False

    def from_normal(self, normal):
        return _labels(normal, self.classes)


@functools.partial(jax.jit, static_argnums=1)
def _labels(normal, classes):
    return jnp.clip(ndtr(normal) * classes, 0, classes - 1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class RandomKey(Real):
    """A key of `jax.random`."""

    shape: tuple[int, ...] = ()
    letter = "key"
    differentiable = False

    def from_normal(self, normal):
        return jax.random.key(7)


class Example:
    """Arguments and configuration with which to show a layer; a shape stands for real numbers, None for no argument."""

    def __init__(self, *arguments: Real | tuple[int, ...] | None, **config: Any):
        self.arguments = tuple(Real(a) if isinstance(a, tuple) else a for a in arguments)
        self.config = config

    def __repr__(self):
        config = "".join(f", {name}={value!r}" for name, value in self.config.items())
        return f"Example({', '.join(map(str, self.arguments))}{config})"
