"""`python -m jaxnets` is the command `jaxnets`."""

import sys

from .cli import main

sys.exit(main())
