"""A collection of experiments: it lists what they ask, and measures one of them by its name."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ...files import written_atomically
from ...show.formats import import_plots
from .result import Experiment, Finding


class Collection(Mapping[str, Experiment]):
    """Experiments by name, in their order, which prints as a table.

    `command` is the name of the command of jaxnets that measures them, `kind` the word for one of them and `title` for all.
    """

    def __init__(self, command: str, kind: str, title: str, *experiments: Experiment):
        self.command, self.kind, self.title = command, kind, title
        self._experiments = {own.name: own for own in experiments}

    def __getitem__(self, name: str) -> Experiment:
        return self._experiments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._experiments)

    def __len__(self) -> int:
        return len(self._experiments)

    def to_json(self) -> list[dict]:
        return [{"name": own.name, "question": own.question} for own in self.values()]

    def __rich_console__(self, console, options):
        table = Table(self.kind, "question", title=self.title, title_justify="left")
        for own in self.values():
            table.add_row(own.name, Text(own.question))
        yield table
        yield Text(f"`jaxnets {self.command} NAME` measures one of them, and `jaxnets {self.command} all` all.")

    def measure(
        self, name: str, *, seeds: int = 5, quick: bool = False, output: str | os.PathLike | None = None, format: str = "png"
    ) -> Finding:
        """Measure the experiment of this name.

        `quick` takes smaller networks, fewer epochs and at most 2 seeds.  `output` is a folder for the picture NAME.png, or
        of another `format`, svg or pdf, and the numbers NAME.json.  Raises ValueError for an unknown name, and for fewer
        than 2 seeds, between which there is no spread.
        """
        if name not in self:
            raise ValueError(f"{self.command}: unknown {self.kind} {name!r}; known: {', '.join(self)}")
        if not isinstance(seeds, int) or seeds < 2:
            text = f"{self.command}: seeds must be an integer of at least 2, for a spread between them, got {seeds!r}"
            raise ValueError(text)
        if output is not None and Path(output).exists() and not Path(output).is_dir():
            raise ValueError(f"{self.command}: output must be a folder, got the file '{output}'")
        plots = import_plots() if output is not None else None  # raises before the work is done
        found = self[name].measure(min(seeds, 2) if quick else seeds, quick)
        if plots is not None and output is not None:
            plots.save(found.figure(), Path(output, f"{name}.{format}"))
            with written_atomically(Path(output, f"{name}.json")) as part:
                part.write_text(json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n")
        return found
