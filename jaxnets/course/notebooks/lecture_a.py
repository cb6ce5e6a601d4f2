# mypy: ignore-errors
# %% [markdown]
# # Lecture, part A: gradient descent and backpropagation
#
# After section 2.1 of the NYU Deep Learning course of spring 2020, Yann LeCun's lecture of week 2.  Every gradient is
# made by hand and then checked against `jax.grad` and against `jaxnets.grad`.  A Jacobian is written with the output
# first: ∂y/∂x has the shape [*y, *x], and a weight matrix is w[out, in].

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxnets as jn

plots = jn.plots


def check(by_hand, loss, *args):
    """Both automatic gradients by the first argument agree with the one made by hand."""
    for grad in (jax.grad, jn.grad):
        automatic = grad(loss)(*args)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), by_hand, automatic)


# %% [markdown]
# ## Parametrised models
#
# A parametrised model is a function of inputs and of parameters, ȳ = G(x, w).  To the function both are arguments.  What
# tells them apart is their use: all examples share the parameters, and each has its own input.
#
# A *linear model* is a weighted sum, ȳ = Σ_i w[i] x[i].  The *nearest neighbour* returns the number of the row of w that
# is closest to x, ȳ = argmin_k |x − w[k]|².  Both are parametrised models; only the first has a useful gradient, because
# a number of a row does not change when w moves a little.

# %%
keys = jax.random.split(jax.random.key(0), 8)
x = jax.random.normal(keys[0], (60, 2))
w_true = jnp.array([[1.0, -2.0]])
y = x @ w_true.T + 0.3 * jax.random.normal(keys[1], (60, 1))


def G(x, w):
    return x @ w.T


def nearest_neighbour(x, w):
    return jnp.argmin(jnp.sum((x[:, None] - w) ** 2, -1), -1)


rows = jax.random.normal(keys[2], (4, 2))
print("linear model:", G(x[:3], w_true)[:, 0])
print("nearest neighbour:", nearest_neighbour(x[:3], rows))
print("with w moved a little:", nearest_neighbour(x[:3], rows + 1e-3))

# %% [markdown]
# Parameters are *implicit* where a model keeps them inside, as the modules of PyTorch do, and *explicit* where they are an
# argument, as everywhere in JAX.  Both compute the same.  A function can only be differentiated by its arguments, so
# whoever writes gradients by hand wants them explicit.


# %%
class Linear:
    """A model with implicit parameters."""

    def __init__(self, w):
        self.w = w

    def __call__(self, x):
        return G(x, self.w)


np.testing.assert_array_equal(Linear(w_true)(x), G(x, w_true))
print("∂ȳ/∂w of one example, by the explicit w:", jn.jacobian(G, 1)(x[0], w_true).dense())

# %% [markdown]
# ## Loss of an example, average loss
#
# The cost C(y, ȳ) compares the output of the model with the true one.  The loss of one example is L(x, y, w) = C(y, G(x,
# w)), and what is minimised is its average over a set S of P examples, L(S, w) = 1/P Σ L(x, y, w).
#
# In a block diagram a shaded circle is a variable that is observed, an open one is computed.  A rounded block is a
# function that is easy to compute in one direction, with its parameters w at its side.  A square is a cost.  Its output is
# one number, for which the lecture draws no circle; here the circle C is the number at the end, after sums and factors.


# %%
def loss_of_one(w, x, y):
    """L(x, y, w) = C(y, G(x, w)) = ½ |ȳ − y|²."""
    return 0.5 * jn.squared_error(jn.linear(x, w), y).sum()


def average_loss(w, x, y):
    """L(S, w), for examples x[p, :] and y[p, :]."""
    return (0.5 * jn.squared_error(jn.linear(x, w), y).sum(-1)).mean()


w = jnp.zeros((1, 2))
plots.graph(loss_of_one, w, x[0], y[0], title="The loss of one example")

# %%
losses = jax.vmap(loss_of_one, (None, 0, 0))(w, x, y)
print("the losses of three examples:", losses[:3])
print("the average loss:", average_loss(w, x, y), "=", losses.mean())
plots.graph(average_loss, w, x, y, title="The average loss of 60 examples")

# %% [markdown]
# By hand: ∂C/∂ȳ = ȳ − y, and ∂ȳ[o]/∂w[o, i] = x[i].  The chain rule multiplies them.  The average sums over the examples,
# since all of them use the same w, and divides by their number.


# %%
def gradient(w, x, y):
    return (G(x, w) - y).T @ x / len(x)


check(gradient(w, x, y), average_loss, w, x, y)

# %% [markdown]
# ## Gradient descent
#
# Someone stands on a mountain in fog.  All they can feel is the slope under their feet; to come down to the village they
# take a step in the direction of the steepest descent, and feel again.  In one dimension the derivative is that slope:
# where it is positive, go to the left.


# %%
def hilly(w):
    return 0.1 * w**2 + jnp.sin(w)


def walk(start, rate, steps=12):
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - rate * float(jax.grad(hilly)(path[-1])))
    return np.array(path)


across = np.linspace(-7, 7, 200)
figure, panels = plt.subplots(1, 3, figsize=(11, 2.8), sharey=True, layout="constrained")
for axes, rate in zip(panels, (0.1, 0.8, 4.0), strict=True):
    path = walk(6.5, rate)
    axes.plot(across, hilly(across), color="#999999")
    axes.plot(path, hilly(path), "o-", markersize=4)
    axes.set(title=f"η = {rate}", xlabel="w", ylim=(-2, 9), xlim=(-7, 7))
panels[0].set_ylabel("L(w)")
plt.show()

# %% [markdown]
# A small η is slow, a large one jumps over the valley.  All three know only the slope where they stand: whether another
# valley is deeper, the gradient does not say.
#
# ## Gradient descent with a matrix for η
#
# η may be a matrix.  If it is positive semi-definite, the step −η g still never leads uphill, since the loss changes by
# −g^T η g ≤ 0; it need not be the direction of steepest descent.  That direction is not always the best: with the inverse
# of the matrix of second derivatives for η, one step is at the minimum of a quadratic loss.

# %%
stretched = x * jnp.array([3.0, 0.5])


def quadratic(w):
    return average_loss(w, stretched, y)


g = jn.grad(quadratic)(w)
curvature = jn.dense(jn.hessian(quadratic)(w)).reshape(2, 2)
rates = {
    "a number": np.eye(2) / np.linalg.eigvalsh(curvature).max(),
    "a matrix, the inverse of the curvature": np.linalg.inv(curvature),
}
for name, matrix in rates.items():
    step = -(g @ matrix)
    print(f"η is {name}: g·step = {float((g * step).sum()):.3f}, loss {quadratic(w):.3f} → {quadratic(w + step):.3f}")
    assert (g * step).sum() < 0


def least_squares(x, y):
    """The parameters of the least average loss."""
    return jnp.asarray(np.linalg.lstsq(np.asarray(x), np.asarray(y), rcond=None)[0].T)


np.testing.assert_allclose(w + step, least_squares(stretched, y), atol=1e-4)

# %% [markdown]
# ## Full, stochastic and mini-batch gradient descent
#
# w ← w − η ∂L/∂w.  Full gradient descent takes the gradient over all examples for one step.  Stochastic gradient descent
# (SGD) picks one example p and steps by ∂L(x[p], y[p], w)/∂w.  Mini-batches take the average over some examples.  Every
# single example pulls in a direction of its own; only their average leads to the minimum.


# %%
def descend(x, y, batch_size, rate, steps):
    """The parameters before the first step and after every one, [step, 2]."""

    @jax.jit
    def step(w, picked):
        w = w - rate * gradient(w, x[picked], y[picked])
        return w, w[0]

    random = np.random.default_rng(0)
    picked = np.stack([random.permutation(len(x))[:batch_size] for _ in range(steps)])
    return np.concatenate([np.zeros((1, 2)), jax.lax.scan(step, jnp.zeros((1, 2)), picked)[1]])


paths = {
    "full, 60 examples a step": descend(x, y, 60, 0.4, 12),
    "mini-batches of 10": descend(x, y, 10, 0.4, 30),
    "stochastic, one example": descend(x, y, 1, 0.2, 60),
}
grid = np.stack(np.meshgrid(np.linspace(-0.7, 2.2, 60), np.linspace(-3, 0.8, 60)), -1)
heights = jax.vmap(jax.vmap(lambda w: average_loss(w[None], x, y)))(jnp.asarray(grid))
figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
for axes, (name, path) in zip(panels, paths.items(), strict=True):
    axes.contour(grid[..., 0], grid[..., 1], heights, 15, colors="#BBBBBB", linewidths=0.8)
    axes.plot(path[:, 0], path[:, 1], "o-", markersize=2.5, linewidth=1)
    axes.plot(*w_true[0], "k*", markersize=10)
    axes.set(title=name, xlabel="w₁")
panels[0].set_ylabel("w₂")
plt.show()

# %% [markdown]
# One example per step looks wasteful, and yet it is faster wherever examples resemble each other.  Here are 600 examples
# of the same line, with inputs of two sizes.  Each way looks at every example five times, at its own best rate among
# seven. The only reason for mini-batches is the hardware, which works on many examples almost as fast as on one.

# %%
many_x = jax.random.normal(keys[3], (600, 2)) * jnp.array([2.0, 0.3])
many_y = many_x @ w_true.T + 0.3 * jax.random.normal(keys[4], (600, 1))
least = float(average_loss(least_squares(many_x, many_y), many_x, many_y))
rates, above = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8), {}
for size in (600, 60, 1):
    ends = {rate: descend(many_x, many_y, size, rate, 5 * 600 // size)[-1:] for rate in rates}
    found = {rate: float(average_loss(w, many_x, many_y)) - least for rate, w in ends.items()}
    rate = min(found, key=lambda rate: found[rate] if np.isfinite(found[rate]) else np.inf)
    above[size] = found[rate]
    print(f"{size} examples a step: best rate {rate}, after five epochs {found[rate]:.5f} above the least loss")
assert above[1] < above[600] and above[60] < above[600]

# %% [markdown]
# ## Two functions at once
#
# Not all learning looks for a minimum.  In generative adversarial networks one player lowers a function that the other
# one raises, and what is sought is a Nash equilibrium: a place where neither gains by moving alone.  It needs gradients,
# too, but plain descent may circle around it: for u v, with the equilibrium at 0, it even moves away.

# %%
u = v = jnp.float32(1.0)
for _ in range(50):
    by_u, by_v = jax.grad(lambda u, v: u * v, (0, 1))(u, v)
    u, v = u - 0.1 * by_u, v + 0.1 * by_v
print(f"distance from the equilibrium: {2**0.5:.2f} at first, {jnp.hypot(u, v):.2f} after 50 steps")

# %% [markdown]
# ## Without a gradient
#
# A gradient method needs a function that is continuous and differentiable almost everywhere.  Where a function is a
# staircase, or unknown, *zeroth-order* methods try points and keep the better one.  How many evaluations does that take?
# Here a random search and gradient descent both come down to a hundredth of the first loss, with more and more weights.


# %%
def random_search(loss, w, goal, key, width=0.3):
    """The number of evaluations until the loss is below `goal`; the width of the proposals adapts to their success."""

    def propose(state):
        w, width, count = state
        tried = w + width * jax.random.normal(jax.random.fold_in(key, count), w.shape)
        better = loss(tried) < loss(w)
        return jnp.where(better, tried, w), width * jnp.where(better, 1.5, 0.9), count + 1

    return jax.lax.while_loop(lambda state: loss(state[0]) > goal, propose, (w, width, 1))[-1]


def descent(loss, w, goal, rate):
    """The number of gradients until the loss is below `goal`."""

    def step(state):
        return state[0] - rate * jax.grad(loss)(state[0]), state[1] + 1

    return jax.lax.while_loop(lambda state: loss(state[0]) > goal, step, (w, 0))[-1]


def bowl(w):
    """A quadratic loss whose valley lies at 1, with curvatures from 0.2 to 1."""
    return 0.5 * jnp.sum(jnp.linspace(0.2, 1, w.size) * (w - 1) ** 2)


for size in (2, 20, 200):
    start = jnp.zeros(size)
    goal = 0.01 * bowl(start)
    searched = int(random_search(bowl, start, goal, keys[6]))
    descended = int(descent(bowl, start, goal, 1.0))
    print(f"{size} weights: {searched} evaluations by random search, {descended} gradients by descent")
assert searched > 100 * descended

# %% [markdown]
# *Reinforcement learning* is in this situation: a robot that learns to ride a bicycle gets a number for how long it stayed
# up, and no derivative of it.  The cost is a black box.  If the action is drawn at random around what the network says, the
# *score function* estimates the gradient of the average cost from costs alone: mean of C(a) (a − ȳ) / σ².  It is right on
# average, and noisy.
#
# *Actor-critic* methods learn a second, differentiable module, the critic, that foretells the cost; the actor then goes down
# the critic's gradient.  Below the black box is a staircase, whose own derivative is 0 everywhere.

# %%
goal = jnp.array([0.5, -0.8])


def ridden(action):
    """The cost of an action [..., 2], as a staircase: the derivative is 0 wherever it exists."""
    return jnp.floor(20 * jnp.sum((action - goal) ** 2, -1)) / 20


action, spread = jnp.zeros(2), 0.3
print("by autodiff:", jax.grad(ridden)(action))
for samples in (10, 1000, 100_000):
    noise = spread * jax.random.normal(keys[7], (samples, 2))
    scores = ridden(action + noise)[:, None] * noise / spread**2
    print(f"score function, {samples} tries: {scores.mean(0)}")
print("of the smooth cost |a − goal|²:", -2 * goal)


def critic(params, action):
    """A cost that is quadratic in the action, with parameters that are learned."""
    return params["height"] + jnp.sum(params["width"] * (action - params["centre"]) ** 2, -1)


optimizer = optax.adam(0.1)


@jax.jit
def better_critic(params, state, tried, costs):
    """30 steps towards the costs that were seen."""

    def update(_, carry):
        params, state = carry
        g = jax.grad(lambda params: jnp.mean((critic(params, tried) - costs) ** 2))(params)
        updates, state = optimizer.update(g, state)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, 30, update, (params, state))


def actor_critic(action, rounds=15, tries=20):
    params = {"height": jnp.zeros(()), "width": jnp.ones(2), "centre": jnp.zeros(2)}
    state = optimizer.init(params)
    for n in range(rounds):
        tried = action + spread * jax.random.normal(jax.random.key(n), (tries, 2))
        params, state = better_critic(params, state, tried, ridden(tried))  # all that is ever known of the cost
        action = action - 0.3 * jax.grad(critic, 1)(params, action)
    return action


found = actor_critic(action)
print(f"actor-critic: from cost {ridden(action):.2f} to {ridden(found):.2f} with 300 tries, at {found}")
assert ridden(found) < 0.1

# %% [markdown]
# ## A traditional neural net
#
# Linear operations and pointwise non-linear ones, in turn.  Seen unit by unit, the weighted sum of unit i is
# s[i] = Σ_{j ∈ UP(i)} w[i, j] z[j], over the units UP(i) that lead to i, and its output is z[i] = h(s[i]).  Seen layer by
# layer, the sums are the product of a matrix and a vector.

# %%
W1, W2 = jax.random.normal(keys[4], (5, 4)) / 2, jax.random.normal(keys[5], (3, 5)) / 2
z0 = jax.random.normal(keys[2], (4,))
UP = {i: range(4) for i in range(5)}  # every unit of the first layer sees all inputs
s = [sum(W1[i, j] * z0[j] for j in UP[i]) for i in range(5)]
z = [jnp.tanh(value) for value in s]
np.testing.assert_allclose(z, jnp.tanh(W1 @ z0), rtol=1e-5)
print("unit by unit: ", np.round(z, 3))
print("layer by layer:", np.asarray(jnp.tanh(W1 @ z0)).round(3))

# %% [markdown]
# Two layers or three?  This net has two pairs of a linear and a non-linear operation, which is what counts here.  Who
# counts the variables (input, hidden, output) calls the same net one of three layers.  Without the functions between
# them, two linear layers are a single one, since W₂ (W₁ z) = (W₂ W₁) z.

# %%
np.testing.assert_allclose(W2 @ (W1 @ z0), (W2 @ W1) @ z0, rtol=1e-4, atol=1e-6)
print("dimensions of W₂ W₁:", (W2 @ W1).shape)

# %% [markdown]
# ## Backpropagation through a non-linear function
#
# Somewhere in a network stands z = h(s), and the rest is a black box that gives ∂C/∂z.  The chain rule says
# ∂C/∂s = ∂C/∂z · h'(s).  Or think of a small change: ds makes dz = h'(s) ds, and that makes dC = ∂C/∂z · h'(s) ds.

# %%
s, ds = 0.7, 1e-3


def black_box(z):
    """The rest of the network."""
    return jnp.sin(3 * z) + z**2


dz = jnp.tanh(s + ds) - jnp.tanh(s)
dC = black_box(jnp.tanh(s + ds)) - black_box(jnp.tanh(s))
slope, received = 1 - jnp.tanh(s) ** 2, jax.grad(black_box)(jnp.tanh(s))
print(f"ds = {ds}: dz = {dz:.6f}, h'(s) ds = {slope * ds:.6f}")
print(f"          dC = {dC:.6f}, ∂C/∂z · h'(s) ds = {received * slope * ds:.6f}")
check(received * slope, lambda s: black_box(jnp.tanh(s)), s)

# %% [markdown]
# For a vector s the Jacobian of h is diagonal: every z[i] sees its own s[i] alone.

# %%
vector = W1 @ z0
by_hand = jnp.cos(jnp.tanh(vector)) * (1 - jnp.tanh(vector) ** 2)
check(by_hand, lambda s: jnp.sum(jnp.sin(jnp.tanh(s))), vector)
print(jn.jacobian(jn.tanh)(vector))

# %% [markdown]
# ## Backpropagation through a weighted sum
#
# A wire z feeds three sums, s[k] = … + w[k] z.  A change dz reaches the cost through all three, and small changes add up:
# dC = Σ_k ∂C/∂s[k] · w[k] dz, so ∂C/∂z = Σ_k ∂C/∂s[k] · w[k].  Forward, w spreads z; backward, the same w collects.

# %%
wires, dz = jnp.array([0.5, -1.0, 2.0]), 1e-3


def rest(s):
    return jnp.sin(s[0]) + s[1] * s[2]


def cost_of_wire(z):
    return rest(wires * z)


z = 0.4
received = jax.grad(rest)(wires * z)
print("the three changes of the cost:", received * wires * dz)
print(f"their sum: {jnp.sum(received * wires * dz):.6f}; measured: {cost_of_wire(z + dz) - cost_of_wire(z):.6f}")
check(received @ wires, cost_of_wire, z)

# %% [markdown]
# With all wires of a layer at once the sums are s = w z, and ∂C/∂z = ∂C/∂s · w: a row times the matrix.  By the weights it
# is ∂C/∂w[o, i] = ∂C/∂s[o] · z[i].

# %%
received = jnp.cos(W1 @ z0)
check(received @ W1, lambda z: jnp.sum(jnp.sin(W1 @ z)), z0)
check(jnp.outer(received, z0), lambda w: jnp.sum(jnp.sin(w @ z0)), W1)

# %% [markdown]
# ## The lecture's network
#
# An image of 3 × 10 × 20 numbers is flattened into z₀ of 600.  Three linear blocks s_{k+1} = w_k z_k, with ReLU between
# them, z_k = h(s_k), lead to 60, 40 and 10 numbers.  In PyTorch this is a class that makes its linear modules when it is
# made; here it is a description, and the parameters are an argument.

# %%
network = jn.parse("flatten linear(60) relu linear(40) relu linear(10)")
image = jax.random.normal(keys[0], (1, 3, 10, 20))
params = network.init(keys[1], image.shape[1:])
jn.tabulate(network.apply, params, image)

# %% [markdown]
# ## Backpropagation through a functional module
#
# For a module z_g = g(z_f) everything is a matrix: ∂C/∂z_f = ∂C/∂z_g · ∂z_g/∂z_f, with dimensions [1 × d_f] = [1 × d_g]
# · [d_g × d_f].  Entry ij of the Jacobian is the derivative of output i by input j.  Gradients are rows, so that the
# product reads from left to right.  Through a stack of modules the row is multiplied by one Jacobian after the other.

# %%
target = jnp.array([0.0, 1.0, 0.0])


def cost(z):
    return 0.5 * jnp.sum((jn.linear(jn.relu(jn.linear(z, W1, jnp.zeros(5))), W2, jnp.zeros(3)) - target) ** 2)


s = W1 @ z0
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
check(row[0], cost, z0)
jn.tabulate(cost, z0)

# %% [markdown]
# ## Backpropagation through a multi-stage graph
#
# Each stage z_{k+1} = f_k(z_k, w_k) has two Jacobians.  The one by z_k carries the gradient on to the stage before, and
# the one by w_k gives the gradient of its weights: ∂C/∂z_k = ∂C/∂z_{k+1} · ∂f_k/∂z_k and ∂C/∂w_k = ∂C/∂z_{k+1} ·
# ∂f_k/∂w_k.


# %%
def stage(z, w):
    return jnp.tanh(w @ z)


def stack(stages, z):
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
check(backpropagate(stages, z0), stack, stages, z0)
by_state, by_weights = jn.jacobian(stage, (0, 1))(z0, W1)
print("by the state: ", by_state)
print("by the weights:", by_weights)
plots.graph(stack, stages, z0, title="A stack of three stages, and its gradients")

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
def C(predicted, target):
    return 0.5 * jnp.sum((target - predicted) ** 2)


def answer(predicted, target):
    """Return ∂C/∂ȳ and ∂C/∂y, both of shape [3]."""


jn.check_rule(C, jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 0.5, -0.5]), jacobian=answer)

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
