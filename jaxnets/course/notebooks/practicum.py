# mypy: ignore-errors
# %% [markdown]
# # Practicum: a spiral is classified, and regression with uncertainty
#
# After week 2 of the NYU Deep Learning course (Alfredo Canziani's practicum, training a neural network).  Pictures are drawn
# if matplotlib is installed.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnets as jn
from jaxnets.show.formats import import_plots

try:
    plots = import_plots()
except ModuleNotFoundError as error:
    plots = None
    print(error)

# %% [markdown]
# ## The data, and one-hot labels
#
# The data are three arms of a spiral in the plane.  A label k stands for a vector with 1 at place k and 0 elsewhere, and the
# predicted probabilities are compared with that vector.

# %%
training, held_out = jn.data.split(jn.data.spiral(points=200), 0.2)
print(training.size, "points to learn from,", held_out.size, "held out")
print("labels", training.y[:4])
print(jn.data.one_hot(training.y[:4], training.classes))

# %% [markdown]
# ## A linear model
#
# Without a non-linear function two layers are one.  They separate the plane by straight lines, and the arms of a spiral
# cannot be separated in this way.

# %%


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


linear = learned("linear(100) linear(3) log_softmax")
assert 0.35 < linear[2] < 0.7

# %% [markdown]
# ## A hidden layer of ReLU
#
# With one non-linear function in between, the lines bend.  The gradients come from the hand-written rules.

# %%
bent = learned("linear(100) relu linear(3) log_softmax")
assert bent[2] > 0.9
jn.tabulate(bent[0].apply, bent[1], jnp.asarray(held_out.x[:5]))

# %%
if plots:
    points, extent = plots.plane(training.x, 80)
    panels = {
        f"{name}: {right:.0%}": np.exp(jn.predict(model, params, points))
        for name, (model, params, right) in (("linear", linear), ("ReLU", bent))
    }
    picture = plots.decision_regions(held_out.x, held_out.y, extent, panels)
picture if plots else None

# %% [markdown]
# ## Regression with an ensemble
#
# Five networks learn a cubic on −1 … 1 from different initial weights.  Where there were data they agree.  Elsewhere
# nothing determines what they predict, and the variance between them measures what they do not know.  `vmap` trains them
# side by side.

# %%
cubic = jn.data.cubic(points=60)
x, y = jnp.asarray(cubic.x, jnp.float32), jnp.asarray(cubic.y, jnp.float32)
network = jn.parse("linear(30) tanh linear(1)")


def loss(params):
    return jn.squared_error(network.apply(params, x), y).mean()


optimizer = optax.adam(2e-2)


@jax.jit
@jax.vmap
def fitted(key):
    params = network.init(key, (1,))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=500)[0][0]


members = fitted(jax.random.split(jax.random.key(0), 5))
asked = jnp.linspace(-3, 3, 121)[:, None]
inside = np.abs(asked[:, 0]) <= 1
predictions = jax.vmap(network.apply, (0, None))(members, asked)[..., 0]
variance = predictions.var(0)
errors = jax.vmap(loss)(members)
print("squared errors of the five:", errors)
print(f"variance between them, on −1 … 1: {variance[inside].mean():.1e}, outside: {variance[~inside].mean():.1e}")
assert variance[~inside].mean() > 10 * variance[inside].mean()

# %% [markdown]
# The Laplace posterior measures the same for a single network: what it does not know, from its Jacobian by the weights.

# %%
first = jax.tree.map(lambda leaf: leaf[0], members)
laplace = jn.laplace(network.apply, jn.squared_error, prior_precision=1.0, scale=float(0.5 / errors[0]))
alone = jax.jit(lambda params: laplace(params, x, y).variance(asked)[:, 0])(first)
print(f"Laplace, on −1 … 1: {alone[inside].mean():.1e}, outside: {alone[~inside].mean():.1e}")
assert alone[~inside].mean() > 10 * alone[inside].mean()

# %%
if plots:
    curves = {"five networks": variance, "Laplace": alone}
    picture = plots.variance(np.asarray(asked[:, 0]), curves, (-1, 1))
picture if plots else None

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


def mean_square(predicted):
    return ((predicted - observed) ** 2).mean()


def answer(predicted):
    """Return ∂L/∂ȳ of shape [4]."""


jn.check_rule(mean_square, observed + 1, jacobian=answer)
