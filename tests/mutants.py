"""Mutation testing: every rule is altered in every small way, and the suite must notice.

`python -m tests.mutants [NAME ...]` prints for each rule, and for each method that rules rely on, how many mutants there
are, how many fail a property or an exact table, and the survivors.  A mutant that raises is noticed too.
"""

import ast
import copy
import inspect
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from unittest.mock import patch

import mpmath
import numpy as np

import jaxnets
from jaxnets import primitives
from jaxnets.factors import Selection, Slice
from jaxnets.layers.elementwise import sigmoid_derivative, tanh_derivative
from jaxnets.layers.softmax import LogSoftmaxOperator, SoftmaxOperator, _RowOperator, most_likely, row_rule
from jaxnets.rules import window

from . import test_accuracy as accuracy
from . import test_conventions as conventions
from . import test_primitives as primitive_tests
from .cases import CASES
from .properties import PROPERTIES, reference

# --- what is mutated ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A function, the layer, class or table that owns it, if any, and the layers (or rows of a table) that exercise it."""

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
        if isinstance(self.owner, jaxnets.Layer):
            places = [(self.owner, "rule")]
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
    return [Target(f"{cls.__name__}.{name}", vars(cls)[name], cls, layers) for name in names.split()]


def helper(function, *layers):
    return Target(function.__name__, function, None, layers)


def targets() -> list[Target]:
    """Every rule, and the helpers that hold their formulae."""
    rules = [Target(f"rule of {name}", layer.rule, layer, (name,)) for name, layer in jaxnets.LAYERS.items()]
    by_function: dict[Callable, list[str]] = {}
    for name, rule in primitives.RULES.items():
        by_function.setdefault(rule, []).append(name)
    return [
        *rules,
        *(
            Target(f"primitive {' '.join(names)}", rule, primitives.RULES, tuple(names))
            for rule, names in by_function.items()
        ),
        helper(tanh_derivative, "tanh"),
        helper(sigmoid_derivative, "sigmoid"),
        helper(row_rule, "softmax", "log_softmax"),
        helper(most_likely, "softmax", "log_softmax"),
        helper(window, "concatenate", "split"),
        *methods(SoftmaxOperator, "push on_diagonal off_diagonal", "softmax"),
        *methods(LogSoftmaxOperator, "push on_diagonal off_diagonal", "log_softmax"),
        *methods(LogSoftmaxOperator, "pull", "log_softmax", "cross_entropy"),
        *methods(_RowOperator, "others", "softmax", "log_softmax", "cross_entropy"),
        *methods(_RowOperator, "centred array", "softmax", "log_softmax"),
        *methods(Selection, "contract tensor", "nll"),
        *methods(Slice, "contract tensor", "concatenate"),
    ]


# --- how --------------------------------------------------------------------------------------------------------

SWAPPED = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.BitOr: [ast.BitAnd],
    ast.BitAnd: [ast.BitOr], ast.And: [ast.Or], ast.Or: [ast.And],
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
}  # fmt: skip
NAMING = {"axis_names", "_replace"}  # calls that give axes their letters in formulae: no number depends on them


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
    for i in range(len(args) - 1):
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
        if not naming and not (isinstance(child, ast.keyword) and child.arg == "strict"):  # a guard, no number
            yield from without_names(child)


def blocks_altered(definition) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every Jacobian that a rule returns with the wrong sign, and left out."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            whole = node.value.elts[0].elts if isinstance(node.value.elts[0], ast.Tuple) else node.value.elts
            for element in whole:
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
    if isinstance(target.owner, jaxnets.Layer):
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


def tables(*layers) -> Iterator[Callable]:
    """Checks at kinks, special values and tails."""
    for row in conventions.EXACT:
        if row[0] in layers:
            yield partial(conventions.test_special_values, *row, "float64")
    if "maximum" in layers:
        for row in (1.0, 1.0, 1.0, 0.0), (np.nan, 1.0, np.nan, 1.0), (1.0, np.nan, np.nan, 0.0):
            yield partial(conventions.test_maximum_selects_the_second_at_ties, *row)
    if "duplicate" in layers:
        yield partial(conventions.test_cotangents_of_copies_add_up)
    if "mean" in layers:
        yield partial(conventions.test_mean_of_one_and_of_nothing)
    if {"softmax", "log_softmax"} & set(layers):
        yield partial(conventions.test_one_masked_logit)
        yield partial(conventions.test_fully_masked_row_of_softmax_jax21495, 2, "float64")
        yield partial(conventions.test_fully_masked_row_of_log_softmax_jax6811)
        yield partial(conventions.test_half_precision_products_do_not_overflow)
    if "softmax" in layers:
        yield partial(accuracy.test_softmax_entries, "float32")
        yield partial(accuracy.test_softmax_products, "float32")
    if "log_softmax" in layers:
        yield partial(accuracy.test_log_softmax_entries, "float32")
        yield partial(accuracy.test_log_softmax_products, "float32")
    if "nll" in layers:
        for shape in (3, 4), (4,), (3, 2, 2):
            yield partial(conventions.test_nll_products_gather_and_scatter, shape)
        yield partial(conventions.test_products_of_selections)
    if "concatenate" in layers:
        for shape in (3, 2), (2,):
            yield partial(conventions.test_concatenate_products_slice_and_pad, shape)
        yield partial(conventions.test_strided_slice)
    if {"nll", "cross_entropy"} & set(layers):
        for label in (3, -1):
            for loss in {"nll", "cross_entropy"} & set(layers):
                yield partial(conventions.test_label_out_of_range, jaxnets.LAYERS[loss], label)
    if "cross_entropy" in layers:
        yield partial(conventions.test_infinite_logit_where_the_target_is_zero_optax896, (0.0, 1.0, 0.0))
        yield partial(conventions.test_probability_that_is_zero_or_one)
        yield partial(conventions.test_targets_that_are_no_distribution)
        yield partial(accuracy.test_cross_entropy_in_the_tail, [40, 0], True, "float32")
        yield partial(accuracy.test_cross_entropy_in_the_tail, [40, 0], False, "float32")
    for name in accuracy.ORACLES:
        if name in layers:
            yield partial(accuracy.test_elementwise, name, "float32")


def checks(target) -> Iterator[Callable]:
    """The first property over all cases, smallest first, then exact tables, then all other properties."""
    if target.owner is primitives.RULES:
        rows = {"dot_general": "dot", "add_any": "add"}
        wanted = tuple(rows.get(name, name) for name in target.layers)
        for table, check in (
            (primitive_tests.ELEMENTWISE, primitive_tests.test_elementwise),
            (primitive_tests.AXES, primitive_tests.test_axes),
            (primitive_tests.OPAQUE, primitive_tests.test_forms_without_a_rule),
        ):
            yield from (partial(check, row) for row in table if row.split(",")[0] in wanted)
        return
    cases = [case for case in CASES if case.name in target.layers]
    cases.sort(key=lambda case: sum(a.size for a in case.values() if a is not None))
    first, *others = PROPERTIES
    yield from (partial(first, case) for case in cases)
    for check in others[:4]:
        yield from (partial(check, case) for case in cases)
    yield from tables(*target.layers)
    for check in others[4:]:
        yield from (partial(check, case) for case in cases)


def passes(check) -> bool:
    try:
        check()
    except Exception:
        return False
    return True


@lru_cache(None)
def sound(key) -> bool:
    """The check passes as long as nothing is mutated: what fails anyway notices nothing."""
    return passes(partial(*key))


def survives(target: Target, mutant: Mutant) -> bool:
    """No check fails that otherwise passes."""
    for check in checks(target):
        with target.replaced(mutant.function):
            passed = passes(check)
        if not passed and sound((check.func, *check.args)):
            return False
    return True


# Mutants that compute the same, and why.
LETTERS = "changes the letters of formulae only"
UNUSED = "a product with an array does not look at the operator's axes"
ROUNDING = "one rounding more, within what 16-bit results are allowed"
PROMOTED = "booleans are promoted where they are used"
SAME_SET = "`keep` is a set already"
LABELS = "ids only tell labels apart, and these differ in name or size"
CLIP = "the larger of two is symmetric"
ONCE = "no array with a label twice gets here"
EQUIVALENT = {
    ("rule of concatenate", "int(start) → start"): "NumPy's integers serve as well",
    ("rule of mean", "axis_names(x.ndim) if x.ndim > 1 else 'b' → axis_names(x.ndim)"): LETTERS,
    ("rule of mean", "axis_names(x.ndim) if x.ndim > 1 else 'b' → 'b'"): LETTERS,
    ("rule of mean", "x.ndim > 1 → x.ndim >= 1"): LETTERS,
    ("rule of mean", "x.ndim > 1 → x.ndim < 1"): LETTERS,
    ("rule of mean", "x.ndim > 1 → x.ndim > 0"): LETTERS,
    ("rule of mean", "y.size / x.size if x.size else 1.0 → y.size / x.size if x.size else 0.0"): "an empty Jacobian is 0",
    ("rule of log_softmax", "wide(y) → y"): "row_rule widens it too",
    ("rule of cross_entropy", "fresh_groups((*p.shape, p.shape[-1])) → (*p.shape, p.shape[-1])"): UNUSED,
    ("rule of cross_entropy", "(*p.shape, p.shape[-1]) → (p.shape[-1],)"): UNUSED,
    ("rule of cross_entropy", "(*p.shape, p.shape[-1]) → (*p.shape,)"): UNUSED,
    ("rule of cross_entropy", "wide(log_p) → log_p"): ROUNDING,
    ("rule of cross_entropy", "wide(predictions) → predictions"): "the largest entry is the same",
    ("rule of cross_entropy", "wide(targets) → targets"): "pull widens it too",
    ("rule of cross_entropy", "slope.astype(predictions.dtype) → slope"): "the Jacobian has the argument's dtype anyway",
    ("place", "len(big_shape) → big_shape"): LABELS,
    ("primitive select_n", "(which == i).astype(y.dtype) → which == i"): PROMOTED,
    ("primitive reduce_max reduce_min", "(x == jnp.expand_dims(y, axes)).astype(x.dtype) → x == jnp.expand_dims(y, axes)"):
     PROMOTED,
    ("primitive dot_general", "tuple(b_groups) → b_groups"): "relabelled into a tuple",
    ("primitive dot_general", "tuple(a_groups) → a_groups"): "relabelled into a tuple",
    ("primitive reshape squeeze", "regroup(y, x) → regroup(x, y)"): "what refines one way refines the other",
    ("primitive concatenate", "int(start) → start"): "NumPy's integers serve as well",
    ("primitive split", "int(start) → start"): "NumPy's integers serve as well",
    ("primitive stack", "xs[0].shape → xs[1].shape"): "all have one shape",
    ("primitive stack", "xs[0].ndim → xs[1].ndim"): "all have one shape",
    ("primitive stack", "Slice(i, 1, ((), new)) → Slice(i, 0, ((), new))"): "one entry has no stride",
    ("primitive unstack", "Slice(i, 1, ((), inp[axis])) → Slice(i, 0, ((), inp[axis]))"): "one entry has no stride",
    ("primitive tile", "x.ndim + i → x.ndim - i"): LABELS,
    ("primitive dynamic_slice", "x.ndim + axis → x.ndim - axis"): LABELS,
    ("primitive dynamic_slice", "jnp.clip(start, 0, x.shape[axis] - size) → jnp.clip(0, start, x.shape[axis] - size)"): CLIP,
    ("primitive gather", "fresh_groups(indices.shape[:-1], start=x.ndim) → fresh_groups(indices.shape[:-1])"): LABELS,
    ("primitive gather", "jnp.clip(index, 0, x.shape[a] - 1) → jnp.clip(0, index, x.shape[a] - 1)"): CLIP,
    ("row_rule", "wide(jnp.moveaxis(p, axis, -1)) → jnp.moveaxis(p, axis, -1)"): ROUNDING,
    ("SoftmaxOperator.off_diagonal", "(..., :, None) → (..., None)"): "the same index",
    ("_RowOperator.array", "jnp.eye(self.p.shape[-1], dtype=bool) → jnp.eye(self.p.shape[-1])"): PROMOTED,
    ("Selection.contract", "set(keep) → keep"): SAME_SET,
    ("Selection.contract", "set(target) & index.labels or len(flatten(self.axes)) != len(self.labels) → "
     "set(target) & index.labels and len(flatten(self.axes)) != len(self.labels)"): ONCE,
    ("Selection.contract", "zeros.at[_wrapless(i)].add(a, mode='drop') → zeros.at[_wrapless(i)].add(a)"):
     "dropping is the default",
    ("Slice.contract", "set(keep) → keep"): SAME_SET,
    ("Slice.tensor", "hit.astype(jnp.float32) → hit"): PROMOTED,
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    target: Target
    count: int
    survivors: list[str]
    seconds: float
    stale: list[str] = field(default_factory=list)


@lru_cache(None)
def run(target: Target, everything=False) -> Result:
    """Try all mutants of a function; those that are known to be equivalent only if `everything` is asked."""
    start = time.perf_counter()
    for case in CASES:  # with the function as it is, before any mutant can disturb a forward
        if case.name in target.layers:
            for dtype in ("float64", "float32", "float16", "bfloat16"):
                reference(case, dtype)
            reference(case, mode="forward")
            reference(case, draw=1)
    made = mutants(target)
    known = [m for m in made if (target.name, m.text) in EQUIVALENT]
    with warnings.catch_warnings(), mpmath.workdps(60), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        survivors = [m.text for m in made if m not in known and survives(target, m)]
        noticed = [m.text for m in known if everything and not survives(target, m)]
    return Result(target, len(made) - len(known), survivors, time.perf_counter() - start, noticed)


def main():
    wanted = sys.argv[1:]
    results = []
    for target in targets():
        if not wanted or any(word in target.name for word in wanted):
            result = run(target, everything=True)
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
