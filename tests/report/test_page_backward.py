"""The backward pass step by step: its numbers are those of JAX, and the page shows one module at a time."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.learn.presets import Problem, make_problem
from jaxnets.report.content import describe

from .tabs import NARROW, WIDE


def numbers(text):
    return [float(x.replace("−", "-")) for x in re.findall(r"[-−]?\d[\d.e+-]*", text)]


@pytest.fixture(scope="module")
def gradients(asked):
    """∂C/∂params and ∂C/∂x by JAX."""
    return jax.device_get(jax.jit(jax.grad(asked.loss, argnums=(0, 1)))(asked.params, asked.x))


def test_the_pass_ends_with_the_gradient_of_jax(data, gradients):
    found, (params, x) = data["backward"]["gradients"], gradients
    assert list(found) == sorted(["x", *(f"params[{i}]['{name}']" for i in (0, 3) for name in "wb")])
    np.testing.assert_allclose(found["x"]["values"], x.ravel(), rtol=1e-5)
    np.testing.assert_allclose(found["params[3]['w']"]["values"], params[3]["w"].ravel(), rtol=1e-5)
    assert all(0 <= one["difference"] < 1e-15 for one in found.values())


def test_every_row_times_its_jacobian_is_the_row_that_goes_out(data):
    """Of the first example; rows that meet add up."""
    passed = data["backward"]
    assert passed["rows"][-1] == [1]
    for module, row, parts in zip(data["modules"], passed["rows"], passed["parts"], strict=True):
        for j, part in zip(module["jacobians"], parts, strict=True):
            values = np.array(j["values"])
            row_0 = np.array(row[: int(np.prod(j["output"]))] if j["example"] else row)[: len(values)]
            expected = row_0 @ values[: len(row_0)]
            np.testing.assert_allclose(part[: len(expected)], expected[: len(part)], rtol=1e-4, atol=1e-12)
    add = next(i for i, module in enumerate(data["modules"]) if module["name"] == "add")
    by_tanh = np.array(passed["parts"][add - 1][0])
    np.testing.assert_allclose(passed["rows"][add - 2], by_tanh + passed["rows"][add], rtol=1e-4)


def test_a_wrong_rule_is_seen_in_the_end(monkeypatch):
    found = make_problem("linear(2)", (2,), 2, dtype="float64")
    other = Problem(**{**vars(found), "loss": lambda p, x: 1.0 * found.loss(p, x)})
    monkeypatch.setattr(jax, "grad", lambda f: lambda leaves: [2.0 + jnp.zeros_like(leaf) for leaf in leaves])
    assert describe(other)["backward"]["gradients"]["x"]["difference"] > 0.1


def test_keys_and_buttons_go_from_module_to_module(show, data, gradients):
    tab = show()
    last = len(data["modules"]) - 1
    tab.click("#backward")
    for step, (key, to) in enumerate(
        [("ArrowRight", 1), ("ArrowDown", 2), ("ArrowLeft", 1), ("ArrowUp", 0), ("ArrowUp", 0)]
    ):
        tab.keyboard.press(key)
        name = data["modules"][last - to]["name"]
        assert tab.inner_text("#pass h3") == f"Step {to + 1} of {last + 2}: {name}", step
        assert [int(one.get_attribute("data-module")) for one in tab.locator("g.now").all()] == [last - to]
    for _ in range(3):
        tab.get_by_role("button", name="Next step").click()
    module = last - 3
    assert tab.evaluate("document.activeElement.textContent") == "Next step"
    assert tab.locator("path.arrow.now").count() == len(data["modules"][module]["jacobians"])
    assert tab.inner_text(".pass .chain").count("∂h") == 2 * 3
    shown = tab.locator(".pass .jacobian").first
    assert "[1×12] = [1×3]·[3×12]" in shown.inner_text()
    row, part = shown.locator("p.math").nth(1), shown.locator("p.math").nth(2)
    np.testing.assert_allclose(numbers(row.inner_text()), data["backward"]["rows"][module][:3], rtol=1e-2)
    np.testing.assert_allclose(numbers(part.inner_text()), data["backward"]["parts"][module][0][:8], rtol=1e-2)

    for _ in range(last + 2 - 4):
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#pass h3") == f"Step {last + 2} of {last + 2}: the end"
    assert tab.get_by_role("button", name="Next step").is_disabled()
    by_x = tab.locator(".pass tbody tr").first.locator("td").first.inner_text()
    np.testing.assert_allclose(numbers(by_x), gradients[1].ravel()[:8], rtol=1e-2)
    tab.wait_for_url(f"**backward={last + 2}")
    tab.reload()
    assert tab.inner_text("#pass h3").endswith("the end")
    tab.focus("#pass")
    tab.keyboard.press("Escape")
    assert tab.locator("#pass, #graph .now").count() == 0
    assert tab.evaluate("document.activeElement.id") == "backward"


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_every_step_fits_the_window_in_french(show, data, size):
    tab = show(size=size)
    tab.click("#language")
    tab.click("#backward")
    for _ in range(len(data["modules"])):
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#pass h3").endswith("la fin")
    assert "Le gradient, sur tous les exemples" in tab.inner_text("#pass")
