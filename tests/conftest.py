"""Double precision for every test, and hypothesis without chance or deadline."""

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
