"""Tells students what is wrong with a Jacobian that they wrote by hand.

`hand_written` calls the rule, `judge` tries it at many points, and `mistakes` holds the hypotheses of what may be wrong.
"""

import dataclasses
import itertools
from collections.abc import Callable

import jax
from rich.table import Table
from rich.text import Text

from ...checks import checked
from ..formats import as_data, as_text, replace_nonfinite
from ..html import html_table
from .hand_written import HandWrittenRule, hand_written_rule
from .judge import Finding, Judge
from .mistakes import is_real

COLUMNS = ("Jacobian", "finding", "entry", "given", "right")


@dataclasses.dataclass(frozen=True)
class RuleReport:
    """What `check_rule` returns: one finding per Jacobian, and `.ok` if all of them are right.  It prints as a table."""

    title: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    def __repr__(self):
        return f"RuleReport({self.title}: {sum(f.ok for f in self.findings)} of {len(self.findings)} right)"

    def to_json(self) -> dict:
        """The findings as data; infinity and NaN, which JSON does not have, are texts."""
        return {"ok": self.ok, **replace_nonfinite(as_data(self), str)}

    def _rows(self):
        for f in self.findings:
            entry = "" if f.index is None else f"{list(f.index)}\n{f.where}"
            numbers = ["" if n is None else f"{n:.4g}".replace("-", "−") for n in (f.given, f.right)]
            yield [f.name, f.sentence, entry, *numbers]

    def _note(self):
        right = sum(f.ok for f in self.findings)
        return f"{right} of {len(self.findings)} right.  An entry is [*indices of the output, *indices of the input]."

    def __rich_console__(self, console, options):
        grid = Table(title=Text(f"the Jacobians of {self.title}"), title_justify="left")
        for name in COLUMNS:
            grid.add_column(name, justify="right" if name in ("given", "right") else "left", overflow="fold")
        for row in self._rows():
            grid.add_row(*map(Text, row))
        yield grid
        yield Text(self._note())

    def _repr_html_(self):
        return html_table(f"the Jacobians of {self.title}", COLUMNS, self._rows(), [self._note()])

    def __str__(self):
        return as_text(self, 120)


@checked
def check_rule(my_layer: Callable, *args, jacobian: Callable | None = None, **config) -> RuleReport:
    """Tell what is wrong with a Jacobian written by hand: transposed, wrong sign, wrong axis, a missing sum over paths, …

    `my_layer` is either made with `@layer` and has a rule, and arguments that are left out are made from its annotations.
    Or it is any function of arrays, and `jacobian(*args, **config)` returns its Jacobian as a dense array [*y, *x] or as a
    `Jacobian`.  A function of several arguments needs a tuple with one Jacobian per argument; None stands for an argument
    without one.

    The Jacobian is compared in double precision with `jax.jacfwd` and `jax.jacrev` of the forward function: at random
    points, at 0, ±1 and ties, at ±30 and ±100, and with other sizes if the arguments were made here.  At a kink any number
    between the one-sided derivatives is right.  A rule that is right but loses its digits in single precision, where a
    function saturates, counts as right, and the report says so.  Whole Jacobians are made many times, so use small arrays.

    Raises TypeError where there is no Jacobian to judge, ValueError where arguments are missing and cannot be made or
    none of them is real, and whatever `my_layer` raises for arguments that do not fit.

    >>> jn.check_rule(jn.relu).ok
    True
    >>> wrong = jn.check_rule(jnp.tanh, jnp.ones(3), jacobian=lambda x: jnp.diag(jnp.tanh(x) ** 2 - 1))
    >>> wrong.ok, wrong.findings[0].diagnosis
    (False, 'wrong sign')
    """
    rule = hand_written_rule(my_layer, jacobian, config)
    with jax.enable_x64(True):
        argument_sets = rule.argument_sets(args)
        own_arguments = argument_sets["own"]
        real = [k for k, x in enumerate(own_arguments) if is_real(x)]
        if not real:
            raise ValueError("check_rule: no argument holds a real array")
        names = rule.names(len(own_arguments))
        outputs = rule.forward(*own_arguments)
        count = rule.wrong_count(outputs, own_arguments)
        if count:
            whole = f"∂y/∂({', '.join(names)})"
            return RuleReport(rule.name, (Finding(whole, *count),))
        oracle = _oracle(rule, real)
        findings = []
        for o, k in itertools.product(range(len(outputs)), real):
            judge = Judge(rule, oracle, argument_sets, o, k, names, real.index(k))
            label = f"∂y{o if len(outputs) > 1 else ''}/∂{names[k]}"
            findings.append(dataclasses.replace(judge.finding(), name=label))
    return RuleReport(rule.name, tuple(findings))


def _oracle(rule: HandWrittenRule, real) -> Callable:
    """Autodiff's answers, compiled once per set of sizes: the outputs, and [output][argument] from jacfwd and jacrev."""

    def run(*args):
        return (
            rule.forward(*args),
            jax.jacfwd(rule.forward, tuple(real))(*args),
            jax.jacrev(rule.forward, tuple(real))(*args),
        )

    return jax.jit(run)
