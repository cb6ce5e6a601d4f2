"""The command `jaxnets`: one class per command, whose fields are the options and whose `run` is the body.

`jacobians`, `learning` and `pages` hold the commands, `common` what they share, and `main` the table of all commands.  JAX
is imported only when a command runs, so that `--help` answers at once.
"""

from .main import main as main
