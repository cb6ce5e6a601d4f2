"""Tells students what is wrong with a Jacobian that they wrote by hand.

`hand_written` calls the rule, `judge` tries it at many points, and `mistakes` holds the hypotheses of what may be wrong.
"""

import dataclasses
import itertools
from collections.abc import Callable

import jax
from rich.table import Table
from rich.text import Text

from ...checks import check_integer, checked
from ..formats import as_data, as_text, replace_nonfinite
from ..html import escaped, html_table
from .hand_written import HandWrittenRule, hand_written_rule
from .judge import Finding, Judge
from .mistakes import is_real

COLUMNS = ("Jacobian", "finding", "entry", "given", "right")
HINTS = 3  # each says more than the one before


@dataclasses.dataclass(frozen=True)
class RuleReport:
    """What `check_rule` returns: one finding per Jacobian, and `.ok` if all of them are right.  It prints as a table.

    The answer is worth `.points` of `.possible`: one for every Jacobian that is right.  If it was made with `score=True`,
    the report prints these points and a single hint instead of the table.
    """

    title: str
    findings: tuple[Finding, ...]
    possible: int
    hint: int | None = None

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    @property
    def points(self) -> int:
        return sum(finding.ok for finding in self.findings)

    def __repr__(self):
        return f"RuleReport({self.title}: {self.points} of {self.possible} right)"

    def to_json(self) -> dict:
        """The findings as data; infinity and NaN, which JSON does not have, are texts."""
        return {"ok": self.ok, "points": self.points, **replace_nonfinite(as_data(self), str)}

    def _rows(self):
        for f in self.findings:
            entry = "" if f.index is None else f"{list(f.index)}\n{f.where}"
            yield [f.name, f.sentence, entry, *(_number_text(n) for n in (f.given, f.right))]

    def _note(self):
        return f"{self.points} of {self.possible} right.  An entry is [*indices of the output, *indices of the input]."

    def _score(self) -> list[str]:
        """The points, and the hint about the first Jacobian that is wrong."""
        points = f"{self.title}: {self.points} of {self.possible} points"
        wrong = next((f for f in self.findings if not f.ok), None)
        if wrong is None:
            return [points]
        hints = [wrong.diagnosis, wrong.sentence]
        if wrong.index is not None:
            place = f"at {list(wrong.index)} it is {_number_text(wrong.given)}, but {_number_text(wrong.right)} is right"
            hints.append(f"{wrong.sentence}; {place} ({wrong.where})")
        number = min(self.hint or HINTS, len(hints))
        return [points, f"Hint {number} of {len(hints)} about {wrong.name}: {hints[number - 1]}"]

    def __rich_console__(self, console, options):
        if self.hint is not None:
            yield from map(Text, self._score())
            return
        grid = Table(title=Text(f"the Jacobians of {self.title}"), title_justify="left")
        for name in COLUMNS:
            grid.add_column(name, justify="right" if name in ("given", "right") else "left", overflow="fold")
        for row in self._rows():
            grid.add_row(*map(Text, row))
        yield grid
        yield Text(self._note())

    def _repr_html_(self):
        if self.hint is not None:
            return "".join(f"<p>{escaped(line)}</p>" for line in self._score())
        return html_table(f"the Jacobians of {self.title}", COLUMNS, self._rows(), [self._note()])

    def __str__(self):
        return as_text(self, 120)


def _number_text(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}".replace("-", "−")


@checked
def check_rule(
    my_layer: Callable, *args, jacobian: Callable | None = None, score: bool = False, hint: int = 1, **config
) -> RuleReport:
    """Tell what is wrong with a Jacobian written by hand: transposed, wrong sign, wrong axis, a missing path or factor, …

    `my_layer` is either made with `@layer` and has a rule, and arguments that are left out are made from its annotations.
    Or it is any function of arrays, and `jacobian(*args, **config)` returns its Jacobian as a dense array [*y, *x] or as a
    `Jacobian`.  A function of several arguments needs a tuple with one Jacobian per argument; None stands for an argument
    without one.

    The Jacobian is compared in double precision with `jax.jacfwd` and `jax.jacrev` of the forward function: at random
    points, at 0, ±1 and ties, at ±30 and ±100, and with other sizes if the arguments were made here.  At a kink any number
    between the one-sided derivatives is right.  A rule that is right but loses its digits in single precision, where a
    function saturates, counts as right, and the report says so.  Whole Jacobians are made many times, so use small arrays.

    With `score=True` the report is one for graders: it prints its points, one for every Jacobian that is right, and one
    hint about the first that is wrong.  `hint=1` names the kind of the mistake, 2 says it in a sentence, and 3 adds the
    worst entry and the number that is right there.

    Raises TypeError where there is no Jacobian to judge, ValueError where arguments are missing and cannot be made or
    none of them is real, and whatever `my_layer` raises for arguments that do not fit.

    >>> jn.check_rule(jn.relu).ok
    True
    >>> wrong = jn.check_rule(jnp.tanh, jnp.ones(3), jacobian=lambda x: jnp.diag(jnp.tanh(x) ** 2 - 1))
    >>> wrong.ok, wrong.findings[0].diagnosis
    (False, 'wrong sign')
    >>> print(jn.check_rule(jnp.tanh, jnp.ones(3), jacobian=lambda x: jnp.diag(jnp.tanh(x) ** 2 - 1), score=True, hint=2))
    tanh: 0 of 1 points
    Hint 2 of 3 about ∂y/∂x: wrong sign: right when negated
    <BLANKLINE>
    """
    shown = check_integer("check_rule", "hint", hint, 1, HINTS) if score else None
    rule = hand_written_rule(my_layer, jacobian, config)
    with jax.enable_x64(True):
        argument_sets = rule.argument_sets(args)
        own_arguments = argument_sets["own"]
        real = [k for k, x in enumerate(own_arguments) if is_real(x)]
        if not real:
            raise ValueError("check_rule: no argument holds a real array")
        names = rule.names(len(own_arguments))
        outputs = rule.forward(*own_arguments)
        possible = len(outputs) * len(real)
        count = rule.wrong_count(outputs, own_arguments)
        if count:
            whole = f"∂y/∂({', '.join(names)})" if len(names) > 1 else f"∂y/∂{names[0]}"
            return RuleReport(rule.name, (Finding(whole, *count),), possible, shown)
        oracle = _oracle(rule, real)
        findings = []
        for o, k in itertools.product(range(len(outputs)), real):
            judge = Judge(rule, oracle, argument_sets, o, k, names, real.index(k))
            findings.append(dataclasses.replace(judge.finding(), name=rule.label(o, k, outputs, own_arguments)))
    return RuleReport(rule.name, tuple(findings), possible, shown)


def _oracle(rule: HandWrittenRule, real) -> Callable:
    """Autodiff's answers, compiled once per set of sizes: the outputs, and [output][argument] from jacfwd and jacrev."""

    def run(*args):
        return (
            rule.forward(*args),
            jax.jacfwd(rule.forward, tuple(real))(*args),
            jax.jacrev(rule.forward, tuple(real))(*args),
        )

    return jax.jit(run)
