"""`check_rule` finds each mistake by its name, and none where there is none."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

import jaxnets as jn
from jaxnets.show.check import check_rule
from tests.layers.test_layer import throw_away

from ..sweeps import swept


def weighted_sum(x: Float[Array, "b i"], w: Float[Array, "o i"], b: Float[Array, "o"]):
    return x @ w.T + b


def squares(x: Float[Array, "b i"], w: Float[Array, "o i"]):
    return x**2 @ w.T


def squares_rule(y, x, w):
    return jn.rules.einsum("bo", "bi", (w, "io"), (2 * x, "bi")), jn.rules.einsum("bo", "oi", (x**2, "bi"))


def elementwise(x: Float[Array, "..."]):
    return jnp.tanh(x)


def soft(x: Float[Array, "b i"]):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def tied(x: Float[Array, "b i"], w: Float[Array, "i i"]):
    return jnp.sin(x @ w.T) @ w.T


def product(x1: Float[Array, "n"], x2: Float[Array, "n"]):
    return x1 * x2


def chained(x: Float[Array, "n"]):
    return jnp.exp(jnp.sin(x))


def rectified(x: Float[Array, "n"]):
    return jnp.maximum(x, 0)


def with_rule(forward, rule):
    made = throw_away(forward)
    made.jacobian(rule)
    return made


def diagonal(slope):
    """The rule of an elementwise function of x."""
    return lambda y, x: (jn.rules.diagonal(slope(x, y)),)


def linear_rule(by_x=("...o", "...i", "oi", 1.0), by_w=1.0, by_b=1.0):
    out, inp, indices, sign = by_x
    return lambda y, x, w, b: (
        jn.rules.einsum(out, inp, (w, indices), scale=sign),
        jn.rules.einsum("...o", "oi", (x, "...i"), scale=by_w),
        jn.rules.einsum("...o", "o", scale=by_b),
    )


def softmax_rule(axis=-1, rank_one=True):
    def rule(y, x):
        first = jn.rules.diagonal(y)
        if axis == 0:
            return (jn.rules.total(first, jn.rules.einsum("bi", "ci", (y, "bi"), (y, "ci"), scale=-1.0)),)
        return (jn.rules.total(first, jn.rules.einsum("bi", "bj", (y, "bi"), (y, "bj"), scale=-1.0)) if rank_one else first,)

    return rule


def tied_rule(both):
    def rule(y, x, w):
        h, slope = jnp.sin(x @ w.T), jnp.cos(x @ w.T)
        outer = jn.rules.einsum("bo", "oi", (h, "bi"))
        inner = jn.rules.einsum("bo", "ki", (w, "ok"), (slope, "bk"), (x, "bi"))
        return jn.rules.einsum("bo", "bi", (w, "ok"), (slope, "bk"), (w, "ki")), (
            jn.rules.total(outer, inner) if both else outer
        )

    return rule


CASES = [  # a forward function, its rule, the diagnosis of every argument
    (weighted_sum, linear_rule(), ["correct"] * 3),
    (weighted_sum, linear_rule(by_x=("...o", "...i", "io", 1.0)), ["transposed", "correct", "correct"]),
    (weighted_sum, linear_rule(by_w=-1.0), ["correct", "wrong sign", "correct"]),
    (weighted_sum, linear_rule(by_b=2.0), ["correct", "correct", "constant factor"]),
    (weighted_sum, lambda y, x, w, b: linear_rule()(y, x, w, b)[:2], ["wrong count"]),
    (weighted_sum, lambda y, x, w, b: (*linear_rule()(y, x, w, b)[:2], None), ["correct", "correct", "no rule"]),
    (weighted_sum, lambda y, x, w, b: (w, *linear_rule()(y, x, w, b)[1:]), ["error", "correct", "correct"]),
    (squares, squares_rule, ["transposed", "correct"]),
    (soft, softmax_rule(rank_one=False), ["missing sum over paths"]),
    (soft, softmax_rule(axis=0), ["wrong axis"]),
    (soft, softmax_rule(), ["loses digits"]),
    (soft, lambda y, x: (jn.rules.diagonal(y * (1 - y)),), ["missing entries"]),
    (soft, lambda y, x: (jn.rules.einsum("bi", "bj", (y, "bj")),), ["wrong"]),
    (tied, tied_rule(both=True), ["correct", "correct"]),
    (tied, tied_rule(both=False), ["correct", "missing sum over paths"]),
    (product, lambda y, x1, x2: (jn.rules.diagonal(x2), jn.rules.diagonal(x1)), ["correct"] * 2),
    (product, lambda y, x1, x2: (jn.rules.diagonal(x1), jn.rules.diagonal(x2)), ["another argument"] * 2),
    (elementwise, diagonal(lambda x, y: 4 * jnp.exp(-2 * abs(x)) / (1 + jnp.exp(-2 * abs(x))) ** 2), ["correct"]),
    (elementwise, diagonal(lambda x, y: 1 - y**2), ["loses digits"]),
    (elementwise, diagonal(lambda x, y: 1 / jnp.cosh(jnp.clip(x, -2.5, 2.5)) ** 2), ["wrong at the kink"]),
    (elementwise, diagonal(lambda x, y: 4 * jnp.exp(x) ** 8 / (jnp.exp(2 * x) + 1) ** 2 / jnp.exp(x) ** 6), ["not finite"]),
    (chained, diagonal(lambda x, y: jnp.exp(jnp.sin(x))), ["missing factor"]),
    (chained, diagonal(lambda x, y: jnp.cos(x)), ["missing factor"]),
    (rectified, diagonal(lambda x, y: (x > 0) * 1.0), ["correct"]),
    (rectified, diagonal(lambda x, y: (x >= 0) * 1.0), ["correct"]),
    (rectified, diagonal(lambda x, y: jnp.where(x == 0, 2.0, x > 0)), ["wrong at the kink"]),
    (rectified, diagonal(lambda x, y: y / x), ["not finite"]),
    (rectified, diagonal(lambda x, y: jnp.where(x > 40, 0.5, x > 0)), ["wrong"]),
    (rectified, lambda y, x: (jn.rules.einsum("i", "j", (x, "j")),), ["wrong"]),
]  # fmt: skip


# Every diagnosis is given in the short suite, too.
SHORT = [case for i, case in enumerate(CASES) if i not in (7, 13, 15, 17, 18, 22, 24, 25, 26, 28)]


@pytest.mark.parametrize(("forward", "rule", "diagnoses"), swept(CASES, SHORT, several=True))
def test_each_mistake_has_its_name_and_no_other(forward, rule, diagnoses):
    report = check_rule(with_rule(forward, rule))
    assert [finding.diagnosis for finding in report.findings] == diagnoses
    assert report.ok == set(diagnoses).issubset({"correct", "loses digits"})
    json.dumps(report.to_json(), allow_nan=False)
    for finding in report.findings:
        assert finding.name in str(report) and finding.sentence.split(":")[0].split()[0] in str(report)


def by_hand(function, jacobian, *args, **config):
    (finding,) = check_rule(function, *args, jacobian=jacobian, **config).findings
    return finding


X = np.random.default_rng(0).normal(size=(4, 3))


def dense_linear(x):
    return x @ jnp.arange(6.0).reshape(3, 2)


def row_sums(x):
    return x.sum(-1)


P = jax.nn.softmax
SQUARE = np.random.default_rng(1).normal(size=(3, 3))


@pytest.mark.parametrize(
    ("function", "jacobian", "x", "diagnosis", "words"),
    [
        (dense_linear, lambda x: jnp.einsum("bc,io->boci", jnp.eye(4), jnp.arange(6.0).reshape(3, 2)), X, "correct", ""),
        (dense_linear, lambda x: jnp.einsum("bc,io->bico", jnp.eye(4), jnp.arange(6.0).reshape(3, 2)), X, "transposed", ""),
        (dense_linear, lambda x: jnp.einsum("bc,io->bcoi", jnp.eye(4), jnp.arange(6.0).reshape(3, 2)), X, "wrong axis", ""),
        (dense_linear, lambda x: jnp.ones((4, 2, 3)), X, "wrong shape", "[4, 2, 3], expected [4, 2, 4, 3]"),
        (jnp.sin, lambda x: jnp.cos(x), X, "wrong shape", "is the diagonal of the Jacobian [4, 3, 4, 3]"),
        pytest.param(
            row_sums, lambda x: jnp.einsum("bc,i->cbi", jnp.eye(3), jnp.ones(3)) + 0 * x[0], SQUARE, "correct", "",
            marks=pytest.mark.sweep,
        ),
        (row_sums, lambda x: jnp.einsum("bi,c->bci", jnp.eye(3), jnp.ones(3)), SQUARE, "wrong axis", "order"),
        pytest.param(
            jnp.mean, lambda x: jnp.ones((4, 3)), X, "constant factor", "12 times",
            marks=pytest.mark.sweep,
        ),
        (jnp.sum, lambda x: jnp.ones((4, 3)) / 4, X, "constant factor", "1/4 times the right Jacobian: a mean in place"),
        (jnp.sum, lambda x: jnp.ones((2, 4, 3)) / 2, X, "missing sum over paths", "axis 0 of size 2 is summed"),
        (jnp.sin, lambda x: jnp.einsum("bi,ij,c->bicj", jnp.cos(x), jnp.eye(3), jnp.ones(4)), X, "couples examples", "0"),
        (jnp.max, lambda x: (x == x.max()) * 1.0, X, "wrong at the kink", "all of the input together"),
        pytest.param(
            jnp.max, lambda x: (x == x.max()) / (x == x.max()).sum(), X, "correct", "",
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            jnp.abs, lambda x: jnp.diag(jnp.where(x < 0, -1.0, 1.0)), X[0], "correct", "",
            marks=pytest.mark.sweep,
        ),
        (jnp.abs, lambda x: jnp.diag(jnp.where(x <= 0, -1.0, 1.0)), X[0], "correct", "the left-hand derivative"),
        pytest.param(
            jnp.abs, lambda x: jnp.diag(jnp.sign(x)), X[0], "correct", "between",
            marks=pytest.mark.sweep,
        ),
        (jnp.abs, lambda x: jnp.diag(jnp.where(x == 0, 3.0, jnp.sign(x))), X[0], "wrong at the kink", "−1 to 1 here"),
        pytest.param(
            jnp.linalg.norm, lambda x: x / jnp.maximum(jnp.linalg.norm(x), 1e-9), X[0], "correct", "",
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            jnp.linalg.norm, lambda x: jnp.where(x.any(), x / jnp.linalg.norm(x), 5.0), X[0], "wrong at the kink", "−1 to 1",
            marks=pytest.mark.sweep,
        ),
        (jnp.sin, lambda x: 1 / 0, X, "error", "ZeroDivisionError in line 207 of <lambda>"),
        (jnp.sin, lambda x: jax.vmap(jnp.diag)(jnp.cos(x)), X, "wrong shape", "the same index along axis 0"),
        (jax.nn.softmax, lambda x: jnp.diag(P(x)) + jnp.outer(P(x), P(x)), X[0], "wrong sign", "differ; where they"),
        (jax.nn.softmax, lambda x: jnp.diag(2 * P(x)) - jnp.outer(P(x), P(x)), X[0], "wrong entries", "they are equal"),
        (jnp.cumsum, lambda x: jnp.eye(3) + 2 * jnp.tril(jnp.ones((3, 3)), -1), X[0], "wrong entries", "where they differ"),
        (jax.nn.elu, lambda x: jnp.diag(jnp.where(x > 0, 1.0, 0.5)), X[0], "wrong entries", "right where x is positive"),
    ],
)  # fmt: skip
def test_mistakes_of_dense_arrays(function, jacobian, x, diagnosis, words):
    finding = by_hand(function, jacobian, x)
    assert finding.diagnosis == diagnosis
    assert words in finding.sentence


def test_a_function_named_by_a_letter_names_its_jacobians():
    def L(w):
        return jnp.sum(w**2)

    assert by_hand(L, lambda w: 2 * w, X[0]).name == "∂L/∂w"


def test_the_worst_entry_and_its_numbers():
    def jacobian(x):
        slope = jnp.diag(jnp.cos(x))
        return slope.at[2, 1].add(0.25).at[0, 0].add(0.5)

    finding = by_hand(jnp.sin, jacobian, X[0])
    assert finding.diagnosis == "wrong" and finding.index == (0, 0)
    np.testing.assert_allclose([finding.right, finding.given - finding.right], [np.cos(X[0, 0]), 0.5])


def test_structured_jacobians_configuration_integers_and_many_outputs():
    def scaled(x, labels, *, by):
        return by * x[labels], by * x

    def jacobian(x, labels, *, by):
        return (by * jnp.eye(len(x))[labels], None), (jn.rules.scaled(2 * by)(x, x), None)

    report = check_rule(scaled, X[0], np.array([0, 2]), jacobian=jacobian, by=3.0)
    assert [(f.name, f.diagnosis) for f in report.findings] == [("∂y0/∂x", "correct"), ("∂y1/∂x", "constant factor")]
    assert "2 times" in report.findings[1].sentence


def test_arguments_with_names_of_their_own_are_made():
    def rows(table: Float[Array, "words d"], indices: Int[Array, "b"], shift: Float[Array, "2"] | None = None):
        return table[indices]

    layer = with_rule(
        rows,
        lambda y, table, indices, shift: (jn.rules.einsum("bd", "wd", (jnp.eye(len(table))[indices], "bw")), None, None),
    )
    assert check_rule(layer).ok


def test_a_layer_of_the_same_name_may_be_defined_again():
    scope = {"__name__": "__main__", "jn": jn, "Float": Float, "Array": Array}
    cell = """
@jn.layer
def doubled_again(x: Float[Array, "..."]):
    return 2 * x

@doubled_again.jacobian
def _(y, x):
    return (jn.rules.scaled({}),)

report = jn.check_rule(doubled_again)
"""
    try:
        for scale, right in ((1.0, False), (2.0, True)):
            exec(cell.format(scale), scope)
            assert scope["report"].ok is right
    finally:
        del jn.LAYERS["doubled_again"]


def test_the_cell_of_a_rule_may_run_again_in_a_session_alone():
    cell = """
@layer.jacobian
def _(y, x):
    return (jn.rules.scaled({}),)
"""
    layer = throw_away(lambda x: 2 * x)
    for scale, right in ((1.0, False), (2.0, True)):
        exec(cell.format(scale), {"__name__": "__main__", "jn": jn, "layer": layer})
        assert check_rule(layer, X).ok is right
    with pytest.raises(jn.RuleError, match="already has a Jacobian rule"):
        exec(cell.format(2.0), {"__name__": "a_module", "jn": jn, "layer": layer})


def half_of_linear(x, w):
    """By x it is right and by w its factor is wrong."""
    return w, jnp.einsum("ok,i->oki", jnp.eye(2), x) / 2


def test_graders_get_points_and_one_hint_at_a_time():
    def scored(jacobian, **hint):
        return check_rule(lambda x, w: w @ x, X[0], X[:2], jacobian=jacobian, score=True, **hint)

    first, second, third = (scored(half_of_linear, hint=number) for number in (1, 2, 3))
    assert (first.points, first.possible, first.ok) == (1, 2, False)
    assert str(scored(half_of_linear)) == str(first) == "<lambda>: 1 of 2 points\nHint 1 of 3 about ∂y/∂w: constant factor\n"
    assert "2 of 3 about ∂y/∂w: constant factor: 1/2 times the right" in str(second) and "it is" not in str(second)
    entry = third.findings[1]
    numbers = f"at {list(entry.index)} it is {entry.given:.4g}, but {entry.right:.4g} is right".replace("-", "−")
    assert numbers.replace(" ", "") in str(third).replace("\n", "").replace(" ", "")
    assert "<p>Hint 2 of 3 about ∂y/∂w" in second._repr_html_() and "<table" not in second._repr_html_()
    right = scored(lambda x, w: (w, 2 * half_of_linear(x, w)[1]))
    assert right.points == right.possible == 2 and str(right) == "<lambda>: 2 of 2 points\n"
    assert first.to_json()["points"] == 1 and first.to_json()["possible"] == 2
    plain = check_rule(lambda x, w: w @ x, X[0], X[:2], jacobian=half_of_linear)
    assert plain.hint is None and "finding" in str(plain) and "<table" in plain._repr_html_() and plain.points == 1
    no_entry = scored(lambda x, w: (w, w), hint=3)
    assert "Hint 2 of 2 about ∂y/∂w: wrong shape: [2, 3], expected [2, 2, 3]" in str(no_entry)


@pytest.mark.parametrize("empty", [lambda x, w: None, lambda x, w: ...])
def test_the_body_of_an_answer_may_be_empty(empty):
    report = check_rule(lambda x, w: (w @ x, 2 * x), X[0], X[:2], jacobian=empty)
    (finding,) = report.findings
    assert (report.ok, report.points, report.possible, finding.diagnosis) == (False, 0, 4, "nothing returned")
    assert finding.sentence == (
        "nothing is returned yet: expected ∂y0/∂x of shape [2, 3], ∂y0/∂w of shape [2, 2, 3], "
        "∂y1/∂x of shape [3, 3], ∂y1/∂w of shape [3, 2, 3]"
    )
    whole = check_rule(lambda x, labels: x[labels], X[0], np.array([0, 2]), jacobian=empty)
    assert whole.findings[0].sentence == "nothing is returned yet: expected ∂y/∂x of shape [2, 3]"
    layer = check_rule(with_rule(weighted_sum, lambda y, x, w, b: empty(x, w)))
    assert "expected a tuple of rules, one for each of x, w, b" in layer.findings[0].sentence
    assert (layer.points, layer.possible) == (0, 3)


def test_a_layer_without_a_rule():
    report = check_rule(throw_away(elementwise))
    assert not report.ok and report.findings[0].diagnosis == "no rule"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: check_rule(3), TypeError, "my_layer must be callable, got 3"),
        (lambda: check_rule(jnp.sin, X), TypeError, "is no layer: pass jacobian="),
        (lambda: check_rule(jnp.sin, X, jacobian=3), TypeError, "jacobian must be callable"),
        (lambda: check_rule(jnp.sin, jacobian=jnp.cos), ValueError, "pass the arguments of 'sin'"),
        (lambda: check_rule(jnp.sin, {"x": X}, jacobian=jnp.cos), jn.DTypeError, "argument 0 of 'sin' is no array: dict"),
        (lambda: check_rule(jnp.sin, X, jacobian=jnp.cos, score=True, hint=0), ValueError, "hint must be"),
        (lambda: check_rule(jnp.sin, X, jacobian=jnp.cos, score=True, hint=4), ValueError, "hint must be"),
        (lambda: check_rule(jnp.sin, 3, jacobian=jnp.cos), ValueError, "no argument holds a real array"),
        (lambda: check_rule(with_rule(lambda x: x, lambda y, x: (None,))), ValueError, "argument 'x' .* has no annotation"),
        (lambda: check_rule(with_rule(weighted_sum, linear_rule()), X, X[0], X[0]), jn.ShapeError, "argument 'w' has shape"),
    ],
)
def test_errors_name_what_is_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()
