"""Numbers for the symbols of a network: the weights of its linear layers are w₁, w₂, … from the input to the output."""

import re
from dataclasses import replace

import jax

from ..algebra.factors import Factor
from ..algebra.jacobian import Jacobian
from .nodes import Node
from .plan import Edges


def with_numbered_symbols(edges: Edges, nodes: list[Node]) -> Edges:
    """The same local Jacobians, whose factors know the place of their node, a number and what their symbols stand for.

    `nodes` has parents before children.  A symbol that the network has once gets no number.  Nodes of one kind are counted
    also where a symbol of theirs is missing, since nothing depends on it: so the second layer has w₂ in every Jacobian.
    """
    classes = _classes_of_names(edges)
    kinds = {
        cls: {node.name for node in edges for name in _names(edges[node]) if classes[name] == cls}
        for cls in classes.values()
    }
    own = {node: {cls: _factors_of_class(row, classes, cls) for cls in kinds} for node, row in edges.items()}
    counted = {(cls, _call(node)) for node, found in own.items() for cls, factors in found.items() if factors}
    numbers = {cls: _Numbers() for cls in kinds}
    for node in nodes:
        for cls, names in kinds.items():
            for factor in own.get(node, {}).get(cls, []):
                numbers[cls].add(node, factor)
            if node.name in names and (cls, _call(node)) not in counted:
                counted.add((cls, _call(node)))
                numbers[cls].skip()
    places = {node: place for place, node in enumerate(nodes, 1)}

    def noted(node, factor: Factor) -> Factor:
        found = [numbers[classes[name]].number(node, factor) for name in factor.symbols]
        notes = factor.notes._replace(
            place=places.get(node, len(nodes) + 1), meanings=_meanings(node, factor, len(edges) > 2)
        )
        return replace(factor, notes=notes._replace(number=found[0] if found else 0))

    def renamed(node, jacobian: Jacobian) -> Jacobian:
        terms = [replace(term, factors=tuple(noted(node, f) for f in term.factors)) for term in jacobian.terms]
        return replace(jacobian, terms=tuple(terms))

    return {node: {parent: renamed(node, j) for parent, j in row.items()} for node, row in edges.items()}


class _Numbers:
    """The numbers of one class of symbols.  The same array has the same number wherever it is used."""

    def __init__(self):
        self.count = 0
        self.of_array: dict[tuple[int, ...], int] = {}
        self.of_node: dict[tuple[Node, int], int] = {}

    def skip(self):
        self.count += 1

    def add(self, node: Node, factor: Factor):
        array, own = _identity(factor), (node, factor.notes.number)
        number = self.of_array.get(array) or self.of_node.get(own)
        if number is None:
            self.count += 1
            number = self.of_node[own] = self.count
        self.of_array.setdefault(array, number)

    def number(self, node: Node, factor: Factor) -> int:
        return self.of_array[_identity(factor)] if self.count > 1 else 0


def _call(node: Node):
    """Equal for the outputs of one call."""
    return node.name, tuple(edge.parent for edge in node.edges)


def _factors_of_class(row: dict[Node, Jacobian], classes: dict[str, str], cls: str) -> list[Factor]:
    return [f for f in _factors(row) if any(classes[name] == cls for name in f.symbols)]


def _identity(factor: Factor) -> tuple[int, ...]:
    return tuple(map(id, jax.tree.leaves(factor)))


def _factors(row: dict[Node, Jacobian]) -> list[Factor]:
    return [factor for jacobian in row.values() for term in jacobian.terms for factor in term.factors]


def _names(row: dict[Node, Jacobian]) -> set[str]:
    return {name for factor in _factors(row) for name in factor.symbols}


def _classes_of_names(edges: Edges) -> dict[str, str]:
    """A representative for every name: names that one factor has together are numbered together."""
    classes: dict[str, str] = {}
    for row in edges.values():
        for factor in _factors(row):
            names = list(factor.symbols)
            joined = {classes.setdefault(name, name) for name in names}
            classes |= {name: names[0] for name, cls in classes.items() if cls in joined}
    return classes


def _meanings(node: Node, factor: Factor, several: bool) -> tuple[tuple[str, str], ...]:
    """What the symbols of a factor stand for: an input of the function, the output of a layer, or a formula."""
    known = dict(factor.notes.meanings)
    parents = {edge.argument: edge.parent for edge in node.edges}
    found = []
    for name, meaning in factor.symbols.items():
        meaning = known.get(name, meaning)
        parent = parents.get(name.removeprefix("−"))
        if meaning:
            meaning += f" ({node.name})" * (several and node.name not in meaning)
        elif parent is not None:
            meaning = f"the output of {parent.name}" if parent.edges else parent.name
        elif several and node.layer is not None and name in node.layer.signature.parameters:
            meaning = f"argument {name} of {node.name}"
        elif several and node.layer is None and (operand := re.fullmatch(r"x(\d+)", name)):
            meaning = f"operand {operand.group(1)} of {node.name}"
        found.append((name, "" if meaning == name else meaning))
    return tuple(found)
