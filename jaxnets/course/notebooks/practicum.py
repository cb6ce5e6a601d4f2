# mypy: ignore-errors
# %% [markdown]
# # Practicum: a spiral is classified, and regression with uncertainty
#
# After section 2.3 of the NYU Deep Learning course of spring 2020, Alfredo Canziani's practicum of week 2, and its
# notebooks on spiral classification and regression.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxnets as jn

plots = jn.plots

# %% [markdown]
# ## Supervised learning for classification
#
# The points lie on K = 3 arms of a spiral, X_k(t) = t (sin, cos) of the angle 2π/K (2t + k − 1), 0 ≤ t ≤ 1, k = 1 … K.
# Without noise the arms are clean.  With noise the angle gets a normal number on top.  In the lecture's formula the
# noise stands inside the bracket and is multiplied by 2π/K; in the notebook of the course, and here, it is added to the
# angle.  A noise of 0.2 here is one of 0.2 K / 2π = 0.095 in the formula.

# %%
spiral = jn.data.spiral(points=200)
clean = jn.data.spiral(points=200, noise=0.0)
figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for axes, data, name in zip(panels, (clean, spiral), ("clean", "noisy"), strict=True):
    plots.points(axes, data.x, data.y, 6)
    axes.set(title=name, aspect="equal")
plt.show()

# %% [markdown]
# ## Training data, and one-hot labels
#
# X is a matrix of m points (the rows) with n = 2 coordinates.  The labels c are numbers from 0 to K − 1.  As targets
# such numbers would say more than is true: that class 2 is farther from class 0 than class 1 is.  So each label becomes
# a vector with 1 at its place and 0 elsewhere, Y [m × K], a distribution with all its mass on one class.

# %%
training, held_out = jn.data.split(spiral, 0.2)
labels = training.y[:4]
targets = jn.data.one_hot(labels, training.classes)
print("X", training.x.shape, "c", training.y.shape, "Y", jn.data.one_hot(training.y, training.classes).shape)
print("labels", labels)
print(targets)
print("distances of numbers: ", abs(0 - 1), abs(1 - 2), abs(0 - 2))
rows = np.eye(3)
print("distances of one-hot rows:", *(np.linalg.norm(rows[i] - rows[j]).round(2) for i, j in ((0, 1), (1, 2), (0, 2))))

# %% [markdown]
# ## Fully connected layers
#
# A hidden layer h = f(W_h x + b_h) and an output ŷ = g(W_y h + b_y): an affine map, a function, another affine map,
# another function.  Neuron j is h_j = f(Σ_i w_ji x_i + b_j), with row j of the weights.  Counted by their variables
# (input, hidden, output) these are three layers; there are two affine maps.  As a map it goes ℝⁿ → ℝᵈ → ℝᴷ with d much
# larger than n and K. Many neurons in one layer can be fewer in several: 1000 become 10 · 10 · 10.

# %%
wide, deep = jn.parse("linear(1000) relu linear(3)"), jn.parse("linear(10) relu linear(10) relu linear(10) relu linear(3)")
for name, model in (("1000", wide), ("10 · 10 · 10", deep)):
    count = sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0), (2,))))
    print(f"hidden {name}: {count} parameters")
params = jn.parse("linear(5) tanh linear(3)").init(jax.random.key(0), (2,))
W_h, b_h = params[0]["w"], params[0]["b"]
point = jnp.asarray(training.x[0], jnp.float32)
neuron = jnp.tanh(sum(W_h[1, i] * point[i] for i in range(2)) + b_h[1])
np.testing.assert_allclose(neuron, jnp.tanh(W_h @ point + b_h)[1], rtol=1e-5)
print("neuron 1:", neuron)

# %% [markdown]
# ## The loss
#
# The last layer gives logits l, and soft(arg)max makes probabilities of them, which lie strictly between 0 and 1.  The
# loss of an example is ℓ(ŷ, c) = −log ŷ[c], and that of all is the average.  For c = 0: if the network is almost sure
# and right, the loss goes to 0⁺; if it is almost sure and wrong, it goes to +∞.  It starts around log 3, the loss of a
# third for each class: a new network knows nothing, and only its random weights favour a class.

# %%
for sure in (1.0, 3.0, 10.0, 30.0):
    logits = jnp.array([[sure, 0.0, 0.0], [0.0, sure, 0.0]])  # sure of class 0, and sure of class 1
    right, wrong = jn.cross_entropy(logits, jnp.array([0, 0]))
    print(f"logit {sure:4g} for the right class: loss {right:.2e}; for a wrong one: {wrong:.2f}")
model = jn.parse("linear(100) relu linear(3)")
x, c = jnp.asarray(training.x, jnp.float32), jnp.asarray(training.y)
networks = [model.init(key, (2,)) for key in jax.random.split(jax.random.key(0), 20)]
first = [float(jn.cross_entropy(model.apply(params, x), c).mean()) for params in networks]
print(f"first losses of 20 networks: {min(first):.2f} to {max(first):.2f}; log 3 = {np.log(3):.2f}")
assert min(first) < np.log(3) < max(first) < 2
params = networks[0]

# %% [markdown]
# Cross-entropy takes logits: log-softmax and the negative log-likelihood are inside it.  Who applies a softmax before it
# does that twice, and it does not even look broken.  The loss can no longer come near 0, and gradients are small.  A
# log-softmax too many does nothing, since log-softmax of log-softmax is the same again; so that mistake is never noticed.

# %%
logits = jnp.array([[8.0, 0.0, 0.0]])
right = jnp.array([0])
once, twice = (float(jn.cross_entropy(z, right)[0]) for z in (logits, jn.softmax(logits)))
print(f"cross-entropy of logits: {once:.4f}, of probabilities (a mistake): {twice:.4f}")


def largest_slope(f):
    """Of the loss by the logits, where the prediction is wrong."""
    return float(jnp.abs(jn.grad(lambda z: jn.cross_entropy(f(z), right).sum())(-logits)).max())


slopes = largest_slope(jn.identity), largest_slope(jn.softmax)
print(f"largest gradient where the prediction is wrong: {slopes[0]:.3f}, with the mistake {slopes[1]:.3f}")
np.testing.assert_allclose(jn.log_softmax(jn.log_softmax(logits)), jn.log_softmax(logits), atol=1e-6)
assert twice > 0.5 > once and slopes[1] < slopes[0] / 2

# %% [markdown]
# ## Training
#
# All weights and biases together are Θ, and the loss is a function of them, J(Θ) = ℒ(Ŷ(Θ), c).  Backpropagation gives
# ∂J/∂W_y = ∂J/∂ŷ · ∂ŷ/∂W_y, and, one factor longer, ∂J/∂W_h = ∂J/∂ŷ · ∂ŷ/∂h · ∂h/∂W_h.  The table shows the factors, and
# the chain below it their dimensions.

# %%
small = jn.parse("linear(5) relu linear(3)")
theta = small.init(jax.random.key(0), (2,))
jn.tabulate(lambda theta, x, c: jn.mean(jn.cross_entropy(small.apply(theta, x), c)), theta, x[:4], c[:4])

# %% [markdown]
# The same for one example, with numbers.  A row that starts at the loss is multiplied by one Jacobian after the other;
# at the end it has a number for every weight of W_h, which `jn.grad` returns in the shape of W_h.

# %%
(W_h, b_h), (W_y, b_y) = ((theta[i]["w"], theta[i]["b"]) for i in (0, 2))
s = jn.linear(x[0], W_h, b_h)
h = jn.relu(s)
logits = jn.linear(h, W_y, b_y)
chain = {
    "∂J/∂ŷ": jn.jacobian(jn.cross_entropy)(logits, c[0]),
    "∂ŷ/∂h": jn.jacobian(jn.linear)(h, W_y, b_y),
    "∂h/∂s": jn.jacobian(jn.relu)(s),
    "∂s/∂W_h": jn.jacobian(jn.linear, 1)(x[0], W_h, b_h),
}
row = np.eye(1)
for name, J in chain.items():
    row = row @ np.asarray(J.matrix())
    print(f"{name} [{J.matrix().shape[0]}×{J.matrix().shape[1]}]: the row is now", row.round(2))
by_grad = jn.grad(lambda W: jn.cross_entropy(jn.linear(jn.relu(jn.linear(x[0], W, b_h)), W_y, b_y), c[0]))(W_h)
np.testing.assert_allclose(row.reshape(W_h.shape), by_grad, atol=1e-6)

# %% [markdown]
# A training loop in PyTorch has five steps: the forward pass, the loss, `zero_grad`, `backward`, and the optimizer's step.
# `backward` *adds* to the gradients that are stored with the parameters, hence `zero_grad`.  Here a gradient is the value of
# a function and is stored nowhere, so nothing has to be set to zero; who wants the sum of two gradients adds them.


# %%
def J(theta, x, c):
    predicted = model.apply(theta, x)  # 1. the forward pass
    return jn.cross_entropy(predicted, c).mean()  # 2. the loss


optimizer = optax.sgd(0.1)
state = optimizer.init(params)
loss, gradient = jn.value_and_grad(J)(params, x, c)  # 4. backward; step 3, zero_grad, is not needed
updates, state = optimizer.update(gradient, state)
after = optax.apply_updates(params, updates)  # 5. the step
print(f"loss {loss:.4f}, after one step {J(after, x, c):.4f}")

# %% [markdown]
# Where PyTorch is installed, the same five steps with the same numbers give the same result, and a second `backward` without
# `zero_grad` gives twice the gradient.

# %%
try:
    import torch
except ModuleNotFoundError:
    print("PyTorch is not installed")
else:
    net = torch.nn.Sequential(torch.nn.Linear(2, 100), torch.nn.ReLU(), torch.nn.Linear(100, 3))
    with torch.no_grad():
        for module, own in ((net[0], params[0]), (net[2], params[2])):
            module.weight.copy_(torch.tensor(np.asarray(own["w"])))
            module.bias.copy_(torch.tensor(np.asarray(own["b"])))
    descent = torch.optim.SGD(net.parameters(), lr=0.1)
    inputs, classes = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(c), dtype=torch.long)

    def backward():
        output = net(inputs)  # 1
        cost = torch.nn.functional.cross_entropy(output, classes)  # 2
        cost.backward()  # 4
        return net[0].weight.grad.clone()

    first_gradient, summed = backward(), backward()
    print(f"two backward passes without zero_grad: {float((summed / first_gradient).nanmedian()):.1f} times the gradient")
    descent.zero_grad()  # 3
    backward()
    descent.step()  # 5
    np.testing.assert_allclose(net[0].weight.detach(), after[0]["w"], atol=1e-5)

# %% [markdown]
# ## Spiral classification: a linear model
#
# Without a non-linear function two layers are one.  They separate the plane by straight lines, and each arm crosses them:
# about half of the points are right.

# %%
grid, extent = plots.plane(training.x, 80)


def learned(words, epochs=60):
    model = jn.parse(words)
    steps = epochs * (training.size // 40)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, steps))
    result = jn.fit(
        model, jn.nll, training, optimizer, epochs=epochs, batch_size=40, key=jax.random.key(0), gradient="manual"
    )
    right = float((jn.predict(model, result.params, held_out.x).argmax(-1) == held_out.y).mean())
    print(f"{words}: {right:.1%} of the points held out")
    return model, result.params, right


def regions(model, params):
    return np.exp(jn.predict(model, params, grid))


linear = learned("linear(100) linear(3) log_softmax")
assert 0.35 < linear[2] < 0.7

# %% [markdown]
# ## Spiral classification: a hidden layer of ReLU
#
# With one non-linear function in between the lines bend.  The gradients come from the hand-written rules.

# %%
bent = learned("linear(100) relu linear(3) log_softmax")
assert bent[2] > 0.9
untrained = jn.parse("linear(100) relu linear(3) log_softmax")
panels = {"before training": regions(untrained, untrained.init(jax.random.key(0), (2,)))}
panels |= {f"{name}: {right:.0%}": regions(m, p) for name, (m, p, right) in (("linear", linear), ("ReLU", bent))}
plots.decision_regions(held_out.x, held_out.y, extent, panels)

# %% [markdown]
# How many hidden neurons does it take?  Each bends the boundary once.

# %%
sizes = {n: learned(f"linear({n}) relu linear(3) log_softmax") for n in (2, 5)} | {100: bent}
plots.decision_regions(held_out.x, held_out.y, extent, {f"{n} hidden": regions(m, p) for n, (m, p, _) in sizes.items()})

# %% [markdown]
# ## Regression: a linear model
#
# The points lie on a cubic with some noise.  Two linear layers without a function between them are a straight line.

# %%
cubic = jn.data.cubic()
x, y = jnp.asarray(cubic.x, jnp.float32), jnp.asarray(cubic.y, jnp.float32)


def trained(words, keys, steps):
    """The parameters of several networks, before and after training; `vmap` trains them side by side."""
    network = jn.parse(words)
    optimizer = optax.chain(optax.add_decayed_weights(1e-5), optax.adam(1e-2))

    def loss(params):
        return jn.squared_error(network.apply(params, x), y).mean()

    def fitted(key):
        params = network.init(key, (1,))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        end = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]
        return params, end, loss(end)

    return network, *jax.jit(jax.vmap(fitted))(keys)


keys = jax.random.split(jax.random.key(0), 5)
line, _, ends, errors = trained("linear(100) linear(1)", keys[:1], 1000)
straight = np.linalg.lstsq(np.concatenate([x, np.ones_like(x)], 1), np.asarray(y), rcond=None)[1] / len(x)
print(f"mean squared error of the line: {errors[0]:.4f}; of the best line: {straight[0]:.4f}")

# %% [markdown]
# ## Regression with an ensemble
#
# Five networks with ReLU and five with tanh learn the same points from different first weights.  Before training they
# predict five different things everywhere.

# %%
asked = jnp.linspace(-4, 4, 201)[:, None]
interval, points = (-1, 1), (cubic.x[:, 0], cubic.y[:, 0])
before, after, error = {}, {}, {}
for name in ("ReLU", "tanh"):
    network, starts, ends, error[name] = trained(f"linear(100) {name.lower()} linear(1)", keys, 1000)
    before[name], after[name] = (jax.vmap(network.apply, (0, None))(p, asked)[..., 0] for p in (starts, ends))
plots.ensemble(asked[:, 0], before, points, interval, title="before training")

# %% [markdown]
# After it all ten follow the points where there are points.  Outside, nothing determines what they do: ReLU networks go
# on as straight lines, towards +∞ or −∞, and tanh networks level off.  The standard deviation between networks, or its
# square, the variance, measures how uncertain a prediction is, as a single network cannot.  Five networks are few: which
# of the two kinds disagrees more far outside changes with their first weights.

# %%
plots.ensemble(asked[:, 0], after, points, interval, title="after training, out to ±4")

# %%
inside = np.abs(asked[:, 0]) <= 1
for name, predictions in after.items():
    spread, errors = np.asarray(predictions.std(0)), f"mean squared error {error[name].mean():.4f}"
    print(f"{name}: {errors}; standard deviation inside {spread[inside].mean():.3f}, at ±4 {spread[[0, -1]].mean():.3f}")
    assert spread[~inside].mean() > 5 * spread[inside].mean()
bends = np.abs(np.diff(after["ReLU"][:, -10:], 2)).max(), np.abs(np.diff(after["ReLU"][:, 75:126], 2)).max()
print(f"bend of the ReLU networks: {bends[0]:.1e} beyond 3.6, {bends[1]:.1e} among the points")
variances = {f"variance of five {name} networks": p.var(0) for name, p in after.items()}

# %% [markdown]
# The Laplace posterior measures the same for a single network: what it does not know, from its Jacobian by the weights.

# %%
first = jax.tree.map(lambda leaf: leaf[0], ends)
laplace = jn.laplace(network.apply, jn.squared_error, prior_precision=1.0, scale=float(0.5 / error["tanh"][0]))
alone = jax.jit(lambda params: laplace(params, x, y).variance(asked)[:, 0])(first)
print(f"Laplace, on −1 … 1: {alone[inside].mean():.1e}, outside: {alone[~inside].mean():.1e}")
assert alone[~inside].mean() > 10 * alone[inside].mean()
plots.variance(asked[:, 0], variances | {"Laplace, one tanh network": alone}, interval)

# %% [markdown]
# ## Exercise: the derivative of a hidden layer
#
# Let h = ReLU(w x + b) for one number x and many units.  Return ∂h/∂x, which is what bends the line.
#
# <details><summary>Hint 1</summary>
#
# Without ReLU the derivative of w x + b is w.  What does ReLU do to it where w x + b is negative?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A comparison such as `s > 0` is 1 or 0 when it is multiplied by a number.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     return w_hidden * (w_hidden * x + b_hidden > 0)
# ```
#
# A unit that is off passes no derivative on.
#
# </details>

# %%
w_hidden, b_hidden = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.1, 0.2, -0.3])


def hidden(x):
    return jnp.maximum(w_hidden * x + b_hidden, 0)


def answer(x):
    """Return ∂h/∂x of shape [3]."""


jn.check_rule(hidden, 0.7, jacobian=answer)

# %% [markdown]
# ## Exercise: the gradient of an average of squares
#
# Let L = Σ_i (ȳ[i] − y[i])² / n.  Return its gradient by the predictions ȳ.
#
# <details><summary>Hint 1</summary>
#
# Only one term of the sum holds ȳ[i].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The derivative of (ȳ − y)² by ȳ is 2 (ȳ − y), and the average still divides by n.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(predicted):
#     return 2 * (predicted - observed) / len(observed)
# ```
#
# It is the prediction minus the target, times 2 / n.
#
# </details>

# %%
observed = jnp.array([0.5, -1.0, 2.0, 0.0])


def L(predicted):
    return ((predicted - observed) ** 2).mean()


def answer(predicted):
    """Return ∂L/∂ȳ of shape [4]."""


jn.check_rule(L, observed + 1, jacobian=answer)
