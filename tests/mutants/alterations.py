"""How a function is altered: every small change of its syntax tree, and how a changed one takes its place in memory.

A function keeps its identity and gets other code, so that whoever holds it, under whatever name, runs the mutant.
"""

import ast
import copy
import types
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from .targets import NAMING, ROOT, Target, holders, targets

SWAPPED = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.BitOr: [ast.BitAnd],
    ast.BitAnd: [ast.BitOr], ast.And: [ast.Or], ast.Or: [ast.And],
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
# Functions whose arguments may change places.
SYMMETRIC = {"maximum", "minimum", "max", "min", "add", "multiply", "hypot", "total"}


# --- the changes of one node --------------------------------------------------------------------------------------


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
            if isinstance(arg, ast.Constant) and isinstance(arg.value, str):
                yield from (changed(node, args=[*args[:i], ast.Constant(t), *args[i + 1 :]]) for t in reindexed(arg.value))
            elif isinstance(arg, ast.Tuple):
                array, indices, *name = arg.elts
                for text in reindexed(indices.value) if isinstance(indices, ast.Constant) else ():
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


def blocks_altered(definition) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every Jacobian that a rule returns with the wrong sign, and left out."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            whole = node.value.elts[0].elts if isinstance(node.value.elts[0], ast.Tuple) else node.value.elts
            for element in (e for e in whole if isinstance(e, ast.Call | ast.Name | ast.IfExp) and ast.unparse(e) != "zero"):
                yield element, ast.parse(f"lambda *a: -({ast.unparse(element)})(*a)", mode="eval").body
                yield element, ast.Constant(None)


# --- the nodes that count -----------------------------------------------------------------------------------------


def altering(node) -> Iterator[ast.AST]:
    """The nodes of a tree, but for those on which no number or structure depends: names of axes, hints, texts of errors."""
    yield node
    for child in ast.iter_child_nodes(node):
        naming = isinstance(child, ast.Call) and getattr(child.func, "id", getattr(child.func, "attr", "")) in NAMING
        strict = isinstance(child, ast.keyword) and child.arg == "strict"  # a guard, no number
        hint = child is getattr(node, "annotation", None) or child is getattr(node, "returns", None)
        letters = isinstance(child, ast.Subscript) and is_naming(child)
        if not (naming or strict or hint or letters or isinstance(child, ast.Raise)):
            yield from altering(child)


def is_naming(node) -> bool:
    """A text of letters, or a part of one."""
    inner = node.value if isinstance(node, ast.Subscript) else None
    named = isinstance(inner, ast.Call) and getattr(inner.func, "id", "") in NAMING
    return named or (isinstance(inner, ast.Constant) and isinstance(inner.value, str))


class Source:
    """The definition of a target without its decorators and docstring, and all of its changes in a fixed order."""

    def __init__(self, target: Target):
        self.target = target
        self.tree = copy.deepcopy(target.definition)
        self.tree.decorator_list = []
        if ast.get_docstring(self.tree):
            self.tree.body = self.tree.body[1:]
        self.nodes = list(ast.walk(self.tree))
        self.places = {id(node): k for k, node in enumerate(self.nodes)}
        self.parents = {id(child): node for node in self.nodes for child in ast.iter_child_nodes(node)}
        inside = list(altering(self.tree))
        pairs = [(node, new) for node in inside for new in variants(node)]
        pairs += [(node.test, ast.UnaryOp(ast.Not(), node.test)) for node in inside if isinstance(node, ast.If)]
        if target.rule and not target.file.startswith("autodiff"):
            pairs += blocks_altered(self.tree)
        self.changes: list[tuple[ast.AST, ast.AST]] = pairs

    def altered(self, changes: Iterable[int]) -> ast.FunctionDef:
        """The definition with these changes."""
        swaps = {self.places[id(self.changes[i][0])]: self.changes[i][1] for i in changes}
        whole = copy.deepcopy(self.tree)
        copies = list(ast.walk(whole))
        by_id = {id(copies[place]): copy.deepcopy(new) for place, new in swaps.items()}
        for place in swaps:
            ast.copy_location(by_id[id(copies[place])], self.nodes[place])
        return ast.fix_missing_locations(_Swap(by_id).visit(whole))

    def text(self, change: int) -> str:
        """The part that changes, before and after: enough of it to tell something ("1 → 0" does not)."""
        node, new = self.changes[change]
        shown = node
        while len(ast.unparse(shown)) < 6:
            shown = self.parents[id(shown)]
        after = ast.unparse(new if shown is node else _Swap({id(node): new}).part(shown))
        return f"{ast.unparse(shown)} → {after}"

    def lines(self, change: int) -> range:
        """The lines of the statement, or of the head of the statement, that the change is in: one of them runs before it."""
        node = self.changes[change][0]
        while not isinstance(node, ast.stmt):
            node = self.parents[id(node)]
        if node is self.tree:
            return range(node.lineno, node.end_lineno + 1)
        body = getattr(node, "body", None)
        if body and isinstance(body, list) and not isinstance(node, ast.FunctionDef):
            return range(node.lineno, max(node.lineno, body[0].lineno - 1) + 1)
        return range(node.lineno, node.end_lineno + 1)

    def apart(self, one: int, other: int) -> bool:
        """Whether both changes can be made at once: neither is inside the other."""
        return not (self._around(one, other) or self._around(other, one))

    def _around(self, one: int, other: int) -> bool:
        node, end = self.changes[other][0], self.changes[one][0]
        while node is not None and node is not end:
            node = self.parents.get(id(node))
        return node is end


class _Swap(ast.NodeTransformer):
    def __init__(self, new: dict[int, ast.AST]):
        self.new = new

    def visit(self, node):
        return self.new.get(id(node)) or self.generic_visit(node)

    def part(self, node):
        """A copy of the node with what is swapped; the tree itself stays."""
        fields = {key: self._field(value) for key, value in ast.iter_fields(node)}
        return ast.copy_location(type(node)(**fields), node)

    def _field(self, value):
        if isinstance(value, list):
            return [self._field(element) for element in value]
        if isinstance(value, ast.AST):
            return self.new.get(id(value)) or self.part(value)
        return value


@lru_cache(None)
def source(target: Target) -> Source:
    return Source(target)


# --- mutants ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """One change of one target."""

    target: Target
    change: int

    @property
    def key(self) -> tuple[str, int]:
        """What another process finds it by."""
        return self.target.name, self.change

    @cached_property
    def text(self) -> str:
        return source(self.target).text(self.change)

    @cached_property
    def lines(self) -> range:
        return source(self.target).lines(self.change)

    def fits(self, other: "Mutant") -> bool:
        return self.target != other.target or source(self.target).apart(self.change, other.change)

    def __str__(self):
        return f"{self.target.file}: {self.target.name}: {self.text}"


def is_mutant(target: Target, change: int) -> bool:
    """Whether the change compiles, and changes anything."""
    made = source(target)
    with suppress(SyntaxError):
        compiled(target, [change])
        return ast.unparse(made.altered([change])) != ast.unparse(made.tree)
    return False


def compiled(target: Target, changes) -> types.CodeType:
    """The target's code with these changes, at the same lines and in the same classes."""
    definition = source(target).altered(changes)
    code = _compiled(target, definition)
    if code.co_freevars != target.code.co_freevars:  # a change left out the only super(): keep the variable of its class
        extra = [ast.Expr(ast.Name(name, ast.Load())) for name in target.code.co_freevars]
        definition.body = [ast.copy_location(e, definition.body[0]) for e in extra] + definition.body
        code = _compiled(target, ast.fix_missing_locations(definition))
    return code


def _module(target, definition) -> ast.Module:
    inner: ast.stmt = definition
    for name in reversed(target.classes):
        inner = ast.ClassDef(name, bases=[], keywords=[], body=[inner], decorator_list=[], type_params=[])
    return ast.fix_missing_locations(ast.Module([inner], []))


def _compiled(target, definition) -> types.CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "'NoneType' object is not callable"
        code = compile(_module(target, definition), str(ROOT / target.file), "exec", dont_inherit=True)
    for name in (*target.classes, definition.name):
        code = next(inner for inner in inner_codes(code) if inner.co_name == name)
    return code


def inner_codes(code) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


# --- in place -----------------------------------------------------------------------------------------------------


@dataclass
class Altered:
    """Mutants in place, in this process, until `restore`."""

    mutants: tuple[Mutant, ...]
    saved: list[tuple] = field(default_factory=list)

    def __post_init__(self):
        by_target: dict[Target, list[int]] = {}
        for mutant in self.mutants:
            by_target.setdefault(mutant.target, []).append(mutant.change)
        for target, changes in by_target.items():
            new = compiled(target, changes)
            for code, other in twins(target.code, new):
                for function in holders(code):
                    self.saved.append((function, function.__code__, function.__defaults__, function.__kwdefaults__))
                    function.__code__ = other
            self._give_defaults(target, changes)

    def _give_defaults(self, target, changes):
        """Default values are computed where the function is defined: there they change, not in its code."""
        made = source(target)
        arguments = made.tree.args
        defaults = {id(n) for d in (*arguments.defaults, *arguments.kw_defaults) if d for n in ast.walk(d)}
        if any(id(made.changes[i][0]) in defaults for i in changes):
            module = ast.fix_missing_locations(ast.Module([made.altered(changes)], []))
            for function in (f for f, code, *_ in self.saved if code is target.code):
                space: dict = {}
                exec(compile(module, "<defaults>", "exec"), function.__globals__, space)
                new = space[target.definition.name]
                function.__defaults__, function.__kwdefaults__ = new.__defaults__, new.__kwdefaults__

    def restore(self):
        for function, code, defaults, keywords in reversed(self.saved):
            function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, keywords
        self.saved.clear()


def twins(old: types.CodeType, new: types.CodeType) -> Iterator[tuple[types.CodeType, types.CodeType]]:
    """Pairs of a code and its altered form, inner functions among them: closures may have been made of these already."""
    yield old, new
    ours, theirs = ([(c.co_name, c.co_firstlineno, c.co_freevars) for c in inner_codes(code)] for code in (old, new))
    if ours == theirs:
        for pair in zip(inner_codes(old), inner_codes(new), strict=True):
            yield from twins(*pair)


def find(keys: Iterable[tuple[str, int]]) -> tuple[Mutant, ...]:
    by_name = {target.name: target for target in targets()}
    return tuple(Mutant(by_name[name], change) for name, change in keys)
