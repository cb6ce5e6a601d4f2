"""Gradients, norms and curvature of a reference model by torch, BackPACK and curvlinops."""

import jax

from .harness import Contender, Missing, reference
from .model_curvature import joined
from .peers import needs_package, on_torch
from .reference_models import Model


def gradient_by_torch(model: Model) -> dict[str, Contender | Missing]:
    """The reference of torch."""

    def make(params, x, targets):
        import torch

        from .torch_models import module

        network, loss = module(model, params), torch.nn.CrossEntropyLoss(reduction="sum")
        weights, targets = list(network.parameters()), targets.flatten()
        return lambda: torch.autograd.grad(loss(network(x), targets), weights)

    return {"torch, one gradient": reference(on_torch(make))}


def norms_by_torch(model: Model) -> dict[str, Contender | Missing]:
    """The norms of the gradients of all examples."""

    def by_vmap(params, x, targets):
        import torch

        from .torch_models import module

        network = module(model, params)
        params = {name: p.detach() for name, p in network.named_parameters()}

        def loss(params, x, target):
            z = torch.func.functional_call(network, params, (x[None],))
            return torch.nn.functional.cross_entropy(z, target.flatten())

        each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
        return lambda: sum((g.flatten(1) ** 2).sum(1) for g in each(params, x, targets).values()).sqrt()

    def by_backpack(params, x, targets):
        import backpack
        import torch

        from .torch_models import module

        network = backpack.extend(module(model, params), use_converter=True)
        loss, wanted = backpack.extend(torch.nn.CrossEntropyLoss(reduction="sum")), backpack.extensions.BatchGrad()
        weights = list(network.parameters())

        def call():
            network.zero_grad()
            with backpack.backpack(wanted):
                loss(network(x), targets.flatten()).backward()
            return sum((w.grad_batch.flatten(1) ** 2).sum(1) for w in weights).sqrt()

        return call

    of_backpack = needs_package("backpack", "backpack-for-pytorch")(lambda: on_torch(by_backpack))
    return {
        "norms of torch.func vmap(grad)": on_torch(by_vmap),
        "norms of BackPACK BatchGrad": of_backpack() if model.kind == "ResNet" else Missing(f"no rules for {model.kind}"),
    }


@needs_package("curvlinops", "curvlinops-for-pytorch")
def _on_curvlinops(make) -> Contender | Missing:
    return on_torch(make)


def curvature_by_torch(model: Model) -> tuple[dict, dict]:
    """The contenders for a product with the Gauss-Newton matrix, and for the Kronecker factors with one sample."""

    def data(x, targets):
        import torch

        return torch.nn.CrossEntropyLoss(reduction="sum"), [(x, targets.flatten())]

    def product(params, v, x, targets):
        import curvlinops

        from .torch_models import module

        network, (loss, batches) = module(model, params), data(x, targets)
        weights = in_order_of(params, network)
        matrix = curvlinops.GGNLinearOperator(network, loss, weights, batches, check_deterministic=False, num_data=len(x))
        vector = jax.tree.leaves(v)
        return lambda: matrix @ vector

    def kfac(weights, rest, x, targets):
        import curvlinops

        from .torch_models import module

        network, (loss, batches) = module(model, joined(weights, rest)), data(x, targets)
        chosen = in_order_of(weights, network)
        operator = curvlinops.KFACLinearOperator(
            network, loss, chosen, batches, check_deterministic=False, num_data=len(x),
            num_per_example_loss_terms=targets[0].numel(),
        )  # fmt: skip

        def call():
            operator._input_covariances, operator._gradient_covariances = {}, {}  # it keeps what it has computed
            operator.compute_kronecker_factors()
            return list(operator._input_covariances.values()) + list(operator._gradient_covariances.values())

        return call

    return (
        {"curvlinops GGNLinearOperator": _on_curvlinops(product)},
        {"curvlinops KFACLinearOperator, one sample": reference(_on_curvlinops(kfac))},  # of other numbers
    )


def in_order_of(params, network) -> list:
    """The module's parameters that hold the leaves of `params`, in their order."""
    known = {p.data_ptr(): p for p in network.parameters()}
    return [known[leaf.data_ptr()] for leaf in jax.tree.leaves(params)]
