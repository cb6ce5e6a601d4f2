"""What the project promises of itself: wings, documentation that matches the code, a README whose example runs."""

import ast
import builtins
import dis
import re
import types
from importlib import import_module, metadata
from pathlib import Path

import jax
import pytest

import jaxnets
from jaxnets.catalogue import catalogue

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxnets"
FLOORS = [  # wings and single files: one may import only from itself and from those on lower floors
    {"errors", "files", "names", "guide", "languages"},
    {"checks"},
    {"algebra"},
    {"layers"},
    {"losses"},
    {"catalogue"},
    {"autodiff"},
    {"curvature"},
    {"learn"},
    {"show"},
    {"course", "report", "reference"},
    {"cli", "site"},
    {"__main__"},
]


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def wing(path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imports(path, text):
    """The wings that a file imports from, at its top or inside a function, by a statement or by `import_module`."""
    package = ("jaxnets", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            assert path.name in ("__init__.py", "reference.py"), f"{path.name} imports a module by its name"
        yield from (name.split(".")[1] for name in names if name.startswith("jaxnets.") and name.count("."))


def upward(path, text=None):
    """What a file imports from its own floor or above, but for its own wing."""
    own = wing(path)
    return [name for name in imports(path, text or path.read_text()) if name != own and floor(name) >= floor(own)]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_import_only_from_their_own_wing_and_from_wings_below(path):
    if path not in (PACKAGE / "__init__.py", PACKAGE / "reference.py"):  # they hand on and list the names of all
        assert not upward(path)


def test_an_upward_import_is_found_wherever_it_stands():
    path = PACKAGE / "algebra" / "terms.py"
    assert not upward(path, "from .factors import Label\nimport jax\nfrom ..errors import ShapeError")
    assert upward(path, "from ..layers import relu") == ["layers"]
    assert upward(path, "from .. import show") == ["show"]
    assert upward(path, "def f():\n    from ..show.html import html_table") == ["show"]
    assert upward(path, "def f():\n    import jaxnets.show.plots") == ["show"]
    assert upward(PACKAGE / "report" / "page.py", "from ..course import tricks") == ["course"]


def test_the_table_of_wings_is_in_order_and_says_what_they_say():
    """The page on contributing has every wing below those that it may import from, and the beginning of its docstring."""
    rows = re.findall(r"^\| `(\w+)(/|\.py)` \| (.*) \|$", (PACKAGE / "guide" / "contributing.md").read_text(), re.M)
    floors = [floor(name) for name, _, _ in rows]
    assert floors == sorted(floors)
    assert {name for name, _, _ in rows} == set().union(*FLOORS) - {"__main__"}
    for name, ending, told in rows:
        path = PACKAGE / name / "__init__.py" if ending == "/" else PACKAGE / f"{name}.py"
        documentation = ast.get_docstring(ast.parse(path.read_text()))
        assert " ".join(documentation.split("\n\n")[0].split()) == told.replace("  ", " "), name


def test_a_wing_says_what_it_is():
    wings = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert wings == {*jaxnets.WINGS, "checks", "course", "report", "guide", "languages", "cli"} - {"errors"}
    for name in wings:
        face = (PACKAGE / name / "__init__.py").read_text()
        assert ast.get_docstring(ast.parse(face)), name
        assert len(face.splitlines()) <= 60, f"the face of {name} is too long to be read at a glance"


def test_docstrings_hold_the_formulae_that_the_rules_give():
    """The formulae in a docstring are those that `Jacobian.formula` makes of the rule itself, so they cannot drift."""
    absent = []
    for entry in catalogue().entries:
        documentation = " ".join(jaxnets.LAYERS[entry.name].__doc__.split())
        for formula in entry.formulae:
            left, right = formula.split(" = ")
            if entry.name == "flatten":  # its merged indices depend on the example's shape
                assert "∂y" in documentation
                continue
            right = re.sub(r" \+ \d+\)", " + n1)", right)  # the place in a concatenation
            if f"{left} = {right}" not in documentation:
                absent.append(f"{entry.name}: {left} = {right}")
    assert not absent


def test_every_layer_has_a_rule_and_a_docstring():
    for layer in jaxnets.LAYERS.values():
        assert layer.rule is not None
        assert "∂y" in layer.__doc__


def global_names(code):
    """The global names that the functions in a piece of code read."""
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from (step.argval for step in dis.get_instructions(part) if step.opname == "LOAD_GLOBAL")
            yield from global_names(part)


@pytest.mark.parametrize("folder", ["layers", "losses"])
def test_functions_read_only_names_that_exist(folder):
    """Linters cannot tell: to them, the names of axes in the annotations of shapes are undefined, too."""
    for path in (PACKAGE / folder).glob("*.py"):
        module = import_module(f"jaxnets.{folder}.{path.stem}" if path.stem != "__init__" else f"jaxnets.{folder}")
        read = set(global_names(compile(path.read_text(), path, "exec")))
        assert not read - set(vars(module)) - set(vars(builtins)), path.name


def test_no_public_name_is_also_the_name_of_a_module():
    names = {path.stem for path in PACKAGE.iterdir()}
    assert not names & set(jaxnets.__all__)
    assert {"relu", "jacobian", "LAYERS", "plots"} <= set(dir(jaxnets))
    assert jaxnets.__version__ == metadata.version("jaxnets")
    with pytest.raises(AttributeError, match="nonsense"):
        jaxnets.nonsense  # noqa: B018


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
