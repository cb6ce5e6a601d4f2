"""Double precision for every test, hypothesis without chance or deadline, a browser, and the option `--all`."""

import shutil
import sys

import jax
import pytest
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


@pytest.fixture(autouse=True, scope="module")
def optimization(request):
    """Files marked `unoptimized` compile a fifth faster: they test structure, and equality with JAX's own numbers."""
    if not request.node.get_closest_marker("unoptimized"):
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # the other files get what users get


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium: apt install chromium")
    driver = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with driver.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run every sweep in full, on this version of Python: about an hour")


def pytest_configure(config):
    config.addinivalue_line("markers", "sweep: what only `--all` runs, because it takes long and finds little more")
    for name, version in (("oldest", "3.11"), ("newest", "3.12 and later")):  # so that both take as long
        config.addinivalue_line("markers", f"{name}: tells of our code alone: on Python {version}, elsewhere with `--all`")
    config.addinivalue_line("markers", "unoptimized: compile without XLA's optimizations")


def pytest_collection_modifyitems(config, items):
    elsewhere = "oldest" if sys.version_info >= (3, 12) else "newest"

    def left_out(item):
        return item.get_closest_marker("sweep") or item.get_closest_marker(elsewhere)

    if not config.getoption("--all"):
        config.hook.pytest_deselected(items=[item for item in items if left_out(item)])
        items[:] = [item for item in items if not left_out(item)]
