"""Every property over every case, and random shapes against jax.jacrev."""

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxnets

from ..cases import CASES, STRUCTURES, WORDS, line
from ..computing import by_autodiff, nested, reals, same_blocks
from ..properties import ON_EVERY_LINE, ON_EVERY_STRUCTURE, ON_EVERY_WORD, ON_SOME_STRUCTURES, PROPERTIES

sizes = st.sampled_from([0, 1, 2, 3])
shapes = st.lists(sizes, max_size=3).map(tuple)


def test_every_layer_has_a_case():
    missing = set(jaxnets.LAYERS) - {case.name for case in CASES}
    assert not missing, f"add a line to tests/cases.py for {sorted(missing)}"


def short(case):
    """The properties that the short suite tries on a line."""
    structures = list(STRUCTURES.values())
    if case not in structures:
        return ON_EVERY_LINE
    if structures.index(case) % 3 == 0:
        return ON_SOME_STRUCTURES
    return ON_EVERY_WORD if case in WORDS.values() else ON_EVERY_STRUCTURE


def pairs():
    """Every property with every line of the table; those that belong to the full sweep are marked."""
    for case in CASES:
        for check in PROPERTIES:
            marks = [] if check in short(case) else [pytest.mark.sweep]
            yield pytest.param(check, case, id=f"{check.__name__}-{case}", marks=marks)


@pytest.mark.parametrize("check, case", list(pairs()))
def test_property(check, case):
    check(case)


def same_as_autodiff(name, *shapes, **config):
    """Shape, dtype and value of all dense Jacobians of a layer at these shapes."""
    case = line(name, shapes, (), config)
    args = case.values()
    jacobians = jaxnets.jacobian(case.function(args), tuple(range(len(case.real))))

    @jax.jit
    def both(*real):
        return jaxnets.dense(jacobians(*real)), by_autodiff(case, args)(*real)[1]

    found, expected = (nested(case, rows) for rows in both(*reals(case, args)))
    assert {j.dtype.name for j in found.values()} == {"float64"}
    same_blocks(found, expected)


@given(st.sampled_from(["relu", "tanh", "sigmoid", "softplus", "identity"]), shapes)
def test_elementwise_of_any_shape(name, shape):
    same_as_autodiff(name, shape)


@given(shapes, sizes, sizes, st.booleans())
def test_linear_of_any_shape(batch, i, o, bias):
    same_as_autodiff("linear", (*batch[:2], i), (o, i), (o,) if bias else None)


@given(shapes.filter(len), st.sampled_from(["softmax", "log_softmax"]), st.data())
def test_softmax_along_any_axis(shape, name, data):
    same_as_autodiff(name, shape, axis=data.draw(st.integers(-len(shape), len(shape) - 1)))


@given(shapes.filter(len), st.lists(sizes, min_size=1, max_size=3), st.data())
def test_concatenate_along_any_axis(shape, lengths, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    before, after = shape[: axis % len(shape)], shape[axis % len(shape) + 1 :]
    same_as_autodiff("concatenate", *((*before, n, *after) for n in lengths), axis=axis)


@given(st.sampled_from(["add", "multiply", "maximum"]), shapes, st.data())
def test_broadcasting(name, shape, data):
    def part():
        kept = shape[data.draw(st.integers(0, len(shape))) :]
        return tuple(n if data.draw(st.booleans()) else 1 for n in kept)

    same_as_autodiff(name, part(), part())


@given(shapes, st.data())
def test_mean_over_any_axes(shape, data):
    axes = st.lists(st.integers(0, max(0, len(shape) - 1)), unique=True, max_size=len(shape)).map(tuple)
    axis = data.draw(st.none() | axes) if shape else None
    removed = shape if axis is None else [shape[i] for i in axis]
    if 0 not in removed:  # the mean of nothing is NaN
        same_as_autodiff("mean", shape, axis=axis)


@given(shapes, st.data())
def test_flatten_from_any_axis(shape, data):
    same_as_autodiff("flatten", shape, start=data.draw(st.integers(0, len(shape))))
