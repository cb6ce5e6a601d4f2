"""Errors of curvature name the quantity, the argument and what was given."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from .nets import Draws, layer, no_root

r = Draws(5)
X = r(2, 3)


@jax.custom_vjp
def own_backward(x):
    return jnp.sin(x)


own_backward.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,))

W, IDS = np.ones((2, 3)), np.array([0, 1])


def losses(w, x):
    return jn.cross_entropy(layer(w, x), IDS)


def scalar(w, x):
    return jnp.sum(losses(w, x))


def pair_of(w, x):
    return losses(w, x), losses(w, x)


def fisher_of(loss, *targets, **options):
    return lambda: jn.fisher(layer, loss, **options)(W, X, *targets)


def gauss_newton(loss=jn.cross_entropy, target=IDS, f=layer, **options):
    return jn.ggn(f, loss, **options)(W, X, target)


def one(w, x):
    """A loss of one example, in a batch of one."""
    return jnp.sum(layer(w, x if isinstance(x, jax.Array) else x[0]))


def clipped(x=X, **options):
    return jn.clipped_grad(one, **({"l2_clip_norm": 1.0} | options))(W, x)


ERRORS = [
    *[(lambda q=q: q(scalar)(W, X), jn.ShapeError, f"{name}: the loss must return one array whose first axis are examples")
      for name, q in [
          ("per_example_grads", jn.per_example_grads), ("per_example_grad_norms", jn.per_example_grad_norms),
          ("clip_per_example", lambda loss: jn.clip_per_example(loss, 1.0)), ("gradient_variance", jn.gradient_variance),
          ("gradient_noise_scale", jn.gradient_noise_scale),
      ]],
    (lambda: jn.per_example_grad_norms(pair_of)(W, X), jn.ShapeError, r"per_example_grad_norms: the loss.*\(2,\), \(2,\)"),
    (lambda: jn.per_example_grads(losses, limit=50)(W, X), jn.JacobianTooLarge, r"\[2, 2, 3\] needs 96 B"),
    (lambda: jn.per_example_grads(lambda params, x: x[:, 0])({}, X), jn.ShapeError, "per_example_grads: params has no"),
    *[(lambda n=n: jn.clip_per_example(losses, n), ValueError, f"clip_per_example: max_norm.*{n}")
      for n in (0, -1.0, math.nan)],
    *[(lambda n=n: clipped(l2_clip_norm=n), ValueError, f"clipped_grad: l2_clip_norm.*{n}") for n in (-1.0, math.nan)],
    (lambda: clipped(l2_clip_norm="one"), jn.DTypeError, "clipped_grad: l2_clip_norm is no array: str"),
    (lambda: clipped(l2_clip_norm=np.ones(2)), jn.ShapeError, r"clipped_grad: l2_clip_norm must be one number.*\(2,\)"),
    (lambda: clipped(l2_clip_norm=(1.0, 2.0)), jn.ShapeError, "clipped_grad: l2_clip_norm must be a number or a prefix"),
    *[(lambda n=n: clipped(normalize_by=n), ValueError, f"clipped_grad: normalize_by.*{n}") for n in (0.0, -1.0)],
    (lambda: clipped(microbatch_size=0), ValueError, "clipped_grad: microbatch_size.*0"),
    (lambda: clipped(X[[0, 1, 0]], microbatch_size=2), ValueError, "clipped_grad: microbatch_size 2 does not.*3 examples"),
    (lambda: clipped(argnums=1), ValueError, "clipped_grad: argument 1 cannot be both"),
    (lambda: clipped(batch_argnums=2), ValueError, "clipped_grad: batch_argnums 2 out of range"),
    (lambda: clipped((X, X[:1])), jn.ShapeError, r"clipped_grad: arrays of batch_argnums 1.*\(2, 3\), \(1, 3\)"),
    (lambda: clipped(1.0), jn.ShapeError, r"clipped_grad: arrays of batch_argnums 1.*\[\(\)\]"),
    (lambda: clipped(dtype=int), jn.DTypeError, "clipped_grad: dtype.*int"),
    (lambda: clipped(has_aux=True), TypeError, "clipped_grad: with has_aux"),
    (lambda: jn.clipped_grad(lambda w, x: (one(w, x),) * 2, l2_clip_norm=1.0)(W, X), jn.ShapeError,
     "clipped_grad: the loss must return one"),
    (lambda: jn.clipped_grad(one, l2_clip_norm=1.0)(IDS, X), jn.DTypeError, "clipped_grad: argument params.*int"),
    (lambda: jn.clipped_grad(one, l2_clip_norm=1.0)(W, X, is_padding_example=IDS), jn.DTypeError, "is_padding_example"),
    (lambda: jn.clipped_grad(one, l2_clip_norm=1.0)(W, X, is_padding_example=np.ones(3, bool)), jn.ShapeError,
     r"clipped_grad: is_padding_example.*\(2,\), got \(3,\)"),
    (lambda: jn.clipped_grad(one, l2_clip_norm=1.0).sensitivity("add"), ValueError, "sensitivity: neighb.*'add'"),
    (lambda: jn.value_and_clipped_grad(one, l2_clip_norm=-1.0)(W, X), ValueError, "value_and_clipped_grad: l2_clip.*-1"),
    *[(lambda q=q: q(lambda w, x: jnp.sum(layer(w, x), 1))(W, X[:1]), ValueError, f"{q.__name__}: .*two examples, got 1")
      for q in (jn.gradient_variance, jn.gradient_noise_scale)],
    (lambda: jn.ntk(layer, "sum"), ValueError, r"ntk: outputs must be one of.*'sum'"),
    *[(lambda n=n: jn.ntk(layer, block_size=n), ValueError, f"ntk: block_size.*{n}") for n in (0, -2)],
    (lambda: jn.ntk(layer, block_size=2.5), TypeError, "ntk: block_size.*2.5"),
    *[(lambda i=i: jn.ntk(layer, i)(W, X), jn.ShapeError, rf"ntk: outputs {re.escape(str(i))} is no index.*\(2,\)")
      for i in (2, -3, (0, 0), ())],
    (lambda: jn.ntk(scalar)(W, X), jn.ShapeError, "ntk: f must return one array"),
    (lambda: jn.ntk(pair_of)(W, X), jn.ShapeError, "ntk: f must return one array"),
    (lambda: jn.ntk(layer, limit=100)(W, X), jn.JacobianTooLarge, r"\[2, 2, 2, 2\].*128 B"),
    (lambda: jn.ntk(layer, block_size=1, limit=100)(W, X), jn.JacobianTooLarge, r"the kernel.*\[2, 2, 2, 2\].*limit="),
    (lambda: jn.ntk_vector_product(layer)(W, np.ones(2), X), jn.ShapeError, r"ntk_vector_product: v.*\(2,\).*\(2, 2\)"),
    *[(lambda q=q: q(layer, jn.nll, scale=0.0)(W, X, IDS), ValueError, f"{q.__name__}: scale must be positive, got 0.0")
      for q in (jn.ggn, jn.ggn_diagonal, jn.fisher, jn.kfac_factors)],
    (lambda: gauss_newton("cross_entropy"), TypeError, "ggn: loss must be callable, got 'cross_entropy'"),
    (lambda: jn.ggn_vector_product(layer, None)(W, W, X), TypeError, "ggn_vector_product: loss must be callable, got N"),
    (lambda: gauss_newton(f=pair_of), TypeError, r"ggn: f returns .*loss must be such a tree"),
    (lambda: jn.ggn(lambda w, x: {"a": layer(w, x)}, {"b": jn.huber})(W, X, {"a": IDS}), TypeError, "ggn: f returns .*'a'"),
    (lambda: gauss_newton() @ {"w": W}, jn.ShapeError, r"v must be like params.*'w'"),
    (lambda: gauss_newton() @ np.ones(6), jn.ShapeError, r"v must be like params.*\(6,\)"),
    (lambda: gauss_newton().solve(np.ones(6), 1.0), jn.ShapeError, r"v must be like params.*\(6,\)"),
    *[(lambda d=d: gauss_newton().solve(W, d), ValueError, f"damping must be positive.*{d}") for d in (0.0, -1)],
    (lambda: gauss_newton().logdet(), ValueError, "damping must be positive.*0.0"),
    (lambda: gauss_newton().matrix(limit=200), jn.JacobianTooLarge, r"the matrix.*\[6, 6\].*288 B.*200 B"),
    (lambda: jn.fisher(layer, jn.nll, kind="exact"), ValueError, "fisher: kind must be 'true' or 'empirical', got 'exact'"),
    (fisher_of(jn.huber, W), TypeError, "fisher: 'huber' is no negative log-likelihood"),
    (fisher_of(lambda y, t: jn.squared_error(y, t), W[:, :2]), TypeError, "fisher: '<lambda>'"),
    (fisher_of(jn.cross_entropy, IDS, np.ones(2)), TypeError, "fisher: 'cross_entropy' .*without weights"),
    (fisher_of(functools.partial(jn.poisson_nll, log_input=False), W[:, :2]), TypeError, "fisher: 'poisson_nll'"),
    (lambda: jn.kfac_factors(layer, jn.nll, sharing="none"), ValueError, "kfac_factors: sharing.*'none'"),
    (lambda: jn.kfac_factors(layer, jn.nll, curvature="hessian"), ValueError, "kfac_factors: curvature.*'hessian'"),
    (lambda: jn.kfac_factors(layer, no_root)(W, X, W[:, :2]), TypeError, "kfac_factors: no root"),
    (lambda: jn.Kronecker(jnp.eye(2), jnp.eye(3), (2, 3)).matrix("rows"), ValueError, "matrix: order.*'rows'"),
    (lambda: jn.hessian_diagonal(losses)(W, X), jn.ShapeError, "scalar"),
    (lambda: jn.ggn_vector_product(jn.linear, jn.nll, scale=-1.0)(W, W, X, IDS), ValueError, "ggn_vector.*scale.*-1"),
    (lambda: jn.ggn_diagonal(jn.linear, jn.nll, scale=1j)(W, X, IDS), TypeError, "ggn_diagonal: scale.*1j"),
    (lambda: jn.jacobian(jn.tanh)(X) * 1j, jn.DTypeError, "scale.*complex"),
    (lambda: jn.dense({"a": X}), TypeError, "dense:.*ndarray"),
    (lambda: jn.data.spiral(noise=-1), ValueError, "spiral: noise.*-1"),
    (lambda: jn.data.cubic(noise=float("nan")), ValueError, "cubic: noise.*nan"),
    (lambda: jn.laplacian(jn.softmax, limit=10)(X), jn.JacobianTooLarge, "the limit is 10 B"),
    (lambda: jn.laplacian(own_backward)(X), TypeError, "custom_vjp"),
    (lambda: jn.divergence(lambda x: x[:, :2])(X), jn.ShapeError, r"divergence: f must take.*\(2, 3\).*\(2, 2\)"),
    (lambda: jn.divergence(lambda x: (x, x))(X), jn.ShapeError, "divergence: f must take"),
    (lambda: jn.divergence(jnp.sin)(jnp.array(1.0)), jn.ShapeError, "divergence: f must take"),
    (lambda: jn.jacobian_norm(jn.tanh, "nuclear"), ValueError, "jacobian_norm: kind.*'nuclear'"),
    (lambda: jn.jacobian_norm(jn.tanh, "spectral", keep=1), ValueError, "jacobian_norm: keep.*spectral"),
    (lambda: jn.jacobian_norm(jn.tanh, layers=True, keep=1), ValueError, "jacobian_norm: keep.*layers"),
    (lambda: jn.jacobian_norm(jn.tanh, keep=2)(X), jn.ShapeError, r"jacobian_norm: keep 2 is no axis.*\(2, 3\)"),
    (lambda: jn.logdet(lambda x: x[:, :2])(X), jn.ShapeError, r"logdet: the Jacobian must be square.*\(2, 3\).*\(2, 2\)"),
    (lambda: jn.logdet(lambda x: (x, x))(X), jn.ShapeError, "logdet: the Jacobian must be square"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[message.split(":")[0] for *_, message in ERRORS])
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        jax.eval_shape(call)
