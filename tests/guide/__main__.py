"""`python -m tests.guide`: write the tables of the page from_torch anew."""

from .tables import PAGE, with_tables

PAGE.write_text(with_tables(PAGE.read_text()))
