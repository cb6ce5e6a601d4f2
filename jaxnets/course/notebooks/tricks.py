# mypy: ignore-errors
# %% [markdown]
# # Lecture, part B: practical tricks
#
# After the end of section 2.2 of the NYU Deep Learning course of spring 2020, Yann LeCun's lecture of week 2.  Each
# trick is a small experiment, whose numbers are computed here.  `jaxnets tricks` repeats larger ones with several seeds,
# says whether the difference is more than chance, and draws pictures.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnets as jn

spiral = jn.data.spiral(points=60)
training, held_out = jn.data.split(spiral, 60)
x, labels = jnp.asarray(training.x, jnp.float32), jnp.asarray(training.y)


def accuracy(model, params, data):
    return float((jn.predict(model, params, data.x).argmax(-1) == data.y).mean())


# %% [markdown]
# ## ReLU as the non-linear function
#
# The lecture recommends ReLU for networks of many layers.  It has a single kink, at 0, and so no scale of its own: it
# works on large and small inputs alike (see lecture B).  The sigmoid shrinks every gradient, by 4 or more.  Here is the
# norm of the gradient that comes back through 1, 4 and 16 layers, from networks with weights that suit each function.


# %%
def norm_at_input(activation, depth, width=32):
    model = jn.models.mlp(*[width] * depth, 1, activation=activation, last=None)
    params = model.init(jax.random.key(5), (width,))
    z = jax.random.normal(jax.random.key(6), (50, width))
    g = jax.jit(jax.grad(lambda z: model.apply(params, z).sum()))(z)
    return float(jnp.linalg.norm(g, axis=1).mean())


for activation in ("relu", "tanh", "sigmoid"):
    norms = {depth: norm_at_input(activation, depth) for depth in (1, 4, 16)}
    print(f"{activation}: " + ", ".join(f"{norm:.1e} through {depth}" for depth, norm in norms.items()))
assert norms[16] < 1e-5

# %% [markdown]
# That a gradient arrives is not all.  In 16 plain layers of ReLU any two inputs become almost the same state, because
# all states are positive; tanh keeps them apart, and so does a residual connection.  `jaxnets tricks depth` measures it:
# on digits, 92 % are learned with ReLU, 99 % with tanh, and 100 % with ReLU and residual connections.

# %%
for activation in ("relu", "tanh"):
    model = jn.models.mlp(*[32] * 16, activation=activation, last=activation)
    z = model.apply(model.init(jax.random.key(0), (32,)), jax.random.normal(jax.random.key(7), (50, 32)))
    unit = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    print(
        f"{activation}: average cosine of two of 50 states after 16 layers: {((unit @ unit.T).sum() - 50) / (50 * 49):.2f}"
    )

# %% [markdown]
# ## Cross-entropy as the loss of classification
#
# Give it logits, since log-softmax is in it (see lecture B, and the practicum for what happens otherwise).  With a
# sigmoid or a softmax and a squared error instead, the gradient vanishes where the prediction is sure and wrong.

# %%
sure_and_wrong, right = jnp.array([[8.0, 0.0, 0.0]]), jnp.array([1])
by_entropy = jn.grad(lambda z: jn.cross_entropy(z, right).sum())(sure_and_wrong)
by_square = jn.grad(lambda z: jn.squared_error(jn.softmax(z), jn.data.one_hot(right, 3)).sum())(sure_and_wrong)
print(
    f"largest derivative: {jnp.abs(by_entropy).max():.3f} by cross-entropy, {jnp.abs(by_square).max():.3f} by squared error"
)
assert jnp.abs(by_entropy).max() > 100 * jnp.abs(by_square).max()

# %% [markdown]
# ## Normalise the inputs
#
# Subtract the mean and divide by max(σ, ε), because a constant feature has σ = 0 and must not give NaN.  Gradient
# descent is slow in proportion to the ratio of the largest to the smallest curvature, and normalising the inputs lowers
# that ratio.

# %%


def normalised(x, epsilon=1e-6):
    return (x - x.mean(0)) / jnp.maximum(x.std(0), epsilon)


raw = jnp.concatenate([x * jnp.array([1.0, 100.0]) + 5, jnp.ones((len(x), 1))], 1)
assert np.isfinite(normalised(raw)).all()


def condition(x):
    return float(jnp.linalg.cond(x.T @ x / len(x)))


before, after = condition(raw[:, :2]), condition(normalised(raw)[:, :2])
print(f"largest to smallest curvature of a linear model: {before:.0f} as they are, {after:.1f} normalised")
assert after < before / 10

# %% [markdown]
# Of images each colour channel is normalised by itself, b' = (b − m_b) / max(σ_b, ε), with the mean and deviation over all
# images and places.

# %%
images = np.random.default_rng(0).random((20, 3, 8, 8)) * np.array([0.9, 0.5, 0.0])[:, None, None] + 0.1  # much red, no blue
mean, deviation = images.mean((0, 2, 3), keepdims=True), images.std((0, 2, 3), keepdims=True)
channels = (images - mean) / np.maximum(deviation, 1e-6)
print("means", channels.mean((0, 2, 3)).round(6) + 0, "deviations", channels.std((0, 2, 3)).round(6))

# %% [markdown]
# ## Kaiming initialisation
#
# A sum s of n products w z has the variance n · Var(w) · mean z².  Half of the sums are negative, where ReLU gives 0, so
# the mean square of its outputs is half of that.  Weights of variance 2 / n therefore keep the signal's size through many
# layers.

# %%


def signal(gain, depth=20, width=100):
    random = np.random.default_rng(0)
    z = random.normal(size=(50, width))
    for _ in range(depth):
        z = np.maximum(z @ random.normal(0, gain / width**0.5, (width, width)).T, 0)
    return float(np.sqrt((z**2).mean()))


sizes = {name: signal(gain) for name, gain in (("1", 1.0), ("√2 (Kaiming)", 2**0.5), ("2", 2.0))}
for name, size in sizes.items():
    print(f"gain {name}: size {size:.2g} after 20 layers")
assert sizes["1"] < 0.1 and 0.3 < sizes["√2 (Kaiming)"] < 3 and sizes["2"] > 10
drawn = jn.initializers.kaiming_normal()(jax.random.key(3), (100, 100))
print(f"deviation of kaiming_normal: {drawn.std():.3f}, √(2/100) = {0.02**0.5:.3f}")

# %% [markdown]
# Weights must also differ.  If all weights of a layer are equal, its units compute the same, get the same gradient, and
# stay equal for ever; from zeros nothing but the last bias is learned.

# %%
network = jn.models.mlp(5, 3)
start = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.1), network.init(jax.random.key(0), (2,)))
result = jn.fit(network, jn.nll, training, optax.sgd(0.1), epochs=2, batch_size=20, params=start)
print("weights of the hidden units after training:", *np.asarray(result.params[0]["w"]).round(3))
assert np.ptp(result.params[0]["w"], axis=0).max() < 1e-5

# %% [markdown]
# ## Shuffle the examples
#
# The same training twice, with the examples in the order of their classes and shuffled.

# %%
model = jn.models.mlp(30, 3)


def train(optimizer, data, **options):
    return jn.fit(model, jn.cross_entropy, data, optimizer, epochs=30, batch_size=20, key=jax.random.key(0), **options)


by_class = training.take(np.argsort(training.y, kind="stable"))
results = {"shuffled": train(optax.sgd(1.0), by_class), "by class": train(optax.sgd(1.0), by_class, shuffle=False)}
for name, result in results.items():
    print(f"{name}: training loss {result.history[-1]['loss']:.3f}, held out {accuracy(model, result.params, held_out):.0%}")
assert results["shuffled"].history[-1]["loss"] < results["by class"].history[-1]["loss"]

# %% [markdown]
# It matters most where a step sees one example and the classes are many: on digits that are sorted by label the biases
# of the last layer learn to say "0", then "1", and so on.  Whether the order has to change in every epoch is debated;
# `jaxnets tricks shuffling` finds no difference between that and an order that is drawn once.

# %%
digits, held_out_digits = jn.data.split(jn.data.digits(), 0.25)
digits = digits.take(np.argsort(digits.y, kind="stable"))
network, one_by_one = jn.models.mlp(32, 10, last=None), {"epochs": 3, "batch_size": 1, "key": jax.random.key(0)}
for name, shuffle in (("shuffled", True), ("sorted by label", False)):
    result = jn.fit(network, jn.cross_entropy, digits, optax.sgd(0.03), shuffle=shuffle, **one_by_one)
    print(f"one digit per step, {name}: held out {accuracy(network, result.params, held_out_digits):.0%}")

# %% [markdown]
# ## Decrease the learning rate
#
# Mini-batches make the loss jump around its minimum, the more the larger the learning rate is.  A rate that begins large and
# falls to 0 goes fast at first, and lets the loss settle at the end.  Three trainings each, from different weights; with the
# constant rate their last losses are a matter of chance:

# %%
steps = 60 * (training.size // 10)
schedules = {"constant": 2.0, "falling": optax.cosine_decay_schedule(2.0, steps)}
last = {}
for name, schedule in schedules.items():
    trained = [
        jn.fit(model, jn.cross_entropy, training, optax.sgd(schedule), epochs=60, batch_size=10, key=jax.random.key(seed))
        for seed in range(3)
    ]
    last[name] = np.array([[epoch["loss"] for epoch in result.history[-6:]] for result in trained])
    ends = ", ".join(f"{loss:.3f}" for loss in last[name][:, -1])
    print(f"{name} rate: training losses {ends}, moving by {last[name].std(1).mean():.3f} in the last epochs")
assert (last["falling"][:, -1] < last["constant"][:, -1]).all()
assert (last["falling"].std(1) < last["constant"].std(1)).all()

# %% [markdown]
# ## L1 and L2
#
# The gradient of ½ Σ w² is w, so weights shrink by a constant factor.  The gradient of Σ |w| is the sign of w, so weights
# shrink by a constant amount, and reach 0.

# %%
w = jnp.array([2.0, -0.3, 0.05])
np.testing.assert_allclose(jn.grad(jn.regularizers.l2)(w), w)
np.testing.assert_allclose(jn.grad(jn.regularizers.l1)(w), jnp.sign(w))
by_l1 = by_l2 = w
for _ in range(10):
    by_l2 = by_l2 - 0.05 * by_l2
    by_l1 = jnp.sign(by_l1) * jnp.maximum(jnp.abs(by_l1) - 0.05, 0)  # stops at 0
print("after ten steps of L2:", by_l2, "of L1:", by_l1)
assert (by_l1 == 0).sum() == 2 and (by_l2 != 0).all()

# %% [markdown]
# The lecture adds α |w|², whose gradient is 2 α w.  The step is then w − η (∂C/∂w + 2 α w) = (1 − 2 η α) w − η ∂C/∂w: in
# every step the weights decay by the same factor.  `jn.regularizers.l2` is ½ Σ w², so α of the lecture is half of its
# strength.

# %%
eta, alpha, slope = 0.1, 0.05, jnp.array([0.3, -0.2, 0.1])
weights = jnp.array([2.0, -0.3, 0.05])
with_penalty = weights - eta * (slope + 2 * alpha * jn.grad(jn.regularizers.l2)(weights))
np.testing.assert_allclose(with_penalty, (1 - 2 * eta * alpha) * weights - eta * slope, rtol=1e-6)
print("after one step:", with_penalty, f"decay by {1 - 2 * eta * alpha}")

# %% [markdown]
# ## Dropout
#
# In training some units become 0, half of them in the lecture, and the others grow, so that the mean stays the same.  No
# unit can then rely on a single other one.  The Jacobian is diagonal, and it uses the same random draw.

# %%
ones, key = jnp.ones((2000,)), jax.random.key(4)
dropped = jn.dropout(ones, key, rate=0.3)
print(f"{(dropped == 0).mean():.0%} dropped, mean {dropped.mean():.2f}")
assert abs(dropped.mean() - 1) < 0.1
np.testing.assert_allclose(jn.jacobian(lambda x: jn.dropout(x, key, rate=0.3))(ones).diagonal(), dropped)

# %% [markdown]
# ## Exercise: the gradient of cross-entropy
#
# Let L be the average of −log p[label] over four examples, with p = softmax(logits).  Return its gradient by the logits.
#
# <details><summary>Hint 1</summary>
#
# For one example the gradient is p − t, where t is 1 at the place of the label and 0 elsewhere: `jax.nn.one_hot(labels, 3)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# L is an average over the examples.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(logits):
#     return (jax.nn.softmax(logits) - jax.nn.one_hot(labels_of_four, 3)) / len(logits)
# ```
#
# An average divides by the number of examples, and so does its gradient.
#
# </details>

# %%
labels_of_four = jnp.array([0, 2, 1, 1])


def L(logits):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels_of_four[:, None], 1).mean()


def answer(logits):
    """Return ∂L/∂logits of shape [4, 3]."""


jn.check_rule(L, jax.random.normal(jax.random.key(0), (4, 3)), jacobian=answer)
