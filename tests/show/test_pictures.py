"""Pictures of Jacobians and graphs: the cells, blocks and dimensions that are drawn, against jax.jacrev and shapes."""

import functools
import math
import re
import sys
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from jaxnets.algebra import picture
from jaxnets.learn.presets import make_problem
from jaxnets.show import html, plots
from jaxnets.show.diagram import diagram

X = np.random.default_rng(0).normal(size=(3, 4))
W = np.random.default_rng(1).normal(size=(5, 4))
EXAMPLES, ONES = np.eye(3, dtype=bool), np.ones((4, 4), bool)
CASES = {  # function, argument, which entries of the matrix may differ from zero
    "relu": (jn.relu, X, np.eye(12, dtype=bool)),
    "softmax": (jn.softmax, X, np.kron(EXAMPLES, ONES)),
    "log_softmax": (jn.log_softmax, X, np.kron(EXAMPLES, ONES)),
    "sum": (lambda x: jn.sum(x, axis=1), X, np.kron(EXAMPLES, np.ones((1, 4), bool))),
    "by weights": (
        lambda w: jn.linear(X, w, None),
        W,
        np.tile(np.kron(np.eye(5, dtype=bool), ONES[:1]), (3, 1)),
    ),
    "part": (lambda x: x[:, 1:3], X, np.kron(EXAMPLES, np.eye(4, dtype=bool)[1:3])),
    "difference of identities": (lambda x: 2.0 * x - 3.0 * x, X, np.eye(12, dtype=bool)),
    "nothing left": (lambda x: jn.subtract(x, x), X, np.zeros((12, 12), bool)),
    "zero": (lambda x: jnp.zeros(2) * jnp.sum(jax.lax.stop_gradient(x)), X, np.zeros((2, 12), bool)),
}


@functools.cache
def jacobian_and_matrix(name):
    """The structured Jacobian of a case, its sparsity and the whole matrix by autodiff."""
    f, x, _ = CASES[name]

    @jax.jit
    def both(x):
        j = jn.jacobian(f)(x)
        return j, j.sparsity(), jax.jacrev(f)(x)

    j, sparsity, dense = both(x)
    return j, np.asarray(sparsity), np.asarray(dense).reshape(-1, x.size)


@pytest.mark.parametrize("name", CASES)
def test_sparsity_is_what_structure_says(name):
    _, found, matrix = jacobian_and_matrix(name)
    expected = CASES[name][2]
    found = found.reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert not matrix[~found].any()


def test_sparsity_of_a_convolution_is_its_band():
    def f(x):
        return jn.conv(x, np.ones((1, 1, 3)), None, padding=1)

    found = np.asarray(jax.jit(lambda x: jn.jacobian(f)(x).sparsity())(np.ones((1, 1, 6)))).reshape(6, 6)
    np.testing.assert_array_equal(found, np.abs(np.subtract.outer(range(6), range(6))) <= 1)


@pytest.mark.parametrize("small", [0, 1 << 20])
@pytest.mark.parametrize("name", ["softmax", "by weights", "sum", "zero"])
def test_corner_is_the_beginning_of_the_matrix(name, small, monkeypatch):
    monkeypatch.setattr(sys.modules[jn.Jacobian.__module__], "SMALL_BYTES", small)
    j, _, matrix = jacobian_and_matrix(name)
    rows, columns = map(math.prod, j.block_shape)
    for size in ((2, 3), (3, 2), (100, 100)):
        found = np.asarray(j.corner(*size))
        np.testing.assert_allclose(found, matrix[:rows, :columns][: size[0], : size[1]], rtol=1e-12)


def test_corner_of_a_jacobian_that_could_not_be_stored():
    n = 100_000
    j = jacobian_at(jn.tanh, np.zeros(n))
    assert j.dense_nbytes > 5e10
    np.testing.assert_array_equal(j.corner(3, 4), np.eye(3, 4))


def jacobian_at(f, x):
    """The structured Jacobian, made by one program."""
    return jax.jit(jn.jacobian(f))(x)


def cells(markup):
    """Fill and place of every cell of a heat map."""
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", markup, re.S).group())
    paths = [path for path in svg.findall("path") if path.get("fill")]
    places = {path.get("fill"): re.findall(r"M(\d+) (\d+)", path.get("d")) for path in paths}
    return {tuple(map(int, place)): fill for fill, found in places.items() for place in found}


def test_structural_zeros_are_bare_ground_and_numeric_zeros_cells():
    x = np.array([[2.0, -1.0, 3.0]])  # the slope at −1 is the number 0
    drawn = cells(jacobian_at(jn.relu, x)._repr_html_())
    white = picture.colour(0)
    assert drawn == {(0, 0): picture.colour(1), (1, 1): white, (2, 2): picture.colour(1)}
    negative = cells(jacobian_at(lambda x: -x, x)._repr_html_())
    assert set(negative.values()) == {picture.colour(-1)} and picture.colour(-1) not in (white, picture.colour(1))


def test_a_jacobian_shows_itself_in_words_and_within_bounds():
    j = jacobian_at(jn.softmax, np.zeros((2, 400)))
    text = j._repr_html_()
    assert j.formula in text and "rank-1 update" in text and "6.4 kB of 5.12 MB" in text
    assert "an example, 400×400, the first 32×32" in text
    assert len(cells(text)) == 32 * 32 and len(text) < 40_000


def test_what_is_not_a_number_is_black():
    j = jacobian_at(lambda x: x * np.array([1.0, np.nan, np.inf]), np.ones(3))
    assert cells(j.picture()) == {(0, 0): picture.colour(1), (1, 1): "#000", (2, 2): "#000"}


def test_pictures_inside_jit_and_of_shapes_alone_show_structure():
    found = []

    @jax.jit
    def run(x):
        found.append(jn.jacobian(jn.relu)(x)._repr_html_())
        return x

    run(X)
    found.append(jax.eval_shape(jn.jacobian(jn.relu), X).picture())
    for text in found:
        assert {(k, k) for k in range(4)} == set(cells(text))
        assert len(set(cells(text).values())) == 1


def test_names_are_escaped():
    assert picture.escaped("<b>&") == "&lt;b&gt;&amp;"
    assert "<script" not in html.html_table("<script>", ["<script>"], [["<script>"]], ["<script>"])
    j = jacobian_at(jn.relu, X)
    strange = type(j)(j.terms, j.out_shape, j.in_shape, j.dtype, ("<i>", "x"))
    assert "<i>" not in strange._repr_html_()


@pytest.fixture(scope="module")
def small():
    return make_problem("linear(6) residual(linear(6) tanh) linear(2)", (4,), 3)


def test_tables_have_a_picture_a_jacobian(small):
    table = jn.tabulate(small.loss, small.params, small.x)
    text = table._repr_html_()
    blocks = [block for row in table.rows for block in row.states + row.weights]
    assert text.count("<svg") == len(blocks)
    assert all(picture.code(block.formula) in text and picture.code(block.dims) in text for block in blocks)
    assert table.chain in text and "axis 0 is batch" in text
    assert "outline" not in str(table.to_json())


def test_a_picture_compiles_one_program(compiled):
    """For its numbers and for where they may be; inside of another trace its numbers are still known."""
    j = jn.jacobian(jn.softmax)(jax.device_put(np.linspace(-1, 1, 18).reshape(6, 3)))
    before = len(compiled)
    found = j.picture()
    assert len(compiled) - before <= 1, compiled[before:]
    within = []
    jax.eval_shape(lambda x: within.append(j.picture()) or x, 1.0)
    assert within == [found]


def test_comparisons_have_a_picture_and_bars():
    found = jn.compare(jn.softmax, X, timed=False)
    text = found._repr_html_()
    (block,) = found.blocks
    exact = [error for method, error in block.errors.items() if method != "differences"]
    assert text.count("<svg") == 1 + len(exact)
    assert all(f"{error.ulp:.2g} ULP" in text for error in exact)
    assert found.to_json()["blocks"][0]["errors"]["jacrev"]["ulp"] == block.errors["jacrev"].ulp


def test_a_diagram_has_the_lectures_blocks_and_dimensions(small):
    found = diagram(small.loss, small.params, small.x)
    kinds = [(item.kind, item.label) for item in found.items if item.kind not in ("weight", "input", "output")]
    names = ["linear", "linear", "tanh", "add", "linear"]
    assert kinds == [*[("function", name) for name in names], ("cost", "squared_error"), ("function", "mean")]
    assert [item.module for item in found.items if item.kind in ("function", "cost")] == list(range(7))
    assert sum(item.kind == "weight" for item in found.items) == len(jax.tree.leaves(small.params))
    for arrow in found.arrows:
        source, target = found.items[arrow.source], found.items[arrow.target]
        assert source.row < target.row or (source.kind == "weight" and source.column < target.column)
        if target.kind == "output":
            assert arrow.block is None
            continue
        out = math.prod(target.shape[1:])
        by = math.prod(source.shape if source.kind == "weight" else source.shape[1:])
        assert arrow.gradient == f"[1×{by}] = [1×{out}]·[{out}×{by}]"
    places = [(item.column, item.row) for item in found.items]
    assert len(set(places)) == len(places)
    skip = [a for a in found.arrows if found.items[a.target].label == "add"]
    assert len(skip) == 2 and {found.items[a.source].row for a in skip} == {1, 3}


def test_many_weights_of_a_block_stand_side_by_side():
    params = {"a": np.ones((3, 2)), "b": np.ones(5), "w": np.ones((5, 2, 4))}
    found = diagram(lambda p, x: jn.bilinear(p["a"], x, p["w"], p["b"]), params, X)
    weights = [(item.column, item.row) for item in found.items if item.kind == "weight"]
    assert sorted(weights) == [(-3, 1), (-2, 1), (-1, 1)]


def test_a_diagram_of_several_outputs_and_of_a_graph_that_depends_on_data():
    def f(x):
        y = jn.tanh(x) if x[0] > 0 else jn.relu(x)
        return y, jn.sum(y)

    for sign, name in ((1.0, "tanh"), (-1.0, "relu")):
        found = diagram(f, sign * np.ones(3), abstract=False)
        assert [item.label for item in found.items if item.module is not None] == [name, "sum"]
        assert [item.label for item in found.items if item.kind == "output"] == ["y0", "y1"]


def test_the_picture_of_a_jacobian_shows_its_numbers():
    j = jacobian_at(lambda x: jn.linear(jn.relu(x), W, None), X)
    axes = plots.jacobian(j, title="a network").axes[0]
    assert axes.get_title() == "a network\n∂y/∂x  [5 × 4], factored"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("y[0,o]", "x[0,i]")
    (image,) = axes.images
    dense = np.asarray(jax.jit(jax.jacrev(lambda x: jn.relu(x) @ W.T))(X))
    np.testing.assert_allclose(image.get_array(), dense[0, :, 0], rtol=1e-12)
    diagonal = plots.jacobian(jacobian_at(jn.tanh, np.zeros(100)), columns=50).axes[0]
    np.testing.assert_array_equal(diagonal.images[0].get_array().mask, ~np.eye(64, 50, dtype=bool))
    assert diagonal.get_xlabel() == "x[i], the first 50 of 100"


def test_the_scalar_of_a_graph_is_not_called_as_its_targets_are():
    def cost(w, x, y):
        return jn.mean(jn.squared_error(jn.tanh(jn.linear(x, w)), y))

    w, x, y = np.ones((3, 2)), np.ones((4, 2)), np.ones((4, 3))
    values, gradients = ([text.get_text() for text in axes.texts] for axes in plots.graph(cost, w, x, y).axes)
    assert (values.count("C"), values.count("y")) == (1, 1)
    assert (gradients.count("∂C/∂C = 1"), gradients.count("∂C/∂y")) == (1, 1)


def test_weights_of_a_list_have_its_name_and_their_number():
    def stack(params, x):
        return jnp.tanh(params[1] @ jnp.tanh(params[0] @ x)).sum()

    figure = plots.graph(stack, [np.ones((3, 2)), np.ones((1, 3))], np.ones(2))
    values, gradients = ({text.get_text() for text in axes.texts} for axes in figure.axes)
    assert {"params₀", "params₁", "x"} <= values and {"∂C/∂params₀", "∂C/∂params₁"} <= gradients


def test_the_picture_of_a_graph_shows_every_dimension(small, tmp_path):
    figure = plots.graph(small.loss, small.params, small.x)
    values, gradients = ([text for text in axes.texts if text.get_text()] for axes in figure.axes)
    found = diagram(small.loss, small.params, small.x)
    dims = [arrow.block.dims for arrow in found.arrows if arrow.block]
    for texts, words in ((values, dims), (gradients, [arrow.gradient for arrow in found.arrows])):
        shown = [text.get_text() for text in texts]
        assert sorted(word for word in shown if "[" in word) == sorted(filter(None, words))
    styles = {text.get_text(): type(text.get_bbox_patch().get_boxstyle()).__name__ for text in values}
    assert (styles["tanh"], styles["squared_error"], styles["x"], styles["w"]) == ("Round", "Square", "Circle", "Circle")
    assert {"∂C/∂x", "∂C/∂w", "∂C/∂b", "∂C/∂C = 1"} <= {text.get_text() for text in gradients}
    assert "C" in {text.get_text() for text in values} and "y" not in {text.get_text() for text in values}
    assert plots.save(figure, tmp_path / "graph.png").stat().st_size > 10_000
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows of it


@pytest.mark.parametrize("ending, start", [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG"), ("other", b"\x89PNG")])
def test_the_ending_is_the_format_and_the_same_figure_the_same_bytes(tmp_path, ending, start):
    contents = []
    for _ in range(2):
        figure = plots.confusion(np.eye(2, dtype=int), names=("a cat", "dog"))
        contents.append(plots.save(figure, tmp_path / f"a.{ending}").read_bytes())
    assert contents[0].startswith(start) and contents[0] == contents[1]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a cat", "dog"]
    with pytest.raises(ValueError, match="confusion: names must be 2, one for each class, got 1"):
        plots.confusion(np.eye(2, dtype=int), names=["cat"])


def test_curves_of_numbers_show_no_accuracy():
    assert len(plots.learning_curves([{"epoch": 1, "loss": 0.5}]).axes) == 1
    assert len(plots.learning_curves([{"epoch": 1, "loss": 0.5, "accuracy": 0.5}]).axes) == 2
