"""A small parser of formulae: what a reader computes from the formula of a Jacobian and the numbers of its symbols."""

import re

import jax
import numpy as np

from jaxnets.algebra.factors import Opaque, Tensor, labels_of, size_of
from jaxnets.algebra.recurrence import Recurrence
from jaxnets.algebra.selections import Selection

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+−]?\d+)?")
LETTER = "[a-zA-Z]"


def numbers_of(jacobian) -> dict[str, np.ndarray]:
    """The array of every symbol in the formula, with an axis for each index that stands in its brackets."""
    found: dict[str, np.ndarray] = {}
    for factor in (f for term in jacobian.terms for f in term.factors):
        for text, array in _numbers_of_factor(factor):
            array = np.asarray(array)
            if text in found:
                np.testing.assert_array_equal(found[text], array, err_msg=f"{text} stands for two arrays")
            found[text] = array
    return found


@jax.jit
def carried_out(factor):
    """The array of a factor that is carried out, as one program."""
    return factor.as_tensor().value


def _numbers_of_factor(f):
    if isinstance(f, Tensor):
        text = f.formula(lambda axes: "")
        yield text.removeprefix("−"), -np.asarray(f.value) if text.startswith("−") else f.value
    elif isinstance(f, Opaque):
        yield f.written(f.name), carried_out(f)
    elif isinstance(f, Recurrence):  # every group of labels that it shows has one place in the brackets
        groups: list = []
        text = f.formula(lambda axes: groups.extend(axes) or "")
        yield text, np.asarray(carried_out(f)).reshape([size_of(group) for group in groups])
    elif isinstance(f, Selection):
        yield f.written(f.name), f.index
    elif hasattr(f, "hat"):  # every label has an index of its own, in the order of the output's axes
        labels = labels_of(f.axes[:-1])
        order = sorted(range(len(labels)), key=labels.__getitem__)
        yield f.written("x̂"), np.asarray(f.hat).reshape([label.size for label in labels]).transpose(order)
        yield f.written("r"), np.asarray(f.inverse)[..., 0]
        yield f.written("n"), f.hat.shape[-1]
    else:
        for name in f.symbols:
            yield f.written(name), getattr(f, name)


def term_labels(jacobian):
    """The labels of outputs and inputs."""
    return {label for term in jacobian.terms for label in term.external_labels}


class Parser:
    """Evaluates a formula: every position on the left is an axis, and so is every index that is summed."""

    def __init__(self, jacobian):
        self.jacobian, self.formula = jacobian, jacobian.formula
        self.symbols = numbers_of(jacobian)
        if "n" in jacobian.legend and "n" not in self.symbols:
            self.symbols["n"] = np.asarray(int(jacobian.legend["n"]))
        left, self.text = self.formula.split(" = ")
        self.at = 0
        term = jacobian.terms[0] if jacobian.terms else None
        sides = zip(left.split("/∂"), jacobian.names, (term.out, term.inp) if term else ((), ()), strict=True)
        self.sizes: dict[str, int] = {}
        self.positions: list[str] = []  # the letter at each
        for text, name, groups in sides:
            indices = text.removeprefix("∂").removeprefix(name)
            letters = re.findall(LETTER, indices)
            labels = labels_of(groups)
            assert len(letters) == len(labels), self.formula
            self.positions += letters
            self.sizes |= {letter: label.size for letter, label in zip(letters, labels, strict=True)}
        self.inner = sorted(set("".join(re.findall(rf"Σ_({LETTER}+)", self.text))) - set(self.positions))
        for letter in self.inner:
            self.sizes[letter] = self.size_of_inner(letter)
        axes = [*self.positions, *self.inner]
        self.shape = [self.sizes[letter] for letter in axes]
        grid = np.ogrid[tuple(slice(n) for n in self.shape)] if axes else []
        self.index = {letter: grid[axes.index(letter)] for letter in axes}
        self.same = [(grid[i], self.index[letter]) for i, letter in enumerate(self.positions)]

    def size_of_inner(self, letter):
        """From an array that has the letter alone in its brackets."""
        for text, array in self.symbols.items():
            for brackets in re.findall(re.escape(text) + r"\[([^\]]*)\]", self.text):
                parts = brackets.split(",")
                if letter in parts:
                    return array.shape[parts.index(letter)]
        labels = {label for term in self.jacobian.terms for factor in term.factors for label in factor.labels}
        (size,) = {label.size for label in labels if label.name == letter and label not in term_labels(self.jacobian)}
        return size

    def dense(self):
        if self.text == "0":
            return np.zeros(self.jacobian.shape)
        value = self.sum()
        assert self.at == len(self.text), f"{self.formula}: cannot read {self.text[self.at :]!r}"
        value = np.broadcast_to(value, self.shape)[(..., *[0] * len(self.inner))]
        for position, first in self.same:
            value = np.where((position == first)[(..., *[0] * len(self.inner))], value, 0)
        return value.reshape(self.jacobian.shape)

    # sums of products of atoms

    def take(self, text) -> bool:
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def sum(self):
        total = self.product()
        while True:
            if self.take(" + "):
                total = total + self.product()
            elif self.take(" − "):
                total = total - self.product()
            else:
                return total

    def product(self):
        sign = -1 if self.take("−") else 1
        summed = re.compile(rf"Σ_({LETTER}+) ").match(self.text, self.at)
        if summed:
            self.at = summed.end()
            sign *= -1 if self.take("−") else 1
        value = sign * self.atom()
        while True:
            if self.take("·"):
                value = value * self.atom()
            elif self.take("/"):
                value = value / self.atom()
            else:
                break
        axes = [len(self.positions) + self.inner.index(letter) for letter in (summed.group(1) if summed else "")]
        return np.broadcast_to(value, self.shape).sum(tuple(axes), keepdims=True) if axes else value

    def atom(self):
        if self.take("√"):
            return np.sqrt(self.atom())
        if self.take("δ("):
            first = self.indexed(",")
            assert self.take(", ") or self.take(",")
            second = self.indexed(")")
            assert self.take(")")
            return np.equal(first, second).astype(float)
        for text in sorted(self.symbols, key=len, reverse=True):
            if self.text.startswith(text, self.at) and not re.match(r"[\w']", self.text[self.at + len(text) :]):
                self.at += len(text)
                return self.entries(self.symbols[text])
        if self.take("("):
            value = self.sum()
            assert self.take(")")
            return value
        number = NUMBER.match(self.text, self.at)
        assert number, f"{self.formula}: cannot read {self.text[self.at :]!r}"
        self.at = number.end()
        return float(number.group().replace("−", "-"))

    # indices

    def entries(self, array):
        """The entries that the brackets behind a symbol name; 0 where an index is no place of the array."""
        if not self.take("["):
            assert array.ndim == 0 or array.size == 1, self.formula
            return array.reshape(())
        end = self.text.index("]", self.at)
        places = [self.affine(text) for text in self.text[self.at : end].split(",")]
        self.at = end + 1
        assert len(places) == array.ndim, f"{self.formula}: an array of shape {array.shape} has {len(places)} indices"
        limits = zip(np.broadcast_arrays(*places), array.shape, strict=True)
        inside = np.all([(p >= 0) & (p < n) & (p == np.floor(p)) for p, n in limits], 0)
        found = array[tuple(np.where(inside, p, 0).astype(int) for p in places)]
        return np.where(inside, found, 0)

    def indexed(self, end):
        """An index inside δ(…): an affine one, or an entry of an array of indices."""
        for text in sorted(self.symbols, key=len, reverse=True):
            if re.match(re.escape(text) + r"[\[)]", self.text[self.at :]) and text not in self.sizes:
                self.at += len(text)
                return self.entries(self.symbols[text])
        stop = self.text.index(end, self.at)
        text, self.at = self.text[self.at : stop], stop
        return self.affine(text)

    def affine(self, text):
        """2p+k−1, (u−p+1)/2, 3·j + 1, and row-major indices of several letters: ik."""
        text = text.replace(" ", "").replace("·", "")
        divided = re.fullmatch(r"\(?([^()]*)\)?/(\d+)", text)
        if divided:
            return self.affine(divided.group(1)) / int(divided.group(2))
        total = np.zeros((), int)
        for sign, count, letters in re.findall(rf"([+−]?)(\d*)({LETTER}*)", text):
            if count or letters:
                place = self.row_major(letters) if letters else 1
                total = total + (-1 if sign == "−" else 1) * int(count or 1) * place
        return total

    def row_major(self, letters):
        place = np.zeros((), int)
        for letter in letters:
            place = place * self.sizes[letter] + self.index[letter]
        return place


def tolerance(formula) -> float:
    """Numbers that are no short fractions are written with four digits."""
    return 2e-3 if re.search(r"\d\.\d{3}|0\.\d{4}", formula) else 1e-9
