"""What tests of training may ask for."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

CACHE = {"jax_persistent_cache_min_compile_time_secs": 0.05, "jax_persistent_cache_min_entry_size_bytes": -1}


@pytest.fixture(scope="module")
def kept_programs(tmp_path_factory):
    """A program that occurs again, in a resumed run or in another process, is compiled once."""
    settings = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")), **CACHE}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield {name.upper(): str(value) for name, value in settings.items()}
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
