"""Symbols: what the factors of a Jacobian are called in formulae, and what they stand for.

No number depends on them.  They are static parts of factors, so they survive `jax.jit`.
"""

import math
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

MOST_FACTORS, MOST_LETTERS, MOST_MEANINGS = 12, 60, 40  # of products, sums and legends that are written out
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
SIMPLE = re.compile(r"[^\W\d_][\w\u0300-\u036f⁻]*'*")  # letters, hats and primes: a name that needs no parentheses


class Symbol(NamedTuple):
    """A name as it stands in a formula, and the place of its module in the chain, counted from the input."""

    text: str
    place: int = 0


class Notes(NamedTuple):
    """What a formula tells of a factor beside its name.

    `number` is the index of its symbols, 0 for none.  `meanings` says what symbols stand for.  `chain` holds the symbols of
    the factors that were multiplied, if it is a product.
    """

    place: int = 0
    number: int = 0
    meanings: tuple[tuple[str, str], ...] = ()
    chain: tuple[Symbol, ...] = ()


def written(name: str, number: int = 0) -> str:
    """A name with its index: w₁, h₂', (m/n)₁."""
    base = name if SIMPLE.fullmatch(name) or is_enclosed(name) else f"({name})"
    index = str(number).translate(SUBSCRIPTS) if number else ""
    stem = base.rstrip("'")
    return stem + index + base[len(stem) :]


def is_enclosed(text: str) -> bool:
    """Whether the first parenthesis is closed by the last letter."""
    if not text.startswith("("):
        return False
    depth = 0
    for i, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return i == len(text) - 1
    return False


def scale_text(scale: float) -> str:
    """A number as people write it: 2, 0.25, 1/15, or 4 digits of it."""
    short = f"{scale:.4g}"
    fraction = Fraction(scale).limit_denominator(10_000) if math.isfinite(scale) else Fraction(0)
    if float(short) != scale and fraction and abs(float(fraction) - scale) <= 1e-14 * abs(scale):
        short = str(fraction)
    return short.replace("-", "−")


def product_text(chain: Iterable[Symbol]) -> str:
    """w₂·h'·w₁: the factors from the output to the input."""
    return "·".join(symbol.text for symbol in chain)


def product_notes(chains: Iterable[tuple[Symbol, ...]], meanings: Iterable[tuple[str, str]], scale: float = 1.0) -> Notes:
    """The notes of a product whose factors have these chains of symbols.  A long one is shortened in the middle."""
    symbols = sorted((symbol for chain in chains for symbol in chain), key=lambda symbol: -symbol.place)
    place = max((symbol.place for symbol in symbols), default=0)
    order = {symbol.text: i for i, symbol in reversed(list(enumerate(symbols)))}
    meanings = sorted(meanings, key=lambda entry: order.get(entry[0], len(order)))
    if scale != 1:
        symbols.insert(0, Symbol(scale_text(scale), place))
    if len(symbols) > MOST_FACTORS:
        symbols = [
            *symbols[: MOST_FACTORS // 2],
            Symbol("…", symbols[MOST_FACTORS // 2].place),
            *symbols[-MOST_FACTORS // 2 + 1 :],
        ]
    return Notes(place, 0, _first_of_each(meanings), tuple(symbols))


def sum_notes(first: tuple[Symbol, ...], second: tuple[Symbol, ...], meanings: Iterable[tuple[str, str]]) -> Notes:
    """The notes of a sum of two products.  Of a long sum the end is left out."""
    texts = [
        text.removeprefix("(").removesuffix(")") if is_enclosed(text) else text
        for text in map(product_text, (first, second))
    ]
    text = texts[0] if texts[0].endswith("…") else " + ".join(texts)
    if len(text) > MOST_LETTERS:
        text = f"{texts[0]} + …" if len(texts[0]) <= MOST_LETTERS else "…"
    place = max((symbol.place for symbol in (*first, *second)), default=0)
    return Notes(place, 0, _first_of_each(meanings), (Symbol(f"({text})", place),))


def _first_of_each(meanings) -> tuple[tuple[str, str], ...]:
    """One meaning for every symbol, in order."""
    known: dict[str, str] = {}
    for text, meaning in meanings:
        known.setdefault(text, meaning)
    return tuple(known.items())[:MOST_MEANINGS]
