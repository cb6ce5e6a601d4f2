"""Tables at 80 columns: whole headers, whole names, nothing that is cut."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

import jaxnets as jn
from jaxnets.catalogue import catalogue
from jaxnets.learn.presets import make_problem
from jaxnets.show.formats import in_lines


def printed(table, width=80):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    return lines


def headers(lines):
    """The texts of the header, each a whole one."""
    end = next(i for i, line in enumerate(lines) if line.startswith("┡"))
    rows = [line.strip("┃").split("┃") for line in lines[:end] if line.startswith("┃")]
    return [" ".join(" ".join(cells).split()) for cells in zip(*rows, strict=True)]


def deep(width):
    params = {"params": {"TransformerEncoder_0": {"MultiHeadDotProductAttention_11": {"kernel": np.ones((width, width))}}}}

    def apply(params, x):
        inner = params["params"]["TransformerEncoder_0"]
        with jax.named_scope("TransformerEncoder_0"), jax.named_scope("MultiHeadDotProductAttention_11"):
            return jn.binary_cross_entropy_with_logits(x @ inner["MultiHeadDotProductAttention_11"]["kernel"], x)

    return apply, params, np.full((4, width), 0.5)


def test_catalogue_has_whole_names_formulae_and_headers():
    lines = printed(catalogue())
    text = "\n".join(lines)
    assert headers(lines) == ["layer: what it computes, and its Jacobians"]
    assert headers(printed(catalogue(), 160)) == ["layer", "computes", "Jacobians", "structure"]
    words = set(re.split(r"[\s│]+", text))
    for entry in catalogue().entries:
        assert f"{entry.name}:" in words
        assert all(set(formula.split()) <= words for formula in entry.formulae), entry.name


@pytest.mark.parametrize("model", ["mynet", "autoencoder", "conv(8) gelu max_pool(2) flatten linear(10) log_softmax"])
def test_shapes_have_whole_names_formulae_and_headers(model):
    problem = make_problem(model, (3, 8, 8) if "conv" in model else None, abstract=True)
    table = jn.tabulate(problem.loss, problem.params, problem.x)
    lines = printed(table)
    assert headers(lines) == ["layer, its ∂y/∂x and ∂y/∂w", "stored", "dense"]
    words = set(re.split(r"[\s│]+", "\n".join(lines)))
    for row in table.rows:
        assert row.layer in words
        for block in (*row.states, *row.weights):
            assert {*block.structure.split(), *block.formula.split(), block.dims} <= words, block


def test_long_names_are_broken_between_their_parts():
    function, params, x = deep(3)
    for table in (jn.tabulate(function, params, x), jn.compare(function, params, x, timed=False)):
        text = "\n".join(printed(table))
        assert "…" not in text
        for part in ("TransformerEncoder_0", "MultiHeadDotProductAttention_11"):
            assert part in text
    assert "binary_cross_entropy_with_logits" in "\n".join(printed(jn.tabulate(function, params, x)))
    assert in_lines("params['params']['Block_0']['kernel']") == "params['params']['Block_0']\n['kernel']"
    assert in_lines("Net/Block_0/Dense_0/in_projection") == "Net/Block_0/Dense_0/in_\nprojection"
    assert in_lines("linear") == "linear" and in_lines("") == ""


def test_comparisons_have_whole_headers_and_verdicts():
    found = jn.compare(lambda w, x: jn.mean(jn.relu(jn.linear(x, w))), jnp.ones((3, 4)), jnp.zeros((2, 4)))
    lines = printed(found)
    assert headers(lines) == ["Jacobian, structure", "error", "verdict"]
    assert "kinks" in "\n".join(lines) and "…" not in "\n".join(lines)
