"""A Jacobian in words: the name of its structure, and its formula in index notation."""

import math
import re

from .factors import Label, Tensor, entries_over, labels_of
from .selections import Slice
from .symbols import scale_text
from .terms import Term


def structure(term: Term) -> str:
    """The name of the structure that the labels and factors of a term have."""
    out, inp = set(labels_of(term.out)), set(labels_of(term.inp))
    shared = out & inp
    special = {f.kind for f in term.factors if not isinstance(f, Tensor)}
    if special == {"selection"} and all(f.kind == "selection" for f in term.factors):
        return "selection"
    if special:
        return special.pop() if len(term.factors) == 1 else "factored"
    if out == inp:
        if any(f.labels for f in term.factors):
            return "diagonal"
        if term.factors or term.scale != 1:
            return "scaled identity" if out else "scalar"
        return "identity" if labels_of(term.out) == labels_of(term.inp) else "permutation"
    if not term.factors:
        return "broadcast" if inp < out else "sum" if out < inp else "ones"
    if len(term.factors) > 1:
        return "factored"
    if not shared:
        return "dense"
    return "block diagonal" if shared & term.factors[0].labels else "Kronecker"


def formula(terms, names) -> str:
    """The formula of a sum of terms: `∂y[b,o]/∂x[b,i] = w[o,i]`."""
    return _Namer(terms, names).formula()


def legend(terms, names) -> dict[str, str]:
    """What the symbols of the formula stand for, those near the output first."""
    namer = _Namer(terms, names)
    right = namer.formula().partition(" = ")[2]
    factors = sorted((f for term in namer.terms for f in term.factors), key=lambda f: -f.notes.place)
    found = {
        symbol: meaning
        for f in factors
        for symbol, meaning in f.legend()
        if meaning and re.search(rf"(?<!\w){re.escape(symbol)}(?![\w'])", right)
    }
    return found | ({"n": str(namer.averaged)} if namer.averaged else {})


class _Namer:
    """Gives letters to the indices of a Jacobian, and writes its formula."""

    def __init__(self, terms: tuple[Term, ...], names: tuple[str, str]):
        self.names = names
        sizes = [[label.size for label in labels_of(t.out) + labels_of(t.inp)] for t in terms]
        self.terms = [t for t, own in zip(terms, sizes, strict=True) if own == sizes[0]]
        self.unlike_terms = len(terms) - len(
            self.terms
        )  # terms that split their axes in another way, which the formula leaves out
        self.averaged = 0  # how many numbers are averaged, where the formula says 1/n
        self.n_is_taken = any(f.written(name) == "n" for t in terms for f in t.factors for name in f.symbols)
        self.letters: list[str] = []  # one for every label of the output, then of the input

    def formula(self) -> str:
        y, x = self.names
        if not self.terms:
            return f"∂{y}/∂{x} = 0"
        first = self.terms[0]
        self.name_positions()
        letters = iter(self.letters)
        sides = []
        for groups in (first.out, first.inp):
            texts = ["".join(next(letters) for _ in group) or "0" for group in groups]
            sides.append(f"[{','.join(texts)}]" if texts else "")
        text = " + ".join(self.product(term) for term in self.terms).replace("+ −", "− ")
        return f"∂{y}{sides[0]}/∂{x}{sides[1]} = {text}{' + …' if self.unlike_terms else ''}"

    def name_positions(self):
        rows = [labels_of(t.out) + labels_of(t.inp) for t in self.terms]
        count = len(labels_of(self.terms[0].out))
        for position in range(len(rows[0])):
            shared = next((p for p in range(position) if all(row[p] == row[position] for row in rows)), None)
            if shared is not None and position >= count:
                self.letters.append(self.letters[shared])
            else:
                hint = rows[0][position].name if rows[0].index(rows[0][position]) == position else ""
                self.letters.append(self.fresh_letter(hint, self.letters))

    def fresh_letter(self, hint, used) -> str:
        pool = [hint, *"ijklmnopqrstuvwxyz"] if hint else "ijklmnopqrstuvwxyz"
        return next((n for n in pool if n not in used), f"i{len(used)}")

    def product(self, term: Term) -> str:
        names: dict[Label, str] = {}
        parts = []
        for label, letter in zip(labels_of(term.out) + labels_of(term.inp), self.letters, strict=True):
            if names.setdefault(label, letter) != letter:
                parts.append(f"δ({names[label]},{letter})")
        slices = _slices_of_places(term)
        sliced = {f.axes[1][0] for f in slices}
        inner = [label for f in term.factors for label in labels_of(f.axes) if label not in names and label not in sliced]
        for label in dict.fromkeys(inner):
            names[label] = self.fresh_letter(label.name, [*self.letters, *names.values()])
        names |= {f.axes[1][0]: f.place("".join(names[label] for label in f.axes[0])) for f in slices}

        def show(groups):
            texts = ["".join(names[label] for label in group) or "0" for group in groups]
            return f"[{','.join(texts)}]" if texts else ""

        factors = [f.formula(show) for f in sorted(term.factors, key=lambda f: -f.notes.place) if f not in slices]
        parts += [text.removeprefix("−") for text in factors]
        sign = math.prod(-1 if text.startswith("−") else 1 for text in factors)
        scale = self.scale_text(term, term.scale * sign)
        if not parts:
            return scale + "1" if scale in ("", "−") else scale
        total = f"Σ_{''.join(names[label] for label in dict.fromkeys(inner))} " if inner else ""
        return f"{total}{scale}{'·' if scale not in ('', '−') else ''}{'·'.join(parts)}"

    def scale_text(self, term: Term, scale: float) -> str:
        """A number in front of a product: nothing for 1, and 1/n where it averages over what the output has not."""
        if abs(scale) == 1:
            return "" if scale > 0 else "−"
        n = entries_over(set(labels_of(term.inp)) - set(labels_of(term.out)))
        if abs(abs(scale) * n - 1) < 1e-12 and self.averaged in (0, n) and not self.n_is_taken:
            self.averaged = n
            return "1/n" if scale > 0 else "−1/n"
        return scale_text(scale)


def _slices_of_places(term: Term) -> list[Slice]:
    """Those that only say at which place of a recurrence it is read: R[t+1] for Σ_r δ(r, t + 1)·R[r]."""

    def is_place(f: Slice) -> bool:
        users = [g for g in term.factors if g is not f and g.labels & set(f.axes[1])]
        one_place = len(f.axes[1]) == 1 and len(f.axes[0]) <= 1 and f.stride == 1
        return one_place and len(users) == 1 and users[0].kind == "recurrence" and f.axes[1] in users[0].axes

    found = [f for f in term.factors if isinstance(f, Slice) and f.axes[1] and f.axes[1][0] not in term.external_labels]
    return [f for f in found if is_place(f)]
