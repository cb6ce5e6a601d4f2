"""Samples of PyTorch's tests: value and Jacobian of both libraries."""

import jax.numpy as jnp
import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

import jaxnets as jn

from .torch_functions import COMPLEX, LeftOut

LARGEST = 10**6
TOO_LARGE = f"a Jacobian of more than {LARGEST:,} entries"


def to_jax(value):
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise LeftOut(COMPLEX)
        return jnp.asarray(value.detach().cpu().resolve_conj().numpy())
    return value


def outputs(value):
    """The arrays of a result as a tuple."""
    return tuple(tree_flatten(value)[0])


def is_differentiable(leaf):
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.requires_grad


def disagreement(theirs, ours, arguments, tolerance=1e-9) -> str:
    """How values and Jacobians of two functions differ on `arguments`, a tuple (args, kwargs); nothing where they agree.

    `theirs` is called with tensors and `ours` with arrays in their places.  Raises LeftOut where `ours` does.
    """
    leaves, tree = tree_flatten(arguments)
    places = [i for i, leaf in enumerate(leaves) if is_differentiable(leaf)]
    variables = [leaves[i].detach() for i in places]

    def call(function, fixed, given):
        filled = list(fixed)
        for i, value in zip(places, given, strict=True):
            filled[i] = value
        args, kwargs = tree_unflatten(filled, tree)
        return outputs(function(*args, **kwargs))

    detached = [leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    expected = call(theirs, detached, variables)
    arrays = [to_jax(leaf) for leaf in leaves]
    found = call(ours, arrays, [arrays[i] for i in places])
    if len(found) != len(expected):
        return f"{len(found)} outputs, expected {len(expected)}"
    given = [i for i, y in enumerate(found) if y is not None]
    for i in given:
        if told := differ("the value", found[i], expected[i], tolerance):
            return told
    kept = [i for i in given if expected[i].is_floating_point() and expected[i].numel()]
    entries = sum(expected[i].numel() for i in kept) * sum(x.numel() for x in variables)
    if not entries:
        return ""
    if entries > LARGEST:
        raise LeftOut(TOO_LARGE)
    which = tuple(range(len(places)))
    dense = torch.autograd.functional.jacobian(
        lambda *given: tuple(call(theirs, detached, given)[i] for i in kept), tuple(variables), vectorize=True
    )
    rules = jn.jacobian(lambda *given: tuple(call(ours, arrays, given)[i] for i in kept), which)
    for i, row, expected_row in zip(kept, jn.dense(rules(*(arrays[p] for p in places))), dense, strict=True):
        for j in which:
            if told := differ(f"the Jacobian of output {i} by argument {j}", row[j], expected_row[j], tolerance):
                return told
    return ""


def differ(what, ours, theirs, tolerance) -> str:
    ours, theirs = np.asarray(ours), theirs.detach().resolve_conj().numpy()
    if ours.shape != theirs.shape:
        return f"{what} has shape {ours.shape}, expected {theirs.shape}"
    if not np.allclose(ours, theirs, tolerance, tolerance, equal_nan=True):
        with np.errstate(invalid="ignore"):
            return f"{what} differs by {np.nanmax(np.abs(ours - theirs))}"
    return ""
