"""Random products and sums of maps, and reshapes whose labels are misaligned, against matrices."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxnets
from jaxnets.algebra.factors import Tensor
from jaxnets.algebra.jacobian import jacobian_of
from jaxnets.algebra.planning import recording
from jaxnets.algebra.rules import fresh_groups
from jaxnets.algebra.sums import merged_terms, stacked_terms, with_common_factors
from jaxnets.algebra.terms import make_term
from tests.autodiff.programs import r

from .maps import close

# Maps between a few shapes: every map of a chain takes the shape that the one before gives.  The reshapes split (24) as
# 4·6, 2·2·6, 8·3 and 3·8: composed, their labels are misaligned.
ARROWS = {
    (4, 6): [jnp.sin, lambda x: x * 2.0, lambda x: x @ r6x6, jaxnets.softmax, lambda x: x - x.mean(0), lambda x: x[::-1],
             lambda x: jnp.cumsum(x, 1), lambda x: jnp.roll(x, 1, 0), lambda x: x.reshape(24), lambda x: x.reshape(2, 2, 6),
             lambda x: jnp.sin(x).reshape(8, 3), lambda x: x.sum(0), lambda x: x.reshape(3, 8)],
    (2, 2, 6): [lambda x: x.transpose(1, 0, 2), lambda x: x.reshape(4, 6), lambda x: x.reshape(24), jnp.cos,
                lambda x: x.transpose(2, 0, 1).reshape(3, 8), lambda x: x * x.sum(-1, keepdims=True)],
    (24,): [lambda x: x.reshape(4, 6), lambda x: x.reshape(3, 8), lambda x: x.reshape(8, 3), jnp.tanh,
            lambda x: jnp.cumsum(x), lambda x: x * x.sum(), lambda x: x.at[np.arange(24)[::-1]].get() * 2],
    (8, 3): [lambda x: x.reshape(24), lambda x: x.T, lambda x: x.reshape(4, 6), jaxnets.log_softmax,
             lambda x: jnp.concatenate([x[4:], jnp.sin(x[:4])])],
    (3, 8): [lambda x: x.reshape(24), lambda x: x.T, lambda x: x.T.reshape(24), lambda x: x * jnp.sin(x),
             lambda x: jnp.einsum("ij,ij->i", x, x)[:, None] * x],
    (6,): [lambda x: jnp.broadcast_to(x, (4, 6)), jnp.sin, lambda x: x.reshape(2, 3).T.reshape(6), lambda x: r6x6 @ x],
}  # fmt: skip
r6x6 = r(6, 6) / 2


@functools.cache
def arrow(shape, index):
    f = ARROWS[shape][index]
    x, jacobian = np.random.default_rng(index).normal(size=shape), jaxnets.jacobian(f, on_opaque="allow")
    j, dense = jax.jit(lambda x: (jacobian(x), jax.jacrev(f)(x)))(x)
    return j, np.asarray(dense).reshape(math.prod(j.out_shape), -1)


def chains(draw, length):
    shape, chain = draw(st.sampled_from(sorted(ARROWS))), []
    for _ in range(length):
        chain.append(arrow(shape, draw(st.integers(0, len(ARROWS[shape]) - 1))))
        shape = chain[-1][0].out_shape
    return chain[::-1]  # the last map stands on the left of the product


@st.composite
def products(draw):
    """A chain and a random way to put parentheses: at every step, which neighbours to multiply."""
    chain = chains(draw, draw(st.integers(2, 6)))
    return chain, [draw(st.integers(0, n - 2)) for n in range(len(chain), 1, -1)]


@given(products())
def test_random_chains_in_random_association(product):
    chain, steps = product
    expected = functools.reduce(np.matmul, [m for _, m in chain])

    @jax.jit
    def run(js):
        for k in steps:
            js = [*js[:k], js[k] @ js[k + 1], *js[k + 2 :]]
        return js[0].matrix(), js[0].T.matrix(), js[0].reduced().matrix()

    ours, transposed, reduced = run([j for j, _ in chain])
    close(ours, expected)
    close(transposed, expected.T)
    close(reduced, expected)


@st.composite
def sums(draw):
    """Several maps between equal shapes: A B + c C - D …"""
    terms = [chains(draw, 2) for _ in range(3)]
    first = terms[0]
    same = [t for t in terms if (t[0][0].out_shape, t[-1][0].in_shape) == (first[0][0].out_shape, first[-1][0].in_shape)]
    return same, [draw(st.sampled_from([1, -1, 0.5])) for _ in same]


@given(sums())
def test_random_sums(case):
    terms, scales = case
    expected = sum(c * (a[1] @ b[1]) for c, (a, b) in zip(scales, terms, strict=True))

    @jax.jit
    def run(pairs):
        total = functools.reduce(lambda s, t: s + t, [c * (a @ b) for c, (a, b) in zip(scales, pairs, strict=True)])
        gram = total.T @ total
        return total.matrix(), total.reduced().matrix(), gram.matrix(), gram.diagonal()

    ours, reduced, gram, diagonal = run([(a[0], b[0]) for a, b in terms])
    close(ours, expected)
    close(reduced, expected)
    close(gram, expected.T @ expected)
    close(diagonal.ravel(), np.diag(expected.T @ expected))


MISALIGNED = {
    "4·6 then 3·8": lambda x: jnp.sin(jnp.sin(x).reshape(24)).reshape(3, 8),
    "batched, 4·6 then 3·8": lambda x: (x @ r6x6).reshape(24).reshape(3, 8),
    "one axis is summed": lambda x: x.sum(1).reshape(2, 2),
    "broadcast then merge": lambda x: jnp.broadcast_to(x[:, :, None], (4, 6, 2)).reshape(3, 16),
    "transpose between": lambda x: x.T.reshape(24).reshape(8, 3).T.reshape(4, 6),
    "merge with a slice": lambda x: x[:3].reshape(18).reshape(2, 9)[:, 2:5],
    "merge with a gather": lambda x: x[np.array([0, 2, 2])].reshape(18)[4:10],
    "merge with repeated use": lambda x: (x * x.reshape(24)[5]).reshape(3, 8),
    "square of a reshape": lambda x: x.reshape(3, 8) @ x.reshape(8, 3),
    "softmax over a merged axis": lambda x: jaxnets.softmax(x.reshape(24)).reshape(3, 8),
    "softmax then misaligned": lambda x: jaxnets.softmax(x).reshape(3, 8),
    "there and back": lambda x: jnp.cos(jnp.sin(x).reshape(24).reshape(3, 8)).reshape(24).reshape(4, 6),
}


@pytest.mark.parametrize("name", MISALIGNED)
def test_misaligned_reshapes(name):
    f, jacobian = MISALIGNED[name], jaxnets.jacobian(MISALIGNED[name], on_opaque="allow")
    close(*jax.jit(lambda x: (jacobian(x).dense(), jax.jacrev(f)(x)))(r(4, 6)))


def test_diagonal_across_misaligned_groups():
    jacobian = jaxnets.jacobian(lambda x: (2 * x).reshape(6, 4).T.reshape(4, 6), on_opaque="allow")
    diagonal, matrix = jax.jit(lambda x: ((j := jacobian(x)).diagonal(), j.matrix()))(r(4, 6))
    close(diagonal, np.diag(np.asarray(matrix)).reshape(4, 6))


def test_terms_of_the_same_form_are_one_product():
    """Σ_k c_k·a_k[b,o]·x_k[b,i] is one term with an index k; a term of other labels and one that is no product remain."""
    b, o, i = fresh_groups((5, 2, 3), "boi")
    arrays = [(c, r(5, 2), r(5, 3)) for c in (1.0, -2.0, 0.5)]
    total, w, v = r(5, 2, 3), r(5), r(2, 3)

    def term(factors, scale=1.0):
        return make_term((b,), (o, i), [Tensor(jnp.asarray(value), axes) for value, axes in factors], scale)

    alike = [term([(a, (b, o)), (x, (b, i))], c) for c, a, x in arrays]
    whole, apart = term([(total, (b, o, i))]), term([(w, (b,)), (v, (o, i))])
    found = stacked_terms([alike[0], whole, alike[1], apart, alike[2]])
    assert [len(term.factors) for term in found] == [2, 1, 2]
    assert [label.size for label in found[0].factors[0].labels - set(found[0].external_labels)] == [3]
    expected = sum(c * np.einsum("bo,bi->boi", a, x) for c, a, x in arrays)
    close(found[0].dense(), expected)
    close(sum(term.dense() for term in found), expected + total + np.einsum("b,oi->boi", w, v))


def test_arrays_whose_axes_are_split_differently_are_added():
    """Eight channels, and four groups of two of them: a full array takes up what depends on the groups alone."""
    (channel,), (group,), (part,), (place,) = fresh_groups((8, 4, 2, 5), ["c", "g", "s", "p"])
    full, means = r(5, 8, 3), r(4, 3)
    (feature,) = fresh_groups((3,), "f")[0]
    whole = make_term(((place,), (channel,)), ((feature,),), [Tensor(jnp.asarray(full), ((place,), (channel,), (feature,)))])
    coarse = make_term(((place,), (group, part)), ((feature,),), [Tensor(jnp.asarray(means), ((group,), (feature,)))], 2.0)
    (found,) = merged_terms([coarse, whole])
    close(found.dense(), full + 2 * np.repeat(means, 2, 0))
    (found,) = merged_terms([replace(whole, out=whole.out[::-1]), replace(coarse, out=coarse.out[::-1])])
    close(found.dense(), (full + 2 * np.repeat(means, 2, 0)).transpose(1, 0, 2))


def test_common_factors_are_summed_before_they_are_multiplied():
    """Σ_n a[n,i]·c[n,k] + 2·Σ_n d[n]·c[n,k]·e[i] − Σ_n a[n,i]·c[n,k]·d[n] is one product with c of a sum over [n,i]."""
    i, k, n, m = fresh_groups((4, 6, 5, 5), "iknm")
    a, c, d, e = r(5, 4), r(5, 6), r(5), r(4)
    value = {name: jnp.asarray(x) for name, x in zip("acde", (a, c, d, e), strict=True)}

    def term(scale, **axes):
        return make_term((i,), (k,), [Tensor(value[name], own) for name, own in axes.items()], scale)

    terms = [term(1.0, a=(n, i), c=(n, k)), term(2.0, d=(n,), c=(n, k), e=(i,)), term(-1.0, d=(m,), a=(m, i), c=(m, k))]
    other = make_term((i,), (k,), [Tensor(jax.device_put(r(4, 6)), (i, k))])
    found = with_common_factors([*terms, other])
    assert len(found) == 2
    expected = a.T @ c + 2 * np.outer(e, d @ c) - (a * d[:, None]).T @ c
    close(sum(t.dense() for t in found if t is not other), expected)
    j = jacobian_of([*terms, other], (4,), (6,), "float64")
    close(j.dense(), expected + other.dense())


def test_a_factor_that_stands_twice_in_a_product_is_common_once():
    """(1 + a)ᵀ H (1 + a) of scalars has no indices outside: a stands at either side of H, or at both."""
    n, m = fresh_groups((5, 5), "nm")
    a, h = r(5), r(5, 5)
    left, middle, right = (Tensor(jnp.asarray(x), axes) for x, axes in ((a, (n,)), (h, (n, m)), (a, (m,))))
    right = replace(right, value=left.value)
    terms = [make_term((), (), factors) for factors in ([left, middle, right], [left, middle], [middle, right], [middle])]
    (found,) = with_common_factors(terms)
    close(found.dense(), (1 + a) @ h @ (1 + a))


def test_a_hessian_by_weights_is_one_product():
    """∂²ℓ/∂w[o,i]∂w[p,j] = Σ_b H[b,o,p]·x[b,i]·x[b,j], whatever the number of terms that H has."""
    x, w = r(20, 12), r(3, 12)

    def loss(w):
        return jnp.mean(jax.nn.logsumexp(x @ w.T, 1) ** 2)

    with recording() as products:
        found, expected = jax.jit(lambda w: (jaxnets.hessian(loss)(w).dense(), jax.hessian(loss)(w)))(w)
    assert sum(p.multiplies for p in products if math.prod(p.result) == 36 * 36) == 20 * 36 * 36
    close(found, expected)


def test_a_convolution_is_applied_to_what_it_sums():
    """Σ_kp w[c,k]·m[b,k,p]·A[k,p,i,n]: with m alone A would have to be an array [k,p,i,n], since w needs the index k."""
    kernel, w = r(8, 4, 3, 3), r(5, 8)

    def model(x):
        return jnp.maximum(lax.conv_general_dilated(x, kernel, (1, 1), "SAME"), 0).sum((2, 3)) @ w.T

    alone = jax.jacrev(lambda x: model(x[None])[0])

    x = r(2, 4, 6, 6)
    with recording() as products:
        found, expected = jax.jit(lambda x: (jaxnets.jacobian(model)(x).per_example(), jax.vmap(alone)(x)))(x)
    assert max(math.prod(product.result) for product in products) == 2 * 5 * 8 * 36  # w·m
    close(found, expected)


def test_products_are_recorded_only_inside_a_recording():
    j = jax.jit(jaxnets.jacobian(lambda x: jaxnets.softmax(jnp.sin(x))))(r(3))
    with recording() as products:
        j.dense()
    count = len(products)
    j.dense()
    assert count == len(products) > 0
