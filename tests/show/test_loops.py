"""Loops as people see them: one step of each, how often it is taken, and where the carry goes round."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text

import jaxnets as jn
from jaxnets.show import plots
from jaxnets.show.diagram import diagram
from jaxnets.show.formats import as_text

from ..autodiff.test_loop_costs import multiplications

T, B, H, D = 5, 2, 3, 4


def shapes(*sizes):
    return [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]


def elman(params, x):
    """One number an example, of the state after the last step."""

    def step(h, u):
        h = jn.tanh(jn.linear(h, params["w"]) + jn.linear(u, params["u"]))
        return h, None

    return lax.scan(step, jnp.zeros((B, H), x.dtype), x)[0].sum(-1)


ELMAN = dict(zip("wu", shapes((H, H), (H, D)), strict=True)), *shapes((T, B, D))

TABLE = """\
∂(output y of a layer) / ∂(its input x, its weights w)
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━┓
┃ layer, its ∂y/∂x and ∂y/∂w              ┃ stored ┃ dense ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━┩
│ scan × 5                                │        │       │
│   carry [2, 3]                          │        │       │
│     [3×3] factored                      │        │       │
│       ∂c[b,i]/∂c⁻[b,j] = h'[b,i]·w[i,j] │        │       │
│   linear [2, 3]                         │   60 B │ 360 B │
│     [3×3] Kronecker                     │        │       │
│       ∂y[b,o]/∂x[b,i] = w[o,i]          │        │       │
│     [3×3·3] Kronecker                   │        │       │
│       ∂y[b,o]/∂w[o,i] = x[b,i]          │        │       │
│   linear [2, 3]                         │   80 B │ 480 B │
│     [3×4] Kronecker                     │        │       │
│       ∂y[b,o]/∂x[b,i] = w[o,i]          │        │       │
│     [3×3·4] Kronecker                   │        │       │
│       ∂y[b,o]/∂w[o,i] = x[b,i]          │        │       │
│   add [2, 3]                            │    0 B │ 288 B │
│     [3×3] identity                      │        │       │
│       ∂y[b,i]/∂x1[b,i] = 1              │        │       │
│     [3×3] identity                      │        │       │
│       ∂y[b,i]/∂x2[b,i] = 1              │        │       │
│   tanh [2, 3] ↺ carry                   │   24 B │ 144 B │
│     [3×3] diagonal                      │        │       │
│       ∂y[b,i]/∂x[b,i] = h'[b,i]         │        │       │
│         h' = 1 − y²                     │        │       │
│ reduce_sum [2]                          │    0 B │  48 B │
│   [1×3] sum                             │        │       │
│     ∂y[b]/∂x1[b,i] = 1                  │        │       │
└─────────────────────────────────────────┴────────┴───────┘
chain: [1×3]·([3×3]·[3×3]·[3×3])⁴·[3×3]·[3×3]·[3×4]
parameters: 21
axis 0 is batch, of size 2: example b depends on example b alone, so dims are
per example; stored and dense are for a step with the whole batch
"""


def test_the_table_of_a_recurrent_network():
    lines = as_text(jn.tabulate(elman, *ELMAN), 80).splitlines()
    assert [line.rstrip() for line in lines] == TABLE.splitlines()


def test_the_wide_table_and_the_one_of_notebooks_show_the_same_rows():
    table = jn.tabulate(elman, *ELMAN)
    wide, page = str(table), table._repr_html_()
    for text in ("scan × 5", "carry", "∂c[b,i]/∂c⁻[b,j] = h'[b,i]·w[i,j]", "tanh ↺ carry", "[3×3·4]"):
        assert text in wide and text.replace("'", "&#x27;") in page
    assert re.search(r"│ {3}tanh ↺ carry +│ \[2, 3\]", wide)
    assert "\u2003tanh ↺ carry" in page
    data = table.to_json()["rows"]
    assert [(row["layer"], row["depth"], row["steps"], row["becomes"]) for row in data] == [
        ("scan × 5", 0, 5, ""),
        ("carry", 1, 0, ""),
        ("linear", 1, 0, ""),
        ("linear", 1, 0, ""),
        ("add", 1, 0, ""),
        ("tanh", 1, 0, "carry"),
        ("reduce_sum", 0, 0, ""),
    ]


def outline(table):
    """The rows with the depth of each, and where values go round."""
    return [f"{'  ' * row.depth}{row.title}" for row in table.rows]


def nested(w, x):
    def inner(c, _):
        return jn.tanh(c @ w), None

    def outer(c, u):
        return jn.sigmoid(lax.scan(inner, c * u, None, length=3)[0]), None

    return lax.scan(outer, jnp.ones((B, H), x.dtype), x)[0]


def test_a_loop_in_a_loop():
    table = jn.tabulate(nested, *shapes((H, H), (T, B, H)))
    assert outline(table) == [
        "scan × 5",
        "  carry",
        "  mul",
        "  scan × 3",
        "    carry",
        "    dot_general",
        "    tanh ↺ carry",
        "  sigmoid ↺ carry",
    ]
    by_carry = {row.depth: row.blocks[0].formula for row in table.rows if row.is_carry}
    assert by_carry == {
        1: "∂c/∂c⁻ = the product along a path through scan × 3",
        2: "∂c[b,i]/∂c⁻[b,j] = h'[b,i]·x2[j,i]",
    }
    assert table.chain == "([3×3]·([3×3]·[3×3])³·[3×3])⁴·[3×3]·([3×3]·[3×3])³·[3×3]"


def layers(params, x):
    """A residual layer for each of the stacked weights."""
    return lax.scan(lambda x, w: (x + jn.tanh(jn.linear(x, w)), None), x, params)[0]


def test_stacked_layers_are_shown_once():
    table = jn.tabulate(layers, *shapes((6, H, H), (B, H)))
    assert outline(table) == ["scan × 6", "  carry", "  linear", "  tanh", "  add ↺ carry"]
    assert [b.dims for b in table.rows[2].blocks] == ["[3×3]", "[3×3·3]"]  # by one of the weights
    assert table.rows[1].blocks[0].formula == "∂c/∂c⁻ = the sum along 2 paths"
    assert table.chain == "([3×3]·[3×3]·[3×3])⁶"


def test_a_static_fori_loop_and_a_map():
    table = jn.tabulate(lambda w, x: lax.fori_loop(0, 4, lambda i, x: jn.tanh(x @ w), x), *shapes((H, H), (B, H)))
    assert outline(table) == ["scan × 4", "  carry", "  dot_general", "  tanh ↺ carry"]
    assert table.chain == "([3×3]·[3×3])⁴"
    table = jn.tabulate(lambda x: lax.map(lambda u: jn.softmax(jn.tanh(u)), x), *shapes((T, H)))
    assert outline(table) == ["scan × 5", "  tanh", "  softmax"]
    assert (table.chain, table.batch) == ("[3×3]·[3×3]", "no step of scan × 5 depends on another")


def lstm(params, x):
    def step(carry, u):
        h, c = carry
        i, f, g, o = jnp.split(jn.linear(h, params["w"]) + jn.linear(u, params["u"]), 4, -1)
        c = jn.sigmoid(f) * c + jn.sigmoid(i) * jn.tanh(g)
        h = jn.sigmoid(o) * jn.tanh(c)
        return (h, c), h

    zero = jnp.zeros((B, H), x.dtype)
    return lax.scan(step, (zero, zero), x)[1]


LSTM = dict(zip("wu", shapes((4 * H, H), (4 * H, D)), strict=True)), *shapes((T, B, D))


def test_several_arrays_of_a_carry():
    table = jn.tabulate(lstm, *LSTM)
    assert [row.title for row in table.rows if row.becomes] == ["add ↺ carry 2", "mul ↺ carry 1"]
    assert [[(b.dims, b.formula) for b in row.blocks] for row in table.rows if row.is_carry] == [
        [
            ("[3×3]", "∂c₁/∂c₁⁻ = the sum along 4 paths"),
            ("[3×3]", "∂c₁[b,i]/∂c₂⁻[b,i] = x1₂[b,i]·h'[b,i]·x1₁[b,i]"),
        ],
        [("[3×3]", "∂c₂/∂c₁⁻ = the sum along 3 paths"), ("[3×3]", "∂c₂[b,i]/∂c₂⁻[b,i] = x1[b,i]")],
    ]


@pytest.mark.parametrize(
    "function, args",
    [(elman, ELMAN), (lstm, LSTM), (layers, shapes((6, H, H), (B, H))), (nested, shapes((H, H), (T, B, H)))],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_inner_dimensions_of_a_chain_with_loops_cancel(function, args):
    chain = jn.tabulate(lambda *args: function(*args).sum(), *args).chain
    pairs = [tuple(map(int, pair)) for pair in re.findall(r"\[(\d+)×(\d+)\]", chain)]
    assert len(pairs) > 3 and all(a[1] == b[0] for a, b in zip(pairs, pairs[1:], strict=False)), chain
    for power in re.findall(r"\(((?:\[\d+×\d+\]·?)+)\)", chain):  # a power is one of square matrices
        assert power.partition("×")[0][1:] == power.rpartition("×")[2][:-1]


def test_a_carry_that_nothing_reads_and_one_that_is_moved_along():
    def f(x):
        def step(carry, u):
            a, b, unused = carry
            return (b, jn.tanh(a * u), unused + u), b

        return lax.scan(step, (x[0], x[1], x[2]), x)[1]

    table = jn.tabulate(f, *shapes((T, H)))
    assert [title for title in outline(table) if title.startswith("  ")] == [
        "  carry 1",
        "  carry 2",
        "  mul",
        "  tanh ↺ carry 2",
    ]
    assert table.rows[[row.layer for row in table.rows].index("carry 1")].blocks[0].argument == "carry 2"


def test_one_body_that_is_run_twice():
    def f(w, x):
        run = jax.jit(lambda x: lax.scan(lambda x, _: (jn.tanh(x @ w), None), x, None, length=2)[0])
        return run(run(x))

    table = jn.tabulate(f, *shapes((H, H), (B, H)))
    assert outline(table) == 2 * ["scan × 2", "  carry", "  dot_general", "  tanh ↺ carry"]
    assert table.chain == "([3×3]·[3×3])²·([3×3]·[3×3])²"


# --- explain_plan -------------------------------------------------------------------------------------------------------


def test_the_steps_of_loops_are_counted_and_told():
    plan = jn.explain_plan(elman, *ELMAN)
    (chosen,) = [cost.multiplies for cost in plan.costs if cost.chosen]
    (loop,) = plan.loops
    by_carry, by_w, by_u, by_tanh = B * H * H, B * H * H, B * D * H, B * H
    assert (loop.name, loop.steps, loop.multiplies) == ("scan × 5", 5, T * (by_carry + by_w + by_u + by_tanh))
    assert chosen == loop.multiplies
    text = as_text(plan, 80)
    assert "of these in scan × 5: 5 steps × 66 = 330\n" in text
    assert "eliminated in this order: reduce_sum[2], scan × 5 (scan[2, 3], scan[2, 3]," in text
    assert plan.to_json()["loops"] == ({"name": "scan × 5", "steps": 5, "multiplies": loop.multiplies},)


def test_the_steps_of_inner_loops_are_those_of_all_outer_ones():
    plan = jn.explain_plan(nested, *shapes((H, H), (T, B, H)))
    (chosen,) = [cost.multiplies for cost in plan.costs if cost.chosen]
    assert [(loop.name, loop.steps) for loop in plan.loops] == [("scan × 5", 5), ("scan × 3 in scan × 5", 15)]
    assert plan.loops[1].multiplies == chosen > 0  # the outer loop passes on what the inner one gives
    assert plan.loops[0].multiplies == 0


def test_a_function_without_loops_is_explained_as_before():
    plan = jn.explain_plan(lambda x, w: jn.tanh(jn.linear(x, w)), *shapes((B, H), (H, H)))
    assert plan.loops == () and "steps" not in str(plan)
    assert str(plan).splitlines()[-1] == "eliminated in this order: tanh[2, 3], linear[2, 3]"


@pytest.mark.parametrize("steps", [4, 8])
def test_what_is_explained_is_what_the_compiled_program_takes(steps):
    """The matrix products of the Jacobian, without those of the function; the trips of loops are counted in both."""
    width, batch = 16, 4

    def f(params, x):
        w, u = params
        return lax.scan(lambda h, v: (h @ w + v @ u, None), jnp.zeros((batch, width)), x)[0].sum(-1)

    args = (np.ones((width, width)), np.ones((D, width))), np.ones((steps, batch, D))
    counted = [
        multiplications(jax.jit(g).lower(*args).compile().as_text())
        for g in (lambda *args: jn.dense(jn.jacobian(f)(*args)), f)
    ]
    (explained,) = [cost.multiplies for cost in jn.explain_plan(f, *args).costs if cost.chosen]
    assert counted[0] - counted[1] == steps * batch * (2 * width * width + D * width)
    assert explained == counted[0] - counted[1]


def test_the_search_for_an_order_of_scalars_runs_once(monkeypatch):
    from jaxnets.autodiff import vertex_orders

    runs = []
    searched = vertex_orders.searched_order
    monkeypatch.setattr(vertex_orders, "searched_order", lambda *args: runs.append(0) or searched(*args))

    def f(x, y):
        a, b = jnp.sin(x) * y, jnp.cos(x * y)
        c, d = a * b + jnp.exp(a), jnp.sin(b) * a
        return jnp.stack([c * d, c + d * a, jnp.sin(c) * b])

    plan = jn.explain_plan(f, 1.0, 2.0, argnums=(0, 1))
    assert plan.bound is not None and len(runs) == 1


# --- pictures -----------------------------------------------------------------------------------------------------------


def tied(w, x):
    """One weight in layers and in a loop after them."""
    for _ in range(2):
        x = jn.tanh(jn.linear(x, w * 2))
    return lax.scan(lambda x, _: (jn.tanh(jn.linear(x, w)), None), x, None, length=3)[0]


PICTURES = {
    "elman": (elman, ELMAN),
    "lstm": (lstm, LSTM),
    "nested": (nested, shapes((H, H), (T, B, H))),
    "layers": (layers, shapes((6, H, H), (B, H))),
    "tied": (tied, shapes((H, H), (B, H))),
    "map": (lambda x: lax.map(lambda u: jn.softmax(jn.tanh(u)), x), shapes((T, H))),
}


@pytest.mark.parametrize("name", PICTURES)
def test_loops_have_rectangles_in_a_diagram(name):
    """Every block and every part of an arrow has a place of its own, inside of the rectangles of its loops alone."""
    function, args = PICTURES[name]
    found = diagram(function, *args)
    places = [(item.column, item.row) for item in found.items] + [p for arrow in found.arrows for p in arrow.way]
    assert len(set(places)) == len(places)
    for arrow in found.arrows:
        source, target = found.items[arrow.source], found.items[arrow.target]
        if source.column >= 0:
            assert [row for _, row in arrow.way] == list(range(source.row + 1, target.row))
    for frame in found.frames:
        inside = [item for item in found.items if within(frame, item)]
        steps = [item for item in inside if item.kind in ("function", "carry")]
        assert inside == steps and len(steps) > 1
        assert frame.label.startswith("scan × ") and all(item.row > frame.top for item in steps)
        for after, carry in frame.rounds:
            assert found.items[carry].kind == "carry"
            assert {found.items[after], found.items[carry]} <= set(steps) and found.items[after].row > found.items[carry].row
            assert not [item for item in inside if item.row == found.items[carry].row and item is not found.items[carry]]
    assert [frame.depth for frame in found.frames] == ([0, 1] if name == "nested" else [0])
    outer = found.frames[0]
    assert len([item for item in found.items if item.kind == "carry"]) == sum(len(f.rounds) for f in found.frames)
    assert all(outer.left <= f.left <= f.right <= outer.right and outer.top <= f.top for f in found.frames)


def test_a_loop_is_drawn_where_its_carry_or_all_of_its_step_is_not_needed():
    def swapped(x):
        return lax.scan(lambda c, _: ((jnp.sin(c[1]), jnp.tanh(2 * x)), None), (x, x), None, length=1)[0][0]

    found = diagram(swapped, np.ones(3))
    assert [(frame.label, frame.rounds) for frame in found.frames] == [("scan × 1", ())]

    def passed(x):
        return lax.scan(lambda c, v: (c, v), x, x)[1]

    assert diagram(lambda x: jnp.sin(passed(x)), np.ones(3)).frames == ()


def within(frame, item):
    return frame.left <= item.column <= frame.right and frame.top <= item.row <= frame.bottom


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_loops_have_a_box_an_arrow_back_and_no_words_over_others(name):
    function, args = PICTURES[name]
    figure = plots.graph(function, *args)
    found = diagram(function, *args)
    figure.canvas.draw()
    for axes in figure.axes:
        words = {text.get_text() for text in axes.texts}
        assert {frame.label for frame in found.frames} <= words
        boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
        arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
        dashed = [patch for patch in arrows if patch.get_linestyle() != "-"]
        assert len(boxes) == len(found.frames) and len(arrows) - len(dashed) == len(found.arrows)
        assert len(dashed) == sum(len(frame.rounds) for frame in found.frames)
        extents = [(text.get_text(), extent(text)) for text in axes.texts if text.get_text()]
        covered = [(a, b) for (a, x), (b, y) in itertools.combinations(extents, 2) if x.overlaps(y)]
        assert covered == []
        window = figure.bbox
        assert all(window.contains(e.x0, e.y0) and window.contains(e.x1, e.y1) for _, e in extents)


def extent(text):
    """The place of a text on the canvas, with its box if it has a frame."""
    patch = text.get_bbox_patch()
    if patch is None or patch.get_edgecolor()[3] == 0:
        return Text.get_window_extent(text)
    return patch.get_window_extent()
