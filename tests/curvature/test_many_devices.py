"""Every quantity on eight virtual devices: as on one, spread as its inputs are, with no more sent and stored than needed."""

import pytest

from benchmarks.on_devices import measured

from ..sweeps import swept

BY_EXAMPLE = {"per_example", "per_example_grads", "per_example_grad_norms", "ntk", "ntk trace", "laplacian"}
LIKE_PARAMETERS = {"grad", "gradient_variance", "ggn_diagonal", "ggn @ v", "ggn_vector_product", "hessian_diagonal"}
LIKE_PARAMETERS |= {"hessian_vector_product", "natural_gradient", "sampled ggn_diagonal", "clipped_grad"}
GATHERS = {
    "ntk": "every example meets every other one",
    "ntk trace": "every example meets every other one",
    "ntk in blocks": "every example meets every other one",
    "natural_gradient": "every device solves the system of all outputs",
    "kfac_factors": "units on several devices meet each other",
    "ekfac_factors @ v": "units on several devices meet each other",
    "hessian_diagonal": "units on several devices meet each other",
    "gradient_variance": "XLA gathers a few rows where it multiplies them by a constant",
}
PARAMETER_BYTES = 8 * (64 * 32 + 64 + 8 * 64 + 8)
SMALL = (
    "grad,per_example,per_example_grads,per_example_grad_norms,clip_per_example,clipped_grad,ggn_diagonal,ggn_vector_product,"
    "sampled ggn_diagonal,kfac_factors,ekfac_factors @ v,hessian_diagonal,ntk in blocks,laplacian,natural_gradient"
)

ROWS = [
    ("mlp", "8", "both", "Explicit", SMALL),
    ("mlp", "1,8", "batch", "Explicit", "per_example_grad_norms,kfac_factors,hessian_diagonal"),
    ("mlp", "8", "model", "Explicit", "kfac_factors"),
    ("transformer", "8", "both", "Explicit", "grad"),
    ("sentences", "8", "both", "Explicit", "clip_per_example"),
    ("classes", "8", "both", "Explicit", "grad,per_example_grad_norms,clip_per_example,ggn_vector_product,ggn_diagonal"),
    ("deep", "8", "batch", "Auto,Explicit", "per_example_grad_norms"),
    ("mlp", "1,8", "batch,model,both", "Auto,Explicit"),
    ("transformer", "8", "batch", "Explicit"),
    ("transformer", "8", "both", "Explicit", "per_example_grad_norms,ggn_diagonal,kfac_factors"),
]


@pytest.mark.parametrize("arguments", swept(ROWS, ROWS[:7]))
def test_every_quantity_on_eight_devices_is_that_on_one(arguments):
    for row in measured(*arguments, timeout=900):
        what = f"{row['question']} of {row['network']}, {row['sharding']}, {row['axes']}"
        assert max(row["difference"].values()) <= 1e-10, what
        if row["network"] == "deep":
            check_one_layer_is_gathered(row, what)
            continue
        check_what_is_sent(row, what)
        check_where_it_lies(row, what)
        if row["network"] == "mlp":
            check_what_is_stored(row, what)


def check_one_layer_is_gathered(row, what):
    """Of weights that lie in pieces no device has more than one layer: all it stores is less than half of them."""
    layer = 8 * 64 * 64
    assert set(row["collectives"]) == {"all-gather"}, what
    assert max(row["collectives"]["all-gather"]) == layer, what
    assert row["temporary_bytes"]["8"] + 32 * layer / 8 < 32 * layer / 2, what


def check_what_is_sent(row, what):
    sent, sharding = row["collectives"], row["sharding"]
    if row["question"] not in GATHERS or (sharding == "batch" and row["question"] == "kfac_factors"):
        assert set(sent) <= {"all-reduce"}, what
    if row["network"] == "mlp" and row["question"] == "kfac_factors":
        if sharding == "batch":  # every factor once: a weight and its bias share one
            assert sum(sent["all-reduce"]) == 8 * (64**2 + 32**2 + 8**2 + 64**2), what
        if sharding == "model" and row["axes"] == "Explicit":  # of examples, outputs and hidden units only a part is moved
            assert max(sent.get("all-gather", []) + sent.get("all-to-all", [])) <= 8 * 64 * 64, what
    if row["network"] == "mlp" and (row["question"], row["axes"]) == ("ntk in blocks", "Explicit"):  # the inputs alone
        assert sent.get("all-gather", []) == ([] if sharding == "model" else [8 * 64 * 32]), what
    if row["network"] == "mlp" and row["question"] == "grad" and sharding == "batch":
        assert sum(sent["all-reduce"]) == PARAMETER_BYTES, what


def check_where_it_lies(row, what):
    """Results by example lie where the examples are, and those like parameters where the parameters are."""
    specs = row["specs"]
    by_example = row["question"] in BY_EXAMPLE or (row["question"], row["axes"]) == ("ntk in blocks", "Explicit")
    if row["sharding"] != "model" and by_example:
        assert all(spec.startswith("P('batch'") for spec in specs), (what, specs)
    if (
        row["network"] == "mlp"
        and row["sharding"] != "batch"
        and row["axes"] == "Explicit"
        and row["question"] in LIKE_PARAMETERS
    ):
        assert specs == ["P('model',)", "P(None,)", "P('model', None)", "P(None, 'model')"], what


FALLS = {"per_example_grad_norms", "per_example_grads", "clip_per_example", "ggn_diagonal", "ggn @ v", "ggn_vector_product"}
FALLS |= {"grad", "kfac_factors", "laplacian", "hessian_diagonal", "hessian_vector_product", "dense(jacobian)"}
FALLS |= {"sampled ggn_diagonal", "clipped_grad"}


def check_what_is_stored(row, what):
    """Temporary bytes fall as one over the number of devices, but for room for what is summed over them."""
    stored, sums = row["temporary_bytes"], sum(row["collectives"].get("all-reduce", ()))
    if "1" in stored and row["sharding"] == "batch" and row["question"] in FALLS:
        assert stored["8"] <= 1.5 * stored["1"] / 8 + sums, (what, stored)
