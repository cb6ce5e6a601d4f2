"""The comparison finds what is wrong, forgives kinks, and says what it did."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxnets as jn
from jaxnets.cli.jacobians import Compare
from jaxnets.show.columns import FULL_COLUMNS, Differences, forward_columns
from jaxnets.show.compare import comparing

from ..sweeps import swept


def with_rule(monkeypatch, layer, rule):
    monkeypatch.setattr(layer, "rule", rule)


def test_right_rules_agree_with_every_method():
    params = {"w": jax.device_put(np.random.default_rng(0).normal(size=(3, 5)))}
    x = jax.device_put(np.random.default_rng(1).normal(size=(2, 5)))
    report = jn.compare(lambda params, x: jn.softmax(jn.linear(x, params["w"])), params, x)
    assert report.ok
    assert [block.name for block in report.blocks] == ["∂y/∂params['w']", "∂y/∂x"]
    for block in report.blocks:
        assert set(block.errors) == {"jacrev", "jacfwd", "differences"}
        assert all(block.errors[m].relative < 1e-14 for m in ("jacrev", "jacfwd"))
        assert 0 < block.errors["differences"].relative < 1e-6
    assert list(report.milliseconds) == ["jaxnets", "jacrev", "jacfwd"]
    assert all(ms > 0 for ms in report.milliseconds.values())
    assert "One compiled call for all 2 Jacobians, dense: jaxnets " in str(report)
    assert report.blocks[1].structure == "factored"


def test_ulp_are_shown_for_methods_that_are_exact_up_to_rounding():
    """To finite differences there are thousands of them beside "ok", which frightens."""
    report = jn.compare(jn.softmax, jnp.array([[1.0, 2.0, 3.0]]), timed=False)
    assert report.blocks[0].errors["differences"].ulp > 1
    for width in (80, 150):
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            console.print(report)
        assert capture.get().split("Errors:")[0].count(" ULP") == 2


def test_scalar_outputs_are_compared_with_grad():
    report = jn.compare(lambda x: jn.mean(jn.tanh(x)), jnp.arange(3.0))
    assert "grad" in report.blocks[0].errors
    assert report.ok


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y, x: (jn.rules.diagonal(-(1 - y**2)),),
        lambda y, x: (jn.rules.diagonal(1.000001 * (1 - y**2)),),
        lambda y, x: (jn.rules.diagonal(jnp.where(x > 1, jnp.nan, 1 - y**2)),),
        lambda y, x: (jn.rules.scaled(0),),
    ],
    ids=["sign", "a millionth", "nan", "zero"],
)
def test_wrong_rules_are_found(monkeypatch, wrong):
    with_rule(monkeypatch, jn.tanh, wrong)
    report = jn.compare(jn.tanh, jnp.linspace(-2.0, 2.0, 7))
    assert not report.ok
    assert "jacrev" in report.blocks[0].verdict
    assert "differs" in str(report)


def test_kinks_are_reported_not_hidden():
    report = jn.compare(jn.relu, jnp.array([-1.0, 0.0, 2.0]))
    assert report.ok
    assert report.blocks[0].kinks == 1
    assert report.blocks[0].verdict == "ok, 1 at kinks"


def test_a_kink_is_no_excuse_for_a_wrong_slope(monkeypatch):
    with_rule(monkeypatch, jn.relu, lambda y, x: (jn.rules.diagonal(jnp.where(x <= 0, -3.0, 1.0)),))
    assert "differences" in jn.compare(jn.relu, jnp.array([0.0, 2.0])).blocks[0].verdict


def test_wide_inputs_are_compared_on_a_sample_that_is_said():
    report = jn.compare(lambda x: jn.mean(jn.tanh(x)), jnp.linspace(-1, 1, FULL_COLUMNS + 1))
    assert report.ok
    assert report.blocks[0].columns == 512
    assert "512 columns" in str(report)


def test_integer_arguments_are_constants():
    report = jn.compare(jn.nll, jnp.log(jnp.full((2, 3), 1 / 3)), jnp.array([0, 2]))
    assert [block.input for block in report.blocks] == [(2, 3)]
    assert report.ok


def test_several_outputs_float32_and_json():
    report = jn.compare(lambda x: {"a": jn.tanh(x), "b": 2 * x}, jnp.arange(3, dtype=jnp.float32), timed=False)
    assert report.ok
    assert report.dtype == "float32"
    data = report.to_json()
    assert data["ok"] is True
    assert [block["name"] for block in data["blocks"]] == ["∂y0/∂x", "∂y1/∂x"]
    assert data["milliseconds"] == {}
    assert "One compiled call" not in str(report)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="no argument holds a real array"):
        jn.compare(lambda x: x, jnp.arange(3))


def test_empty_batch():
    assert jn.compare(jn.softmax, jnp.ones((0, 3)), timed=False).ok


def test_forward_columns_do_not_need_the_whole_basis():
    """Comparing 4,000 inputs takes chunks of the identity, not its 128 MB."""
    x, every = jnp.ones(4000), np.arange(4000)
    compiled = jax.jit(lambda x: forward_columns(lambda x: [jn.mean(x)], [x], [every])).lower(x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4000 * 4000 * 8 / 4


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_width_loses_the_verdict(width):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(jn.compare(jn.softmax, jnp.ones((2, 3)), timed=False))
    assert "│ ok" in capture.get()
    assert "…" not in capture.get()


def network(params, x):
    for p in params[:-1]:
        x = jn.tanh(jn.linear(x, p["w"], p["b"]))
    return jn.log_softmax(jn.linear(x, params[-1]["w"], params[-1]["b"]))


def random_network(*sizes):
    rng = np.random.default_rng(0)
    pairs = zip(sizes[1:], sizes, strict=False)
    return [{"w": jax.device_put(rng.normal(size=(o, i))), "b": jax.device_put(rng.normal(size=o))} for o, i in pairs]


def test_every_method_is_one_program_for_all_blocks_and_is_compiled_once(compiled):
    params, x = random_network(5, 4, 3), jax.device_put(np.random.default_rng(1).normal(size=(2, 5)))
    before = len(compiled)
    assert len(jn.compare(network, params, x).blocks) == 5
    assert len(compiled) - before <= 4, compiled[before:]  # jaxnets, jacrev, jacfwd and the differences
    before = len(compiled)
    report = jn.compare(lambda params, x: jn.mean(network(params, x)), params, x)
    assert list(report.milliseconds) == ["jaxnets", "jacrev", "jacfwd", "grad"]
    assert len(compiled) - before <= 5, compiled[before:]


def test_each_row_is_known_before_the_last_method_runs(compiled):
    """Shapes and structures before anything is compiled, then a method at a time, verdicts and times in the end."""
    x = jnp.linspace(-1, 1, 3)
    before, found = len(compiled), []
    for report in comparing(lambda x: jn.sigmoid(jn.tanh(x)), x, title="both"):
        found.append((list(report.blocks[0].errors), report.blocks[0].verdict, list(report.milliseconds)))
        if len(found) == 1:
            assert len(compiled) == before
            assert report.blocks[0].structure == "diagonal"
            assert not report.ok
        assert "both" in str(report)
    methods = ["jaxnets", "jacrev", "jacfwd"]
    errors = ["jacrev", "jacfwd", "differences"]
    assert (
        found
        == [
            ([], "", []),
            ([], "", []),  # the numbers by hand are there
            (errors[:1], "", []),
            (errors[:2], "", []),
            (errors, "ok", []),
            (errors, "ok", methods),
        ]
    )


def test_differences_in_one_call_are_those_of_a_loop():
    leaves = [jax.device_put(np.random.default_rng(i).normal(size=size)) for i, size in enumerate([(3, 70), (2, 70)])]
    run = jax.jit(lambda w, x: [jn.softmax(jn.linear(x, w))])
    exact = [np.asarray(j).reshape(6, -1) for j in jax.jit(jax.jacrev(run, (0, 1)))(*leaves)[0]]
    with ThreadPoolExecutor(1) as pool:
        differences = Differences(run, leaves, [np.arange(leaf.size) for leaf in leaves], pool)
        differences.compute()
    step = 0.5 * np.finfo(np.float64).eps ** 0.2
    for i, (leaf, places) in enumerate(zip(leaves, differences.picked, strict=True)):
        found, kinks = differences.estimates(0, i, exact[i][:, places], np.full((6, 1), 1e-6))
        assert (found.shape, kinks) == ((6, 64), 0)
        for column, place in enumerate(places):

            def value(shift, i=i, leaf=leaf, place=place):
                moved = np.array(leaf)
                moved.flat[place] += shift
                return np.asarray(run(*leaves[:i], moved, *leaves[i + 1 :])[0]).ravel()

            slopes = [(value(h) - value(-h)) / (2 * h) for h in (step, step / 2)]
            np.testing.assert_allclose(found[:, column], (4 * slopes[1] - slopes[0]) / 3, rtol=1e-7, atol=1e-9)


def test_an_infinite_derivative_by_one_input_does_not_spoil_the_columns_of_another():
    """∂/∂y of x**y is NaN at x = −1, and 0 times it would be, too, in the columns by x."""
    report = jn.compare(lambda x, y: x**y, jnp.array([-1.0, 2.0]), jnp.array([2.0, 3.0]), timed=False)
    assert report.blocks[0].verdict == "ok"
    assert report.blocks[0].errors["jacfwd"].relative < 1e-14


@pytest.mark.parametrize("name", swept(list(jn.LAYERS), ["info_nce"]))
def test_the_example_of_every_layer_agrees(name):
    """What `jaxnets compare all` shows: the examples do not saturate, where autodiff would be the one that is wrong."""
    ((_, function, arguments),) = Compare(what=name).functions_of(name)
    assert jn.compare(function, *arguments).ok
