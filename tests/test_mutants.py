"""The suite notices when a rule is altered: see mutants.py; `python -m tests.mutants` prints the survivors."""

import pytest

import jaxnets
from jaxnets import primitives

from .mutants import run, targets

TARGETS = targets()


def test_every_rule_is_a_target():
    assert {f"rule of {name}" for name in jaxnets.LAYERS} <= {target.name for target in TARGETS}
    assert set(primitives.RULES.values()) <= {target.function for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutants_are_noticed(target):
    result = run(target)
    assert result.count, f"nothing to alter in {target.name}"
    assert len(result.survivors) < result.count, f"no mutant of {target.name} was noticed"


def test_nearly_all_mutants_are_noticed():
    results = [run(target) for target in TARGETS]
    survivors = [f"{r.target.name}: {text}" for r in results for text in r.survivors]
    total = sum(r.count for r in results)
    assert len(survivors) <= 0.02 * total, f"{len(survivors)} of {total} survive:\n" + "\n".join(survivors)
