"""Models from words: a description such as "linear(60) relu linear(10)" becomes a model."""

import inspect
import re
from collections.abc import Callable
from difflib import get_close_matches

from ..catalogue import LAYERS
from ..checks import checked
from ..errors import ShapeError, SpecError
from ..names import hint
from . import models
from .models import Model

MAX_FEATURES = 1_000_000
MAX_DEPTH = 100  # how deeply one residual(…) or each_step(…) may stand inside another


def _integer_between(least, most):
    return lambda text: int(float(text)) if text.isdecimal() and least <= float(text) <= most else None


def _fraction(text):
    return float(text) if float(text) <= 1 else None


FEATURES, SIZE = _integer_between(1, MAX_FEATURES), _integer_between(1, 1000)
WORDS: dict[str, tuple[Callable[..., Model], str, tuple[Callable, ...]]] = {  # builder, how to write it, its numbers
    "linear": (models.linear, f"linear(FEATURES), with FEATURES from 1 to {MAX_FEATURES}", (FEATURES,)),
    "conv": (models.conv, "conv(CHANNELS) or conv(CHANNELS, SIZE), with an odd SIZE", (FEATURES, SIZE)),
    "max_pool": (models.max_pool, "max_pool(SIZE)", (SIZE,)),
    "embedding": (models.embedding, "embedding(COUNT, FEATURES)", (FEATURES, FEATURES)),
    "rnn": (models.rnn, "rnn(FEATURES)", (FEATURES,)),
    "lstm": (models.lstm, "lstm(FEATURES)", (FEATURES,)),
    "gru": (models.gru, "gru(FEATURES)", (FEATURES,)),
    "dropout": (models.dropout, "dropout(RATE), with RATE from 0 to 1", (_fraction,)),
}
AROUND: dict[str, Callable[..., Model]] = {"residual": models.residual, "each_step": models.each_step}  # other words
_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|\d+(?:\.\d+)?(?:e-?\d+)?|[(),])", re.ASCII)


@checked
def parse(text: str) -> Model:
    """A model from words: `"conv(8) relu max_pool(2) flatten residual(linear(60) tanh) linear(10) log_softmax"`.

    The words are `linear(FEATURES)`, `conv(CHANNELS, SIZE)` (SIZE is 3 if not given), `max_pool(SIZE)`, `dropout(RATE)`,
    `residual(WORDS)`, for sequences `embedding(COUNT, FEATURES)`, `rnn(FEATURES)`, `lstm(FEATURES)`, `gru(FEATURES)` and
    `each_step(WORDS)`, and the layers of one argument.  The text is only read and never evaluated.  Raises SpecError, which
    names the word that does not fit.

    >>> jn.parse("conv(8) relu max_pool(2) flatten linear(10)").output_shape((1, 28, 28))
    (10,)
    """
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SpecError(f"model '{text}': cannot read '{text[position:].strip()}'")
        tokens.append(match.group(1))
        position = match.end()
    found, rest = _parse_words(tokens, text)
    if rest:
        raise SpecError(f"model '{text}': unexpected '{rest[0]}'")
    if not found:
        raise SpecError("model: the description is empty")
    return models.serial(*found)


def _parse_words(tokens, text, depth=0):
    if depth > MAX_DEPTH:
        raise SpecError(f"model: {' or '.join(AROUND)}(…) is nested too deeply, more than {MAX_DEPTH} times")
    found = []
    while tokens and tokens[0] not in (")", ","):
        word, tokens = tokens[0], tokens[1:]
        if word in WORDS:
            model, tokens = _parse_numbers(word, tokens, text)
            found.append(model)
        elif word in AROUND:
            inner, rest = _parse_words(tokens[1:], text, depth + 1) if tokens[:1] == ["("] else ([], [])
            if not inner or rest[:1] != [")"]:
                raise SpecError(f"model '{text}': write {word}(WORDS)")
            found.append(AROUND[word](*inner))
            tokens = rest[1:]
        elif word in unary_layers():
            found.append(models.plain(word))
        else:
            close = ", ".join(get_close_matches(word, [*WORDS, *AROUND, *unary_layers()]))
            told = hint(word) or (f", did you mean {close}?" if close else "")
            raise SpecError(
                f"model '{text}': unknown word '{word}'{told}; known: "
                "linear(FEATURES), conv(CHANNELS), max_pool(SIZE), dropout(RATE), residual(WORDS) and the layers of one "
                "argument that `jaxnets layers` lists"
            )
    return found, tokens


def _parse_numbers(word, tokens, text):
    """The model of `WORD ( NUMBER , NUMBER )`, and the tokens that follow.  All numbers but the first may be left out."""
    build, usage, readers = WORDS[word]
    end = tokens.index(")") if ")" in tokens else 0
    inside = tokens[1:end]
    values = [read(token) if token[0].isdecimal() else None for read, token in zip(readers, inside[::2], strict=False)]
    commas = set(inside[1::2]) <= {","} and len(inside) % 2 == 1
    if tokens[:1] != ["("] or not commas or None in values or len(values) != (len(inside) + 1) // 2:
        raise SpecError(f"model '{text}': write {usage}")
    try:
        return build(*values), tokens[end + 1 :]
    except ShapeError as error:
        raise SpecError(f"model '{text}': {error}") from None


def unary_layers() -> list[str]:
    """The layers that a description may name: those that take one array and return one, example by example."""
    names = []
    for name, layer in LAYERS.items():
        parameters = layer.signature.parameters.values()
        required = [p.kind for p in parameters if p.default is p.empty]
        reduces = any(p.name == "axis" and p.default is None for p in parameters)
        if required == [inspect.Parameter.POSITIONAL_OR_KEYWORD] and not (layer.many_outputs or reduces or layer.takes_key):
            names.append(name)
    return names
