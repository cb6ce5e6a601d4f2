"""What products would cost: inside `planning()` contractions compute shapes and counts instead of arrays.

So the count of a plan is that of the products which are carried out later; `recording()` lists these.
"""

import dataclasses
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

MOVE = 8  # the cost of reading and writing one entry, in multiplications of a matrix product


@dataclasses.dataclass(eq=False)
class Meter:
    """Counts the multiplications of planned contractions, the entries that they would read and write besides, to transpose
    an array or to multiply entry by entry, and those of the largest array."""

    multiplies: int = 0
    moves: int = 0
    largest: int = 0  # the entries of the largest array that is made

    @property
    def cost(self) -> int:
        return self.multiplies + MOVE * self.moves


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def planning():
    """A context in which contractions compute shapes and counts instead of arrays; it gives the counter."""
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


def current_meter() -> Meter | None:
    """The counter, where contractions compute shapes and counts alone."""
    return _meter.get()


def is_planning() -> bool:
    """Whether contractions compute shapes and counts alone."""
    return _meter.get() is not None


def cheapest(*ways: Callable[[], Any]) -> int:
    """Which way of computing something costs least, by what its contractions count: its place, from 0."""
    if len(ways) == 1:
        return 0
    costs = []
    for way in ways:
        with planning() as meter:
            way()
        costs.append(meter.cost)
    return costs.index(min(costs))


def planned_array(shape) -> Any:
    """The shape that stands for an array while contractions are planned."""
    return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)


class Product(NamedTuple):
    """A product that was carried out: the shapes of its factors, the sizes of summed axes, its shape and its cost."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    summed: tuple[int, ...]
    result: tuple[int, ...]
    multiplies: int


_recorded_products: ContextVar[list[Product] | None] = ContextVar("record", default=None)


@contextmanager
def recording():
    """A context that gives a list, in which the products that are carried out inside are recorded."""
    products: list[Product] = []
    token = _recorded_products.set(products)
    try:
        yield products
    finally:
        _recorded_products.reset(token)


def recorded_products() -> list[Product] | None:
    """The list of the innermost `recording`, if there is one."""
    return _recorded_products.get()
