"""Mutation testing: a function is altered in one small way, and the tests must notice.

    python -m tests.mutants

draws a sample of all mutants, the same on every run: at least one of every rule of a layer, a loss or a primitive, of what
such rules use, and of every function of jaxnets/algebra and jaxnets/autodiff; the rest by the size of the functions.
Each is judged by pytest itself: a test that passes otherwise and fails with the mutant in place has noticed it, and so has
one that crashes or takes many times as long.  Two processes do this in five steps:

1. The short suite (`python -m pytest`) runs once, unaltered, and it is noted which lines each test executes, and how long
   it takes.  This record is kept for as long as no file of jaxnets or tests changes.
2. Every mutant is tried alone on the tests that execute its line, those first that are cheap and have noticed others.
3. Those that are left after `--seconds` of that go through the rest of the short suite together: a test that passes
   clears all of them at once; one that fails is repeated with half of them, until it is known which one it noticed.  Where
   only several of them together make it fail, they are parted from then on.
4. Those that are still left go through what only `--all` runs, in the same way.
5. The table tells for every file how many mutants there are, and how many the short and the whole suite notice; then come
   the mutants that only the whole suite notices, and those that neither does.

Arguments, with their values where none is given:

    NAME ...            only targets whose name or file has one of these texts in it, as algebra/terms or "rule of conv"
    --count 500         how many mutants; at least one of each target is drawn, whatever the count
    --seed 0            another number draws another sample
    --every 1           one in so many of the sample: for a trial
    --seconds 10        of tests a mutant, in step 2
    --short-only        without step 4
    --whole-seconds S   for a quick answer: step 4 comes before step 3 and tries each mutant alone on what only --all runs,
                        tests of functions that execute its line, for so many seconds; step 3 is for what it noticed
    --tests PATH ...    only these tests: for a trial
    --folder .pytest_cache/mutants    for the record, compiled programs, a log for each process, and result.json
    --list              only say what would be altered
    --stale             try those that equivalent.py lists, and say which of them are noticed

What computes the same as before is listed in equivalent.py, each with the reason, and never drawn.  An entry there that is
no mutant of anything is reported at the start.

What is left out: texts of errors and names of axes; what runs only while jaxnets is imported, since functions are
altered after that; and what tests run in other processes than their own.
"""
