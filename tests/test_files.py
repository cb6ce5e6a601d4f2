"""A file is written as a whole or not at all, and only a file is replaced."""

import os
import stat
import threading

import pytest

from jaxnets.cli.main import main
from jaxnets.files import make_folder, written_atomically


def write(path, text="new"):
    with written_atomically(path) as part:
        part.write_text(text)


def test_folders_are_made_and_nothing_is_left_beside_the_file(tmp_path):
    write(tmp_path / "a" / "b" / "file.txt")
    write(tmp_path / "a" / "b" / "file.txt", "again")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file.txt"]
    assert (tmp_path / "a" / "b" / "file.txt").read_text() == "again"


def test_what_was_there_stays_if_writing_fails(tmp_path):
    path = tmp_path / "file.txt"
    write(path)
    with pytest.raises(ZeroDivisionError), written_atomically(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.txt"]


def test_links_in_a_circle_stay(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(OSError, match="link"):
        write(link)
    assert link.is_symlink()


@pytest.mark.parametrize("exists", [True, False])
def test_links_are_followed(tmp_path, exists):
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "file.txt"
    if exists:
        write(target, "old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink() and target.read_text() == "new"
    assert os.listdir(target.parent) == ["file.txt"]


def test_a_link_to_a_folder_that_is_missing_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    make_folder(tmp_path / "link")
    make_folder(tmp_path / "link" / "inner")
    assert (tmp_path / "missing" / "inner").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join(10)
    assert found == ["new"] and stat.S_ISFIFO(os.stat(pipe).st_mode)


def test_a_device_stays_a_device(tmp_path, capsys):
    """Also for root, who could replace it: here a link to it, which must not become a file either."""
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    assert main(["reference", "--output", str(null)]) == 0
    assert null.is_symlink() and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.listdir(tmp_path) == ["null"]


def test_a_folder_is_no_file(tmp_path, capsys):
    with pytest.raises(OSError):
        write(tmp_path)
    assert main(["reference", "--output", str(tmp_path)]) == 2
    assert os.listdir(tmp_path) == []
