"""Double precision for every test, hypothesis without chance or deadline, and the option `--all`."""

import jax
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)

settings.register_profile(
    "jaxnets",
    derandomize=True,
    deadline=None,  # the first call of a shape compiles
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("jaxnets")


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run every sweep in full, on this version of Python: about an hour")


def pytest_configure(config):
    config.addinivalue_line("markers", "sweep: what only `--all` runs, because it takes long and finds little more")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all"):
        return
    kept = [item for item in items if not item.get_closest_marker("sweep")]
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("sweep")])
    items[:] = kept
