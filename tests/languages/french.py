"""All French texts of the package, and what a reader of French expects of them."""

import re
from pathlib import Path

import jaxnets
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
    return {place: without_code(text) for place, text in found.items()}


def without_code(text: str) -> str:
    """A text without code, names in braces, addresses and the links to notebooks, whose sections have English names."""
    return re.sub(r"`[^`]*`|\{\w+\}|\[\w+: [^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)", "", text)
