"""What the project promises of itself: floors, documentation that matches the code, a README whose example runs."""

import ast
import re
from pathlib import Path

import jax
import pytest

import jaxnets
from jaxnets.catalogue import catalogue

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxnets"
FLOORS = [  # a file may import only from its own floor and those below
    {"errors", "files", "factors", "contraction", "terms", "display", "html", "jacobian", "rules", "samples"},
    {"marker", "layer"},
    {"layers", "losses", "primitives"},
    {"graph", "plan", "chunks", "eliminate", "transforms"},
    {"catalogue", "tabulate", "explain", "compare", "check", "diagram", "regularizers", "curvature"},
    {"initializers", "models", "data", "spec"},
    {"checkpoint", "evaluate", "descent", "records", "train"},
    {"plots", "practicum", "tricks", "report", "examples", "reference", "cli", "__init__", "__main__"},
]


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def floor(path):
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imports(path):
    """The modules of the package that a file imports when it is loaded."""
    package = ("jaxnets", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            parent = package[: len(package) - node.level + 1]
            names = (node.module or "").split(".") if node.module else [node.names[0].name]
            yield PACKAGE.joinpath(*parent[1:], names[0])
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "jaxnets":
            yield PACKAGE.joinpath(*node.module.split(".")[1:2])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_import_only_from_their_floor_and_below(path):
    for target in imports(path):
        assert floor(target if target.is_dir() else target.with_suffix(".py")) <= floor(path), (
            f"{path.name} imports {target.name}"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_semi_public_modules_of_jax_are_touched_in_two_files(path):
    semi_public = re.findall(
        r"^from jax(?:\.extend|\.interpreters)\S* import .*|^from jax import core|jax\._src", path.read_text(), re.M
    )
    assert not semi_public or path.name in ("marker.py", "graph.py")


@pytest.mark.parametrize("entry", catalogue().entries, ids=lambda entry: entry.name)
def test_docstrings_hold_the_formula_that_the_rule_gives(entry):
    """The formulae in a docstring are those that `Jacobian.formula` makes of the rule itself, so they cannot drift."""
    documentation = " ".join(jaxnets.LAYERS[entry.name].__doc__.split())
    for formula in entry.formulae:
        left, right = formula.split(" = ")
        if entry.name in ("mean", "flatten"):  # their numbers and merged indices depend on the example's shape
            assert "∂y" in documentation
            continue
        right = re.sub(r" \+ \d+\)", " + n1)", right)  # the place in a concatenation
        assert f"{left} = {right}" in documentation


def test_every_layer_has_a_rule_and_a_docstring():
    for layer in jaxnets.LAYERS.values():
        assert layer.rule is not None
        assert "∂y" in layer.__doc__


def test_public_names_win_over_modules_of_the_same_name():
    import jaxnets.algebra.jacobian
    import jaxnets.layers.layer
    import jaxnets.show.compare
    import jaxnets.show.tabulate

    for name in ("jacobian", "layer", "compare", "tabulate"):
        assert callable(getattr(jaxnets, name))
    assert {"relu", "jacobian", "LAYERS"} <= set(dir(jaxnets))
    with pytest.raises(AttributeError, match="nonsense"):
        jaxnets.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="cannot be replaced"):
        jaxnets.jacobian = None


@pytest.mark.newest
def test_readme_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    known = dict(jaxnets.LAYERS)
    try:
        with jax.enable_x64(False):
            for block in blocks:
                exec(compile(block, "README.md", "exec"), {})
    finally:  # its layer is not one of ours
        for name in set(jaxnets.LAYERS) - set(known):
            del jaxnets.LAYERS[name]
