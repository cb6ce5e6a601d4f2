"""All French texts of the package, and what a reader of French expects of them."""

import re
from pathlib import Path

import jaxnets
from jaxnets.course.examples import NOTEBOOKS, words_of
from jaxnets.guide import page_texts
from jaxnets.languages import texts

PACKAGE = Path(jaxnets.__file__).parent
COURSE = page_texts("fr")["course"]


def glossary() -> dict[str, str]:
    """French terms by the English ones, without the English word that some have in parentheses."""
    section = COURSE.split("## Glossaire\n")[1]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in section.splitlines() if line.startswith("| ")][1:]
    return {english: re.sub(r" \(.*\)", "", french) for english, french, _ in rows}


def french_texts() -> dict[str, str]:
    """Every French text by the place where it stands, without code."""
    found = {f"[{section}] {english}": text for section, pairs in texts("fr").items() for english, text in pairs.items()}
    before, _, after = COURSE.partition("## Glossaire\n")
    course = before + re.sub(r"^\|[^|]*\|", "|", after, flags=re.M)  # without the English terms
    found |= {f"course.fr.md, {n}": text for n, text in enumerate(course.split("\n\n"))}
    for path in NOTEBOOKS.glob("*.py"):
        found |= {f"{path.stem}, {n}": text for n, text in enumerate(words_of(path.stem, "fr"))}
    return {place: without_code(text) for place, text in found.items()}


def without_code(text: str) -> str:
    """A text without code, names in braces, addresses and the links to notebooks, whose sections have English names."""
    return re.sub(r"(?s:```.*?```)|`[^`]*`|\{\w+\}|\[\w+: [^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)", "", text)


def formulas(text: str) -> list[str]:
    """The code in a text and its formulas, as far as they are made of signs and letters that no word has, in any order."""
    return sorted(re.findall(r"(?s:```.*?```)|`[^`]*`|[∂ΣℒℓΘϑηασδε‖₀₁₂ᵢⱼᵀȳŷŶℝ≫·←→−+√∞±∈=≤<>²½⊙⟨⟩]+", text))
