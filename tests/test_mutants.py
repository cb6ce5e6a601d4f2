"""The suite notices when a rule is altered: some mutants of each here, all of them by `python -m tests.mutants`."""

import sys

import pytest

import jaxnets
from jaxnets import primitives

from .mutants import run, targets

TARGETS = targets()

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="mutants tell about the tests, not about a version of Python: one version is enough"
)


@pytest.fixture
def every(request):
    """One mutant in so many is tried."""
    return 5 if request.config.getoption("--all") else 40


def test_every_rule_is_a_target():
    rules = {layer.rule for layer in jaxnets.LAYERS.values()} | set(primitives.RULES.values())
    assert rules <= {target.function for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutants_are_noticed(target, every):
    result = run(target, every=every)
    assert len(result.survivors) < max(1, result.count), f"no mutant of {target.name} was noticed: {result.survivors}"


def test_nearly_all_mutants_are_noticed(every):
    results = [run(target, every=every) for target in TARGETS]
    survivors = [f"{r.target.name}: {text}" for r in results for text in r.survivors]
    total = sum(r.count for r in results)
    assert total > len(TARGETS) / 2
    assert len(survivors) <= 0.02 * total, f"{len(survivors)} of {total} survive:\n" + "\n".join(survivors)
