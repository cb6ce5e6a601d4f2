"""Some leaves of the parameters, and a function of these alone."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..checks import show_value
from ..errors import ShapeError

LAST_LAYER = "last_layer"


def chosen_leaves(name: str, subset: Any, params: Any) -> tuple[bool, ...]:
    """For every leaf of the parameters whether it belongs to a subset.

    The subset is None for all of them, "last_layer" for the last entry that has leaves, or a tree of truth values that is a
    prefix of the parameters.
    """
    if subset is None:
        return (True,) * len(jax.tree.leaves(params))
    if isinstance(subset, str):
        return _last_layer(name, subset, params)
    wrong = [value for value in jax.tree.leaves(subset) if not isinstance(value, (bool, np.bool_))]
    if wrong:
        raise TypeError(f"{name}: subset must hold True and False, got {show_value(wrong[0])}")
    try:
        chosen = tuple(map(bool, jax.tree.leaves(jax.tree.broadcast(subset, params))))
    except ValueError:
        expected, found = jax.tree.structure(params), jax.tree.structure(subset)
        raise ShapeError(f"{name}: subset must be a prefix of params, {expected}, got {found}") from None
    if not any(chosen):
        raise ValueError(f"{name}: subset must not be empty, got {show_value(subset)}")
    return chosen


def _last_layer(name: str, subset: str, params) -> tuple[bool, ...]:
    if subset != LAST_LAYER:
        raise ValueError(f"{name}: subset must be None, '{LAST_LAYER}' or a tree of True and False, got {subset!r}")
    counts = [len(jax.tree.leaves(layer)) for layer in params] if isinstance(params, (list, tuple)) else []
    if not any(counts):
        raise TypeError(
            f"{name}: subset '{LAST_LAYER}' is for params that are a list of layers, got {show_value(params)}; "
            "give a tree of True and False"
        )
    last = max(i for i, count in enumerate(counts) if count)
    return tuple(i == last for i, count in enumerate(counts) for _ in range(count))


def of_chosen(f: Callable, params: Any, chosen: Sequence[bool]) -> tuple[Callable, Any]:
    """A function of the chosen leaves and x, and these leaves; f and the parameters where all are chosen."""
    if all(chosen):
        return f, params
    leaves, tree = jax.tree.flatten(params)

    def of_mine(mine, x):
        given = iter(mine)
        whole = [next(given) if own else leaf for own, leaf in zip(chosen, leaves, strict=True)]
        return f(jax.tree.unflatten(tree, whole), x)

    return of_mine, [leaf for own, leaf in zip(chosen, leaves, strict=True) if own]
