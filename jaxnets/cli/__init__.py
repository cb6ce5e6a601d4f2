"""The command `jaxnets`: one class a command, its fields the options, its `run` the body.

`common` holds what commands share, `jacobians`, `learning` and `pages` the commands, `main` the table of them.  JAX is
imported only once a command runs, so that `--help` answers at once.
"""

from .main import main as main
