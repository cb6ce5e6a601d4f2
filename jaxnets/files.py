"""Files that are complete or not there at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_atomically(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, which is renamed to `path` at the end, so that a reader never finds half a file.

    Missing folders are made.  If writing fails, what was at `path` stays, and nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        yield Path(folder, path.name)
        os.replace(Path(folder, path.name), path)
