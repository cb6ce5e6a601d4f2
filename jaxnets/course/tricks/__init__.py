"""The practical tricks of training, measured: one experiment per trick, over several seeds.

`signals`, `depth`, `losses`, `descent`, `memory` and `restraint` hold the experiments, `training` trains many small networks
side by side, and `result` turns the numbers of an experiment into a table, a picture (`panels`) and a sentence (`words`).
"""

import json
import os
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ...files import written_atomically
from ...show.formats import import_plots
from . import depth, descent, losses, memory, restraint, signals
from .result import Trick, TrickResult

TRICKS: dict[str, Trick] = {
    trick.name: trick
    for trick in (
        signals.activations,
        depth.depth,
        losses.cross_entropy,
        losses.log_softmax,
        descent.batch_size,
        descent.shuffling,
        descent.normalisation,
        descent.learning_rate,
        restraint.l1,
        restraint.l2,
        signals.initialisation,
        restraint.dropout,
        memory.recurrence,
    )
}


class TrickList:
    """The names of all tricks, and what each asks.  It prints as a table."""

    def to_json(self) -> list[dict]:
        return [{"name": trick.name, "question": trick.question} for trick in TRICKS.values()]

    def __rich_console__(self, console, options):
        table = Table("trick", "question", title="practical tricks", title_justify="left")
        for trick in TRICKS.values():
            table.add_row(trick.name, Text(trick.question))
        yield table
        yield Text("`jaxnets tricks NAME` measures one of them, and `jaxnets tricks all` all.")


def measure_trick(
    name: str, *, seeds: int = 5, quick: bool = False, output: str | os.PathLike | None = None, format: str = "png"
) -> TrickResult:
    """Measure the trick of this name, which is one of `TRICKS`.

    `quick` takes smaller networks, fewer epochs and at most 2 seeds.  `output` is a folder for the picture NAME.png, or of
    another `format`, svg or pdf, and the numbers NAME.json.  Raises ValueError for an unknown name, and for fewer than 2
    seeds, between which there is no spread.
    """
    if name not in TRICKS:
        raise ValueError(f"tricks: unknown trick {name!r}; known: {', '.join(TRICKS)}")
    if not isinstance(seeds, int) or seeds < 2:
        raise ValueError(f"tricks: seeds must be an integer of at least 2, for a spread between them, got {seeds!r}")
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise ValueError(f"tricks: output must be a folder, got the file '{output}'")
    plots = import_plots() if output is not None else None  # raises before the work is done
    result = TRICKS[name].measure(min(seeds, 2) if quick else seeds, quick)
    if plots is not None and output is not None:
        plots.save(result.figure(), Path(output, f"{name}.{format}"))
        with written_atomically(Path(output, f"{name}.json")) as part:
            part.write_text(json.dumps(result.to_json(), ensure_ascii=False, indent=1) + "\n")
    return result
