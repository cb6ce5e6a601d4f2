"""Neural-network layers and losses as pure JAX functions, each with a hand-written, structured Jacobian.

The public names are those that the wings hand on: what their `__init__.py` imports.  They are loaded when one of them is
first used, so that `jaxnets --help` does not have to import JAX.  Type checkers and editors read `__init__.pyi`.

Six modules are public names, too: `models`, `data`, `initializers` and `regularizers` for training, `rules` for writing
Jacobians of layers, and `plots`, which needs matplotlib.
"""

from importlib import import_module
from importlib.metadata import version
from types import ModuleType

WINGS = ("errors", "algebra", "layers", "losses", "autodiff", "curvature", "learn", "show")  # in floor order
MODULES = {  # modules that are public names themselves
    "rules": "algebra.rules",
    "data": "learn.data",
    "initializers": "learn.initializers",
    "models": "learn.models",
    "regularizers": "learn.regularizers",
}


def _load() -> list[str]:
    """Load all wings; their public names, which are then names of this module, too."""
    found = {name: import_module(f"{__name__}.{home}") for name, home in MODULES.items()}
    for wing in WINGS:
        names = vars(import_module(f"{__name__}.{wing}")).items()
        found |= {name: thing for name, thing in names if not name.startswith("_") and not isinstance(thing, ModuleType)}
    globals().update(found)
    return list(found)


def __getattr__(name: str):
    if name == "__version__":
        return version("jaxnets")
    if name == "__all__":
        return _load()
    if name == "plots":  # not loaded with the others: it needs matplotlib
        return import_module(f"{__name__}.show.plots")
    if not name.startswith("_"):
        known = _load()
        if name in known:
            return globals()[name]
        if name in globals()["LAYERS"]:  # a layer of the user's own
            return globals()["LAYERS"][name]
    hint = import_module(f"{__name__}.names").hint
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'{hint(name)}")


def __dir__() -> list[str]:
    return sorted({*_load(), *globals()["LAYERS"], "plots", "__version__", "__doc__", "__name__", "__file__", "__path__"})
