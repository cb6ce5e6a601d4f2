"""The table of the rules for JAX's own primitives, and the decorator that fills it."""

from collections.abc import Callable

# rule(y, *arguments, **parameters) -> a Rule (None: derivative 0) for every argument; of many outputs, a row for each
RULES: dict[str, Callable] = {}


def primitive(*names):
    """Decorator: the rule of the primitives of these names."""

    def register(rule):
        for name in names:
            RULES[name] = rule
        return rule

    return register
