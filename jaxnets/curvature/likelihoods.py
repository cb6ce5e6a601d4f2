"""The Fisher information of the predictions of a loss that is a negative log-likelihood."""

from collections.abc import Callable

import jax.numpy as jnp

from ..algebra.jacobian import Jacobian
from ..algebra.rules import diagonal
from ..autodiff.transforms import loss_hessian, without_partial
from ..layers.layer import LAYERS

LIKELIHOODS: dict[str, Callable | None] = {
    # For every loss that is a negative log-likelihood: the root of the Fisher information of its predictions.  It is None if
    # the Hessian of the loss is the same for all targets, because the Hessian then is that information.
    "cross_entropy": None,
    "binary_cross_entropy_with_logits": None,
    "squared_error": None,
    "gaussian_nll": None,
    "poisson_nll": None,
    "nll": lambda log_p: jnp.exp(log_p / 2),
    "binary_cross_entropy": lambda p: (p * (1 - p)) ** -0.5,
}


LOOKS_AT_TARGETS = {"log_input": False}  # with this configuration the Hessian depends on the targets


def is_likelihood(loss, targets) -> bool:
    """Whether it is one of `LIKELIHOODS`, without weights."""
    own, config = without_partial(loss)
    name = _name_of(loss)
    weighted = len(targets) > (2 if name == "gaussian_nll" else 1)
    return name in LIKELIHOODS and own is LAYERS.get(name) and not weighted and not config.items() & LOOKS_AT_TARGETS.items()


def _name_of(loss) -> str:
    own, _ = without_partial(loss)
    return getattr(own, "__name__", str(own))


def fisher_information(loss, y, *targets, root=False) -> Jacobian:
    """The Fisher information of predictions, or its root, in the form in which `loss_hessian` gives the Hessian."""
    name = _name_of(loss)
    if not is_likelihood(loss, targets):
        raise TypeError(f"fisher: '{name}' is no negative log-likelihood of {sorted(LIKELIHOODS)} without weights; "
                        "use kind='empirical', or ggn")  # fmt: skip
    known = LIKELIHOODS[name]
    return loss_hessian(loss, y, *targets, root=root) if known is None else diagonal(known(y))(y, y)
