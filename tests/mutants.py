"""Mutation testing: every rule is altered in every small way, and the suite must notice.

`python -m tests.mutants [--stale] [NAME ...]` prints for each rule, and for each method that rules rely on, how many mutants
there are, how many fail a property or an exact table, and the survivors.  A mutant that raises is noticed too.  With
`--stale` those that EQUIVALENT lists are tried as well.
"""

import ast
import copy
import inspect
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any
from unittest.mock import patch

import mpmath
import numpy as np

import jaxnets
from jaxnets.algebra.factors import Operator, Selection, Slice
from jaxnets.algebra.rules import first_largest, window
from jaxnets.autodiff import primitives
from jaxnets.layers.softmax import most_likely_mask

from . import properties
from .autodiff import test_primitives as primitive_tests
from .cases import CASES
from .layers import (
    test_accuracy,
    test_activations,
    test_attention,
    test_conventions,
    test_convolution,
    test_normalize,
    test_reduce,
)
from .losses import test_loss_hessian, test_losses
from .properties import PROPERTIES, reference

EXACT = (  # files of exact tables and tails
    test_conventions, test_reduce, test_activations, test_normalize, test_attention, test_convolution, test_losses,
    test_loss_hessian,     test_accuracy,
)  # fmt: skip

# --- what is mutated ----------------------------------------------------------------------------------------------


KINDS = {"rule": "rule", "hessian_rule": "hessian"}  # what functions a layer has beside its forward, and their names here


@dataclass(frozen=True)
class Target:
    """A function, the class or table that owns it, if any, and the layers (or rows of a table) that exercise it."""

    name: str
    function: Callable = field(compare=False)
    owner: object = field(compare=False)
    layers: tuple[str, ...]

    @contextmanager
    def replaced(self, new):
        """Inside, the function is another one wherever it is known by name."""
        if self.owner is primitives.RULES:
            with patch.dict(self.owner, {name: new for name, rule in self.owner.items() if rule is self.function}):
                yield
            return
        if self.owner is jaxnets.LAYERS:
            places = [(x, key) for x in self.owner.values() for key in KINDS if getattr(x, key) is self.function]
        else:
            modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "jaxnets"]
            owners = [self.owner] if inspect.isclass(self.owner) else modules
            places = [(o, key) for o in owners for key, value in list(vars(o).items()) if value is self.function]
        assert places, f"{self.name} is found nowhere"
        for owner, key in places:
            setattr(owner, key, new)
        try:
            yield
        finally:
            for owner, key in places:
                setattr(owner, key, self.function)


def methods(cls, names, *layers):
    return [Target(f"{cls.__name__}.{name}", vars(cls)[name], cls, layers) for name in names]


def helper(function, *layers):
    return Target(function.__name__, function, None, layers)


def targets() -> list[Target]:
    """Every rule, the helpers and operators that only rules use, and the two factors that select."""
    tables = [
        *(
            (kind + " of", jaxnets.LAYERS, {n: getattr(x, key) for n, x in jaxnets.LAYERS.items()})
            for key, kind in KINDS.items()
        ),
        ("primitive", primitives.RULES, primitives.RULES),
    ]
    return [
        *(
            Target(f"{kind} {' '.join(names)}", function, table, tuple(names))
            for kind, table, functions in tables
            for function, names in users(functions).items()
        ),
        *helpers(),
        helper(window, "concatenate", "split"),
        helper(most_likely_mask, "softmax", "log_softmax"),
        helper(first_largest, "softmax", "log_softmax", "global_max_pool"),
        *methods(Selection, ["contract", "as_tensor"], "nll", "embedding"),
        *methods(Slice, ["contract", "as_tensor"], "concatenate", "split"),
    ]


def users(functions: dict[str, Callable | None]) -> dict[Callable, list[str]]:
    """The names under which each function is known."""
    found: dict[Callable, list[str]] = {}
    for name, function in functions.items():
        if function is not None:
            found.setdefault(function, []).append(name)
    return found


def helpers() -> list[Target]:
    """Functions and methods of operators that rules use and no forward does."""
    layers = jaxnets.LAYERS.items()
    forwards = set().union(*(reach(inspect.unwrap(layer.forward)) for _, layer in layers))
    known: dict[Any, list[str]] = {}
    for name, layer in layers:
        for rule in filter(None, (layer.rule, layer.hessian_rule)):
            for found in reach(rule) - forwards:
                known.setdefault(found, []).append(name)
    made = []
    for found, names in sorted(known.items(), key=lambda pair: pair[0].__qualname__):
        if inspect.isclass(found):
            own = [key for key, value in vars(found).items() if inspect.isfunction(value) and key[0] != "_"]
            made += methods(found, [key for key in own if key != "formula" and not abstract(vars(found)[key])], *names)
        elif found.__name__ not in NAMING:
            made.append(helper(found, *names))
    return made


def reach(start) -> set:
    """What a function uses of the families of layers and losses, directly or not; an operator with its base classes."""
    seen: set = set()
    stack = [start]
    while stack:
        thing = stack.pop()
        space = sys.modules[thing.__module__].__dict__
        used = {node.id for node in ast.walk(parsed(thing)) if isinstance(node, ast.Name)}
        used_things = [space[name] for name in used if name in space]
        for found in used_things + (list(thing.__bases__) if inspect.isclass(thing) else []):
            family = getattr(found, "__module__", "") or ""
            fits = inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, Operator))
            if fits and family.startswith(("jaxnets.layers.", "jaxnets.losses.")) and found not in seen:
                seen.add(found)
                stack.append(found)
    return seen


def parsed(thing) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


def abstract(method) -> bool:
    return "NotImplementedError" in inspect.getsource(method)


# --- how --------------------------------------------------------------------------------------------------------

SWAPPED = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.BitOr: [ast.BitAnd],
    ast.BitAnd: [ast.BitOr], ast.And: [ast.Or], ast.Or: [ast.And],
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
}  # fmt: skip
# Calls that give axes their letters in formulae: no number depends on them.
NAMING = {"axis_names", "_channel_axis_names", "_replace"}
# Functions whose arguments may change places.
SYMMETRIC = {"maximum", "minimum", "max", "min", "add", "multiply", "hypot", "total"}


def changed(node, **fields):
    new = copy.copy(node)
    for key, value in fields.items():
        setattr(new, key, value)
    return new


def variants(node) -> Iterator[ast.AST]:
    """The small alterations of one node of a syntax tree."""
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            yield from (changed(node, op=new()) for new in SWAPPED.get(type(op), []))
        case ast.Compare(ops=[op]):
            yield from (changed(node, ops=[new()]) for new in SWAPPED.get(type(op), []))
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(1 - node.value if node.value in (0, 1) else node.value + 1)
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.Return(value=ast.Tuple(elts=[first, second, *rest])):
            yield ast.Return(ast.Tuple([second, first, *rest], ast.Load()))
        case ast.Tuple(elts=elements):
            for i, element in enumerate(elements):
                if not (i and isinstance(element, ast.Constant) and isinstance(element.value, str)):  # a factor's name
                    yield changed(node, elts=[*elements[:i], *elements[i + 1 :]])
        case ast.Call():
            yield from calls(node)


def calls(node) -> Iterator[ast.AST]:
    """Arguments swapped, a keyword left out, a function or method of one argument left out, indices changed."""
    args = node.args
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    fixed = {"from_groups": 2}.get(name, len(args))  # then come factors, whose order changes nothing
    pairs = [i for i in range(len(args) - 1) if name not in SYMMETRIC and not is_factor(args[i], args[i + 1])]
    for i in [i for i in pairs if i < fixed]:
        yield changed(node, args=[*args[:i], args[i + 1], args[i], *args[i + 2 :]])
    for i in [i for i, keyword in enumerate(node.keywords) if keyword.arg != "strict"]:
        yield changed(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
    if len(args) == 1 and not isinstance(args[0], ast.Starred | ast.GeneratorExp):
        yield args[0]
    if isinstance(node.func, ast.Attribute):
        yield node.func.value
    if isinstance(node.func, ast.Name) and node.func.id == "einsum":
        for i, arg in enumerate(args):
            if isinstance(arg, ast.Constant):
                yield from (changed(node, args=[*args[:i], ast.Constant(t), *args[i + 1 :]]) for t in reindexed(arg.value))
            elif isinstance(arg, ast.Tuple):
                array, indices, *name = arg.elts
                for text in reindexed(indices.value):
                    new = ast.Tuple([array, ast.Constant(text), *name], ast.Load())
                    yield changed(node, args=[*args[:i], new, *args[i + 1 :]])
                yield changed(node, args=args[:i] + args[i + 1 :])


def is_factor(*arguments) -> bool:
    """Factors of a product, whose order changes nothing: (array, indices) or those that a star unpacks."""
    return all(isinstance(a, ast.Starred) or (isinstance(a, ast.Tuple) and len(a.elts) > 1) for a in arguments)


def reindexed(text) -> Iterator[str]:
    letters = text.replace("...", "")
    if len(letters) > 1:
        yield text.replace(letters, letters[::-1])
    if letters and text != letters:
        yield letters
        yield letters + "..."
    yield text.translate(str.maketrans("iok", "oki")) if letters else "i"


def without_names(node) -> Iterator[ast.AST]:
    """The nodes of a tree, but for those that only name axes."""
    yield node
    for child in ast.iter_child_nodes(node):
        naming = isinstance(child, ast.Call) and getattr(child.func, "id", getattr(child.func, "attr", "")) in NAMING
        strict = isinstance(child, ast.keyword) and child.arg == "strict"  # a guard, no number
        hint = isinstance(node, ast.AnnAssign) and child is node.annotation
        letters = isinstance(child, ast.Subscript) and is_naming(child)
        if not (naming or strict or hint or letters):
            yield from without_names(child)


def is_naming(node) -> bool:
    """A text of letters, or a part of one."""
    inner = node.value if isinstance(node, ast.Subscript) else None
    named = isinstance(inner, ast.Call) and getattr(inner.func, "id", "") in NAMING
    return named or (isinstance(inner, ast.Constant) and isinstance(inner.value, str))


def blocks_altered(definition) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every Jacobian that a rule returns with the wrong sign, and left out."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            whole = node.value.elts[0].elts if isinstance(node.value.elts[0], ast.Tuple) else node.value.elts
            for element in (e for e in whole if isinstance(e, ast.Call | ast.Name | ast.IfExp) and ast.unparse(e) != "zero"):
                yield element, ast.parse(f"lambda *a: -({ast.unparse(element)})(*a)", mode="eval").body
                yield element, ast.Constant(None)


@dataclass(frozen=True)
class Mutant:
    function: Callable
    text: str


class _Swap(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def mutants(target: Target) -> list[Mutant]:
    """Every alteration of the function that compiles, each once."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(target.function)))
    definition = tree.body[0]
    definition.decorator_list = []
    if ast.get_docstring(definition):
        definition.body = definition.body[1:]
    nodes = list(without_names(definition))
    altered = [(node, new) for node in nodes for new in variants(node)]
    altered += [(node.test, ast.UnaryOp(ast.Not(), node.test)) for node in nodes if isinstance(node, ast.If)]
    if target.owner is jaxnets.LAYERS:
        altered += blocks_altered(definition)
    before, places = ast.unparse(tree), {id(node): k for k, node in enumerate(ast.walk(tree))}
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = {}
    for node, new in altered:
        shown = node
        while len(ast.unparse(shown)) < 6:  # "1 → 0" tells nothing
            shown = parents[id(shown)]
        whole = copy.deepcopy(tree)
        copies = list(ast.walk(whole))
        old, around = copies[places[id(node)]], copies[places[id(shown)]]
        new = copy.deepcopy(new)
        text = ast.unparse(ast.fix_missing_locations(_Swap(old, new).visit(whole)))
        if text != before:
            found.setdefault(text, f"{ast.unparse(shown)} → {ast.unparse(new if shown is node else around)}")
    return [Mutant(compiled(target, text), change) for text, change in found.items()]


def compiled(target, text):
    space = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "'NoneType' object is not callable"
        exec(compile(text, f"<mutant of {target.name}>", "exec"), inspect.unwrap(target.function).__globals__, space)
    return space.popitem()[1]


# --- what must notice ---------------------------------------------------------------------------------------------


def written(layers) -> Iterator[Callable]:
    """The tests in the files of exact tables and tails that are about one of these layers, with their parameters."""
    for module in EXACT:
        for name, function in vars(module).items():
            if name.startswith("test_"):
                for parameters in parameter_sets(function):
                    if is_about(function, parameters, layers):
                        yield partial(function, **parameters)


def parameter_sets(function) -> Iterator[dict]:
    """What pytest would call a test with; nothing where it wants fixtures."""
    rows = [{}]
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names = [n.strip() for n in mark.args[0].split(",")]
            values = [v.values if hasattr(v, "marks") else v if len(names) > 1 else (v,) for v in mark.args[1]]
            rows = [row | dict(zip(names, value, strict=True)) for row in rows for value in values]
    return (row for row in rows if row.keys() == inspect.signature(function).parameters.keys())


def is_about(function, parameters, layers) -> bool:
    """A parameter is one of the layers or its name; or where none is, the source mentions one."""
    named = [getattr(value, "name", value) for value in parameters.values()]
    named = [value for value in named if isinstance(value, str) and value in jaxnets.LAYERS]
    if named:
        return bool(set(named) & set(layers))
    source = inspect.getsource(function)
    source = source if any(map(callable, parameters.values())) else source[source.index("def ") :]
    return any(re.search(rf"(jn|jaxnets)\.{layer}\b|\"{layer}\"", source) for layer in layers)


@lru_cache(None)
def checks(target) -> tuple[Callable, ...]:
    """The first property over all cases, smallest first, then exact tables, then all other properties."""
    if target.owner is primitives.RULES:
        rows = {"dot_general": "dot", "add_any": "add"}
        wanted = tuple(rows.get(name, name) for name in target.layers)
        tails = primitive_tests.test_tails_are_better_than_autodiff
        return *(partial(tails, **row) for row in parameter_sets(tails) if {"tanh", "logistic"} & set(wanted)), *(
            partial(check, row)
            for table, check in (
                (primitive_tests.ELEMENTWISE, primitive_tests.test_elementwise),
                (primitive_tests.AXES, primitive_tests.test_axes),
                (primitive_tests.OPAQUE, primitive_tests.test_forms_without_a_rule),
            )
            for row in table
            if row.split(",")[0] in wanted
        )
    cases = [case for case in CASES if case.name in target.layers]
    cases.sort(key=lambda case: sum(a.size for a in case.values() if a is not None))
    first, *others = PROPERTIES
    return (
        *(partial(first, case) for case in cases),
        *(partial(check, case) for check in others[:4] for case in cases),
        *written(target.layers),
        *(partial(check, case) for check in others[4:] for case in cases),
    )


def passes(check) -> bool:
    try:
        check()
    except Exception:
        return False
    return True


@lru_cache(None)
def sound(check) -> bool:
    """The check passes as long as nothing is mutated: what fails anyway notices nothing."""
    return passes(check)


def survives(target: Target, mutant: Mutant) -> bool:
    """No check fails that otherwise passes."""
    for check in checks(target):
        with target.replaced(mutant.function):
            passed = passes(check)
        if not passed and sound(check):
            return False
    return True


# Mutants that compute the same, and why.
LETTERS = "changes the letters of formulae only"
UNUSED = "a product with an array does not look at the operator's axes"
PROMOTED = "booleans are promoted where they are used"
SAME_SET = "`keep` is a set already"
LABELS = "ids only tell labels apart, and these differ in name or size"
CLIP = "the larger of two is symmetric"
NOT_CHOSEN = "what is not chosen"
BOTH_FORMS = "both forms agree at the boundary"
ONCE = "no array with a label twice gets here"
EQUIVALENT = {
    ("rule of mean", "y.size / x.size if x.size else 1.0 → y.size / x.size if x.size else 0.0"): "an empty Jacobian is 0",
    ("rule of sum", "_full_mask('sum', x, where).astype(x.dtype) → _full_mask('sum', x, where)"): PROMOTED,
    ("rule of log_softmax", "jnp.broadcast_to(where, x.shape).astype(y.dtype) → jnp.broadcast_to(where, x.shape)"): PROMOTED,
    ("rule of logsumexp", "total > 0 → total > 1"): "the largest entry counts as 1, so it is 0 or at least 1",
    ("rule of matmul", "f'...{n}k' if n else 'k' → f'...{n}k'"): "a vector has no leading axes",
    ("rule of matmul", "f'...k{m}' if m else 'k' → f'...k{m}'"): "a vector has no leading axes",
    ("rule of einsum", "{k + 1} → {k - 1}"): LETTERS,
    ("rule of einsum", "{k + 1} → {k + 0}"): LETTERS,
    ("rule of embedding", "fresh_groups(indices.shape, axis_names(y.ndim)[:-1], start=2) → fresh_groups(indices.shape, "
     "axis_names(y.ndim)[:-1])"): LABELS,
    ("rule of embedding", "start=2 → start=3"): LABELS,
    ("row_rule", "p.ndim + k → p.ndim - k"): LABELS,
    ("row_rule", "tuple(out) → out"): "relabelled into a tuple",
    ("window", "len(inp) + axis → len(inp) - axis"): LABELS,
    ("rule of cross_entropy", "fresh_groups((*p.shape, p.shape[-1])) → (*p.shape, p.shape[-1])"): UNUSED,
    ("rule of cross_entropy", "(*p.shape, p.shape[-1]) → (p.shape[-1],)"): UNUSED,
    ("rule of cross_entropy", "p.shape[-1] → p.shape[-0]"): UNUSED,
    ("rule of cross_entropy", "(*p.shape, p.shape[-1]) → (*p.shape,)"): UNUSED,
    ("primitive select_n", "(which == i).astype(y.dtype) → which == i"): PROMOTED,
    ("primitive reduce_max reduce_min", "(x == jnp.expand_dims(y, axes)).astype(x.dtype) → x == jnp.expand_dims(y, axes)"):
     PROMOTED,
    ("primitive dot_general", "tuple(b_groups) → b_groups"): "relabelled into a tuple",
    ("primitive dot_general", "tuple(a_groups) → a_groups"): "relabelled into a tuple",
    ("primitive reshape", "regroup(y, permuted) → regroup(permuted, y)"): "what refines one way refines the other",
    ("primitive concatenate", "int(start) → start"): "NumPy's integers serve as well",
    ("primitive split", "int(start) → start"): "NumPy's integers serve as well",
    ("primitive stack", "xs[0].shape → xs[1].shape"): "all have one shape",
    ("primitive stack", "xs[0].ndim → xs[1].ndim"): "all have one shape",
    ("primitive stack", "Slice(i, 1, ((), new)) → Slice(i, 0, ((), new))"): "one entry has no stride",
    ("primitive unstack", "Slice(i, 1, ((), inp[axis])) → Slice(i, 0, ((), inp[axis]))"): "one entry has no stride",
    ("primitive tile", "x.ndim + i → x.ndim - i"): LABELS,
    ("primitive dynamic_slice", "jnp.clip(start, 0, n - size) → jnp.clip(0, start, n - size)"): CLIP,
    ("primitive gather", "fresh_groups(indices.shape[:-1], start=x.ndim) → fresh_groups(indices.shape[:-1])"): LABELS,
    ("primitive gather", "jnp.clip(index, 0, x.shape[a] - 1) → jnp.clip(0, index, x.shape[a] - 1)"): CLIP,
    ("row_rule", "at_least_float32(_as_rows(p, axes)) → _as_rows(p, axes)"): "a rule gets 16-bit arguments as float32",
    ("SoftmaxOperator.off_diagonal", "(..., :, None) → (..., None)"): "the same index",
    ("SoftmaxRootOperator.root", "jnp.where(self.p > 0, self.p, 1) → jnp.where(self.p > 0, self.p, 0)"): NOT_CHOSEN,
    ("_shrink_rule", "(~_within(x, lambd)).astype(x.dtype) → ~_within(x, lambd)"): PROMOTED,
    ("_exponential_linear_rule", "jnp.where(x > 0, 0, x) → jnp.where(x > 1, 0, x)"): NOT_CHOSEN,
    ("_exponential_linear_rule", "jnp.where(x > 0, 0, x) → jnp.where(x > 0, 1, x)"): NOT_CHOSEN,
    ("_take_tables", "jnp.take(x, table, first + 2 * a, mode='fill', fill_value=0) → jnp.take(x, table, first + 2 * a, "
     "fill_value=0)"): "filling is the default",
    ("mean_rule", "x.ndim + y.ndim + a → x.ndim + y.ndim - a"): LABELS,
    ("mean_rule", "x.ndim + y.ndim → x.ndim - y.ndim"): LABELS,
    ("_half_rule", "tuple(out) → out"): "relabelled into a tuple",
    ("distance", "jnp.where(x == x, far, 0) → jnp.where(x == x, far, 1)"): "NaN and any number make NaN",
    ("first_largest", "jnp.arange(x.shape[-1], dtype=jnp.int32) → jnp.arange(x.shape[-1])"): "wider integers for places",
    ("bounded", "jnp.clip(x, -limit, limit) → jnp.clip(-limit, x, limit)"): CLIP,
    ("_clip_rule", "(~outside).astype(x.dtype) → ~outside"): PROMOTED,
    ("_RowOperator.array", "jnp.eye(self.p.shape[-1], dtype=bool) → jnp.eye(self.p.shape[-1])"): PROMOTED,
    ("rule of instance_norm", "tuple(range(2, x.ndim)) → range(2, x.ndim)"): "a range serves as well",
    ("rule of prelu", "jnp.where(x > 0, 0, x) → jnp.where(x >= 0, 0, x)"): "x is 0 there",
    ("rule of binary_cross_entropy", "p > 0.5 → p >= 0.5"): BOTH_FORMS,
    ("rule of binary_cross_entropy_with_logits", "jnp.where(x < 0, above, below) → jnp.where(x <= 0, above, below)"):
     BOTH_FORMS,
    ("rule of binary_cross_entropy_with_logits", "jnp.where(x < 0, -x, 0) → jnp.where(x <= 0, -x, 0)"): BOTH_FORMS,
    ("rule of binary_cross_entropy_with_logits", "jnp.where(x > 0, x, 0) → jnp.where(x >= 0, x, 0)"): BOTH_FORMS,
    ("rule of poisson_nll", "jnp.where(t > 1, t, 1) → jnp.where(t >= 1, t, 1)"): BOTH_FORMS,
    ("rule of poisson_nll", "jnp.where(t > 1, t, 1) → jnp.where(t > 0, t, 1)"): "up to 1 the approximation is not used",
    ("rule of triplet", "gradient_rule(by_anchor, 'a', 'i') → gradient_rule(by_anchor, 'i', 'a')"): LETTERS,
    ("rule of triplet", "gradient_rule(by_positive, 'p', 'i') → gradient_rule(by_positive, 'i', 'p')"): LETTERS,
    ("rule of triplet", "gradient_rule(by_negative, 'n', 'i') → gradient_rule(by_negative, 'i', 'n')"): LETTERS,
    ("rule of huber", "jnp.clip(predictions - targets, -delta, delta) → jnp.clip(-delta, predictions - targets, delta)"):
     CLIP,
    ("ConvolutionByKernel.contract", "set(inp) <= x.labels → set(inp) < x.labels"): "x has its channels beside them",
    ("ConvolutionByKernel.contract", "set(out) <= x.labels → set(out) < x.labels"): "x has its channels beside them",
    ("ConvolutionByKernel.contract", "set(keep) → keep"): SAME_SET,
    ("Selection.contract", "set(keep) → keep"): SAME_SET,
    ("Selection.contract", "set(target) & index.labels or len(labels_of(self.axes)) != len(self.labels) → "
     "set(target) & index.labels and len(labels_of(self.axes)) != len(self.labels)"): ONCE,
    ("Selection.contract", "zeros.at[_negatives_out_of_range(i)].add(a, mode='drop') → "
     "zeros.at[_negatives_out_of_range(i)].add(a)"):
     "dropping is the default",
    ("Slice.contract", "set(keep) → keep"): SAME_SET,
    ("Slice.as_tensor", "hit.astype(jnp.float32) → hit"): PROMOTED,
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    target: Target
    count: int
    survivors: list[str]
    seconds: float
    stale: list[str] = field(default_factory=list)


@lru_cache(None)
def run(target: Target, stale=False, every: int = 1) -> Result:
    """Try one in `every` mutants of a function; those that are known to be equivalent only if `stale` is asked."""
    start = time.perf_counter()
    for case in CASES:  # with the function as it is, before any mutant can disturb a forward
        if case.name in target.layers:
            for dtype in ("float64", "float32", "float16", "bfloat16"):
                reference(case, dtype)
            reference(case, draw=1)
    made = mutants(target)[::every]
    known = [m for m in made if (target.name, m.text) in EQUIVALENT]
    eager = patch.object(properties, "compiled", properties.eager)  # mutants share most of what is compiled
    with eager, warnings.catch_warnings(), mpmath.workdps(60), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        survivors = [m.text for m in made if m not in known and survives(target, m)]
        noticed = [m.text for m in known if stale and not survives(target, m)]
    return Result(target, len(made) - len(known), survivors, time.perf_counter() - start, noticed)


def main():
    stale = "--stale" in sys.argv
    wanted = [word for word in sys.argv[1:] if word != "--stale"]
    results = []
    for target in targets():
        if not wanted or any(word in target.name for word in wanted):
            result = run(target, stale=stale)
            results.append(result)
            noticed = result.count - len(result.survivors)
            print(f"{target.name:32} {result.count:4} mutants {noticed:4} noticed {result.seconds:6.1f} s", flush=True)
            for text in result.survivors:
                print(f"    survives: {text}", flush=True)
            for text in result.stale:
                print(f"    listed as equivalent, but noticed: {text}", flush=True)
    total, survivors = sum(r.count for r in results), sum(len(r.survivors) for r in results)
    print(f"{total - survivors} of {total} noticed: {100 * (total - survivors) / max(total, 1):.1f} %")
    made = {(r.target.name, m.text) for r in results for m in mutants(r.target)}
    for name, text in EQUIVALENT:
        if not wanted and (name, text) not in made:
            print(f"listed as equivalent, but no such mutant: {name}: {text}")


if __name__ == "__main__":
    import jax

    jax.config.update("jax_enable_x64", True)
    main()
