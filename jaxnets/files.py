"""Files that are complete or not there at all.

And locks, so that only one process at a time writes to a place.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None  # type: ignore[assignment]

IN_USE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # how systems say that another holds a lock


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
    with contextlib.suppress(FileNotFoundError):
        os.stat(path)  # raises OSError for links in a circle
    path = Path(os.path.realpath(path))
    make_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        yield Path(folder, path.name)
        os.replace(Path(folder, path.name), path)


def make_folder(path: str | os.PathLike):
    """Make a folder and those that it is in, where they are missing.  A link to a folder that is missing is followed."""
    os.makedirs(os.path.realpath(path), exist_ok=True)


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Hold the lock file at `path`, which is removed at the end.  Raises BlockingIOError where another holds it.

    The lock is one of the operating system, so that it ends with its process, even one that is killed: a lock file that is
    left behind locks nothing.
    """
    path = Path(path)
    make_folder(path.parent)
    handle = _locked_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; and the folder may be gone
            path.unlink()
        os.close(handle)


def _locked_file(path: Path) -> int:
    """The handle of the file at `path`, which is open and locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder removed it between our opening and our locking it


def _lock(handle: int, path: Path):
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno in IN_USE:
            raise BlockingIOError(error.errno, "in use by another process", str(path)) from None
        # Some file systems have no locks: there it is as it was without.
