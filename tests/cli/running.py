"""Running the command line, in this process or in one of its own."""

import os
import subprocess
import sys

from jaxnets import cli


def shell(*arguments, **environment):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "jaxnets", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


def run(capsys, *arguments):
    """Exit status, output, errors."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err
