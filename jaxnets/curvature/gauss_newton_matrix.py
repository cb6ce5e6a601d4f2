"""Gauss-Newton and Fisher matrices `G = Jᵀ H J`: J = ∂(outputs)/∂(parameters), H the Hessian of the loss by the outputs.

If H has a root, H = S Sᵀ, then `G = Aᵀ A` with `A = Sᵀ J`.  For weights that are used once A is a product
`A[b,r; o,i] = V[b,r,o]·x[b,i]`, so the diagonal of G is `Σ_b (Σ_r V²) x²`: two small sums and a matrix product.
"""

import itertools
import math
import operator

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..algebra.factors import pytree
from ..algebra.jacobian import Jacobian
from ..algebra.sharding import compatible, joined, on_every_device, reshaped
from ..algebra.sizes import check_bytes, nbytes_of, show_bytes
from ..checks import check_scalar, checked
from .rows import Rows, in_cheapest_form, of_each_example, with_float32_results


@pytree("left", "curved")
class GaussNewton:
    """The matrix `G = Lᵀ R`, given by its factors: rows of Jacobians, which are one if the Hessian of the loss has a root.

    `G @ v` maps trees like the parameters to such trees.  `diagonal()`, `trace()`, `matrix()`, `solve` and `logdet` use the
    structure of the rows.  It is a pytree, so it passes through `jax.jit`.
    """

    left: Rows
    curved: Rows | None = None  # the Hessian times these rows; None if they hold a root of it, and are both factors

    @property
    def symmetric(self) -> bool:
        """Whether both factors are the same."""
        return self.curved is None

    @property
    def right(self) -> Rows:
        """The factor R."""
        return self.left if self.curved is None else self.curved

    def __repr__(self):
        count = self.left.parameter_count
        root = "" if self.symmetric else ", no root of H is known"
        whole = show_bytes(count * count * self._dtype.itemsize)
        stored = show_bytes(nbytes_of((self.left, self.curved)))
        return f"GaussNewton([{count:,}×{count:,}] through {self.left.output_count:,} outputs{root}, {stored} of {whole})"

    def __matmul__(self, v):
        return self.left.pull(self.right @ v)

    def diagonal(self):
        """G[p,p] for every parameter, as a tree like the parameters."""
        pairs = zip(self.left.blocks, self.right.blocks, strict=True)
        rows = [
            [_diagonal(*in_cheapest_form(_diagonal, a, b)) for a, b in zip(left, right, strict=True)]
            for left, right in pairs
        ]
        return jax.tree.unflatten(self.left.tree, [sum(column) for column in zip(*rows, strict=True)])

    def trace(self) -> jax.Array:
        """Σ_p G[p,p]."""
        return jnp.sum(jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(self.diagonal())]))

    @checked
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
        return joined([joined(row, 1) for row in table])

    @checked
    def solve(self, v, damping: float | jax.Array = 0.0):
        """(G + damping·I)⁻¹ v for a tree like the parameters, by a solve in the smaller of parameter and output space.

        With fewer outputs than parameters it uses Woodbury's identity, `(v − Lᵀ (λ + R Lᵀ)⁻¹ R v)/λ`, which needs
        damping > 0.  Raises ValueError if the damping is known not to be.
        """
        check_scalar("solve", "damping", damping)
        v = jax.tree.unflatten(self.left.tree, self.left.checked_leaves("solve", v))
        if self._through_outputs:
            self._check_damping(damping)
            inner = self.right @ v
            solved = self._solve_outputs(_concatenated(inner)[:, None], damping)[:, 0]
            back = self.left.pull(_split_like(solved, inner))
            return jax.tree.map(lambda a, b: operator.sub(*compatible(a, b)) / damping, v, back)
        flat, unravel = ravel_pytree(jax.tree.map(on_every_device, v))
        return unravel(self._solve_parameters(flat[:, None], damping)[:, 0].astype(flat.dtype))

    @checked
    def logdet(self, damping: float | jax.Array = 0.0) -> jax.Array:
        """log det(G + damping·I), computed in the smaller of parameter and output space; raises what `solve` raises."""
        check_scalar("logdet", "damping", damping)
        if self._through_outputs:
            self._check_damping(damping)
            kernel, count = on_every_device(self.right.gram_matrix(self.left)), self.left.parameter_count
            inner = jnp.eye(len(kernel), dtype=kernel.dtype) + kernel / damping
            return count * jnp.log(damping) + jnp.linalg.slogdet(inner)[1]
        matrix = on_every_device(self.matrix())
        return jnp.linalg.slogdet(matrix + damping * jnp.eye(len(matrix), dtype=matrix.dtype))[1]

    def eigenvalues(self) -> jax.Array:
        """The eigenvalues, without those that are zero because there are fewer outputs than parameters."""
        if self._through_outputs and self.symmetric:
            return jnp.linalg.eigvalsh(on_every_device(self.left.gram_matrix(self.left)))
        return jnp.linalg.eigvalsh(on_every_device(self.matrix()))

    def inner(self, u: Rows, w: Rows, damping: float | jax.Array) -> jax.Array:
        """The matrix U (G + damping·I)⁻¹ Wᵀ for the rows of other Jacobians by the same parameters.

        With fewer outputs than parameters only products of rows with rows are formed.  The damping is that of `solve`.
        """
        if not self._through_outputs:
            return u.matrix() @ self._solve_parameters(w.matrix().T, damping)
        self._check_damping(damping)
        between = self._solve_outputs(self.right.gram_matrix(w), damping)
        return (u.gram_matrix(w) - u.gram_matrix(self.left) @ between) / damping

    def inner_of_each_example(self, u: Rows, damping: float | jax.Array) -> jax.Array:
        """The part of `inner(u, u, damping)` within each example, `[B, *outputs, *outputs]`; u has one output."""
        shape = u.blocks[0][0].out_shape
        each = (shape[0], math.prod(shape[1:]))
        if not self._through_outputs:
            rows = u.matrix()
            solved = self._solve_parameters(rows.T, damping)
            found = jnp.einsum("bcp,pbd->bcd", rows.reshape(*each, -1), solved.reshape(-1, *each))
        else:
            self._check_damping(damping)
            between = self._solve_outputs(self.right.gram_matrix(u), damping).reshape(-1, *each)
            ours = u.gram_matrix(self.left).reshape(*each, -1)
            whole = of_each_example(u).reshape(*each, each[1])
            found = (whole - jnp.einsum("bcn,nbd->bcd", ours, between)) / damping
        return found.reshape(*shape, *shape[1:])

    def _solve_outputs(self, columns, damping):
        """(λ + R Lᵀ)⁻¹ times columns in output space."""
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


def _diagonal(a: Jacobian, b: Jacobian) -> jax.Array:
    return with_float32_results(a.T @ b).diagonal()


def _solve(matrix, columns, symmetric: bool):
    """The solution, which every device computes."""
    matrix, columns = on_every_device(matrix), on_every_device(columns)
    if symmetric:
        return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), columns)
    return jnp.linalg.solve(matrix, columns)


def _concatenated(arrays) -> jax.Array:
    return joined([reshaped(a, (a.size,)) for a in arrays])


def _split_like(flat, like) -> list[jax.Array]:
    """A vector cut into arrays of the shapes and dtypes of these."""
    stops = list(itertools.accumulate(a.size for a in like))
    return [piece.reshape(a.shape).astype(a.dtype) for piece, a in zip(jnp.split(flat, stops[:-1]), like, strict=True)]
