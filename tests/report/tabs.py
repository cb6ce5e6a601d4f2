"""What tests do with the page in a tab of the browser."""

import re

WIDE, NARROW = (1280, 900), (390, 844)


def choose(tab, name, argument=None, view=None):
    """Chooses the first module of a name, and what its heat map shows."""
    tab.click(f"figure:first-child [data-module][aria-label*=': {name},']")
    if argument:
        tab.get_by_label(argument, exact=True).check()
    if view:
        tab.get_by_label(view, exact=True).check()


def values(tab, figure):
    """The numbers of the table below a chart, by line."""
    rows = tab.locator(f"{figure} tbody tr").all()
    return {row.locator("th").inner_text().strip(): row.locator("td").inner_text() for row in rows}


def readout(tab):
    return tab.text_content(".readout")


def go_to(tab, row, column):
    """Moves over the heat map with the keyboard."""
    tab.focus(".heat")
    for key, times in (("PageUp", 1), ("Home", 1), ("ArrowDown", row), ("ArrowRight", column)):
        for _ in range(times):
            tab.keyboard.press(key)


def rows_of(table):
    return [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]


def wait_for_step(tab, step):
    tab.locator("#training output", has_text=re.compile(f"^step {step},")).wait_for()


def slide(tab, selector, value):
    tab.locator(selector).fill(str(value))


def wait_for_quiet(tab):
    """Waits until nothing is being computed."""
    tab.wait_for_function("!state.busy.size")
