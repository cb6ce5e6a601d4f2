"""Tables of which the short suite tries a part, and `--all` everything."""

import pytest


def swept(rows, short, several=False):
    """The rows of a table for `parametrize`: those that are not in `short` only with `--all`.

    `short` holds rows or their names; or it is a number, and every so many rows one is tried.  `several` tells that a row
    holds the values of several arguments.
    """
    rows = list(rows)
    known = [] if isinstance(short, int) else [_name(row) for row in short]

    def param(i, row):
        tried = i % short == 0 if isinstance(short, int) else _name(row) in known
        return pytest.param(*(row if several else [row]), marks=[] if tried else pytest.mark.sweep)

    return [param(i, row) for i, row in enumerate(rows)]


def _name(row):
    return getattr(row, "name", row)
