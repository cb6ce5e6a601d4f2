"""What the report page tells, against JAX and NumPy: Jacobians, saturation, training, tables."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.errors import SpecError
from jaxnets.learn.presets import Problem, make_problem
from jaxnets.report.content import comparisons, describe
from jaxnets.report.page import page_html
from jaxnets.report.saturation import saturation
from jaxnets.report.speed import benchmark_tables
from jaxnets.report.training import FRAMES, LEVELS, Training, replay


@pytest.fixture(scope="module")
def network():
    return make_problem("linear(30) residual(linear(30) relu) linear(3) log_softmax", (2,), 3, dtype="float64")


@pytest.fixture(scope="module")
def described(network):
    return describe(network)


def filled(block, name):
    """A heat map from its sparse form."""
    found = np.array(block["values"], float) if name == "autodiff" else np.zeros(np.shape(block["values"]))
    for r, c, x in block[name]:
        found[r, c] = x
    return found


def test_heat_maps_hold_the_numbers_of_autodiff(network, described):
    p, x = jax.device_get((network.params, network.x))
    modules = {f"{i} {m['name']}": m for i, m in enumerate(described["modules"])}
    first = modules["0 linear"]["jacobians"]
    assert [block["argument"] for block in first] == ["x", "w", "b"]
    np.testing.assert_allclose(first[0]["values"], p[0]["w"][:24, :2], rtol=1e-5)

    @jax.jit
    def by_autodiff(p, x):
        z = jn.models.serial(*network.model.parts[:2]).apply(p[:2], x) @ p[2]["w"].T + p[2]["b"]
        return jax.jacrev(lambda w: x @ w.T)(p[0]["w"]), jax.jacrev(jax.nn.log_softmax)(z[0])

    by_weights, by_scores = map(np.asarray, by_autodiff(p, x))
    by_weights = by_weights.reshape(90, 60)
    np.testing.assert_allclose(first[1]["values"], by_weights[:24, :32], rtol=1e-5)
    assert (first[1]["output"], first[1]["input"], first[1]["example"]) == ([3, 30], [30, 2], False)
    (last,) = modules["5 log_softmax"]["jacobians"]
    np.testing.assert_allclose(last["values"], by_scores, rtol=1e-5)
    assert last["example"] and last["possible"] == ["111"] * 3
    (slope,) = modules["2 relu"]["jacobians"]
    assert 0 < np.diag(slope["values"]).sum() < 24  # zero by structure is not zero by chance
    assert slope["possible"] == ["".join("01"[r == c] for c in range(30)) for r in range(24)]
    for module in described["modules"]:
        for block in module["jacobians"]:
            gap = np.array(block["values"]) - filled(block, "autodiff")
            np.testing.assert_allclose(filled(block, "difference"), gap, atol=1e-5)
            assert np.abs(filled(block, "difference")).max() < 1e-14


def test_a_wrong_rule_is_seen_as_a_difference():
    known = dict(jn.LAYERS)

    @jn.layer
    def halved(x):
        """x / 2, twice as steep as it is."""
        return x / 2

    @halved.jacobian
    def _(y, x):
        return (jn.rules.diagonal(jnp.ones_like(x)),)

    x = np.ones((2, 3))
    odd = Problem("odd", jn.models.linear(3), (), x, lambda p, x: halved(x), lambda p, x: jn.sum(halved(x)), "ones")
    try:
        block = describe(odd)["modules"][0]["jacobians"][0]
    finally:
        for name in set(jn.LAYERS) - set(known):
            del jn.LAYERS[name]
    np.testing.assert_array_equal(block["values"], np.eye(3))
    np.testing.assert_array_equal(filled(block, "autodiff"), np.eye(3) / 2)
    np.testing.assert_array_equal(filled(block, "difference"), np.eye(3) / 2)


def test_a_value_that_is_used_twice_has_an_arrow_a_use():
    x = np.array([[1.0, 2.0]])
    odd = Problem("product", jn.models.linear(2), (), x, None, lambda p, x: jn.sum(jn.multiply(x, jn.add(x, 3 * x))), "x")
    odd = Problem(**{**vars(odd), "network": odd.loss})
    modules = describe(odd)["modules"]
    product = next(m for m in modules if m["name"] == "multiply")
    for block, slope in zip(product["jacobians"], ([4.0, 8.0], [1.0, 2.0]), strict=True):
        np.testing.assert_array_equal(filled(block, "autodiff"), np.diag(slope))
        assert not block["difference"]


def test_modules_tell_their_code_and_documentation(described):
    linear = described["modules"][0]
    assert linear["documentation"].startswith("Affine map") and "∂y[b,o]/∂w[o,i] = x[b,i]" in linear["documentation"]
    assert "def linear(" in linear["forward"] and "@linear.jacobian" in linear["rule"]
    assert re.fullmatch(r"jaxnets/layers/linear\.py:\d+", linear["file"])
    assert described["chain"].endswith("[30×2]") and len(described["plans"]) == 2
    assert all(sum(cost["chosen"] for cost in plan["costs"]) == 1 for plan in described["plans"])
    assert described["about"]["parameters"] == str(30 * 2 + 30 + 30 * 30 + 30 + 3 * 30 + 3)[:1] + ",113"


def test_many_modules_share_the_room():
    deep = describe(make_problem(" ".join(["linear(30) tanh"] * 12), (30,), 2))
    cells = sum(np.size(block["values"]) for module in deep["modules"] for block in module["jacobians"])
    assert 6_000 < cells < 13_000


def test_comparisons_are_those_of_compare():
    small = make_problem("linear(2)", (2,), 2)
    found = comparisons(small, timed=False)
    direct = jn.compare(small.loss, small.params, small.x, timed=False)
    assert [c["ok"] for c in found] == [True, True] and [c["title"] for c in found] == ["the network", "its average loss"]
    errors = [[block["errors"]["jacrev"]["absolute"] for block in found[1]["blocks"]]]
    assert errors == [[block.errors["jacrev"].absolute for block in direct.blocks]]


def test_saturation_is_what_float32_does():
    found = saturation()
    t = np.array(found["positions"], float)
    value = {series["name"]: np.array(series["values"]) for panel in found["panels"][2:3] for series in panel["series"]}
    exact = -t - np.log1p(2 * np.exp(-t))  # log p₂
    np.testing.assert_allclose(value["jn.log_softmax(z)"], exact, rtol=5.1e-6)
    np.testing.assert_allclose(value["float64"], exact, rtol=5.1e-6)
    naive = value["log(exp(z) / Σ exp(z))"]
    assert np.isfinite(naive[t <= 84]).all() and not np.isfinite(naive[t > 89]).any()
    slopes = {series["name"]: np.array(series["values"]) for series in found["panels"][3]["series"]}
    rest = 2 * np.exp(-t) / (1 + 2 * np.exp(-t))  # 1 − p₁
    normal = rest > 1e-37
    np.testing.assert_allclose(slopes["jn.grad of jn.log_softmax"][normal], rest[normal], rtol=5.1e-6)
    vanished = slopes["jax.grad of jax.nn.log_softmax"][(t > 20) & (t < 80)]
    assert np.all(np.abs(vanished) < 1e-12) or not np.allclose(vanished, rest[(t > 20) & (t < 80)], rtol=0.5)


def test_the_training_is_adams():
    training = Training(make_problem("linear(5) tanh linear(3) log_softmax", (2,), 3, dtype="float64"))
    params, x, y, grid = jax.device_get((training.state[1], training.x, training.points.y, training.grid))

    def forward(p, x):
        return jax.nn.log_softmax(jnp.tanh(x @ p[0]["w"].T + p[0]["b"]) @ p[2]["w"].T + p[2]["b"])

    @jax.jit
    def loss(p):
        return -jnp.mean(forward(p, x)[jnp.arange(len(y)), y])

    adam = optax.adam(0.02)

    @jax.jit
    def step(params, moments):
        updates, moments = adam.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments

    moments = jax.jit(adam.init)(params)
    for _ in range(3):
        params, moments = step(params, moments)
    params = jax.device_get(params)
    log_p = jax.jit(forward)
    frame = training.step(3)
    assert frame["step"] == 3
    np.testing.assert_allclose(frame["loss"], loss(params), rtol=1e-10)
    np.testing.assert_allclose(frame["accuracy"], np.mean(np.argmax(np.asarray(log_p(params, x)), 1) == y))
    probabilities = np.exp(np.asarray(log_p(params, grid)))
    codes = np.array([ord(c) - 48 for c in frame["regions"]])
    np.testing.assert_array_equal(codes // LEVELS, probabilities.argmax(1))
    sure = (probabilities.max(1) - 1 / 3) * 1.5
    assert np.all(np.abs(codes % LEVELS + 0.5 - sure * LEVELS) <= 0.5 + 1e-9)
    hidden = x @ params[0]["w"].T + params[0]["b"]
    slopes = np.sqrt(np.sum(np.square(1 - np.tanh(hidden) ** 2), 1)).mean()
    np.testing.assert_allclose(frame["norms"][:2], [np.linalg.norm(params[0]["w"]), slopes], rtol=1e-8)


def test_a_replay_learns_and_a_model_that_does_not_fit_is_told(network):
    found = replay(network)
    frames = found["frames"]
    assert 10 < len(frames) <= FRAMES and frames[0]["step"] == 0 and frames[-1]["accuracy"] > 0.95
    assert len(frames[0]["norms"]) == len(found["layers"]) and found["data"] == "spiral"
    with pytest.raises(SpecError, match=r"maps \[8\] to \[4\].*linear\(3\) log_softmax"):
        Training(make_problem("linear(4)", (8,)))


def test_a_network_of_one_number_has_the_replay_of_a_function(monkeypatch):
    monkeypatch.setattr("jaxnets.report.training.STEPS", 2)
    found = replay(make_problem("linear(3) tanh linear(1)", (1,), 2))
    assert found["data"] == "function" and found["classes"] is None and found["frames"][-1]["step"] == 2


def test_the_benchmark_tables_are_those_of_the_guide():
    found = benchmark_tables()
    assert found and all(len(row) == len(table["columns"]) for table in found for row in table["rows"])
    assert all(table["measured"].startswith("Measured on ") for table in found)


def test_the_page_holds_its_data_and_cannot_be_broken_out_of():
    data = {"title": "</script><script>alert(1)</script>__DATA__", "numbers": [1.5, float("nan"), float("-inf")]}
    text = page_html(data)
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    assert json.loads(held) == {**data, "numbers": [1.5, "nan", "-inf"]}
    assert "alert(1)</script>" not in text
    assert not re.search(r"(src|href)=[\"']?(http|//)|@import|url\((?!#)", text)
