"""Every exercise of the notebooks: an empty stub is told so, a right answer passes, wrong ones are told what is wrong."""

import re

import pytest

from ..sweeps import swept
from .exercises import FOLDER, WRONG, cells, exercises

EXERCISES = exercises()
SHORT = ["lecture_a: the two Jacobians of a stage", "lecture_b: Max", "lecture_b: a rule with an einsum"]


pytestmark = pytest.mark.usefixtures("as_users")


def test_every_notebook_ends_with_exercises_and_each_has_wrong_answers():
    assert set(EXERCISES) == set(WRONG)
    for path in FOLDER.glob("*.py"):
        titles = [text.startswith("## Exercise: ") for is_words, text in cells(path) if is_words]
        assert any(titles) and all(titles[titles.index(True) :]), path.stem
    for name, answers in WRONG.items():
        assert len({words for _, words in answers}) == len(answers) >= 3, name


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_and_the_solution_are_folded_away(name):
    task = EXERCISES[name].task
    blocks = re.findall(r"<details><summary>(.*?)</summary>\n\n(.*?)\n\n</details>", task, re.S)
    *hints, last = [summary for summary, _ in blocks]
    assert hints == [f"Hint {number}" for number in range(1, len(hints) + 1)] and hints
    assert last == "Solution" and task.endswith("</details>")
    assert task.count("<details>") == task.count("</details>") == len(blocks)
    assert all(text.strip() for _, text in blocks)
    assert EXERCISES[name].solution not in EXERCISES[name].code


@pytest.mark.parametrize("name", swept(EXERCISES, SHORT))
def test_an_empty_stub_is_told_so_and_the_solution_passes(name):
    report = EXERCISES[name].check()
    assert (report.ok, report.points, len(report.findings)) == (False, 0, 1)
    assert report.findings[0].sentence.startswith("nothing is returned yet: expected ")
    solved = EXERCISES[name].check(EXERCISES[name].solution)
    assert solved.ok and solved.points == solved.possible >= 1


@pytest.mark.parametrize("name", swept(WRONG, SHORT))
def test_wrong_answers_are_told_what_is_wrong(name):
    told = []
    for answer, words in WRONG[name]:
        report = EXERCISES[name].check(answer)
        first = next(finding for finding in report.findings if not finding.ok)
        assert words in first.sentence and report.points < report.possible
        told.append(first.sentence)
    assert len(set(told)) == len(told)
