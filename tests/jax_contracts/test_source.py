"""Nothing else is relied on: our source, read, leans on JAX only where a contract says so."""

import ast
import functools
import inspect
from pathlib import Path

import jax
import numpy as np
import pytest

from . import contracts, test_jaxprs, test_own_primitives, test_primitives, test_traces
from .contracts import CONTRACTS, inner_equations, traced
from .test_primitives import PRIMITIVES

PACKAGE = Path(__file__).parents[2] / "jaxnets"
WITH_CONTRACTS = (contracts, test_jaxprs, test_own_primitives, test_primitives, test_traces)
SEMI_PUBLIC = ("jax.core", "jax.extend", "jax.interpreters", "jax._src", "jax.custom_derivatives")
FILES = (
    "layers/marker.py",
    "autodiff/graph.py",
    "autodiff/jaxprs.py",
)  # where they may be touched; isinstance(x, jax.core.Tracer) is for all


def modules():
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def dotted(node) -> str:
    """`a.b.c` of an expression, "" for others."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return node.id if isinstance(node, ast.Name) else ""


def touches(tree) -> set[str]:
    """The names of semi-public modules of JAX, and of what is in them, that a file imports or uses."""
    aliases, found = {"jax": "jax"}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "jax":
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names = {alias.asname: alias.name for alias in node.names if alias.asname}
            aliases |= names
            found |= {alias.name for alias in node.names}
    found |= set(aliases.values())
    for node in ast.walk(tree):
        head, _, rest = dotted(node).partition(".")
        if rest and head in aliases:
            found.add(f"{aliases[head]}.{rest}")
    inside = {name for name in found if name.startswith(tuple(f"{module}." for module in SEMI_PUBLIC))}
    return inside | (found & set(SEMI_PUBLIC))


def words(tree) -> set[str]:
    """Every name, attribute, argument and text in a file."""
    found = set()
    for node in ast.walk(tree):
        found |= {getattr(node, field) for field in ("attr", "id", "arg", "name", "module") if hasattr(node, field)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


@functools.cache
def here() -> set[str]:
    """The words of the contracts, and of what they look with."""
    return set().union(*(words(parsed(Path(module.__file__))) for module in WITH_CONTRACTS))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_semi_public_modules_of_jax_are_touched_in_three_files(path):
    found = touches(parsed(path))
    assert not found - {"jax.core", "jax.core.Tracer"} or str(path.relative_to(PACKAGE)) in FILES


def test_a_touch_is_found_however_it_is_written():
    for line in (
        "from jax import core", "import jax.extend", "import jax.interpreters.ad as ad", "from jax._src import config",
        "import jax\njax.extend.core.Primitive", "from jax import interpreters as i\ni.ad.Zero",
        "def f():\n    from jax.custom_derivatives import SymbolicZero",
    ):  # fmt: skip
        assert touches(ast.parse(line)) - {"jax.core.Tracer"}, line
    assert touches(ast.parse("import jax\nisinstance(x, jax.core.Tracer)")) == {"jax.core", "jax.core.Tracer"}
    assert not touches(ast.parse("import jax\nfrom jax import lax\njax.jit, lax.scan, x.core"))


@pytest.mark.parametrize("file", FILES)
def test_what_is_taken_from_semi_public_modules_has_a_contract(file):
    taken = {name.rpartition(".")[2] for name in touches(parsed(PACKAGE / file))}
    assert "core" in taken
    assert not taken - here()


@functools.cache
def ours() -> set[str]:
    """The names of our functions, classes and fields, `jaxpr` left out: `JaxprFunction` has one, and JAX's are meant."""
    found = set()
    for node in (node for path in modules() for node in ast.walk(parsed(path))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            found.add(getattr(node.target, "id", getattr(node.target, "attr", "")))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted(node).startswith("self."):
            found.add(node.attr)
    return found - {"jaxpr"}


def handed(tree, body) -> set[str]:
    """The attributes and keys that a part of a file reads of values that neither we nor Python nor an array brought."""
    statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {alias.asname or alias.name.split(".")[0] for node in statements for alias in node.names}
    imported -= {"core", "ad", "batching", "mlir"}
    plain = {name for kind in (jax.Array, list, dict, set, str, np.dtype) for name in dir(kind)}
    plain |= {"f_back", "f_code", "f_lineno", "co_filename"}  # Python's frames
    read = set()
    for node in ast.walk(body):
        if isinstance(node, ast.Attribute) and dotted(node).split(".")[0] not in imported:
            read.add(node.attr)
        elif isinstance(node, ast.Call) and dotted(node.func) in ("hasattr", "getattr", "params.get"):
            read |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            read |= {node.slice.value} - {"pull", "tree", "maps"}  # parameters of product_p, ours
    return read - ours() - plain


RULE_FILES = (
    "autodiff/opaque.py",
    "autodiff/unmixed.py",
    *(f"autodiff/{path.name}" for path in sorted((PACKAGE / "autodiff").glob("primitive*.py"))),
)


@pytest.mark.parametrize("files", [*((file,) for file in FILES), RULE_FILES], ids=lambda files: files[0])
def test_what_is_read_of_what_jax_hands_us_has_a_contract(files):
    trees = [parsed(PACKAGE / file) for file in files]
    read = set().union(*(handed(tree, tree) for tree in trees))
    assert len(read) > 5
    assert not read - here()


def test_what_is_read_of_a_traced_function_has_a_contract():
    readers = [
        (path, node) for path in modules() for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef) and "make_jaxpr" in words(node)
    ]  # fmt: skip
    assert {node.name for _, node in readers} >= {"_opaque_outputs", "_affine"}
    for path, node in readers:
        assert not handed(parsed(path), node) - here(), f"{path}: {node.name}"


@pytest.mark.parametrize("file", FILES)
def test_overridden_methods_have_a_contract_with_their_arguments(file):
    from jax import core

    for node in ast.walk(parsed(PACKAGE / file)):
        bases = [dotted(base) for base in getattr(node, "bases", ())]
        if not any(base.startswith("core.") for base in bases):
            continue
        (base,) = (getattr(core, name.removeprefix("core.")) for name in bases)
        methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
        overridden = [m for m in methods if hasattr(base, m.name) or m.name.startswith("process_")]
        assert overridden
        for method in overridden:
            assert {method.name, *(arg.arg for arg in method.args.kwonlyargs)} <= here(), method.name


def test_every_primitive_with_a_rule_has_a_contract():
    from jaxnets.autodiff import graph, primitives

    by_name = {
        *primitives.RULES,
        *primitives.ELEMENTWISE,
        *primitives.WITHOUT_DERIVATIVE,
        *primitives.LIKE_IDENTITY,
        *primitives.UNMIXED_AXES,
    }
    assert by_name == set(PRIMITIVES)
    assert graph.INLINED | graph.WITHOUT_DERIVATIVE | set(primitives.TABLES) <= here()


def test_every_parameter_that_a_rule_takes_has_a_contract():
    from jaxnets.autodiff import primitives

    for name, rule in primitives.RULES.items():
        parameters = inspect.signature(rule).parameters.values()
        named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        rest = any(p.kind is p.VAR_KEYWORD for p in parameters)
        made = PRIMITIVES[name]
        sharing = {key for other, same in primitives.RULES.items() if same is rule for key in PRIMITIVES[other].params}
        assert {p.name for p in named if p.default is p.empty} <= set(made.params), name
        assert {p.name for p in named} <= sharing, name
        assert rest or made.exactly, f"the rule of {name} takes no other parameters, and its contract does not say so"


def test_every_parameter_that_tells_shared_axes_has_a_contract():
    from jaxnets.autodiff import primitives
    from jaxnets.autodiff.opaque import _between_matrices

    class Noted(dict):
        def __getitem__(self, key):
            read.add(key)
            return super().__getitem__(key)

    for name, shared in primitives.UNMIXED_AXES.items():
        read: set[str] = set()
        made = PRIMITIVES[name]
        (equation,) = (e for e in inner_equations(traced(made.program, *made.args)) if e.primitive.name == name)
        shared(0, equation.invars[0].aval, equation.outvars[0].aval, Noted(equation.params))
        assert read <= set(made.params), name
        assert read or made.exactly or shared is _between_matrices, name


def test_the_places_that_contracts_name_exist():
    def is_named(node, name):
        return getattr(node, "name", None) == name or name in {getattr(t, "id", None) for t in getattr(node, "targets", ())}

    def exists(place):
        file, _, dotted_name = place.partition(": ")
        body = parsed(PACKAGE / file).body
        for name in dotted_name.split("."):
            found = [node for node in body if is_named(node, name)]
            if not found:
                return False
            body = getattr(found[0], "body", [])
        return True

    assert len(CONTRACTS) > 25
    assert not [place for place in sorted({p for contract in CONTRACTS for p in contract.places}) if not exists(place)]
