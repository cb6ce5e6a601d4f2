"""The suite notices when a rule is altered: one in EVERY mutants here, all of them by `python -m tests.mutants`."""

import sys

import pytest

import jaxnets
from jaxnets import primitives

from .mutants import run, targets

TARGETS = targets()
EVERY = 20

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="mutants tell about the tests, not about a version of Python: one version is enough"
)


def test_every_rule_is_a_target():
    rules = {layer.rule for layer in jaxnets.LAYERS.values()} | set(primitives.RULES.values())
    assert rules <= {target.function for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutants_are_noticed(target):
    result = run(target, every=EVERY)
    assert len(result.survivors) < max(1, result.count), f"no mutant of {target.name} was noticed: {result.survivors}"


def test_nearly_all_mutants_are_noticed():
    results = [run(target, every=EVERY) for target in TARGETS]
    survivors = [f"{r.target.name}: {text}" for r in results for text in r.survivors]
    total = sum(r.count for r in results)
    assert total > 200
    assert len(survivors) <= 0.02 * total, f"{len(survivors)} of {total} survive:\n" + "\n".join(survivors)
