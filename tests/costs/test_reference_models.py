"""What norms, clipping, Gauss-Newton products and Kronecker factors of a ResNet and a ViT cost, in gradients' FLOPs."""

import jax
import jax.numpy as jnp
import pytest

import jaxnets as jn
from benchmarks import reference_models, resnet, vit
from benchmarks.model_curvature import KEY, joined, split

from ..sweeps import swept

# Kronecker factors of convolutions are dear where there are few channels: a factor of patches of 3×3 has 81 entries for 9
# weights of a channel.  At the published sizes the factors of both ResNets take 1.6 gradients.
LIMITS = {
    "ResNet": {"gradient": 1.05, "norms": 1.15, "clipping": 1.2, "product": 1.7, "factors": 1.9},
    "ViT": {"gradient": 0.8, "norms": 0.8, "clipping": 0.85, "product": 1.7, "factors": 1.6},
}
MODELS = {
    "ResNet": lambda: reference_models.residual(resnet.Sizes(False, (1, 1), width=16, image=56, classes=100), 4),
    "ViT": lambda: reference_models.vision_transformer(vit.sizes(1)._replace(layers=1), 4),
}


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.optimized
@pytest.mark.parametrize("kind", swept(MODELS, ["ViT"]))
def test_curvature_of_reference_models_costs_few_gradients(kind):
    model = MODELS[kind]()
    params, inputs, targets = model.args
    weights, rest = split(params)

    def total(*args):
        return jnp.sum(model.losses(*args))

    def factors(weights, rest, inputs, targets):
        def logits(weights, inputs):
            return model.logits(joined(weights, rest), inputs)

        return jn.kfac_factors(logits, jn.cross_entropy, samples=1, key=KEY)(weights, inputs, targets)

    programs = {
        "gradient": (jn.grad(total), *model.args),
        "norms": (jn.per_example_grad_norms(model.losses), *model.args),
        "clipping": (jn.clip_per_example(model.losses, 1.0), *model.args),
        "product": (jn.ggn_vector_product(model.logits, jn.cross_entropy), params, params, inputs, targets),
        "factors": (factors, weights, rest, inputs, targets),
    }
    one = flops(jax.grad(total), *model.args)
    found = {name: flops(*program) / one for name, program in programs.items()}
    assert all(found[name] <= limit for name, limit in LIMITS[kind].items()), found
