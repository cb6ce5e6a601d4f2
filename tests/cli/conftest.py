"""What all tests of the command line need."""

import jax
import pytest


@pytest.fixture(autouse=True)
def double_precision_afterwards():
    """The command chooses the precision of its process."""
    yield
    jax.config.update("jax_enable_x64", True)
