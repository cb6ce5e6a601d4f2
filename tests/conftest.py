"""How the tests run: in double precision, on all cores, without chance; short by default, in full with `--all`.

Nearly all of the time is tracing and compiling.  So the short suite compiles without optimizations, Python seldom looks
for garbage, each worker forgets what it compiled before that fills its memory, writes all programs in one context of MLIR,
and programs are kept in .pytest_cache for the other workers and the next run (`--cache-clear` forgets them).  `--all` runs
every sweep, and compiles as users do.
"""

import ctypes
import gc
import os
import shutil
import sys
import threading
from importlib.metadata import version

import jax
import pytest
from hypothesis import HealthCheck, settings

MEMORY = 3 << 30  # bytes that a worker may take, most of them programs that XLA compiled
NEEDS_CHROMIUM = "needs Chromium: apt install chromium"
# A program of a test is too small to be compiled in parts, in parallel, by workers that fill the cores already.
IN_ONE_PART = "--xla_cpu_parallel_codegen_split_count=1"
# The older of two kinds of kernels compiles in half of the time; versions from 0.11 on have one kind.
FAST_KERNELS = "--xla_cpu_use_fusion_emitters=false"

jax.config.update("jax_enable_x64", True)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run every sweep in full, compiled as users do: for releases")


def pytest_configure(config):
    settings.register_profile(
        "jaxnets",
        derandomize=True,
        deadline=None,  # the first call of a shape compiles
        max_examples=15 if config.getoption("--all") else 5,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("jaxnets")
    config.addinivalue_line("markers", "sweep: what only `--all` runs, because it takes long and finds little more")
    config.addinivalue_line("markers", "optimized: compiled as users do, in the short suite, too")
    os.environ["LC_ALL"] = "C.UTF-8"  # whatever language the tester reads, commands are tested in English
    gc.set_threshold(100_000, 20, 20)  # by default, looking for garbage takes a tenth of the time
    if hasattr(config, "cache"):  # a run may be without pytest's cache
        keep_programs(os.environ.get("JAX_COMPILATION_CACHE_DIR") or config.cache.mkdir("programs"))
    if not config.getoption("--all"):  # for the processes that tests start, too
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        jax.config.update("jax_disable_most_optimizations", True)  # for what fixtures compile before the first test
        given = os.environ.get("XLA_FLAGS", "")  # read at the first compilation
        flags = [IN_ONE_PART, FAST_KERNELS] if version("jaxlib") < "0.11" else [IN_ONE_PART]
        os.environ["XLA_FLAGS"] = " ".join([given, *(flag for flag in flags if flag not in given)])
        share_contexts()


def keep_programs(folder):
    """JAX keeps every program in this folder, also the small ones and those of the processes that tests start."""
    options = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in options.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("sweep")])
        items[:] = [item for item in items if not item.get_closest_marker("sweep")]


def pytest_xdist_auto_num_workers(config):
    """One worker more than there are cores, since tests wait for browsers and programs, if there is memory for them."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(os.sched_getaffinity(0)) + 1, memory // MEMORY))


CONTEXTS = threading.local()


def share_contexts():
    """One context of MLIR for all programs of a thread, where JAX makes a new one, of a megabyte, for each of them.

    That saves 2 to 4 ms of the 20 to 40 ms that a small program takes, and half of the memory.  A program that is compiled
    while another one is written gets its own, as it would be written into the other one.  A JAX that makes contexts
    elsewhere goes on making them.
    """
    lowering = sys.modules.get("jax._src.interpreters.mlir")
    make = getattr(lowering, "make_ir_context", None)

    def one_is_written():
        try:
            return lowering.ir.Context.current is not None
        except ValueError:  # there is none
            return False

    def shared():
        if one_is_written():
            return make()
        if not hasattr(CONTEXTS, "mine"):
            CONTEXTS.mine = make()
        return CONTEXTS.mine

    if make:
        lowering.make_ir_context = shared


@pytest.fixture(autouse=True)
def optimization(request):
    fast = not request.config.getoption("--all") and not request.node.get_closest_marker("optimized")
    jax.config.update("jax_disable_most_optimizations", fast)


@pytest.fixture
def as_users():
    """In float32; layers that examples define are gone afterwards."""
    import jaxnets

    known = set(jaxnets.LAYERS)
    with jax.enable_x64(False):
        yield
    for name in set(jaxnets.LAYERS) - known:
        del jaxnets.LAYERS[name]


@pytest.fixture(autouse=True, scope="module")
def bounded_memory():
    """After a file, what was compiled is forgotten where it takes much memory, which also slows down further programs.

    With every program JAX keeps the module that it was compiled from, with its context more than a megabyte.
    """
    yield
    if resident_bytes() > MEMORY / 3:
        jax.clear_caches()
        vars(CONTEXTS).clear()
        return_freed_memory()


def return_freed_memory():
    """Give freed memory back to the system, where the C library knows how: it keeps the pieces otherwise."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def resident_bytes() -> int:
    """The memory of this process, where the system tells it in /proc."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip(NEEDS_CHROMIUM)
    driver = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with driver.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


def pytest_terminal_summary(terminalreporter):
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NEEDS_CHROMIUM in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests of the page in a browser were skipped: {NEEDS_CHROMIUM}")
