"""What XLA compiles while the tests of a file run."""

import jax
import pytest


@pytest.fixture(scope="module")
def compiled():
    """The names of the programs that XLA compiled, as long as the module's tests run."""
    names: list[str] = []
    running = [True]

    def note(event, seconds, **details):
        if running and event == "/jax/core/compile/backend_compile_duration":
            names.append(details.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(note)
    yield names
    running.clear()
