"""The comparison finds what is wrong, forgives kinks, and says what it did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxnets as jn
from jaxnets.show.compare import FULL_COLUMNS


def with_rule(monkeypatch, layer, rule):
    monkeypatch.setattr(layer, "rule", rule)


def test_right_rules_agree_with_every_method():
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)))}
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5)))
    report = jn.compare(lambda params, x: jn.softmax(jn.linear(x, params["w"])), params, x)
    assert report.ok
    assert [block.name for block in report.blocks] == ["∂y/∂params['w']", "∂y/∂x"]
    for block in report.blocks:
        assert set(block.errors) == {"jacrev", "jacfwd", "differences"}
        assert all(block.errors[m].relative < 1e-14 for m in ("jacrev", "jacfwd"))
        assert 0 < block.errors["differences"].relative < 1e-6
        assert all(ms > 0 for ms in block.milliseconds.values())
    assert report.blocks[1].structure == "factored"


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
    assert data["blocks"][0]["milliseconds"] == {}


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="no argument holds a real array"):
        jn.compare(lambda x: x, jnp.arange(3))


def test_empty_batch():
    assert jn.compare(jn.softmax, jnp.ones((0, 3)), timed=False).ok


def test_forward_columns_do_not_need_the_whole_basis():
    """Comparing 4,000 inputs takes chunks of the identity, not its 128 MB."""
    from jaxnets.show.compare import _columns

    x = jnp.ones(4000)
    compiled = jax.jit(lambda x: _columns(lambda x: [jn.mean(x)], x, np.arange(4000))).lower(x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4000 * 4000 * 8 / 4


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_width_loses_the_verdict(width):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(jn.compare(jn.softmax, jnp.ones((2, 3)), timed=False))
    assert "│ ok" in capture.get()
    assert "…" not in capture.get()
