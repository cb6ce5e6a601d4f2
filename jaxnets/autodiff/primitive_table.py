"""The table of the rules for JAX's own primitives, and the decorator that fills it."""

from collections.abc import Callable

# rule(y, *arguments, **parameters) returns a Rule for every argument, or None if that derivative is 0.  If there are several
# outputs, y is the list of them, and the rule returns such a row for each.  It returns None if it does not cover a case.
RULES: dict[str, Callable] = {}


def primitive(*names):
    """Decorator: the rule of the primitives of these names."""

    def register(rule):
        for name in names:
            RULES[name] = rule
        return rule

    return register
