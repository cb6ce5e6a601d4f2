"""Gauss-Newton and Fisher matrices `G = Jᵀ H J`: J = ∂(outputs)/∂(parameters), H the Hessian of the loss by the outputs.

With a root of it, H = S Sᵀ, `G = Aᵀ A` with `A = Sᵀ J`.  By weights that are used once A is a product
`A[b,r; o,i] = V[b,r,o]·x[b,i]`, so that the diagonal of G is `Σ_b (Σ_r V²) x²`: two small sums and a matrix product.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..algebra.factors import pytree
from ..algebra.jacobian import Jacobian
from ..algebra.rules import diagonal
from ..algebra.sizes import check_bytes
from ..autodiff.transforms import loss_hessian, without_partial
from ..errors import RuleError
from ..layers.layer import LAYERS
from ..layers.marker import with_rules
from .rows import Rows, loss_rows, outputs_and_rows, quantity, with_float32_results


@pytree("left", "right")
class GaussNewton:
    """The matrix `G = Lᵀ R`, known by its factors: rows of Jacobians, the same where the Hessian of the loss has a root.

    `G @ v` takes trees like the parameters to such trees; `diagonal()`, `trace()`, `matrix()`, `solve` and `logdet` use what
    the rows share.  A pytree, so it passes through `jax.jit`.
    """

    left: Rows
    right: Rows
    symmetric: bool = True  # left and right are the same

    def __matmul__(self, v):
        return self.left.pull(self.right @ v)

    def diagonal(self):
        """G[p,p] for every parameter: a tree like the parameters."""
        pairs = zip(self.left.blocks, self.right.blocks, strict=True)
        rows = [
            [with_float32_results(a.T @ b).diagonal() for a, b in zip(left, right, strict=True)] for left, right in pairs
        ]
        return jax.tree.unflatten(self.left.tree, [sum(column) for column in zip(*rows, strict=True)])

    def trace(self) -> jax.Array:
        """Σ_p G[p,p]."""
        return jnp.sum(jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(self.diagonal())]))

    def matrix(self, limit: float | None = None) -> jax.Array:
        """The whole matrix `[P, P]`, parameters in the order of `jax.flatten_util.ravel_pytree`.

        Raises JacobianTooLarge beyond `limit` bytes, by default half of the free memory.
        """
        count = self.left.parameter_count
        check_bytes("the matrix", (count, count), self._dtype, limit, "use G @ v, diagonal() or solve, or pass limit=")
        blocks = range(len(self.left.blocks[0]))
        table: list[list] = [[None for _ in blocks] for _ in blocks]
        for i in blocks:
            for j in blocks:
                if self.symmetric and j < i:
                    table[i][j] = table[j][i].T
                else:
                    pairs = zip(self.left.blocks, self.right.blocks, strict=True)
                    table[i][j] = sum((a[i].T @ b[j] for a, b in pairs)).matrix(math.inf)
        return jnp.block(table)

    def solve(self, v, damping: float | jax.Array = 0.0):
        """(G + damping·I)⁻¹ v for a tree like the parameters, through the smaller of parameter and output space.

        With fewer outputs than parameters by Woodbury's identity, `(v − Lᵀ (λ + R Lᵀ)⁻¹ R v)/λ`, which needs damping > 0:
        ValueError for a known one that is not.
        """
        if self._through_outputs:
            self._check_damping(damping)
            inner = self.right @ v
            solved = self._solve_outputs(_concatenated(inner)[:, None], damping)[:, 0]
            back = self.left.pull(_split_like(solved, inner))
            return jax.tree.map(lambda a, b: (a - b) / damping, v, back)
        flat, unravel = ravel_pytree(jax.tree.unflatten(self.left.tree, self.left.checked_leaves(v)))
        return unravel(self._solve_parameters(flat[:, None], damping)[:, 0].astype(flat.dtype))

    def logdet(self, damping: float | jax.Array = 0.0) -> jax.Array:
        """log det(G + damping·I), through the smaller of parameter and output space; errors as those of `solve`."""
        if self._through_outputs:
            self._check_damping(damping)
            kernel, count = self.right.gram_matrix(self.left), self.left.parameter_count
            inner = jnp.eye(len(kernel), dtype=kernel.dtype) + kernel / damping
            return count * jnp.log(damping) + jnp.linalg.slogdet(inner)[1]
        matrix = self.matrix()
        return jnp.linalg.slogdet(matrix + damping * jnp.eye(len(matrix), dtype=matrix.dtype))[1]

    def inner(self, u: Rows, w: Rows, damping: float | jax.Array) -> jax.Array:
        """U (G + damping·I)⁻¹ Wᵀ for rows of other Jacobians by the same parameters, a matrix.

        With fewer outputs than parameters only products of rows with rows are formed; damping as in `solve`.
        """
        if not self._through_outputs:
            return u.matrix() @ self._solve_parameters(w.matrix().T, damping)
        self._check_damping(damping)
        between = self._solve_outputs(self.right.gram_matrix(w), damping)
        return (u.gram_matrix(w) - u.gram_matrix(self.left) @ between) / damping

    def _solve_outputs(self, columns, damping):
        """(λ + R Lᵀ)⁻¹ of columns in output space."""
        kernel = self.right.gram_matrix(self.left)
        return _solve(kernel + damping * jnp.eye(len(kernel), dtype=kernel.dtype), columns, self.symmetric)

    def _solve_parameters(self, columns, damping):
        matrix = self.matrix()
        return _solve(matrix + damping * jnp.eye(len(matrix), dtype=matrix.dtype), columns, self.symmetric)

    @property
    def _through_outputs(self) -> bool:
        return self.left.output_count < self.left.parameter_count

    def _check_damping(self, damping):
        if not isinstance(damping, jax.core.Tracer) and not damping > 0:
            raise ValueError(f"damping must be positive where outputs are fewer than parameters, got {damping}")

    @property
    def _dtype(self):
        return jnp.result_type(*(j.dtype for j in self.left.blocks[0]))


def _solve(matrix, columns, symmetric: bool):
    if symmetric:
        return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), columns)
    return jnp.linalg.solve(matrix, columns)


def _concatenated(arrays) -> jax.Array:
    return jnp.concatenate([jnp.ravel(a) for a in arrays])


def _split_like(flat, like) -> list[jax.Array]:
    """A vector in pieces of these shapes."""
    stops = list(itertools.accumulate(a.size for a in like))
    return [piece.reshape(a.shape).astype(a.dtype) for piece, a in zip(jnp.split(flat, stops[:-1]), like, strict=True)]


# --- Gauss-Newton -------------------------------------------------------------------------------------------------


@quantity
def ggn(f: Callable, loss, *, scale: float = 1.0) -> Callable:
    """A function of `(params, x, *targets)` that gives `scale · Jᵀ H J`, factored: a `GaussNewton`.

    J is the Jacobian of the outputs `f(params, x)` by the parameters, H the Hessian of the sum of the losses
    `loss(outputs, *targets)` by the outputs; `scale=1 / B` makes it that of their average.  Losses of the catalogue, also in
    a `functools.partial`, bring their Hessian and its root; others are differentiated.  Where f returns a tree of arrays,
    `loss` is such a tree of losses and there is one target, a tree of what each takes: an array, or a tuple of several.
    Raises TypeError where these trees do not fit, ValueError unless scale > 0.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> G = jn.ggn(f, jn.squared_error)(jnp.ones((1, 2)), jnp.array([[1.0, 3.0]]), jnp.zeros((1, 1)))
    >>> G.matrix().round(3)
    Array([[ 2.       ,  6.0000005],
           [ 6.0000005, 18.       ]], dtype=float32)
    >>> (G @ jnp.ones((1, 2))).round(3)
    Array([[ 8.      , 24.000002]], dtype=float32)
    """

    def run(params, x, *targets):
        return gauss_newton("ggn", "ggn", f, loss, scale, params, x, targets)

    return run


@quantity
def ggn_diagonal(f: Callable, loss, *, scale: float = 1.0) -> Callable:
    """A function of `(params, x, *targets)`: the diagonal of the Gauss-Newton matrix, a tree like the parameters.

    Arguments and errors are those of `ggn`.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> jn.ggn_diagonal(f, jn.squared_error)(jnp.ones((1, 2)), jnp.array([[1.0, 3.0]]), jnp.zeros((1, 1))).round(3)
    Array([[ 2., 18.]], dtype=float32)
    """

    def run(params, x, *targets):
        return gauss_newton("ggn_diagonal", "ggn", f, loss, scale, params, x, targets).diagonal()

    return run


def ggn_vector_product(f: Callable, loss, *, scale: float = 1.0) -> Callable:
    """A function of `(params, v, x, *targets)`: the Gauss-Newton matrix times v, both trees like the parameters; see `ggn`.

    One product with J, one with H and one with Jᵀ: some passes through f.

    >>> product, x = jn.ggn_vector_product(lambda w, x: jn.linear(x, w), jn.squared_error), jnp.array([[1.0, 3.0]])
    >>> product(jnp.ones((1, 2)), jnp.ones((1, 2)), x, jnp.zeros((1, 1)))
    Array([[ 8., 24.]], dtype=float32)
    """
    ruled = with_rules(f)

    def run(params, v, x, *targets):
        outputs, push = jax.linearize(lambda p: ruled(p, x), params)
        values, tree = jax.tree.flatten(outputs)
        pushed = jax.tree.leaves(push(v))
        pairs = _losses_with_targets("ggn_vector_product", loss, tree, targets)
        curved = [
            (loss_hessian(own, y, *target) @ t * scale).astype(y.dtype)
            for y, t, (own, target) in zip(values, pushed, pairs, strict=True)
        ]
        return jax.linear_transpose(push, params)(jax.tree.unflatten(tree, curved))[0]

    return run


CURVATURES = ("ggn", "fisher", "empirical")


def gauss_newton(name, kind: str, f, loss, scale, params, x, targets, sum_where_smaller: bool = True) -> GaussNewton:
    """The matrix of a kind: "ggn", "fisher" or "empirical".  `sum_where_smaller` is that of `outputs_and_rows`."""
    if not scale > 0:
        raise ValueError(f"{name}: scale must be positive, got {scale}")
    if kind == "empirical":
        rows = loss_rows(name, lambda params: loss(f(params, x), *targets), params, sum_where_smaller=sum_where_smaller)
        rows = rows.map_blocks(lambda j: j * math.sqrt(scale))
        return GaussNewton(rows, rows)
    hessian = loss_hessian if kind == "ggn" else _fisher_information
    others: dict[int, Jacobian] = {}  # Hessians without a known root

    def output_maps(values, tree):
        found: list[Jacobian | None] = []
        for i, (y, (own, target)) in enumerate(zip(values, _losses_with_targets(name, loss, tree, targets), strict=True)):
            try:
                found.append(_as_array_if_narrow(hessian(own, y, *target, root=True)).T * math.sqrt(scale))
            except RuleError:
                others[i] = hessian(own, y, *target) * scale
                found.append(None)
        return found

    rows = outputs_and_rows(name, f, params, x, output_maps=output_maps, sum_where_smaller=sum_where_smaller)[2]
    if not others:
        return GaussNewton(rows, rows)
    blocks = [tuple(others[i] @ j for j in row) if i in others else row for i, row in enumerate(rows.blocks)]
    return GaussNewton(rows, dataclasses.replace(rows, blocks=tuple(blocks)), False)


def _losses_with_targets(name, loss, tree, targets) -> list[tuple[Callable, tuple]]:
    """The loss of every output and what it takes beside it."""
    if tree == jax.tree.structure(0):
        if not callable(loss):
            raise TypeError(f"{name}: loss must be callable, got {type(loss).__name__}")
        return [(loss, targets)]
    losses, losses_tree = jax.tree.flatten(loss)
    if losses_tree != tree or len(targets) not in (0, 1) or not all(map(callable, losses)):
        raise TypeError(f"{name}: f returns {tree}; loss must be such a tree of functions, and targets one, too")
    own = tree.flatten_up_to(targets[0]) if targets else [()] * len(losses)
    return [(one, target if isinstance(target, tuple) else (target,)) for one, target in zip(losses, own, strict=True)]


FEW_OUTPUTS = 32  # outputs up to which a root is multiplied faster as an array than by its products


def _as_array_if_narrow(root: Jacobian) -> Jacobian:
    if root.in_shape and root.in_shape[-1] > FEW_OUTPUTS:
        return root
    terms = [dataclasses.replace(term, factors=(term.as_tensor(),), scale=1.0) for term in root.terms]
    return dataclasses.replace(root, terms=tuple(terms))


# --- Fisher -------------------------------------------------------------------------------------------------------


LIKELIHOODS: dict[str, Callable | None] = {
    # the name of a loss that is a negative log-likelihood → the root of the Fisher information of its predictions, or None
    # where the Hessian of the loss is the same for all targets and therefore that information
    "cross_entropy": None,
    "binary_cross_entropy_with_logits": None,
    "squared_error": None,
    "gaussian_nll": None,
    "poisson_nll": None,
    "nll": lambda log_p: jnp.exp(log_p / 2),
    "binary_cross_entropy": lambda p: (p * (1 - p)) ** -0.5,
}
LOOKS_AT_TARGETS = {"log_input": False}  # configuration under which the Hessian does


def _fisher_information(loss, y, *targets, root=False) -> Jacobian:
    """The Fisher information of predictions or its root, as `loss_hessian` gives the Hessian."""
    own, config = without_partial(loss)
    name = getattr(own, "__name__", str(own))
    weighted = len(targets) > (2 if name == "gaussian_nll" else 1)
    if name not in LIKELIHOODS or own is not LAYERS.get(name) or weighted or config.items() & LOOKS_AT_TARGETS.items():
        raise TypeError(f"fisher: '{name}' is no negative log-likelihood of {sorted(LIKELIHOODS)} without weights; "
                        "use kind='empirical', or ggn")  # fmt: skip
    known = LIKELIHOODS[name]
    return loss_hessian(loss, y, *targets, root=root) if known is None else diagonal(known(y))(y, y)


@quantity
def fisher(f: Callable, loss, *, kind: str = "true", scale: float = 1.0) -> Callable:
    """A function of `(params, x, *targets)` that gives a Fisher matrix, factored: a `GaussNewton`.

    "true": `scale · Σ_b E[∇ℓ ∇ℓᵀ]`, the expectation over targets drawn from the model's own distribution, whose negative
    log-likelihood the loss is (exact, nothing is drawn); targets lend only their shape.  "empirical": over the given
    targets, `scale · Σ_b ∇ℓ_b ∇ℓ_bᵀ`.  Raises TypeError for "true" with a loss that is not in
    `LIKELIHOODS`.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> F = jn.fisher(f, jn.cross_entropy)(jnp.zeros((2, 1)), jnp.ones((1, 1)), jnp.array([0]))
    >>> F.matrix().round(3)
    Array([[ 0.25, -0.25],
           [-0.25,  0.25]], dtype=float32)
    """
    if kind not in ("true", "empirical"):
        raise ValueError(f"fisher: kind must be 'true' or 'empirical', got {kind!r}")

    def run(params, x, *targets):
        return gauss_newton("fisher", "fisher" if kind == "true" else kind, f, loss, scale, params, x, targets)

    return run
