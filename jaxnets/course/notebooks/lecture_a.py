# mypy: ignore-errors
# %% [markdown]
# # Lecture, part A: gradient descent and backpropagation
#
# After week 2 of the NYU Deep Learning course (Yann LeCun's lecture).  Every gradient is made by hand and then checked
# against `jax.grad` and against `jaxnets.grad`.  A Jacobian is written with the output first: ∂y/∂x has the shape
# [*y, *x], and a weight matrix is w[out, in].

# %%
import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn


def check(by_hand, loss, *args):
    """Both automatic gradients by the first argument agree with the one made by hand."""
    for grad in (jax.grad, jn.grad):
        automatic = grad(loss)(*args)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), by_hand, automatic)


# %% [markdown]
# ## Parametrised models
#
# A parametrised model is a function of inputs and of parameters, ȳ = G(x, w).  Here it is linear, and the data come from a
# linear model with some noise.

# %%
keys = jax.random.split(jax.random.key(0), 8)
x = jax.random.normal(keys[0], (60, 3))
w_true = jnp.array([[1.0, -2.0, 0.5]])
y = x @ w_true.T + 0.1 * jax.random.normal(keys[1], (60, 1))


def G(x, w):
    return x @ w.T


# %% [markdown]
# ## Loss of an example, average loss
#
# The cost C(y, ȳ) compares one prediction with its target; the average over all examples is what is minimised.

# %%


def losses(w, x, y):
    """C(y, ȳ) = ½ |y − ȳ|², one per example."""
    return 0.5 * jnp.sum((G(x, w) - y) ** 2, -1)


def average_loss(w, x, y):
    return losses(w, x, y).mean()


w = jnp.zeros((1, 3))
print("the loss of three examples:", losses(w, x, y)[:3])
print("the average loss:", average_loss(w, x, y))

# %% [markdown]
# By hand: ∂C/∂ȳ = ȳ − y, and ∂ȳ[o]/∂w[o, i] = x[i].  The chain rule multiplies them.  The average sums over the examples,
# since all of them use the same w, and divides by their number.

# %%


def gradient(w, x, y):
    return (G(x, w) - y).T @ x / len(x)


check(gradient(w, x, y), average_loss, w, x, y)

# %% [markdown]
# ## Gradient descent, full, stochastic and by mini-batches
#
# w ← w − η ∂L/∂w.  Full gradient descent takes the gradient of all examples for one step.  Stochastic gradient descent
# takes that of one example after the other, in a random order, and mini-batches take that of some examples.  All three look
# at each example once per epoch.

# %%


def descend(batch_size, rate, epochs=5):
    @jax.jit
    def step(w, picked):
        return w - rate * gradient(w, x[picked], y[picked]), None

    w, random = jnp.zeros((1, 3)), np.random.default_rng(0)
    for _ in range(epochs):
        batches = random.permutation(len(x)).reshape(-1, batch_size)
        w, _ = jax.lax.scan(step, w, jnp.asarray(batches))
    return float(average_loss(w, x, y))


start = float(average_loss(w, x, y))
found = {name: descend(size, 0.1) for name, size in (("full", len(x)), ("mini-batches of 10", 10), ("stochastic", 1))}
print(f"average loss at the start: {start:.4f}")
for name, value in found.items():
    print(f"after 5 epochs, {name}: {value:.4f}")
assert found["stochastic"] < found["full"] < start
assert found["mini-batches of 10"] < found["full"]

# %% [markdown]
# ## Backpropagation through a non-linear function
#
# Let z' = h(z), and let the cost's derivative by z' be known.  Then ∂C/∂z = ∂C/∂z' · h'(z), because the Jacobian of h is
# diagonal.

# %%
z = jax.random.normal(keys[2], (4,))
received = jnp.cos(jnp.tanh(z))  # ∂C/∂z' of C(z') = Σ sin z'
by_hand = received * (1 - jnp.tanh(z) ** 2)
check(by_hand, lambda z: jnp.sum(jnp.sin(jnp.tanh(z))), z)
print(jn.jacobian(jn.tanh)(z))

# %% [markdown]
# ## Backpropagation through a weighted sum
#
# Here z goes into several sums s[o] = Σ_i w[o, i] z[i].  A change of z[i] reaches the cost through all of them, so the
# derivatives add up: ∂C/∂z[i] = Σ_o ∂C/∂s[o] · w[o, i].

# %%
weights = jax.random.normal(keys[3], (3, 4))
received = jnp.cos(weights @ z)
check(received @ weights, lambda z: jnp.sum(jnp.sin(weights @ z)), z)
check(jnp.outer(received, z), lambda weights: jnp.sum(jnp.sin(weights @ z)), weights)

# %% [markdown]
# ## A traditional neural net, and backpropagation through a functional module
#
# A stack of linear and non-linear modules.  For a module z_g = g(z_f) the dimensions must match:
# [1 × d_f] = [1 × d_g] · [d_g × d_f].

# %%
W1, W2 = jax.random.normal(keys[4], (5, 4)) / 2, jax.random.normal(keys[5], (3, 5)) / 2
target = jnp.array([0.0, 1.0, 0.0])


def cost(z):
    return 0.5 * jnp.sum((jn.linear(jn.relu(jn.linear(z, W1, jnp.zeros(5))), W2, jnp.zeros(3)) - target) ** 2)


s = W1 @ z
output = W2 @ jnp.maximum(s, 0)
chain = [
    (output - target)[None],  # [1 × 3], of the cost
    W2,  # [3 × 5], of the second linear module
    jnp.diag((s > 0) * 1.0),  # [5 × 5], of the non-linear module
    W1,  # [5 × 4], of the first linear module
]
row = chain[0]
print("1 ×", row.shape[1])
for jacobian in chain[1:]:
    print(f"[1 × {jacobian.shape[1]}] = [1 × {row.shape[1]}] · [{jacobian.shape[0]} × {jacobian.shape[1]}]")
    row = row @ jacobian
check(row[0], cost, z)
jn.tabulate(cost, z)

# %% [markdown]
# ## Multi-stage graph
#
# Each stage z_{k+1} = f_k(z_k, w_k) has two Jacobians.  The one by z_k carries the gradient on to the stage before, and the
# one by w_k gives the gradient of its weights:
# ∂C/∂z_k = ∂C/∂z_{k+1} · ∂z_{k+1}/∂z_k and ∂C/∂w_k = ∂C/∂z_{k+1} · ∂z_{k+1}/∂w_k.

# %%


def stage(z, w):
    return jnp.tanh(w @ z)


def network(stages, z):
    for w in stages:
        z = stage(z, w)
    return jnp.sum((z - target) ** 2) / 2


def backpropagate(stages, z):
    states = [z]
    for w in stages:
        states.append(stage(states[-1], w))
    g, gradients = states[-1] - target, []
    for w, before, after in zip(stages[::-1], states[-2::-1], states[:0:-1], strict=True):
        g = g * (1 - after**2)  # through tanh, whose Jacobian is diagonal
        gradients.append(jnp.outer(g, before))  # by w_k
        g = g @ w  # by z_k
    return gradients[::-1]


stages = [W1, W2, jax.random.normal(keys[6], (3, 3)) / 2]
check(backpropagate(stages, z), network, stages, z)

# %% [markdown]
# ## A directed acyclic graph
#
# Where a value has two uses, the gradients of both add up: here z goes through a module and past it.

# %%


def branched(z):
    return jnp.sum(jnp.sin(z) * z + z[::-1] ** 3)


through_sine, past_it, reversed_use = jnp.cos(z) * z, jnp.sin(z), (3 * z[::-1] ** 2)[::-1]
check(through_sine + past_it + reversed_use, branched, z)

# %% [markdown]
# ## A graph that depends on the data
#
# Python decides which modules run.  The graph belongs to one call, and so does its gradient.

# %%


def repeated(z):
    steps = 0
    while jnp.sum(z**2) > 1:
        z, steps = 0.5 * jnp.sin(z), steps + 1
    return jnp.sum(z), steps


for size in (0.1, 1.0, 3.0):
    point = size * z
    _, steps = repeated(point)
    g, state = jnp.ones(4), [point]
    for _ in range(steps):
        state.append(0.5 * jnp.sin(state[-1]))
    for value in state[-2::-1]:
        g = g * 0.5 * jnp.cos(value)
    print(f"|z| = {jnp.linalg.norm(point):.2f}: {steps} modules")
    check(g, lambda z: repeated(z)[0], point)

# %% [markdown]
# ## Exercise: the Jacobian of a weighted sum
#
# Let s = W z.  Return the Jacobian of s by z.
#
# <details><summary>Hint 1</summary>
#
# Write one entry with its indices: s[o] = Σ_i W[o, i] z[i].  What is ∂s[o]/∂z[i]?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The output comes first: the Jacobian has the shape [*s, *z], here [3, 4].
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(z):
#     return W
# ```
#
# J[out, in] is W[out, in] itself, whatever z is.
#
# </details>

# %%
W = jax.random.normal(jax.random.key(1), (3, 4))


def weighted_sum(z):
    return W @ z


def answer(z):
    """Return ∂s/∂z of shape [3, 4]."""


jn.check_rule(weighted_sum, jnp.array([0.5, -1.0, 2.0, 0.3]), jacobian=answer)

# %% [markdown]
# ## Exercise: the two Jacobians of a stage
#
# A stage of a network is y = tanh(w z).  Return both of its Jacobians: the one by z, which carries a gradient on to the
# stage before, and the one by the weights.
#
# <details><summary>Hint 1</summary>
#
# Let s = w z.  Then ∂y[o]/∂s[o] = 1 − y[o]², and the chain rule multiplies it by ∂s[o]/∂z[i] or by ∂s[o]/∂w[k, i].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# s[o] uses only the row o of w, so ∂s[o]/∂w[k, i] = δ(o, k) z[i].  `jnp.einsum` with `jnp.eye(3)` for δ writes it in one
# line.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(z, w):
#     slope = 1 - jnp.tanh(w @ z) ** 2
#     return slope[:, None] * w, jnp.einsum("ok,o,i->oki", jnp.eye(3), slope, z)
# ```
#
# ∂y[o]/∂z[i] = (1 − y[o]²) w[o, i], and ∂y[o]/∂w[k, i] = δ(o, k) (1 − y[o]²) z[i].  The report may add that 1 − y² loses
# digits where tanh is almost 1.
#
# </details>


# %%
def stage_of_tanh(z, w):
    return jnp.tanh(w @ z)


def answer(z, w):
    """Return ∂y/∂z of shape [3, 4] and ∂y/∂w of shape [3, 3, 4]."""


z_of_stage = jnp.array([0.5, -1.0, 0.8, 0.3])
w_of_stage = jax.random.normal(jax.random.key(2), (3, 4)) / 2
jn.check_rule(stage_of_tanh, z_of_stage, w_of_stage, jacobian=answer)

# %% [markdown]
# ## Exercise: backpropagation through ½ |y − ȳ|²
#
# Let C = ½ |y − ȳ|².  Return the gradients by the prediction ȳ and by the target y.
#
# <details><summary>Hint 1</summary>
#
# C = ½ Σ_i (y[i] − ȳ[i])².  Only one term of the sum holds ȳ[i].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The 2 of the square and the ½ cancel.  The inner derivative of y − ȳ is −1 by ȳ and 1 by y.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(predicted, target):
#     return predicted - target, target - predicted
# ```
#
# ∂C/∂ȳ = ȳ − y: the prediction moves away from the target when it follows this gradient, and descent goes the other way.
#
# </details>


# %%
def half_square(predicted, target):
    return 0.5 * jnp.sum((target - predicted) ** 2)


def answer(predicted, target):
    """Return ∂C/∂ȳ and ∂C/∂y, both of shape [3]."""


jn.check_rule(half_square, jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 0.5, -0.5]), jacobian=answer)

# %% [markdown]
# ## Exercise: a module that is used twice
#
# Let y = W tanh(W z).  The weights have two uses, so ∂y[o]/∂W[k, i] is a sum of two terms.  Return it.
#
# <details><summary>Hint 1</summary>
#
# Call the uses W₁ and W₂: y = W₂ tanh(W₁ z).  Make the Jacobian by each of them, and add the two.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The outer use gives ∂y[o]/∂W₂[k, i] = δ(o, k) h[i] with h = tanh(W z).
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The inner use gives ∂y[o]/∂W₁[k, i] = W[o, k] (1 − h[k]²) z[i].
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(W):
#     h = jnp.tanh(W @ z_twice)
#     outer = jnp.einsum("ok,i->oki", jnp.eye(3), h)
#     return outer + jnp.einsum("ok,k,i->oki", W, 1 - h**2, z_twice)
# ```
#
# The gradients of all uses of a value add up, as they do where a path branches.
#
# </details>

# %%
z_twice = jnp.array([0.5, -1.0, 0.8])


def twice(W):
    return W @ jnp.tanh(W @ z_twice)


def answer(W):
    """Return ∂y/∂W of shape [3, 3, 3]."""


jn.check_rule(twice, jax.random.normal(jax.random.key(3), (3, 3)), jacobian=answer)
