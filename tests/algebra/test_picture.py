"""What a Jacobian shows of itself: the colours of its picture, its corner, its outline, its formula."""

import re

import jax.numpy as jnp
import numpy as np

import jaxnets as jn
from jaxnets.algebra.picture import Markup, figure, heat_map, lines


def colours(values):
    """The fill of every cell of a heat map, by row and column."""
    text = heat_map(values, np.ones_like(values, bool), "words", 100)
    found = np.full(np.shape(values), "", object)
    for fill, cells in re.findall(r'<path fill="(#\w+)" d="([^"]+)"/>', text):
        for column, row in re.findall(r"M(\d+) (\d+)", cells):
            found[int(row), int(column)] = fill
    return found.tolist()


def test_colours_go_from_blue_over_white_to_orange_with_the_square_root():
    values = np.array([[1.0, -1.0], [0.25, 0.0]])
    expected = [["#c95a0a", "#2166ac"], ["#e0a880", "#f7f7f7"]]  # of √¼, halfway from white to orange
    assert colours(values) == colours(1e-3 * values) == colours(1e3 * values) == expected
    assert colours(np.array([[np.nan, 2.0]])) == [["#000", "#c95a0a"]]


def test_text_becomes_html_once():
    assert lines("a < b", Markup("<b>c</b>")) == "<div>a &lt; b</div><div><b>c</b></div>"
    whole = figure(["x < y"], "<svg></svg>")
    assert isinstance(whole, Markup) and "<div>x &lt; y</div><svg></svg></figure>" in whole
    assert lines(whole) == f"<div>{whole}</div>"


def test_corner_of_a_large_jacobian():
    j = jn.jacobian(jn.tanh)(np.ones(40))
    assert j.corner().shape == (32, 32)
    np.testing.assert_array_equal(j.corner(2, 5), np.asarray(j)[:2, :5])


def test_outline_keeps_which_entries_are_selected():
    outline = jn.jacobian(lambda x: x[np.array([2, 0])] * 3)(jnp.ones(3)).outline()
    np.testing.assert_array_equal(outline.possible(), [[False, False, True], [True, False, False]])


def test_formula_of_a_slice_says_where_it_starts():
    formulas = [jn.jacobian(lambda x, part=part: x[part])(jnp.ones(9)).formula for part in (slice(2, 6), slice(1, 9, 3))]
    assert [formula.split(" = ")[1] for formula in formulas] == ["δ(i, j + 2)", "δ(i, 3·j + 1)"]
