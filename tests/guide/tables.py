"""The tables of the page from_torch, made from the tables of names."""

from pathlib import Path

from jaxnets.names import COUNTERPARTS, Counterpart

PAGE = Path(__file__).parents[2] / "jaxnets" / "guide" / "from_torch.md"


def table(rows: tuple[Counterpart, ...]) -> list[str]:
    lines = ["| there | here | what differs, or why there is none |", "|---|---|---|"]
    for row in rows:
        names = " ".join(f"`{name}`" for name in row.names)
        lines.append(f"| {names} | {f'`{row.ours}`' if row.ours else '–'} | {row.differs} |")
    return lines


def with_tables(text: str) -> str:
    """The page with every table between its marks as the names say."""
    for mark, rows in COUNTERPARTS.items():
        begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        before, _, rest = text.partition(begin)
        text = "\n".join([before + begin, *table(rows), end]) + rest.partition(end)[2]
    return text
