"""What does every quantity send between devices and store on each, on 1 to 8 of them, and how far is it from one device?"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from .on_devices import SHARDINGS, measured

ABOUT = {"dtype": "float64"}  # where it differs from other questions
QUICK = [("mlp", "1,8", "batch", "Explicit", "grad")]
ALL = [("mlp", "1,8", sharding, "Explicit") for sharding in SHARDINGS]


@dataclasses.dataclass(frozen=True)
class OnDevices:
    """The figures by the number of devices; `collectives` has the bytes that each of them gives a device of the most."""

    question: str
    case: str
    quantity: str
    sharding: str
    axes: str
    temporary_bytes: dict[str, int]
    answer_bytes: dict[str, int]
    sent_bytes: dict[str, int]
    difference: dict[str, float]
    collectives: dict[str, list[int]]
    missing: dict[str, str] = dataclasses.field(default_factory=dict)

    COLUMNS: ClassVar[dict[str, Callable[[Any, str], float]]] = {
        "temporary kB": lambda r, name: r.temporary_bytes[name] / 1e3,
        "answer kB": lambda r, name: r.answer_bytes[name] / 1e3,
        "sent kB": lambda r, name: r.sent_bytes[name] / 1e3,
        "difference": lambda r, name: r.difference[name],
    }


FIGURES = ("temporary_bytes", "answer_bytes", "sent_bytes", "difference")


def run(quick: bool, scale: int) -> Iterator[OnDevices]:
    with (
        ThreadPoolExecutor() as pool
    ):  # processes at the same time: what is counted does not depend on how busy the machine is
        found = list(itertools.chain(*pool.map(lambda arguments: list(measured(*arguments)), QUICK if quick else ALL)))
    order = list(dict.fromkeys((row["network"], row["question"]) for row in found))
    for row in sorted(found, key=lambda row: order.index((row["network"], row["question"]))):
        place = (row["question"], row["sharding"], row["axes"])
        figures = {name: {f"{n} devices": v for n, v in row[name].items()} for name in FIGURES}
        case = f"{row['network']}: {place[0]}, {place[1]}, {place[2]}"
        yield OnDevices("devices", case, *place, **figures, collectives=row["collectives"])


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's tables, one for each network."""
    out: list[str] = []
    networks = dict.fromkeys(r["case"].partition(":")[0] for r in results)
    for network in networks:
        own = [r for r in results if r["case"].startswith(f"{network}:")]
        counts = [name.removesuffix(" devices") for name in own[0]["temporary_bytes"]]
        out += ["", f"`{network}`, temporary kB a device on {', '.join(counts)} devices:", ""]
        out += ["| quantity | spread | axes | largest difference | sends, on the most devices | temporary kB |"]
        out += ["|---|---|---|--:|---|--:|"]
        for r in own:
            sent = ", ".join(f"{kind} {_kilo(sum(sizes))}" for kind, sizes in r["collectives"].items()) or "nothing"
            stored = ", ".join(map(_kilo, r["temporary_bytes"].values()))
            gap = max(r["difference"].values())
            out.append(f"| {r['quantity']} | {r['sharding']} | {r['axes']} | {gap:.0e} | {sent} | {stored} |")
    return out[1:]


def _kilo(size: float) -> str:
    return f"{size / 1e3:,.0f}" if size >= 9950 else f"{size / 1e3:.1f}"
