# mypy: ignore-errors
# %% [markdown]
# # Modules and their Jacobians
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
# ## Lecture, B: Linear
#
# ∂y[b, o]/∂x[b, i] = w[o, i].  Example b depends on example b alone, so there are two equal blocks, which are stored once.
# By the weights, ∂y[b, o]/∂w[o, i] = x[b, i].

# %%
J_x, J_w, J_b = jn.jacobian(jn.linear, (0, 1, 2))(x, w, b)
for name, J in (("Linear by x", J_x), ("Linear by w", J_w), ("Linear by b", J_b)):
    show(name, J)
J_x  # noqa: B018  (the last value of a cell: a notebook draws it)

# %% [markdown]
# ## Lecture, B: ReLU
#
# Every output depends only on the input at its own place.  Where that input is negative, nothing passes.

# %%
show("ReLU", jn.jacobian(jn.relu)(x))

# %% [markdown]
# ## Lecture, B: Duplicate and Add
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
# ## Lecture, B: Max
#
# Max is a switch: the derivative goes to the input that was larger.

# %%
for number, J in enumerate(jn.jacobian(jn.maximum, (0, 1))(x, -x)):
    show(f"Max, input {number}", J)

# %% [markdown]
# ## Lecture, B: Softmax and LogSoftmax
#
# Through the sum, every output of an example depends on all inputs of that example, so the blocks are full.  But each block
# is a diagonal minus a product of two vectors.

# %%
for module in (jn.softmax, jn.log_softmax):
    show(module.name, jn.jacobian(module)(x))

# %% [markdown]
# ## Lecture, B: multi-stage graph
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
# ## Lecture, B: a module of one's own
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
