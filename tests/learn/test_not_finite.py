"""NaN and ∞ in training: an error says at which step and where, and the last good state is kept."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

import jaxnets as jn
from jaxnets.learn import descent
from jaxnets.learn.checkpoint import checkpoints
from jaxnets.learn.models import Model, linear, plain, serial
from jaxnets.learn.train import fit

from ..sweeps import swept
from .runs import IMAGE_NET, POINTS, images, newest

pytestmark = pytest.mark.usefixtures("kept_programs")


def spoilt(data, field, value):
    """A data set with a bad number in its tenth example, which the third step takes."""
    array = getattr(data, field).copy()
    array[9].flat[0] = value
    return dataclasses.replace(data, **{field: array})


def part(name, function):
    return Model(name, lambda key, shape, dtype: {}, lambda params, x, **_: function(x), lambda shape: shape)


def counting(params):
    return {"n": jnp.zeros((), int), "spread": jnp.ones(())}


def count(updates, state, params=None):
    return updates, {"n": state["n"] + 1, "spread": jnp.where(state["n"] >= 8, jnp.nan, 1.0)}


IMAGES = images(24)
CURVE = serial(linear(3), plain("tanh"), linear(1))
STRANGE = serial(part("strange", lambda x: jnp.where(x == 9, jnp.nan, x)), linear(1))
ROOT = serial(linear(1), part("root", jnp.sqrt))
ZEROS = [{"w": np.zeros((1, 2)), "b": np.zeros(1)}, {}]
INFINITE_AT_9 = optax.adam(lambda n: jnp.where(n == 8, jnp.inf, 0.01))
NOT_FINITE = {
    "input NaN": (CURVE, {"data": spoilt(POINTS, "x", np.nan)}, 3, "the inputs [4, 2] is NaN or infinite in 1 of 8 entries"),
    "input ∞": (CURVE, {"data": spoilt(POINTS, "x", -np.inf)}, 3, "the inputs [4, 2] is"),  # its loss is finite: tanh(∞) is
    "target NaN": (CURVE, {"data": spoilt(POINTS, "y", np.nan)}, 3, "the targets [4, 1] is"),
    "part": (
        STRANGE,
        {"data": spoilt(POINTS, "x", 9)},
        3,
        "the output of part 0, strange, [4, 2] is NaN or infinite in 1 of 8",
    ),
    "penalty": (linear(1), {"penalty": lambda params: jnp.log(-jnp.sum(params["w"] ** 2))}, 1, "the penalty [] is"),
    "gradient": (ROOT, {"params": ZEROS}, 1, "the gradient by params[0]['b'] [1] is"),
    "optimizer": (
        linear(1),
        {"optimizer": optax.chain(optax.sgd(0.01), optax.GradientTransformation(counting, count))},
        9,
        "the optimizer's state[1]['spread'] [] is NaN or infinite in 1 of 1 entries",
    ),
    "learning rate": (CURVE, {}, 9, "the updated parameter params[0]['b'] [3] is"),
    "image NaN": (IMAGE_NET, {"data": spoilt(IMAGES, "x", np.nan)}, 3, "the inputs [4, 1, 4, 4] is"),
    "learning rate, images": (
        IMAGE_NET,
        {"data": IMAGES},
        9,
        "the updated parameter",
    ),
}


@pytest.mark.parametrize("name", swept(NOT_FINITE, 3))
def test_nan_is_met_at_its_step_and_the_last_good_state_is_kept(tmp_path, name):
    model, changes, step, words = NOT_FINITE[name]
    arguments = {"data": POINTS, "optimizer": INFINITE_AT_9, "epochs": 3, "batch_size": 4, "shuffle": False} | changes
    loss = jn.nll if arguments["data"].classes else jn.squared_error
    for folder, more in ("many steps a call", {}), ("one", {"save_every": 1, "keep": 100}):
        with pytest.raises(jn.NonFiniteError, match=re.escape(f"step {step}: {words}")) as raised:
            fit(model, loss, **arguments, **more, checkpoint=tmp_path / folder)
        assert str(raised.value).endswith(f"the state after step {step - 1} is in {checkpoints(tmp_path / folder)[-1]}")
    kept, arrays = newest(tmp_path / "many steps a call")
    assert (kept, arrays) == newest(tmp_path / "one")
    assert kept == step - 1
    assert all(np.isfinite(array).all() for array in safetensors.numpy.load(arrays).values())


def test_the_loop_ends_at_the_first_bad_loss(monkeypatch):
    ends, run = [], descent.Descent._run_until

    def spy(self, *arguments):
        state = run(self, *arguments)
        ends.append(int(state.step))
        return state

    monkeypatch.setattr(descent.Descent, "_run_until", spy)
    with pytest.raises(jn.NonFiniteError):
        fit(CURVE, jn.squared_error, spoilt(POINTS, "x", np.nan), INFINITE_AT_9, epochs=1, batch_size=4, shuffle=False)
    assert ends == [3, 1, 2, 3]  # all six, which end at the third; then one by one


def test_nan_in_validation_is_an_error_too():
    with pytest.raises(jn.NonFiniteError, match="step 6: the loss of the validation set is nan"):
        fit(
            linear(1),
            jn.squared_error,
            POINTS,
            optax.sgd(0.1),
            epochs=1,
            batch_size=4,
            validation=spoilt(POINTS, "x", np.nan),
        )
