"""Samples of PyTorch's tests: value and Jacobian of both libraries."""

import math

import jax.numpy as jnp
import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

import jaxnets as jn

from .torch_functions import LeftOut

LARGEST = 10**6
TOO_LARGE = f"a Jacobian of more than {LARGEST:,} entries"


def to_jax(value):
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise LeftOut("complex numbers")
        return jnp.asarray(value.detach().cpu().resolve_conj().numpy())
    return value


def outputs(value):
    """The floating arrays of a result as a tuple."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


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
    kept = [i for i, y in enumerate(found) if y is not None and i < len(expected) and expected[i].is_floating_point()]
    if len(found) != len(expected):
        return f"{len(found)} outputs, expected {len(expected)}"
    for i in kept:
        if told := differ("value", found[i], expected[i], tolerance):
            return told
    if not kept or not places:
        return ""
    sizes = sum(math.prod(expected[i].shape) for i in kept), sum(math.prod(v.shape) for v in variables)
    if math.prod(sizes) > LARGEST:
        raise LeftOut(TOO_LARGE)
    if 0 in sizes:
        return ""
    which = tuple(range(len(places)))
    theirs_dense = torch.autograd.functional.jacobian(
        lambda *given: tuple(call(theirs, detached, given)[i] for i in kept), tuple(variables), vectorize=True
    )
    ours_dense = jn.dense(
        jn.jacobian(lambda *given: tuple(call(ours, arrays, given)[i] for i in kept), which)(*(arrays[i] for i in places))
    )
    for row, (j, k) in enumerate(zip(ours_dense, theirs_dense, strict=True)):
        for column in which:
            if told := differ(f"∂{row}/∂{column}", j[column], k[column], tolerance):
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
