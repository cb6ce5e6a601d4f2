"""`python -m tests.mutants` alters every rule and the whole algebra, and finds the test that sees an alteration."""

import sys

import jax.numpy as jnp
import pytest

import jaxnets
from jaxnets.autodiff import primitives

from . import computing, properties
from .cases import CASES
from .mutants.alterations import Altered, Mutant, is_mutant, source
from .mutants.measure import Crew, Measurement
from .mutants.record import Item
from .mutants.sample import sample, stale
from .mutants.table import table
from .mutants.targets import ROOT, targets
from .mutants.worker import Lines, MonitoredLines, Outcome


def mutant(name: str, text: str) -> Mutant:
    """That of a target whose change is shown so."""
    made = next(source(t) for t in targets() if t.name == name)
    return next(m for i in range(len(made.changes)) if (m := Mutant(made.target, i)).text == text)


NEGATION = ("Jacobian.__neg__", "-1.0 * self → 1.0 * self")
SIGMOID = ("sigmoid_derivative", "q * (2 + q) → q / (2 + q)")


# --- what is altered ----------------------------------------------------------------------------------------------


def test_targets_are_every_rule_and_every_file_of_the_algebra():
    rules = {layer.rule for layer in jaxnets.LAYERS.values()} | set(primitives.RULES.values())
    known = {target.code for target in targets()}
    assert {rule.__code__ for rule in rules if rule.__closure__ is None} <= known
    assert {f"algebra/{path.name}" for path in (ROOT / "algebra").glob("[!_]*.py")} <= {target.file for target in targets()}


def test_sample_has_every_target_and_is_the_same_every_time():
    chosen = sample(0, wanted=["algebra/terms"])
    assert chosen == sample(0, wanted=["algebra/terms"])
    here = [t for t in targets() if t.file == "algebra/terms.py"]
    able = [t for t in here if any(is_mutant(t, i) for i in range(len(source(t).changes)))]
    assert [m.target for m in chosen] == able
    assert 70 < len(sample(80, wanted=["algebra/terms"])) <= 80  # a few targets have no second one


def test_what_is_listed_as_equivalent_is_a_mutant():
    assert not stale()


def test_functions_are_altered_and_restored():
    J = jaxnets.jacobian(jaxnets.relu)(jnp.ones(3))
    altered = Altered((mutant(*NEGATION),))
    same = jnp.array_equal((-J).dense(), J.dense())
    altered.restore()
    assert same and jnp.array_equal((-J).dense(), -J.dense())


# --- what notices it ----------------------------------------------------------------------------------------------

KEEPING = """
import functools, jax, jax.numpy as jnp, pytest, jaxnets as jn

x = jnp.array([0.5, 2.0])

def derivative(x):
    return jn.jacobian(jn.sigmoid)(x).diagonal()

def agrees(values):
    return jnp.allclose(values, jax.vmap(jax.grad(jax.nn.sigmoid))(x), rtol=1e-4)

kept, compiled = functools.cache(lambda: derivative(x)), jax.jit(derivative)

@pytest.fixture(scope="module")
def fixture():
    return derivative(x)

def test_that_fails_anyway(): assert not agrees(derivative(x))
"""
WAYS = {
    "plain": "def test_it(): assert agrees(derivative(x))",
    "kept": "def test_it(): assert agrees(kept())",
    "compiled": "def test_it(): assert agrees(compiled(x))",
    "fixture": "def test_it(fixture): assert agrees(fixture)",
}


def test_an_altered_function_is_seen_through_whatever_keeps_values(tmp_path):
    """A function's cache, a compiled function, a fixture of a module: each file's test is the only one that can notice."""
    folder = tmp_path / "tests"
    folder.mkdir()
    for name, test in WAYS.items():
        (folder / f"test_{name}.py").write_text(KEEPING + test)
    found = [mutant(*SIGMOID), mutant(*NEGATION)]
    measured = Measurement(found, tmp_path, tests=[str(folder)])
    with Crew("short", tmp_path, [str(folder)], processes=1) as crew:
        tests = measured._record(crew)
        assert len(tests) == 2 * len(WAYS)
        for test in tests:
            assert test.sound == ("anyway" not in test.name)
            assert test.runs(found[0]) and not test.runs(found[1])
            if test.sound:
                in_place = ([], found[:1], found[1:], found, [])
                outcomes = [crew.workers[0].run(test.name, None, chosen).passed for chosen in in_place]
                assert outcomes == [True, False, True, False, True], test.name


class Pretended:
    """In place of a process: a test fails where one of some mutants is in place."""

    def __init__(self, noticing: dict[str, list[Mutant]], chosen: list[Mutant], disturbing: set[Mutant] = frozenset()):
        self.noticing, self.disturbing, self.runs = noticing, disturbing, 0
        self.lines = frozenset((m.target.file, line) for m in chosen for line in m.lines)

    def run(self, item, following, mutants, plain, record, limit):
        self.runs += 1
        disturbed = self.disturbing and self.disturbing <= set(mutants)
        return Outcome(not disturbed and not set(mutants) & set(self.noticing[item]), 0.1, self.lines)


def test_halving_finds_all_that_a_test_notices():
    chosen = sample(0, wanted=["algebra/factors"])
    noticing = {"first": [], "second": chosen[3:4], "third": [chosen[3], chosen[7], chosen[20]]}
    crew, tests = Crew("short", None, processes=1), [Item(name) for name in noticing]
    crew.workers = [Pretended(noticing, chosen)]
    measured = Measurement(chosen, None, say=lambda text: None)
    measured._together(crew, tests, "short")
    found = {m: v.test for m, v in measured.verdicts.items() if v.suite}
    assert found == {chosen[3]: "second", chosen[7]: "third", chosen[20]: "third"}
    assert crew.workers[0].runs < 40 < len(chosen) * len(tests)
    assert table(measured.verdicts.values(), False).splitlines()[-1].split() == ["all", str(len(chosen)), "3"]


def test_mutants_that_only_together_make_tests_fail_are_parted():
    """Or every test would be repeated with half of them, and no half would make it fail."""
    chosen = sample(0, wanted=["algebra/factors"])
    noticing = {f"test {i}": [] for i in range(30)} | {"last": [chosen[7]]}
    crew, tests = Crew("short", None, processes=1), [Item(name) for name in noticing]
    crew.workers = [Pretended(noticing, chosen, {chosen[3], chosen[4]})]
    told = []
    measured = Measurement(chosen, None, say=told.append)
    measured._together(crew, tests, "short")
    assert {m: v.test for m, v in measured.verdicts.items() if v.suite} == {chosen[7]: "last"}
    assert sum("only several together" in line for line in told) <= 4
    assert crew.workers[0].runs < 4 * len(tests)


def is_noticed(chosen: Mutant) -> bool:
    """Whether a property of a layer that has the rule fails."""
    altered = Altered((chosen,))
    try:
        for case in (case for case in CASES if case.name in chosen.target.layers):
            computing.forget()
            properties.rule_is_autodiff(case)
    except Exception:
        return True
    finally:
        altered.restore()
        computing.forget()
    return False


def test_altered_rules_are_noticed():
    rules = [m for m in sample(0, seed=1, wanted=["layers", "losses"]) if m.target.name.startswith("rule of")]
    unnoticed = [chosen for chosen in rules[::16] if not is_noticed(chosen)]
    assert not unnoticed


@pytest.mark.parametrize("kind", [Lines, *([MonitoredLines] if hasattr(sys, "monitoring") else [])])
def test_the_lines_that_a_test_runs_are_recorded_each_time(kind):
    def chosen(x):
        if x:
            return 1
        return [0 for _ in range(2)]

    first = chosen.__code__.co_firstlineno
    lines = kind({__file__: "here"})
    try:
        for x, expected in ((True, {1, 2}), (False, {1, 3}), (True, {1, 2})):
            lines.start()
            chosen(x)
            seen = {line - first for file, line in lines.stop() if file == "here"}
            assert seen & {1, 2, 3} == expected
    finally:
        if kind is not Lines:
            sys.monitoring.free_tool_id(lines.tool)
