"""Neural-network layers and losses as pure JAX functions, each with a hand-written, structured Jacobian.

Public names are loaded when one of them is first used, so that `jaxnets --help` does not have to import JAX.
"""

import importlib
import sys
import types

_HOME = {  # public name -> module that defines it, in floor order; layers and losses come from the catalogue
    **dict.fromkeys(
        [
            "CheckpointError",
            "DTypeError",
            "JacobianTooLarge",
            "NonFiniteError",
            "OpaqueError",
            "RuleError",
            "ShapeError",
            "SpecError",
            "TrainingInterrupted",
        ],
        "errors",
    ),
    "Jacobian": "algebra.jacobian",
    "rules": "algebra",  # the module itself: rules.einsum, rules.diagonal, …
    **dict.fromkeys(["Layer", "layer"], "layers.layer"),
    "with_rules": "layers.marker",
    "LAYERS": "catalogue",
    "swish": "layers.elementwise",  # silu
    "multi_head_attention": "layers.attention",
    "reduce": "losses.reduce",
    **dict.fromkeys(
        ["dense", "grad", "hessian", "jacobian", "loss_hessian", "value_and_grad", "value_and_jacobian"],
        "autodiff.transforms",
    ),
    "tabulate": "show.tabulate",
    "explain_plan": "show.explain",
    "compare": "show.compare",
    "check_rule": "show.check",
    **dict.fromkeys(
        ["clip_per_example", "gradient_noise_scale", "gradient_variance", "per_example_grad_norms", "per_example_grads"],
        "curvature.per_example",
    ),
    **dict.fromkeys(["ntk", "ntk_vector_product"], "curvature.kernel"),
    **dict.fromkeys(["GaussNewton", "fisher", "ggn", "ggn_diagonal", "ggn_vector_product"], "curvature.gauss_newton"),
    **dict.fromkeys(["Kronecker", "kfac_factors"], "curvature.kfac"),
    **dict.fromkeys(["hessian_diagonal", "hessian_vector_product"], "curvature.hessian"),
    **dict.fromkeys(["divergence", "laplacian"], "curvature.laplacian"),
    **dict.fromkeys(["jacobian_norm", "logdet"], "curvature.norms"),
    **dict.fromkeys(["influence", "laplace", "saliency"], "curvature.uses"),
    "natural_gradient": "curvature.natural_gradient",
    **dict.fromkeys(["data", "initializers", "models", "regularizers"], "learn"),  # modules themselves
    "parse": "learn.spec",
    **dict.fromkeys(["evaluate", "predict"], "learn.evaluate"),
    "fit": "learn.train",
}


class _Package(types.ModuleType):
    """Public names as properties: some are also names of modules, and the public name must win over the module."""

    def __getattr__(self, name):
        if not name.startswith("_") and name in self.LAYERS:
            return self.LAYERS[name]
        raise AttributeError(f"module 'jaxnets' has no attribute '{name}'")

    def __dir__(self):
        return [*_HOME, *self.LAYERS, *super().__dir__()]


def _public(name: str, home: str | None) -> property:
    def load(package):
        module = importlib.import_module(f"{__name__}.{home or name}")
        return getattr(module, name) if home else module

    def leave_to_submodule(package, value):
        if not isinstance(value, types.ModuleType):
            raise AttributeError(f"jaxnets.{name} cannot be replaced")

    return property(load, leave_to_submodule)


for _name, _home in _HOME.items():
    setattr(_Package, _name, _public(_name, _home))
sys.modules[__name__].__class__ = _Package
