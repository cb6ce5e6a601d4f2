"""What a request to the explorer may hold: the fields of every path, and what their values may be."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from .worker import Job, Refusal

MAX_VALUE = 60  # characters of a value that an error quotes


def _integer_between(least: int, most: int):
    expected = f"a whole number from {least} to {most:,}"
    return expected, lambda value: type(value) is int and least <= value <= most


def _one_of(*names: str):
    return " or ".join(names), lambda value: isinstance(value, str) and value in names


MAX_COORDINATE = 1e6
MODEL_CHARACTERS, INPUT_NUMBERS = 2000, 4096
_SHAPE = re.compile(r"[1-9]\d{0,3}(x[1-9]\d{0,3}){0,7}", re.ASCII)


def _is_shape(value) -> bool:
    if not isinstance(value, str) or (value and not _SHAPE.fullmatch(value)):
        return False
    count = 1
    for size in value.split("x") if value else ():
        count *= int(size)
    return count <= INPUT_NUMBERS


def _is_point(value) -> bool:
    if not isinstance(value, list) or len(value) != 3 or any(type(x) not in (int, float) for x in value):
        return False
    return all(abs(x) <= MAX_COORDINATE for x in value[:2]) and type(value[2]) is int and 1 <= value[2] <= MAX_LABEL


Check = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is that
PROBLEM_FIELDS: dict[str, Check] = {
    "model": (
        f"a text of at most {MODEL_CHARACTERS:,} characters",
        lambda value: isinstance(value, str) and len(value) <= MODEL_CHARACTERS,
    ),
    "input": (f"a shape like 2 or 1x8x8, of at most {INPUT_NUMBERS:,} numbers and 8 axes, or nothing", _is_shape),
    "batch": _integer_between(1, 64),
    "dtype": _one_of("float32", "float64"),
    "seed": _integer_between(0, 2**31 - 1),
}
MAX_POINTS, MAX_LABEL, MAX_RATE = 5000, 5, 100
DATA_FIELDS: dict[str, Check] = {
    "data": _one_of("spiral", "circles", "moons", "xor", "function", "points"),
    "function": _one_of("sin", "cos", "abs", "step", "x²", "x³"),
    "points": (
        f"at most {MAX_POINTS:,} points [x1, x2, label] of finite numbers and labels from 1 to {MAX_LABEL}",
        lambda value: isinstance(value, list) and len(value) <= MAX_POINTS and all(map(_is_point, value)),
    ),
    "draw": _integer_between(0, 4),
    "optimizer": _one_of("adam", "sgd", "momentum"),
    "rate": (
        f"a number above 0 and up to {MAX_RATE}",
        lambda value: type(value) in (int, float) and 0 < value <= MAX_RATE,
    ),
}
TRAIN_FIELDS = {**PROBLEM_FIELDS, "action": _one_of("reset", "step"), "steps": _integer_between(1, 50), **DATA_FIELDS}
OPTIONAL_FIELDS = {"steps", *DATA_FIELDS}
FIELDS_BY_PATH = {"/model": PROBLEM_FIELDS, "/compare": PROBLEM_FIELDS, "/train": TRAIN_FIELDS}


def checked_fields(body: bytes, known: dict[str, Check]) -> Job:
    """The JSON object in a body.  Raises Refusal, which names the field that does not fit."""
    try:
        found = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise Refusal(400, "the body is not a JSON object")
    if unknown := found.keys() - known.keys():
        raise Refusal(400, f"unknown field {_value_text(min(unknown))}; known: {', '.join(known)}")
    for name, (expected, fits) in known.items():
        if name not in found:
            if name not in OPTIONAL_FIELDS:
                raise Refusal(400, f"{name}: missing, expected {expected}")
        elif not fits(found[name]):
            raise Refusal(400, f"{name}: expected {expected}, got {_value_text(found[name])}")
    return found


def shown_query(link: str, language: str) -> str:
    """What an address with another token needs to show what a copied link shows, or the page in a language."""
    shown = {name: text for name, text in parse_qsl(urlsplit(link).query) if name != "token"}
    if language != "en":
        shown.setdefault("lang", language)
    return f"&{urlencode(shown)}" if shown else ""


def _value_text(value) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value, ensure_ascii=False)[:MAX_VALUE]
