# mypy: ignore-errors
# %% [markdown]
# # Lecture, part B: modules and their Jacobians, softmax and log-softmax
#
# After section 2.2 of the NYU Deep Learning course of spring 2020, Yann LeCun's lecture of week 2.  Each module has a
# Jacobian by each of its inputs.  Where the output and the input share an index, the Jacobian has structure: most of its
# entries are zero.  The practical tricks, with which the section ends, have a notebook of their own.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float

import jaxnets as jn

plots = jn.plots

keys = jax.random.split(jax.random.key(0), 4)
x = jax.random.normal(keys[0], (2, 3))  # 2 examples of 3 features
w, b = jax.random.normal(keys[1], (4, 3)), jnp.zeros(4)


def show(name, J):
    """The formula, the structure, and what fills the dense matrix: # for a number, · for zero."""
    print(f"{name}: {J.formula}\n  {J.structure}, {J.nbytes} of {J.dense_nbytes} bytes")
    for row in np.asarray(J.matrix()):
        print("   " + " ".join("#" if entry else "·" for entry in row))


# %% [markdown]
# ## A worked example
#
# Let ȳ = G(x, w), with M outputs and N weights, go into the cost C(y, ȳ).  The graph of values is turned round: the
# gradient graph starts with ∂C/∂C = 1 and multiplies by one Jacobian after the other, ∂C/∂w = 1 · ∂C/∂ȳ · ∂G/∂w.  In
# dimensions, [1 × N] = [1 × 1] · [1 × M] · [M × N].

# %%
weights, one, truth = jax.random.normal(keys[2], (2, 3)), x[0], jnp.array([0.0, 1.0])


def G(x, w):
    return jnp.tanh(w @ x)


def C(y, predicted):
    return 0.5 * jnp.sum((predicted - y) ** 2)


predicted = G(one, weights)
by_prediction = jn.grad(lambda p: C(truth, p))(predicted)[None]  # [1 × M]
by_weights = jn.jacobian(G, 1)(one, weights).matrix()  # [M × N]
row = jnp.ones((1, 1)) @ by_prediction @ by_weights
print(f"[1 × {row.shape[1]}] = [1 × 1] · [1 × {by_prediction.shape[1]}] · [{by_weights.shape[0]} × {by_weights.shape[1]}]")
np.testing.assert_allclose(row.reshape(2, 3), jax.grad(lambda w: C(truth, G(one, w)))(weights), rtol=1e-5)
plots.graph(lambda w, x, y: 0.5 * jn.squared_error(jn.tanh(jn.linear(x, w)), y).sum(), weights, one, truth)

# %% [markdown]
# ## A graph that depends on the data
#
# Python decides which modules run, perhaps by the length of a sequence, by a value, or by the shape of a tree.  The
# graph belongs to one call, and so does its gradient.  Here a sentence is a tree, and each pair of branches is joined by
# the same module; every tree has a graph of its own.

# %%
join = jax.random.normal(keys[3], (3, 6)) / 2


def read(tree, words, w):
    """The vector of a tree: of a word its own, of a pair tanh(w [left, right])."""
    if isinstance(tree, str):
        return words[tree]
    return jnp.tanh(w @ jnp.concatenate([read(branch, words, w) for branch in tree]))


words = {name: jax.random.normal(jax.random.fold_in(keys[3], n), (3,)) for n, name in enumerate(("the", "cat", "sleeps"))}
for tree in ("cat", ("the", "cat"), (("the", "cat"), "sleeps")):
    by_words = jn.jacobian(lambda words, tree=tree: read(tree, words, join))(words)
    sizes = {name: round(float(jnp.abs(jn.dense(J)).max()), 3) for name, J in by_words.items()}
    print(tree, "depends on", {name: size for name, size in sizes.items() if size})
    for one_word, J in by_words.items():
        autodiff = jax.jacrev(lambda v, tree=tree, n=one_word: read(tree, {**words, n: v}, join))(words[one_word])
        np.testing.assert_allclose(jn.dense(J), autodiff, atol=1e-6)

# %% [markdown]
# A `while` in Python works too, outside of `jit`: how often the module runs depends on the values.


# %%
def halved(z):
    steps = 0
    while jnp.sum(z**2) > 1:
        z, steps = 0.9 * jnp.sin(z), steps + 1
    return z, steps


for size in (0.5, 1.0, 3.0):
    _, steps = halved(size * one)
    J = jn.jacobian(lambda z: halved(z)[0])(size * one)
    print(f"|z| = {jnp.linalg.norm(size * one):.2f}: {steps} modules, Jacobian", np.asarray(J.diagonal()).round(3))

# %% [markdown]
# ## Linear
#
# Y = W X, here for one example in each row: y[b, o] = Σ_i w[o, i] x[b, i].  ∂y[b, o]/∂x[b, i] = w[o, i].  Example b
# depends on example b alone, so there are two equal blocks, which are stored once.  By the weights, ∂y[b, o]/∂w[o, i] =
# x[b, i].

# %%
J_x, J_w, J_b = jn.jacobian(jn.linear, (0, 1, 2))(x, w, b)
for name, J in (("Linear by x", J_x), ("Linear by w", J_w), ("Linear by b", J_b)):
    show(name, J)
J_x

# %% [markdown]
# The lecture writes the gradients as columns: dC/dX = Wᵀ · dC/dY and dC/dW = dC/dY · Xᵀ, with an example in each
# column.  As rows, which fit the Jacobians, the same reads ∂C/∂x = ∂C/∂y · W.  Both side by side:

# %%
received = jax.random.normal(keys[0], (2, 4))  # ∂C/∂y of two examples, as rows
as_columns = w.T @ received.T  # the lecture's, one example in each column
as_rows = received @ w
np.testing.assert_allclose(as_columns.T, as_rows, rtol=1e-6)
np.testing.assert_allclose(received @ J_x, as_rows, rtol=1e-5)
np.testing.assert_allclose(received.T @ x, received @ J_w, rtol=1e-5)  # dC/dY · Xᵀ
print("columns:", as_columns.shape, "rows:", as_rows.shape, "by the weights, both ways:", (received @ J_w).shape)

# %% [markdown]
# ## ReLU
#
# Every output depends only on the input at its own place.  Where that input is negative, nothing passes.  At 0 there is a
# kink, and any number from 0 to 1 is a slope; the lecture's formula takes 1 there, and jaxnets 0, as PyTorch and JAX do.
#
# ReLU is *scale equivariant*: if the input is multiplied by a > 0, so is the output, and the Jacobian stays what it
# was.  A function with two kinks, or tanh, works differently on small inputs and large ones.

# %%
show("ReLU", jn.jacobian(jn.relu)(x))
print("at 0:", jn.jacobian(jn.relu)(jnp.zeros(1)).dense())
np.testing.assert_allclose(jn.relu(100 * x), 100 * jn.relu(x))
np.testing.assert_array_equal(jn.jacobian(jn.relu)(100 * x).diagonal(), jn.jacobian(jn.relu)(x).diagonal())
print("largest slope of tanh:", jn.jacobian(jn.tanh)(x).diagonal().max(), "and for inputs 100 times as large:")
print(jn.jacobian(jn.tanh)(100 * x).diagonal().max())

# %% [markdown]
# ## Duplicate and Add
#
# Duplicate has two outputs, and its gradient is the sum of what comes back from both.  Add has two inputs, and its
# gradient goes to both.  Each is the other's transpose.

# %%
for number, J in enumerate(jn.jacobian(jn.duplicate)(x)):
    show(f"Duplicate, output {number}", J)
for number, J in enumerate(jn.jacobian(jn.add, (0, 1))(x, x)):
    show(f"Add, input {number}", J)
u = jnp.ones((2, 3))
first, second = jn.jacobian(jn.duplicate)(x)
np.testing.assert_allclose(u @ first + 2 * u @ second, 3 * u)

# %% [markdown]
# A splitter may have more than two branches.  All that comes back is summed.

# %%
branches = jn.jacobian(lambda x: jn.duplicate(x, n=4))(x)
np.testing.assert_allclose(sum(k * u @ J for k, J in enumerate(branches)), (0 + 1 + 2 + 3) * u)

# %% [markdown]
# ## Max
#
# Max is a switch: the derivative goes to the input that was larger.  If both are equal the second one gets it, as in the
# lecture's formula, where the first has to be larger.

# %%
for number, J in enumerate(jn.jacobian(jn.maximum, (0, 1))(x, -x)):
    show(f"Max, input {number}", J)

# %% [markdown]
# ## Softmax and LogSoftmax
#
# Softmax turns numbers into positive ones that add up to 1, y[i] = exp(x[i]) / Σ_j exp(x[j]), which can be read as
# probabilities: each lies between 0 and 1, and reaches neither.  Log-softmax is its logarithm, x[i] − log Σ_j exp(x[j]).
# Through the sum, every output of an example depends on all inputs of that example, so the blocks are full.  But each
# block is a diagonal minus a product of two vectors.

# %%
for module in (jn.softmax, jn.log_softmax):
    show(module.name, jn.jacobian(module)(x))

# %% [markdown]
# ## The sigmoid is the softmax of two
#
# Of two logits s and 0 the softmax gives σ(s) = 1 / (1 + exp(−s)) for the first.  Where s is large or very negative, σ is
# flat: its slope σ (1 − σ) vanishes, and with it the gradient of all that stands before.  Its logarithm is
# log σ(s) = s − log(1 + exp(s)).  The last term is almost 0 for negative s and almost s for large s, so that log σ is s on
# the left and 0 on the right: on the wrong side its slope stays at 1.

# %%
s = jnp.linspace(-10, 10, 201)
pairs = jnp.stack([s, jnp.zeros_like(s)], -1)
np.testing.assert_allclose(jn.softmax(pairs)[:, 0], jn.sigmoid(s), atol=1e-6)
np.testing.assert_allclose(jn.log_sigmoid(s), s - jn.softplus(s), atol=1e-5)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(s, jn.sigmoid(s), label="σ(s)")
left.plot(s, jn.jacobian(jn.sigmoid)(s).diagonal(), label="its slope")
right.plot(s, jn.log_sigmoid(s), label="log σ(s)")
right.plot(s, jn.softplus(s), label="log(1 + exp(s))")
right.plot(s, jn.jacobian(jn.log_sigmoid)(s).diagonal(), label="slope of log σ")
for axes in (left, right):
    axes.set_xlabel("s")
    axes.legend()
plt.show()

# %% [markdown]
# ## Softmax saturates, LogSoftmax does not
#
# Class 1 is right, and the logits say 0 with a growing margin.  All derivatives of softmax vanish, and with them the
# gradient of a squared error ½ |p − t|²: the more wrong the prediction, the less is learned from it.  The logarithm repairs
# that: the gradient of −log p is p − t, which stays at −1 for the right class.  But only log-softmax in one piece computes
# it.  As log(softmax) it is a derivative that vanishes, times 1/p, which grows without bound, and once p is rounded to 0
# their product is no number any more.

# %%


def squared_error(logits):
    return 0.5 * jnp.sum((jax.nn.softmax(logits) - jnp.array([0.0, 1.0])) ** 2)


def log_of_softmax(logits):
    return -jnp.log(jax.nn.softmax(logits)[1])


def log_softmax(logits):
    return -jn.log_softmax(logits)[1]


slopes = {f.__name__: jax.jit(jax.grad(f)) for f in (squared_error, log_of_softmax, log_softmax)}
for margin in (1.0, 10.0, 50.0, 200.0):
    by_right_logit = {name: slope(jnp.array([margin, 0.0]))[1] for name, slope in slopes.items()}
    print(f"margin {margin:g}:", ", ".join(f"{name} {value:.2g}" for name, value in by_right_logit.items()))
assert abs(slopes["squared_error"](jnp.array([50.0, 0.0]))[1]) < 1e-20
assert np.isclose(slopes["log_softmax"](jnp.array([200.0, 0.0]))[1], -1)
assert not np.isclose(slopes["log_of_softmax"](jnp.array([200.0, 0.0]))[1], -1)

# %% [markdown]
# ## Cross-entropy
#
# Cross-entropy is log-softmax and the negative log-likelihood in one.  Its gradient by the logits is p − t, with t
# one-hot.

# %%
logits = jax.random.normal(jax.random.key(0), (4, 3))
targets = jnp.array([0, 2, 1, 1])
by_hand = jn.softmax(logits) - jn.data.one_hot(targets, 3)
np.testing.assert_allclose(jn.grad(lambda z: jn.cross_entropy(z, targets).sum())(logits), by_hand, atol=1e-6)
print(jn.jacobian(lambda z: jn.cross_entropy(z, targets))(logits))

# %% [markdown]
# ## Multi-stage graph
#
# `tabulate` prints the Jacobians of all modules of a network from shapes alone.  In the chain the inner dimensions cancel.

# %%
model = jn.models.mlp(8, 3)
params = model.init(jax.random.key(1), (3,))
jn.tabulate(model.apply, params, x)

# %% [markdown]
# `explain_plan` shows in which order the Jacobians of the chain are multiplied, and what another order would cost.  Where a
# network is narrow in the middle, it pays to multiply from both ends and meet there.

# %%
narrow = [jax.random.normal(key, shape) for key, shape in zip(keys, [(32, 64), (2, 32), (32, 2), (64, 32)], strict=True)]


def autoencoder(x):
    for weights in narrow:
        x = jn.linear(jn.relu(x), weights, jnp.zeros(len(weights)))
    return x


print(jn.explain_plan(autoencoder, jnp.ones((4, 64))))

# %% [markdown]
# `compare` compares every hand-written Jacobian with JAX's own and with finite differences.

# %%
report = jn.compare(lambda x: model.apply(params, x), x, timed=False)
assert report.ok
report

# %% [markdown]
# ## A directed acyclic graph
#
# Backpropagation needs no stack: any graph will do whose modules can be put in an order, each after those whose values it
# needs.  Where a value has two uses, the gradients of both add up: here z goes through a module and past it.


# %%
def branched(z):
    return jnp.sum(jnp.sin(z) * z + z[::-1] ** 3)


z = x[0]
through_sine, past_it, reversed_use = jnp.cos(z) * z, jnp.sin(z), (3 * z[::-1] ** 2)[::-1]
np.testing.assert_allclose(jn.grad(branched)(z), through_sine + past_it + reversed_use, rtol=1e-5)
plots.graph(lambda z: jn.add(jn.multiply(jn.tanh(z), z), z), z, title="z has three uses")

# %% [markdown]
# A graph with a loop in it has no such order: a value would be needed for its own computation.  A recurrent network
# seems to have one, where its state comes back as an input; but it is the state of the step before.  Unrolled over time
# the graph is acyclic, and each step uses the same weights, so that their gradients are added.

# %%
step = jax.random.normal(keys[2], (3, 3)) / 2
jn.tabulate(lambda w, x: jax.lax.scan(lambda h, value: (jnp.tanh(w @ h + value),) * 2, jnp.zeros(3), x)[0], step, x)

# %% [markdown]
# ## A module of one's own
#
# A layer is a forward function and, right below it, its rule.  The rule gets the output too, so that nothing is computed
# twice.

# %%


@jn.layer
def gaussian(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """y = exp(−x²)     ∂y[b,i]/∂x[b,i] = h'[b,i]"""
    return jnp.exp(-(x**2))


@gaussian.jacobian
def _(y, x):
    return (jn.rules.diagonal(-2 * x * y),)


report = jn.check_rule(gaussian)
print(report)
assert report.ok
print(jn.jacobian(lambda x: gaussian(jn.linear(x, w, b)))(x))

# %% [markdown]
# ## Exercise: Linear, with examples as rows
#
# Let y = x wᵀ + b with one example per row of x, and let g = ∂C/∂y be known.  Return the gradients of the cost C by x, by w
# and by b.
#
# <details><summary>Hint 1</summary>
#
# With indices, y[b, o] = Σ_i w[o, i] x[b, i] + b[o].  Multiply g[b, o] by the derivative of y[b, o], and sum over every
# index that the result does not have.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A gradient has the shape of what it belongs to.  Which products of g [2, 4], w [4, 3] and x [2, 3] have the shapes [2, 3]
# and [4, 3]?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# b goes into all examples, so its gradient is a sum over them.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x, w, b):
#     return g @ w, g.T @ x, g.sum(0)
# ```
#
# ∂C/∂x[b, i] = Σ_o g[b, o] w[o, i], ∂C/∂w[o, i] = Σ_b g[b, o] x[b, i] and ∂C/∂b[o] = Σ_b g[b, o].
#
# </details>

# %%
g = jax.random.normal(jax.random.key(10), (2, 4))  # ∂C/∂y


def C(x, w, b):
    return jnp.sum(g * (x @ w.T + b))


def answer(x, w, b):
    """Return ∂C/∂x of shape [2, 3], ∂C/∂w of shape [4, 3] and ∂C/∂b of shape [4]."""


rows = [jax.random.normal(jax.random.key(number), shape) for number, shape in enumerate([(2, 3), (4, 3), (4,)])]
jn.check_rule(C, *rows, jacobian=answer)

# %% [markdown]
# ## Exercise: Linear, with examples as columns
#
# The lecture writes one example as a column.  Let y = w x + b with one example per column of x, where b is added to every
# column, and let g = ∂C/∂y be known.  Return the gradients by x, by w and by b.
#
# <details><summary>Hint 1</summary>
#
# With indices, y[o, b] = Σ_i w[o, i] x[i, b] + b[o].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Compared with rows, every matrix but w is transposed, and so are the products.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x, w, b):
#     return w.T @ g_columns, g_columns @ x.T, g_columns.sum(1)
# ```
#
# ∂C/∂x = wᵀ g and ∂C/∂w = g xᵀ.  These are the transposes of g w and the very gᵀ x of the rows.
#
# </details>

# %%
g_columns = jax.random.normal(jax.random.key(11), (4, 2))  # ∂C/∂y


def C(x, w, b):
    return jnp.sum(g_columns * (w @ x + b[:, None]))


def answer(x, w, b):
    """Return ∂C/∂x of shape [3, 2], ∂C/∂w of shape [4, 3] and ∂C/∂b of shape [4]."""


columns = [jax.random.normal(jax.random.key(number), shape) for number, shape in enumerate([(3, 2), (4, 3), (4,)])]
jn.check_rule(C, *columns, jacobian=answer)

# %% [markdown]
# ## Exercise: Duplicate
#
# Duplicate gives its input to two modules, y₁ = x and y₂ = x.  They send back g₁ = ∂C/∂y₁ and g₂ = ∂C/∂y₂.  Return ∂C/∂x.
#
# <details><summary>Hint 1</summary>
#
# When x[i] moves by ε, both y₁[i] and y₂[i] move by ε.  By how much does C move?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     return g1 + g2
# ```
#
# The cost is reached along both paths, and what comes back along them is added.
#
# </details>

# %%
g1, g2 = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 1.0, 2.0])


def C(x):
    y1, y2 = jn.duplicate(x)
    return g1 @ y1 + g2 @ y2


def answer(x):
    """Return ∂C/∂x of shape [3]."""


jn.check_rule(C, jnp.array([0.5, -1.0, 2.0]), jacobian=answer)

# %% [markdown]
# ## Exercise: Add
#
# Let y = x₁ + x₂, and let g = ∂C/∂y be known.  Return the gradients by x₁ and by x₂.
#
# <details><summary>Hint 1</summary>
#
# When x₁[i] moves by ε, y[i] moves by ε, whatever x₂[i] is.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x1, x2):
#     return g_sum, g_sum
# ```
#
# The gradient goes to both inputs as it is.  Nothing is divided between them.
#
# </details>

# %%
g_sum = jnp.array([1.0, -2.0, 0.5])  # ∂C/∂y


def C(x1, x2):
    return g_sum @ jn.add(x1, x2)


def answer(x1, x2):
    """Return ∂C/∂x₁ and ∂C/∂x₂, both of shape [3]."""


jn.check_rule(C, jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 0.2, -0.7]), jacobian=answer)

# %% [markdown]
# ## Exercise: Max
#
# Let y = max(x₁, x₂) entry by entry, and let g = ∂C/∂y be known.  Return the gradients by x₁ and by x₂.
#
# <details><summary>Hint 1</summary>
#
# Where x₁[i] is larger, y[i] = x₁[i] does not depend on x₂[i] at all.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A comparison such as `x1 > x2` is 1 or 0 when it is multiplied by a number.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x1, x2):
#     return g_max * (x1 > x2), g_max * (x1 <= x2)
# ```
#
# Max is a switch, which remembers where its output came from.  At a tie the one-sided derivatives differ, and the report
# accepts either.
#
# </details>

# %%
g_max = jnp.array([1.0, -2.0, 0.5, 3.0])  # ∂C/∂y


def C(x1, x2):
    return g_max @ jnp.maximum(x1, x2)


def answer(x1, x2):
    """Return ∂C/∂x₁ and ∂C/∂x₂, both of shape [4]."""


jn.check_rule(C, jnp.array([0.5, -1.0, 2.0, 0.1]), jnp.array([1.0, -2.0, -0.7, 0.4]), jacobian=answer)

# %% [markdown]
# ## Exercise: the Jacobian of softmax
#
# Let p = softmax(x).  Return its Jacobian.
#
# <details><summary>Hint 1</summary>
#
# p[i] = exp(x[i]) / Σ_k exp(x[k]).  Every output depends on every input through the sum, so there are numbers off the
# diagonal, too.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The derivative of log p[i] = x[i] − log Σ_k exp(x[k]) by x[j] is δ(i, j) − p[j].  How does that give ∂p[i]/∂x[j]?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     p = jax.nn.softmax(x)
#     return jnp.diag(p) - jnp.outer(p, p)
# ```
#
# ∂p[i]/∂x[j] = p[i] (δ(i, j) − p[j]): a diagonal minus a product of two vectors.  It is right, but p[i] − p[i]² loses
# digits where p[i] is almost 1; the rule of `jn.softmax` adds up the other probabilities instead.
#
# </details>


# %%
def answer(x):
    """Return ∂p/∂x of shape [4, 4]."""


jn.check_rule(jax.nn.softmax, jnp.array([0.3, -1.0, 0.8, 0.1]), jacobian=answer)

# %% [markdown]
# ## Exercise: backpropagation through softmax
#
# Let p = softmax(x), and let g = ∂C/∂p be known.  Return ∂C/∂x without making the matrix of the exercise before.
#
# <details><summary>Hint 1</summary>
#
# ∂C/∂x[j] = Σ_i g[i] p[i] (δ(i, j) − p[j]).  Write it as two sums.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The first sum has a single term.  The second is p[j] times the inner product ⟨g, p⟩ = Σ_i g[i] p[i].
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     p = jax.nn.softmax(x)
#     return p * (g_softmax - g_softmax @ p)
# ```
#
# ∂C/∂x = p ⊙ (g − ⟨g, p⟩) takes n numbers, where the matrix takes n².
#
# </details>

# %%
g_softmax = jnp.array([1.0, -2.0, 0.5, 3.0])  # ∂C/∂p


def C(x):
    return g_softmax @ jax.nn.softmax(x)


def answer(x):
    """Return ∂C/∂x of shape [4]."""


jn.check_rule(C, jnp.array([0.3, -1.0, 0.8, 0.1]), jacobian=answer)

# %% [markdown]
# ## Exercise: backpropagation through log-softmax
#
# Let y = log softmax(x), and let g = ∂C/∂y be known.  Return ∂C/∂x.
#
# <details><summary>Hint 1</summary>
#
# y[i] = x[i] − log Σ_k exp(x[k]).  Its derivative by x[j] is δ(i, j) − p[j] with p = softmax(x).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Multiply by g[i] and sum over i.  p[j] does not depend on i.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     return g_log - jax.nn.softmax(x) * g_log.sum()
# ```
#
# ∂C/∂x = g − p Σ_i g[i].  For the negative log-likelihood of the class k, g is −1 at k and 0 elsewhere, and this is p − t
# with t one-hot.
#
# </details>

# %%
g_log = jnp.array([1.0, -2.0, 0.5, 3.0])  # ∂C/∂y


def C(x):
    return g_log @ jax.nn.log_softmax(x)


def answer(x):
    """Return ∂C/∂x of shape [4]."""


jn.check_rule(C, jnp.array([0.3, -1.0, 0.8, 0.1]), jacobian=answer)

# %% [markdown]
# ## Exercise: a rule with an einsum
#
# Let y[b, o] = Σ_i w[o, i] x[b, i]².  Write its rule: `rules.einsum(output, input, (array, letters), …)` is the Jacobian
# whose entries are the product of the arrays, with the letters of their axes.
#
# <details><summary>Hint 1</summary>
#
# By x: ∂y[b, o]/∂x[b, i] = w[o, i] · 2 x[b, i].  The output has the letters `bo` and the input `bi`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# By w: ∂y[b, o]/∂w[o, i] = x[b, i]².
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# @sum_of_squares.jacobian
# def _(y, x, w):
#     return (
#         jn.rules.einsum("bo", "bi", (w, "oi"), (2 * x, "bi")),
#         jn.rules.einsum("bo", "oi", (x**2, "bi")),
#     )
# ```
#
# A letter that the output and the input share is structure: example b depends on example b alone.
#
# </details>


# %%
@jn.layer
def sum_of_squares(x: Float[Array, "b i"], w: Float[Array, "o i"]) -> Float[Array, "b o"]:
    """y[b,o] = Σ_i w[o,i] x[b,i]²"""
    return x**2 @ w.T


@sum_of_squares.jacobian
def _(y, x, w):
    """Return a tuple of two rules, by x and by w."""


jn.check_rule(sum_of_squares)

# %% [markdown]
# ## Exercise: at the kink
#
# Return the Jacobian of y[i] = |x[i]|.  There is no derivative at 0; any number from −1 to 1 is accepted there.
#
# <details><summary>Hint 1</summary>
#
# The Jacobian is diagonal: `jnp.diag(slopes)`.  What are the slopes on both sides of 0?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `jnp.sign` is 0 at 0.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     return jnp.diag(jnp.sign(x))
# ```
#
# At 0 it takes the mean of the slopes on both sides.
#
# </details>


# %%
def answer(x):
    """Return ∂y/∂x of shape [3, 3]."""


jn.check_rule(jnp.abs, jnp.array([0.5, -1.0, 2.0]), jacobian=answer)
