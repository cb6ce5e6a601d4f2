# mypy: ignore-errors
# %% [markdown]
# # Automatic differentiation
#
# After the autograd tutorial of the NYU Deep Learning course of spring 2020, which is about PyTorch.  In PyTorch a
# tensor records what is done with it, and `backward` walks that record.  In JAX, and here, a *function* is
# differentiated: nothing is recorded in the arrays, and a gradient is a value like any other.

# %%
import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

plots = jn.plots

# %% [markdown]
# ## A graph of operations
#
# Let y = x − 2, z = 3 y² and a the mean of z.  In PyTorch each result has a `grad_fn`, which leads to those before.
# Here the graph belongs to the function; `plots.graph` draws it, and `jn.tabulate` lists it with the dimensions of every
# Jacobian.

# %%
x = jnp.array([[1.0, 2.0], [3.0, 4.0]])


def a(x):
    y = x - 2
    z = y * y * 3
    return z.mean()


print("a =", a(x))
plots.graph(a, x)

# %%
jn.tabulate(a, x)

# %% [markdown]
# ## Gradients
#
# By hand, before you run the cell: ∂a/∂x[i, j] = 6 (x[i, j] − 2) / 4.

# %%
print(jn.grad(a)(x))
np.testing.assert_allclose(jn.grad(a)(x), 6 * (x - 2) / 4)

# %% [markdown]
# ## A graph that is made while it runs
#
# How often the loop runs depends on the values.  Each call makes a graph of its own.


# %%
def doubled(x):
    y, count = x * 2, 0
    while jnp.linalg.norm(y) < 1000:
        y, count = y * 2, count + 1
    return y, count


start = jax.random.normal(jax.random.key(0), (3,))
y, count = doubled(start)
print("y =", y)

# %% [markdown]
# y is no single number, so there is no gradient, and PyTorch's `backward` asks for a row g to start with.  What it
# returns is the product g · J with the Jacobian.  J itself is a multiple of the identity.

# %%
J = jn.jacobian(lambda x: doubled(x)[0])(start)
g = jnp.array([0.1, 1.0, 0.0001])
print(J)
print("g · J =", g @ J)

# %% [markdown]
# Before you run the next cell: how often did the loop run, if J is 2 to the power of that number and one more?

# %%
print(count)
np.testing.assert_allclose(J.diagonal(), 2.0 ** (count + 1))

# %% [markdown]
# ## Which arguments have a gradient
#
# In PyTorch one marks the tensors whose gradient is wanted, and `no_grad` switches the record off.  Here one names the
# arguments, and what is not named costs nothing.

# %%
x, w = jnp.arange(1.0, 4.0), jnp.ones(3)


def z(x, w):
    return w @ x


print("by x and w:", jn.grad(z, (0, 1))(x, w))
print("by w alone:", jn.grad(z, 1)(x, w))

# %% [markdown]
# `jax.lax.stop_gradient` takes a value as it is: nothing flows back through it.  Then the gradient is 0, and no error.

# %%
print("through stop_gradient:", jn.grad(lambda w: jax.lax.stop_gradient(w) @ x)(w))

# %% [markdown]
# ## More than gradients
#
# Since a gradient is the value of a function, it can be differentiated again.

# %%
print(jn.hessian(a)(jnp.array([[1.0, 2.0], [3.0, 4.0]])))
print(jax.hessian(lambda x: jnp.sum(x**3))(x))

# %% [markdown]
# ## Exercise: the gradient of a mean of squares
#
# Let a be the mean of 3 (x − 2)² over the four entries of x.  Return its gradient by x, as it would be after `a.backward()`.
#
# <details><summary>Hint 1</summary>
#
# The mean adds up the entries and divides by their number.  Only one of the entries depends on x[i, j].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The derivative of 3 (x − 2)² is 6 (x − 2).
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     return 6 * (x - 2) / x.size
# ```
#
# ∂a/∂x[i, j] = 6 (x[i, j] − 2) / 4.
#
# </details>


# %%
def a(x):
    return jnp.mean(3 * (x - 2) ** 2)


def answer(x):
    """Return ∂a/∂x of shape [2, 2]."""


jn.check_rule(a, jnp.array([[1.0, 2.5], [3.0, 4.0]]), jacobian=answer)
