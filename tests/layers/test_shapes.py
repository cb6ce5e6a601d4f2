"""Every layer at a few shapes, empty ones and batches of 0 and 1 among them, against jax.jacrev; with `--all` at twenty.

The shapes are those of the lines of cases.py with other sizes: sizes that are equal in a line stay equal.
"""

import dataclasses
import itertools
import random
import zlib

import jax
import jax.numpy as jnp
import pytest

import jaxnets
from jaxnets.layers.samples import Labels

from ..cases import CASES, BelowLast
from ..computing import close, nested, reals

LIMIT = 3000  # entries of a Jacobian: larger ones only take time


def resized(case, sizes):
    """The case with other sizes in place of its own."""

    def change(kind):
        if kind is None:
            return None
        changed = {"shape": tuple(sizes[n] for n in kind.shape)}
        if isinstance(kind, Labels):
            changed["classes"] = sizes.get(kind.classes, kind.classes)
        return dataclasses.replace(kind, **changed)

    return dataclasses.replace(case, arguments=tuple(map(change, case.arguments)))


def candidates(case):
    """Its first size (often the batch) 0 and 1, then other sizes at random, every second time also of one axis."""
    known = sorted({n for kind in case.arguments if kind for n in kind.shape})
    own = dict(zip(known, known, strict=True))
    leading = next((kind.shape[0] for kind in case.arguments if kind and kind.shape), None)
    if leading is not None:
        yield from (resized(case, own | {leading: n}) for n in (0, 1))
    rng = random.Random(zlib.crc32(str(case).encode()))
    for k in range(300):
        made = resized(case, {n: rng.choice([0, 1, 2, 3, 4, n, n + 1]) if k % 4 else n for n in known})
        yield made if k % 2 else one_axis_changed(made, rng)


def one_axis_changed(case, rng):
    """The case with another size of one axis of one argument."""
    places = [(i, a) for i, kind in enumerate(case.arguments) if kind for a in range(len(kind.shape))]
    if not places or any(isinstance(kind, Labels) for kind in case.arguments):  # labels below a size go with it
        return case
    i, a = rng.choice(places)
    kind = case.arguments[i]
    shape = (*kind.shape[:a], rng.choice([1, kind.shape[a] + 1]), *kind.shape[a + 1 :])
    arguments = (*case.arguments[:i], dataclasses.replace(kind, shape=shape), *case.arguments[i + 1 :])
    return dataclasses.replace(case, arguments=arguments)


def accepted(case) -> bool:
    """The layer takes these shapes; where it does not, it says so by a typed error."""
    labels = (kind for kind in case.arguments if isinstance(kind, Labels) and 0 not in kind.shape)
    if any(kind.classes <= isinstance(kind, BelowLast) for kind in labels):  # there are none to choose from
        return False
    normal = [kind and jax.ShapeDtypeStruct(kind.shape, jnp.float64) for kind in case.arguments]
    args = [kind and jax.eval_shape(kind.from_normal, x) for kind, x in zip(case.arguments, normal, strict=True)]
    try:
        outputs = jax.eval_shape(case.call, *args)
    except (jaxnets.ShapeError, ValueError) as error:
        assert case.name in str(error), f"{case}: {error}"
        return False
    return all(y.size * x.size < LIMIT for y in outputs for x in reals(case, args))


def variants(name, count, of_each_line):
    """`count` different argument shapes of a layer, or more: so many of each line at least."""
    found = {}
    streams = [candidates(case) for case in CASES if case.name == name]
    for case in itertools.chain.from_iterable(zip(*streams, strict=False)):
        if str(case) not in found and accepted(case):
            found[str(case)] = case
        if len(found) >= max(count, of_each_line * len(streams)):
            break
    return list(found.values())


def jacobians(case, args, real):
    """Ours and JAX's, dense, by output and argument."""
    wrt = tuple(range(len(real)))
    ours = jaxnets.dense(nested(case, jaxnets.jacobian(case.function(args), wrt, on_opaque="allow")(*real)))
    outputs = case.function(args)(*real)
    full = [k for k, x in enumerate(real) if x.size]  # jacrev refuses empty arrays
    theirs = {(o, case.real[k]): jnp.zeros(y.shape + x.shape) for o, y in enumerate(outputs) for k, x in enumerate(real)}
    for o, y in enumerate(outputs):
        if y.size and full:
            rows = jax.jacrev(lambda *real, o=o: case.function(args)(*real)[o], tuple(full))(*real)
            theirs |= {(o, case.real[k]): row for k, row in zip(full, rows, strict=True)}
    return ours, theirs


@pytest.mark.parametrize("name", jaxnets.LAYERS)
def test_shapes(name, request):
    count, of_each_line = (20, 2) if request.config.getoption("--all") else (2, 0)
    cases = variants(name, count, of_each_line)
    dimensions = {len(kind.shape) for case in cases for kind in case.arguments if kind}
    assert len(cases) >= count or max(dimensions) <= 1, f"only {len(cases)} shapes of {name}"
    whole = [case.values() for case in cases]

    @jax.jit
    def both(table):
        return [jacobians(case, args, real) for case, args, real in zip(cases, whole, table, strict=True)]

    found = both([reals(case, args) for case, args in zip(cases, whole, strict=True)])
    for case, (ours, theirs) in zip(cases, found, strict=True):
        assert ours.keys() == theirs.keys(), f"{case}"
        for (o, i), expected in theirs.items():
            close(ours[o, i], expected, 1e-10, f"{case}: ∂y{o}/∂(argument {i})", least=1e-3)
