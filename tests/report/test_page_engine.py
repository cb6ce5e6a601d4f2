"""What the page computes by itself, against the layers, losses and gradients of Python and the optimizers of optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn

ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "log_sigmoid", "softplus", "silu", "gelu", "softmax",
)  # fmt: skip
MODELS, DEPTH, WIDTH, BATCH, STEPS = 100, 4, 6, 3, 10
RATES = {"sgd": 0.1, "momentum": 0.05, "adam": 0.02}
OPTAX = {"sgd": optax.sgd(0.1), "momentum": optax.sgd(0.05, momentum=0.9), "adam": optax.adam(0.02)}
COMPUTED = """(models) => models.map(({ diagram, weights, x, targets, cost, rates, steps }) => {
    const rows = (found) => [...found].map(Number);
    const made = () => new Network(diagram, structuredClone(weights), x.map((row) => Float64Array.from(row)), targets, cost);
    const network = made();
    const values = network.allValues();
    const { weights: gradient, states } = network.gradients(values);
    const items = network.modules.map(({ item }) => item);
    const after = Object.fromEntries(Object.entries(rates).map(([optimizer, rate]) => {
        const [trained, memories] = [made(), {}];
        for (let n = 0; n < steps; n++) descend(trained, optimizer, rate, memories);
        return [optimizer, Object.values(trained.weights).map(rows)];
    }));
    return {
        loss: network.loss(values),
        values: items.map((item) => values.map((one) => rows(one[item]))),
        rows: items.map((item) => states.map((one) => rows(one[item]))),
        x: states.map((one) => rows(one[network.input])),
        gradient: Object.values(gradient).map(rows),
        norms: network.modules.slice(0, -1).map((module) => network.norms(module, values)[0]),
        after,
    };
})"""


def drawn(rng):
    """A random network as arrays of one size: what lies outside of `widths` does not count."""
    depth = int(rng.integers(1, DEPTH + 1))
    widths = [int(n) for n in rng.integers(2, WIDTH + 1, depth + 1)]
    w, b = np.zeros((DEPTH, WIDTH, WIDTH)), np.zeros((DEPTH, WIDTH))
    for n, (inp, out) in enumerate(zip(widths, widths[1:], strict=False)):
        w[n, :out, :inp], b[n, :out] = rng.normal(size=(out, inp)), rng.normal(size=out)
    masks = np.arange(WIDTH) < np.array(widths + [widths[-1]] * (DEPTH - depth))[:, None]
    x = np.where(masks[0], 2 * rng.normal(size=(BATCH, WIDTH)), 0)
    found = {"depth": depth, "masks": masks, "w": w, "b": b, "x": x, "classifies": bool(rng.integers(2))}
    chosen = {"acts": rng.integers(0, len(ACTIVATIONS), DEPTH), "labels": rng.integers(0, widths[-1], BATCH)}
    return {**found, **chosen, "numbers": np.where(masks[-1], rng.normal(size=(BATCH, WIDTH)), 0)}


def by_python(net):
    """Everything about one network by jaxnets' layers and losses, JAX's gradients and optax."""

    def activation(z, act, mask):
        found = [jn.softmax(z, where=mask) if name == "softmax" else jn.LAYERS[name](z) for name in ACTIVATIONS]
        return jnp.where(mask, jnp.stack(found)[act], 0)

    def log_softmax(z):
        return jn.log_softmax(z, where=jnp.broadcast_to(net["masks"][-1], z.shape))

    def norm(function, z):
        jacobians = jax.vmap(jax.jacfwd(function))(z)
        return jnp.mean(jnp.sqrt(jnp.sum(jnp.square(jnp.where(jnp.isfinite(jacobians), jacobians, 0)), (1, 2))))

    def stage(h, layer):
        (n, w, b, act, mask, inputs), (bump_z, bump_a) = layer
        z = jn.linear(h, w * (mask[:, None] & inputs), b * mask) + bump_z
        a = activation(z, act, jnp.broadcast_to(mask, z.shape)) + bump_a
        after = jnp.where((n == net["depth"] - 1) & net["classifies"], z, a)
        norms = jnp.linalg.norm(w), norm(lambda z: activation(z, act, mask), jax.lax.stop_gradient(z))
        return jnp.where(n < net["depth"], after, h), ((z, a), norms)

    def loss(params, bumps):
        layers = jnp.arange(DEPTH), params["w"], params["b"], net["acts"], net["masks"][1:], net["masks"][:-1]
        h, (states, norms) = jax.lax.scan(stage, net["x"], (layers, bumps[:2]))
        mask = jnp.broadcast_to(net["masks"][-1], h.shape)
        log_p = log_softmax(h) + bumps[2]
        nll, squared = jn.nll(log_p, net["labels"]), jn.squared_error(h, net["numbers"])
        mean = jnp.sum(jnp.where(mask, squared, 0)) / jnp.sum(mask)
        norms = (*norms, norm(log_softmax, jax.lax.stop_gradient(h)))
        return jnp.where(net["classifies"], jnp.mean(nll), mean), (states, log_p, nll, squared, norms)

    def step(state, _):
        params, moments = state
        all_params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[name] for name in OPTAX))
        gradients = jax.vmap(jax.grad(lambda params: loss(params, zeros)[0]))(all_params)
        for n, (name, optimizer) in enumerate(OPTAX.items()):
            gradient = jax.tree.map(lambda rows, n=n: rows[n], gradients)
            updates, moments[name] = optimizer.update(gradient, moments[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)
        return (params, moments), None

    params = {"b": net["b"], "w": net["w"]}
    zeros = (jnp.zeros((DEPTH, BATCH, WIDTH)), jnp.zeros((DEPTH, BATCH, WIDTH)), jnp.zeros((BATCH, WIDTH)))
    (value, states), (gradient, rows) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, zeros)
    begin = dict.fromkeys(OPTAX, params), {name: optimizer.init(params) for name, optimizer in OPTAX.items()}
    after = jax.lax.scan(step, begin, length=STEPS)[0][0]
    return {"loss": value, "states": states, "gradient": gradient, "rows": rows, "after": after}


def for_the_page(net):
    """The same network as a chain in the form in which the page holds it."""
    depth, masks, items, arrows = net["depth"], net["masks"], [{"kind": "input", "label": "x", "module": None}], []
    weights, last, count = {}, 0, 0

    def module(name, argument, **given):
        nonlocal last, count
        sources = [(argument, last)]
        for key, array in given.items():
            weights[len(items)] = array.ravel().tolist()
            sources.append((key, len(items)))
            items.append({"kind": "weight", "label": f"{key}{count}", "module": None})
        items.append({"kind": "function", "label": name, "module": count})
        at = len(items) - 1
        arrows.extend({"source": s, "target": at, "block": {"argument": a}} for a, s in sources)
        last, count = at, count + 1

    for n in range(depth):
        inp, out = masks[n].sum(), masks[n + 1].sum()
        module("linear", "x", w=net["w"][n, :out, :inp], b=net["b"][n, :out])
        if n < depth - 1 or not net["classifies"]:
            module(ACTIVATIONS[net["acts"][n]], "x")
    if net["classifies"]:
        module("log_softmax", "x")
    module("nll" if net["classifies"] else "squared_error", "predictions")
    module("mean", "x")
    out = masks[-1].sum()
    targets = net["labels"].tolist() if net["classifies"] else net["numbers"][:, :out].tolist()
    x = net["x"][:, : masks[0].sum()].tolist()
    return {
        "diagram": {"items": items, "arrows": arrows}, "weights": weights, "x": x, "targets": targets, "cost": None,
        "rates": RATES, "steps": STEPS,
    }  # fmt: skip


def chained(net, python):
    """What the page should find, from the arrays of Python."""
    (states, log_p, nll, squared, norms_of), rows, depth = python["states"], python["rows"], net["depth"]
    sizes = [int(mask.sum()) for mask in net["masks"]]
    values, back, norms = [], [], []
    for n in range(depth):
        for part in range(1 if n == depth - 1 and net["classifies"] else 2):
            norms.append(norms_of[part][n])
            values.append(states[part][n][:, : sizes[n + 1]])
            back.append(rows[part][n][:, : sizes[n + 1]])
    if net["classifies"]:
        norms.append(norms_of[2])
        values += [log_p[:, : sizes[-1]], nll[:, None]]
        back += [rows[2][:, : sizes[-1]], np.full((BATCH, 1), 1 / BATCH)]
    else:
        values.append(squared[:, : sizes[-1]])
        back.append(np.full((BATCH, sizes[-1]), 1 / (BATCH * sizes[-1])))
    return values, back, norms


def of_weights(net, params):
    """The weights that count, in the order of the page."""
    sizes = [int(mask.sum()) for mask in net["masks"]]
    pairs = [(params["w"][n, : sizes[n + 1], : sizes[n]], params["b"][n, : sizes[n + 1]]) for n in range(net["depth"])]
    return [array.ravel() for pair in pairs for array in pair]


def close(found, expected, what):
    """Every number to 1e-6 of its own size, or to 1e-12 of the largest where it is a difference of such."""
    expected = np.asarray(expected, float)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12 * max(1, np.abs(expected).max()), err_msg=what)


@pytest.fixture(scope="module")
def networks():
    rng = np.random.default_rng(7)
    return [drawn(rng) for _ in range(MODELS)]


def test_a_hundred_random_networks_are_those_of_python(show, networks):
    python = jax.device_get(jax.jit(jax.vmap(by_python))(jax.tree.map(lambda *leaves: np.stack(leaves), *networks)))
    page = show().evaluate(COMPUTED, [for_the_page(net) for net in networks])
    for n, (net, found) in enumerate(zip(networks, page, strict=True)):
        known = jax.tree.map(lambda leaf, n=n: leaf[n], python)
        values, rows, norms = chained(net, known)
        names = [f"network {n}: {ACTIVATIONS[a]}" for a in net["acts"][: net["depth"]]]
        close(found["loss"], known["loss"], names[0])
        for kind, expected in (("values", values), ("rows", rows)):
            assert len(found[kind]) == len(expected) >= 3
            for mine, theirs in zip(found[kind], expected, strict=True):
                close(mine, theirs, f"{names}: {kind}")
        close(found["norms"], norms, f"{names}: norms")
        close(np.concatenate(found["gradient"]), np.concatenate(of_weights(net, known["gradient"])), f"{names}: gradient")
        assert {*found["after"]} == {*known["after"]} == {"sgd", "momentum", "adam"}
        for optimizer, params in known["after"].items():
            mine, theirs = found["after"][optimizer], of_weights(net, params)
            close(np.concatenate(mine), np.concatenate(theirs), f"{names}: {optimizer}")
    assert {ACTIVATIONS[a] for net in networks for a in net["acts"][: net["depth"]]} == {*ACTIVATIONS}
