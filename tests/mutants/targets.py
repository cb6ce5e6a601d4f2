"""What is altered: rules and what they use, the algebra, and the way from a function's graph to its Jacobian."""

import ast
import gc
import importlib
import inspect
import pkgutil
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jaxnets
from jaxnets.algebra.factors import Operator
from jaxnets.autodiff.primitives import RULES

ROOT = Path(jaxnets.__file__).parent
WHOLE = ("algebra", "autodiff")  # of these wings every function is a target
BY_RULES = ("layers", "losses")  # of these the rules, and what rules use
# No families, but what all families stand in.
FRAME = {
    "jaxnets.checks.annotations",
    "jaxnets.checks.arguments",
    *(f"jaxnets.layers.{name}" for name in ("layer", "marker", "samples")),
}
# Calls that give axes their letters in formulae: no number depends on them.
NAMING = {"axis_names", "channel_axis_names", "_replace"}


@dataclass(frozen=True)
class Target:
    """A function, the classes that it is defined in, and the layers or primitives whose rule it is or serves."""

    name: str
    file: str  # below jaxnets/
    definition: ast.FunctionDef = field(compare=False, repr=False)
    classes: tuple[str, ...]
    code: types.CodeType = field(compare=False, repr=False)
    rule: bool = False
    layers: tuple[str, ...] = ()

    @property
    def functions(self) -> list[types.FunctionType]:
        return holders(self.code)


def holders(code: types.CodeType) -> list[types.FunctionType]:
    """The functions that run this code: one, or the closures that were made of it so far."""
    found = gc.get_referrers(code)
    return [f for f in found if isinstance(f, types.FunctionType) and f.__code__ is code]


@lru_cache(None)
def targets() -> tuple[Target, ...]:
    """All of them, file by file."""
    import_all()
    alive = {
        (f.__code__.co_filename, f.__code__.co_firstlineno, f.__name__): f
        for f in gc.get_objects() if isinstance(f, types.FunctionType) and f.__code__.co_filename.startswith(str(ROOT))
    }  # fmt: skip
    names, serving = rules(), helpers()
    found: list[Target] = []
    for wing in (*WHOLE, *BY_RULES):
        for path in sorted((ROOT / wing).rglob("*.py")):
            for definition, classes in definitions(ast.parse(path.read_text())):
                function = alive.get((str(path), first_line(definition), definition.name))
                if function is None or abstract(definition):
                    continue
                layers = serving.get(function, ())
                if wing in WHOLE or function in names or layers:
                    name, known = names.get(function, (".".join((*classes, definition.name)), layers))
                    file = str(path.relative_to(ROOT))
                    rule = function in names
                    found.append(Target(name, file, definition, classes, function.__code__, rule, known))
    several = [t.name for t in found]
    return tuple(t if several.count(t.name) == 1 else renamed(t) for t in found)


def renamed(target: Target) -> Target:
    """With its module in front, where functions of two files have one name."""
    fields = {**vars(target), "name": f"{Path(target.file).stem}.{target.name}"}
    return Target(**fields)


def import_all():
    for module in pkgutil.walk_packages(jaxnets.__path__, "jaxnets."):
        if module.name.split(".")[1] in (*WHOLE, *BY_RULES):
            importlib.import_module(module.name)


def definitions(tree: ast.AST, classes=()) -> Iterator[tuple[ast.FunctionDef, tuple[str, ...]]]:
    """Functions and methods, with the classes around them; functions inside functions belong to these."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, classes
        elif isinstance(node, ast.ClassDef):
            yield from definitions(node, (*classes, node.name))
        elif isinstance(node, ast.If | ast.Try):
            yield from definitions(node, classes)


def first_line(definition) -> int:
    return min([definition.lineno, *(d.lineno for d in definition.decorator_list)])


def abstract(definition) -> bool:
    """A method that others must define, or one form of an overloaded function: there is nothing to alter."""
    last = definition.body[-1]
    raises = isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last)
    return raises or ast.unparse(last) == "..."


# --- rules, and what serves them ----------------------------------------------------------------------------------


def rules() -> dict[Callable, tuple[str, tuple[str, ...]]]:
    """{rule: what it is called here, and whose it is}."""
    layers = jaxnets.LAYERS.items()
    tables = {
        "rule of": {name: layer.rule for name, layer in layers},
        "hessian of": {name: layer.hessian_rule for name, layer in layers},
        "primitive": RULES,
    }
    found: dict[Callable, tuple[str, tuple[str, ...]]] = {}
    for kind, table in tables.items():
        for name, rule in table.items():
            if rule is not None:
                names = (*found[rule][1], name) if rule in found else (name,)
                found[rule] = f"{kind} {' '.join(names)}", names
    return found


def helpers() -> dict[Callable, tuple[str, ...]]:
    """{function, or method of an operator, that rules use: the layers of these rules}."""
    known: dict[Any, tuple[str, ...]] = {}
    for name, layer in jaxnets.LAYERS.items():
        for rule in filter(None, (layer.rule, layer.hessian_rule)):
            for thing in reach(rule):
                methods = vars(thing).values() if inspect.isclass(thing) else [thing]
                for found in (inspect.unwrap(getattr(m, "fget", m)) for m in methods if callable(m) or hasattr(m, "fget")):
                    if found.__name__ not in NAMING | {"formula", "symbols", "legend_in_product"}:
                        known[found] = (*known.get(found, ()), name)
    return known


def reach(start) -> set:
    """What a function uses of the families of layers and losses, directly or not; an operator with its base classes."""
    seen: set = set()
    stack = [start]
    while stack:
        thing = stack.pop()
        space = sys.modules[thing.__module__].__dict__
        found = [space[name] for name in names_used(thing) if name in space]
        for other in found + (list(thing.__bases__) if inspect.isclass(thing) else []):
            fits = inspect.isfunction(other) or (inspect.isclass(other) and issubclass(other, Operator))
            if fits and is_family(other.__module__ or "") and other not in seen:
                seen.add(other)
                stack.append(other)
    return seen


def is_family(module: str) -> bool:
    return module.startswith(tuple(f"jaxnets.{wing}." for wing in BY_RULES)) and module not in FRAME


@cache
def names_used(thing) -> set[str]:
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(thing)))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"_"}  # every rule is called so
