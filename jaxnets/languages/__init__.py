"""Texts in other languages than English, one file of strings for each, and which language the environment asks for.

In NAME.toml every English text stands beside its translation: in [page] what page.html and its scripts show, in [computed]
what Python puts into the page's data, and in [commands] what commands print.  A name in braces stands for a value.
"""

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files

LANGUAGES = ("en", "fr")
NAMES = {"en": "English", "fr": "Français"}
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first one that is set counts, as everywhere in POSIX


def language_of(environment: Mapping[str, str]) -> str:
    """The language that an environment asks for, "fr" where LANG is fr_CA.UTF-8, or English if it is none of ours."""
    name = next((environment[variable] for variable in VARIABLES if environment.get(variable)), "")
    code = re.split(r"[_.@-]", name.lower())[0]
    return code if code in LANGUAGES else "en"


@functools.cache
def texts(language: str) -> dict[str, dict[str, str]]:
    """The texts of a language by section and English text.  English itself has none."""
    if language == "en":
        return {}
    return tomllib.loads(files(__name__).joinpath(f"{language}.toml").read_text(encoding="utf-8"))


def said(text: str, language: str, section: str = "commands", **values) -> str:
    """An English text in a language, with its values filled in, or the English text itself where it is not translated."""
    return texts(language).get(section, {}).get(text, text).format(**values)
