"""Files that are complete or not there at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_atomically(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, which is renamed to `path` at the end, so that a reader never finds half a file.

    Missing folders are made, and links are followed.  If writing fails, what was at `path` stays, and nothing is left beside
    it.  What is there and no regular file, as a device or a pipe, gets the bytes when they are complete.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, Path(path).name)
            yield part
            with open(part, "rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        yield Path(folder, path.name)
        os.replace(Path(folder, path.name), path)
