# mypy: ignore-errors
# %% [markdown]
# # Lecture, part B: modules and their Jacobians, softmax and log-softmax
#
# After week 2 of the NYU Deep Learning course (Yann LeCun's lecture, part B).  Each module has a Jacobian by each of its
# inputs.  Where the output and the input share an index, the Jacobian has structure: most of its entries are zero.

# %%
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import jaxnets as jn

keys = jax.random.split(jax.random.key(0), 4)
x = jax.random.normal(keys[0], (2, 3))  # 2 examples of 3 features
w, b = jax.random.normal(keys[1], (4, 3)), jnp.zeros(4)


def show(name, J):
    """The formula, the structure, and what fills the dense matrix: # for a number, · for zero."""
    print(f"{name}: {J.formula}\n  {J.structure}, {J.nbytes} of {J.dense_nbytes} bytes")
    for row in np.asarray(J.matrix()):
        print("   " + " ".join("#" if entry else "·" for entry in row))


# %% [markdown]
# ## Linear
#
# ∂y[b, o]/∂x[b, i] = w[o, i].  Example b depends on example b alone, so there are two equal blocks, which are stored once.
# By the weights, ∂y[b, o]/∂w[o, i] = x[b, i].

# %%
J_x, J_w, J_b = jn.jacobian(jn.linear, (0, 1, 2))(x, w, b)
for name, J in (("Linear by x", J_x), ("Linear by w", J_w), ("Linear by b", J_b)):
    show(name, J)
J_x  # noqa: B018  (the last value of a cell: a notebook draws it)

# %% [markdown]
# ## ReLU
#
# Every output depends only on the input at its own place.  Where that input is negative, nothing passes.

# %%
show("ReLU", jn.jacobian(jn.relu)(x))

# %% [markdown]
# ## Duplicate and Add
#
# Duplicate has two outputs, and its gradient is the sum of what comes back from both.  Add has two inputs, and its gradient
# goes to both.  Each is the other's transpose.

# %%
for number, J in enumerate(jn.jacobian(jn.duplicate)(x)):
    show(f"Duplicate, output {number}", J)
for number, J in enumerate(jn.jacobian(jn.add, (0, 1))(x, x)):
    show(f"Add, input {number}", J)
u = jnp.ones((2, 3))
first, second = jn.jacobian(jn.duplicate)(x)
np.testing.assert_allclose(u @ first + 2 * u @ second, 3 * u)

# %% [markdown]
# ## Max
#
# Max is a switch: the derivative goes to the input that was larger.

# %%
for number, J in enumerate(jn.jacobian(jn.maximum, (0, 1))(x, -x)):
    show(f"Max, input {number}", J)

# %% [markdown]
# ## Softmax and LogSoftmax
#
# Through the sum, every output of an example depends on all inputs of that example, so the blocks are full.  But each block
# is a diagonal minus a product of two vectors.

# %%
for module in (jn.softmax, jn.log_softmax):
    show(module.name, jn.jacobian(module)(x))

# %% [markdown]
# ## Softmax saturates, LogSoftmax does not
#
# The gradient of −log p of the right class goes through the softmax, where all derivatives vanish once one logit is far
# ahead.  With log-softmax the gradient is p − t, however wrong the prediction.  Class 1 is right, and the logits say 0:

# %%


def through_softmax(logits):
    return -jnp.log(jax.nn.softmax(logits)[1])


def through_log_softmax(logits):
    return -jn.log_softmax(logits)[1]


slope_by_log, slope_by_softmax = (jax.jit(jax.grad(f)) for f in (through_log_softmax, through_softmax))
for margin in (1.0, 10.0, 50.0, 200.0):
    logits = jnp.array([margin, 0.0])
    largest = float(jnp.prod(jax.nn.softmax(logits)))
    by_log, by_softmax = (slope(logits)[1] for slope in (slope_by_log, slope_by_softmax))
    print(f"margin {margin:5g}: ∂p/∂logit {largest:.1e}; ∂(−log p)/∂logit {by_log:.3f}, through softmax {by_softmax:.3f}")
assert np.isclose(slope_by_log(jnp.array([200.0, 0.0]))[1], -1)
assert not np.isclose(slope_by_softmax(jnp.array([200.0, 0.0]))[1], -1)

# %% [markdown]
# ## Cross-entropy
#
# Cross-entropy is log-softmax and the negative log-likelihood in one.  Its gradient by the logits is p − t, with t one-hot.

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
print(jn.tabulate(model.apply, params, x))

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
print(report)
assert report.ok

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
# ## Exercise: a rule with an einsum
#
# Let y[b, o] = Σ_i w[o, i] x[b, i]².  The rule is written with index letters:
# `rules.einsum(output, input, (array, letters))`.

# %%


# Exercise
@jn.layer
def sum_of_squares(x: Float[Array, "b i"], w: Float[Array, "o i"]) -> Float[Array, "b o"]:
    """y[b,o] = Σ_i w[o,i] x[b,i]²"""
    return x**2 @ w.T


@sum_of_squares.jacobian
def _(y, x, w):
    return (
        jn.rules.einsum("bo", "bi", (w, "io"), (2 * x, "bi")),
        jn.rules.einsum("bo", "oi", (-(x**2), "bi")),
    )


report = jn.check_rule(sum_of_squares)
print(report)
assert not report.ok

# %% [markdown]
# Solution: w[o, i] with its axes in the right order, and no minus.  The cell defines the layer again under the same name.

# %%


@jn.layer
def sum_of_squares(x: Float[Array, "b i"], w: Float[Array, "o i"]) -> Float[Array, "b o"]:
    """y[b,o] = Σ_i w[o,i] x[b,i]²"""
    return x**2 @ w.T


@sum_of_squares.jacobian
def _(y, x, w):
    return (
        jn.rules.einsum("bo", "bi", (w, "oi"), (2 * x, "bi")),
        jn.rules.einsum("bo", "oi", (x**2, "bi")),
    )


report = jn.check_rule(sum_of_squares)
print(report)
assert report.ok

# %% [markdown]
# ## Exercise: at the kink
#
# The absolute value has no derivative at 0.  Any number from −1 to 1 is accepted there, but 2 is not.

# %%


def slopes(x):
    return jnp.diag(jnp.where(x == 0, 2.0, jnp.sign(x)))


# Exercise
report = jn.check_rule(jnp.abs, x[0], jacobian=slopes)
print(report)
assert not report.ok

# %% [markdown]
# Solution: the sign, which is 0 at 0.


# %%
def slopes(x):
    return jnp.diag(jnp.sign(x))


report = jn.check_rule(jnp.abs, x[0], jacobian=slopes)
print(report)
assert report.ok

# %% [markdown]
# ## Exercise: the Jacobian of softmax
#
# Let p = softmax(x).  Every output depends on every input, so the diagonal is not the whole Jacobian.

# %%
point = jnp.array([0.3, -1.0, 0.8, 0.1])


# Exercise
def answer(x):
    return jnp.diag(jax.nn.softmax(x))


report = jn.check_rule(jax.nn.softmax, point, jacobian=answer)
print(report)
assert not report.ok

# %% [markdown]
# Solution: p[i] (δ(i, j) − p[j]).  It is right; the report adds that 1 − p[i] loses digits where p[i] is almost 1.


# %%
def answer(x):
    p = jax.nn.softmax(x)
    return jnp.diag(p) - jnp.outer(p, p)


report = jn.check_rule(jax.nn.softmax, point, jacobian=answer)
print(report)
assert report.ok
