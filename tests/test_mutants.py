"""The suite notices when a rule is altered: a sample of the mutants here, all of them by `python -m tests.mutants`."""

import pytest

import jaxnets
from jaxnets.autodiff import primitives

from .mutants import run, targets

TARGETS = targets()


EVERY = 10  # one mutant in so many is tried
SAMPLE = 30  # of one target in so many, but for `--all`


def sampled():
    return [pytest.param(t, id=t.name, marks=[pytest.mark.sweep] if i % SAMPLE else []) for i, t in enumerate(TARGETS)]


def test_every_rule_is_a_target():
    rules = {layer.rule for layer in jaxnets.LAYERS.values()} | set(primitives.RULES.values())
    assert rules <= {target.function for target in TARGETS}


@pytest.mark.parametrize("target", sampled())
def test_mutants_are_noticed(target):
    result = run(target, every=EVERY)
    assert len(result.survivors) < max(1, result.count), f"no mutant of {target.name} was noticed: {result.survivors}"


def test_nearly_all_mutants_are_noticed(request):
    results = [run(target, every=EVERY) for target in TARGETS[:: 1 if request.config.getoption("--all") else SAMPLE]]
    survivors = [f"{r.target.name}: {text}" for r in results for text in r.survivors]
    total = sum(r.count for r in results)
    assert total >= len(results)
    assert len(survivors) <= 0.02 * total, f"{len(survivors)} of {total} survive:\n" + "\n".join(survivors)
