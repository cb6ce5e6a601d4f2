# mypy: ignore-errors
# %% [markdown]
# # What layers do to the plane
#
# After the notebook on stretching space of the NYU Deep Learning course of spring 2020.  A cloud of points, coloured by
# where they begin, is moved by linear maps, by tanh and by random networks.  `jaxnets space` makes larger pictures of
# these.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxnets as jn

plots = jn.plots

x = jax.random.normal(jax.random.key(0), (1000, 2))
colours = plots.position_colours(x)

# %% [markdown]
# ## Linear maps
#
# Every matrix is W = U S Vᵀ: a rotation or reflection, a stretching along two axes, another rotation or reflection.  The
# Jacobian of y = W x is W, the same everywhere, so its singular values say how far apart neighbours are moved in any
# place: those above 1 stretch, those below 1 push together.

# %%
maps = jax.random.normal(jax.random.key(1), (3, 2, 2))
singular = np.linalg.svd(maps, compute_uv=False)
panels = [("x", x)] + [(f"singular values {s[0]:.2f}, {s[1]:.2f}", x @ w.T) for w, s in zip(maps, singular, strict=True)]
plots.clouds(panels, colours, 4, basis=jnp.concatenate([jnp.eye(2)[None], jnp.swapaxes(maps, 1, 2)]), limits=[4] * 4)

# %% [markdown]
# ## Five affine things
#
# An affine map y = W x + b does five things, alone or together: it rotates, reflects, scales, shears and translates.  A
# layer called `Linear` or `linear` is an affine map, because it adds a bias.  The determinant of W, which is the
# determinant of the Jacobian, is what areas are multiplied by; it is negative where the plane is turned over.

# %%
turn = np.radians(30)
five = {
    "rotation": ([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], [0, 0]),
    "reflection": ([[-1, 0], [0, 1]], [0, 0]),
    "scaling": ([[1.8, 0], [0, 0.5]], [0, 0]),
    "shearing": ([[1, 0.8], [0, 1]], [0, 0]),
    "translation": ([[1, 0], [0, 1]], [1.5, 1]),
}
panels, moved = [("x", x)], {}
for name, (w, b) in five.items():
    moved[name] = jn.linear(x, jnp.array(w, jnp.float32), jnp.array(b, jnp.float32))
    panels.append((f"{name}, determinant {np.linalg.det(np.array(w)):.1f}", moved[name]))
plots.clouds(panels, colours, 3, limits=[4] * 6)

# %%
before = np.linalg.norm(x[1:] - x[0], axis=1)
for name, y in moved.items():
    ratio = np.linalg.norm(y[1:] - y[0], axis=1) / before
    print(f"{name}: distances are multiplied by {ratio.min():.2f} to {ratio.max():.2f}")

# %% [markdown]
# ## A square, by tanh
#
# A linear map cannot bend anything.  If the points are first stretched by s and then squashed by tanh, they fill a
# square and gather in its corners.  The Jacobian is diagonal, s (1 − tanh² (s x)), and no longer the same everywhere: in
# the corners it vanishes, in the middle it is s.

# %%
z = jnp.linspace(-10, 10, 101)
plt.plot(z, jn.tanh(z), label="tanh(z)")
plt.plot(z, jn.jacobian(jn.tanh)(z).diagonal(), label="its slope")
plt.legend()
plt.show()

# %%
scales = (1, 2, 3, 4, 5)
plots.clouds([("x", x)] + [(f"tanh({s} x)", jn.tanh(s * x)) for s in scales], colours, 3, limits=[4] + [1.1] * 5)

# %%
for s in scales:
    slopes = jn.jacobian(lambda x, s=s: jn.tanh(s * x))(x).diagonal()
    print(f"s = {s}: slopes from {slopes.min():.1e} to {slopes.max():.2f}; {(slopes < 0.1).mean():.0%} below 0.1")

# %% [markdown]
# ## Random networks
#
# Networks that have learned nothing yet bend the plane in arbitrary ways.  With ReLU the plane is folded along lines, and
# between them the map is affine; with tanh it is bent smoothly.  Deeper networks fold more often.


# %%
def network(words, seed):
    model = jn.parse(words)
    return model.apply, model.init(jax.random.key(seed), (2,))


words = {
    "tanh, 5 hidden": "linear(5) tanh linear(2)",
    "ReLU, 5 hidden": "linear(5) relu linear(2)",
    "ReLU, four layers of 5": "linear(5) relu " * 4 + "linear(2)",
}
panels = [("x", x)]
for name, text in words.items():
    for seed in range(2):
        apply, params = network(text, seed)
        panels.append((name, apply(params, x)))
plots.clouds(panels, colours, 4)

# %% [markdown]
# The Jacobian at every point is a matrix of two by two.  For the ReLU network it takes few values: one for each piece on
# which the map is affine.

# %%
for name, text in words.items():
    apply, params = network(text, 0)
    J = jn.jacobian(lambda x, f=apply, p=params: f(p, x))(x).per_example()
    pieces = len(np.unique(np.asarray(J).round(4).reshape(len(x), -1), axis=0))
    print(f"{name}: {pieces} different Jacobians at {len(x)} points")

# %% [markdown]
# ## Exercise: how a layer of tanh stretches the plane
#
# Let y = tanh(W x + b) for one point x of the plane.  Return the Jacobian of y by x.  Its determinant is what a small area
# at x is multiplied by.
#
# <details><summary>Hint 1</summary>
#
# Without tanh the Jacobian is W, everywhere.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The Jacobian of tanh alone is diagonal, with the slopes 1 − y².  The chain rule multiplies W by it from the left: every
# *row* of W is multiplied by the slope of its output.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answer(x):
#     slopes = 1 - jnp.tanh(W_plane @ x + b_plane) ** 2
#     return slopes[:, None] * W_plane
# ```
#
# ∂y[o]/∂x[i] = (1 − y[o]²) W[o, i].  No slope is above 1, so tanh only ever shrinks what W stretches.  The report may add
# that 1 − y² loses digits where tanh is almost 1.
#
# </details>

# %%
W_plane, b_plane = jnp.array([[1.5, -0.5], [0.8, 1.2]]), jnp.array([0.2, -0.1])


def layer_of_tanh(x):
    return jnp.tanh(W_plane @ x + b_plane)


def answer(x):
    """Return ∂y/∂x of shape [2, 2]."""


jn.check_rule(layer_of_tanh, jnp.array([0.4, -0.3]), jacobian=answer)
