"""Mutants that compute the same as the function that they were made of, and why: nothing can notice them."""

LETTERS = "changes the letters of formulae only"
UNUSED = "a product with an array does not look at the operator's axes"
PROMOTED = "booleans are promoted where they are used"
LABELS = "ids only tell labels apart, and these differ in name or size"
CLIP = "the larger of two is symmetric"
NOT_CHOSEN = "what is not chosen"
BOTH_FORMS = "both forms agree at the boundary"
EQUIVALENT = {
    ("rule of mean", "y.size / x.size if x.size else 1.0 → y.size / x.size if x.size else 0.0"): "an empty Jacobian is 0",
    ("rule of sum", "full_mask('sum', x, where).astype(x.dtype) → full_mask('sum', x, where)"): PROMOTED,
    ("rule of log_softmax", "jnp.broadcast_to(where, x.shape).astype(y.dtype) → jnp.broadcast_to(where, x.shape)"): PROMOTED,
    ("rule of logsumexp", "total > 0 → total > 1"): "the largest entry counts as 1, so it is 0 or at least 1",
    ("rule of matmul", "f'...{n}k' if n else 'k' → f'...{n}k'"): "a vector has no leading axes",
    ("rule of matmul", "f'...k{m}' if m else 'k' → f'...k{m}'"): "a vector has no leading axes",
    ("rule of einsum", "{k + 1} → {k - 1}"): LETTERS,
    ("rule of einsum", "{k + 1} → {k + 0}"): LETTERS,
    ("rule of embedding", "fresh_groups(indices.shape, axis_names(y.ndim)[:-1], start=3) → fresh_groups(indices.shape, "
     "axis_names(y.ndim)[:-1])"): LABELS,
    ("rule of embedding", "start=3 → start=4"): LABELS,
    ("row_rule", "p.ndim + k → p.ndim - k"): LABELS,
    ("row_rule", "tuple(out) → out"): "relabelled into a tuple",
    ("window", "len(inp) + axis → len(inp) - axis"): LABELS,
    ("rule of cross_entropy", "fresh_groups((*p.shape, p.shape[-1])) → (*p.shape, p.shape[-1])"): UNUSED,
    ("rule of cross_entropy", "(*p.shape, p.shape[-1]) → (p.shape[-1],)"): UNUSED,
    ("rule of cross_entropy", "p.shape[-1] → p.shape[-0]"): UNUSED,
    ("rule of cross_entropy", "(*p.shape, p.shape[-1]) → (*p.shape,)"): UNUSED,
    ("primitive select_n", "(which == i).astype(y.dtype) → which == i"): PROMOTED,
    ("primitive reduce_max reduce_min", "(x == jnp.expand_dims(y, axes)).astype(x.dtype) → x == jnp.expand_dims(y, axes)"):
     PROMOTED,
    ("primitive dot_general", "tuple(b_groups) → b_groups"): "relabelled into a tuple",
    ("primitive dot_general", "tuple(a_groups) → a_groups"): "relabelled into a tuple",
    ("primitive reshape", "regroup(y, permuted) → regroup(permuted, y)"): "what refines one way refines the other",
    ("primitive split", "int(start) → start"): "NumPy's integers serve as well",
    ("primitive unstack", "Slice(i, 1, ((), inp[axis])) → Slice(i, 0, ((), inp[axis]))"): "one entry has no stride",
    ("primitive tile", "x.ndim + i → x.ndim - i"): LABELS,
    ("primitive dynamic_slice", "jnp.clip(as_int32(i), 0, n - size) → jnp.clip(0, as_int32(i), n - size)"): CLIP,
    ("row_rule", "at_least_float32(_as_rows(p, axes)) → _as_rows(p, axes)"): "a rule gets 16-bit arguments as float32",
    ("_SoftmaxKin.off_diagonal", "(..., :, None) → (..., None)"): "the same index",
    ("SoftmaxRootOperator.root", "jnp.where(self.p > 0, self.p, 1) → jnp.where(self.p > 0, self.p, 0)"): NOT_CHOSEN,
    ("_shrink_rule", "(~_within(x, lambd)).astype(x.dtype) → ~_within(x, lambd)"): PROMOTED,
    ("_exponential_linear_rule", "jnp.where(x > 0, 0, x) → jnp.where(x > 1, 0, x)"): NOT_CHOSEN,
    ("_exponential_linear_rule", "jnp.where(x > 0, 0, x) → jnp.where(x > 0, 1, x)"): NOT_CHOSEN,
    ("take_tables", "jnp.take(x, table, first + 2 * a, mode='clip') → jnp.take(x, table, first + 2 * a)"):
     "no index is out of range",
    ("mean_rule", "x.ndim + y.ndim + a → x.ndim + y.ndim - a"): LABELS,
    ("mean_rule", "x.ndim + y.ndim → x.ndim - y.ndim"): LABELS,
    ("_half_rule", "tuple(out) → out"): "relabelled into a tuple",
    ("distance", "jnp.where(x == x, far, 0) → jnp.where(x == x, far, 1)"): "NaN and any number make NaN",
    ("first_largest", "jnp.arange(x.shape[-1], dtype=jnp.int32) → jnp.arange(x.shape[-1])"): "wider integers for places",
    ("bounded", "jnp.clip(x, -limit, limit) → jnp.clip(-limit, x, limit)"): CLIP,
    ("_clip_rule", "(~outside).astype(x.dtype) → ~outside"): PROMOTED,
    ("RowOperator.array", "jnp.eye(diagonal.shape[-1], dtype=bool) → jnp.eye(diagonal.shape[-1])"): PROMOTED,
    ("rule of instance_norm", "tuple(range(2, x.ndim)) → range(2, x.ndim)"): "a range serves as well",
    ("rule of prelu", "jnp.where(x > 0, 0, x) → jnp.where(x >= 0, 0, x)"): "x is 0 there",
    ("rule of binary_cross_entropy", "p > 0.5 → p >= 0.5"): BOTH_FORMS,
    ("rule of binary_cross_entropy_with_logits", "jnp.where(x < 0, above, below) → jnp.where(x <= 0, above, below)"):
     BOTH_FORMS,
    ("rule of binary_cross_entropy_with_logits", "jnp.where(x < 0, -x, 0) → jnp.where(x <= 0, -x, 0)"): BOTH_FORMS,
    ("rule of binary_cross_entropy_with_logits", "jnp.where(x > 0, x, 0) → jnp.where(x >= 0, x, 0)"): BOTH_FORMS,
    ("rule of poisson_nll", "jnp.where(t > 1, t, 1) → jnp.where(t >= 1, t, 1)"): BOTH_FORMS,
    ("rule of poisson_nll", "jnp.where(t > 1, t, 1) → jnp.where(t > 0, t, 1)"): "up to 1 the approximation is not used",
    ("rule of triplet", "gradient_rule(by_anchor, 'a', 'i') → gradient_rule(by_anchor, 'i', 'a')"): LETTERS,
    ("rule of triplet", "gradient_rule(by_positive, 'p', 'i') → gradient_rule(by_positive, 'i', 'p')"): LETTERS,
    ("rule of triplet", "gradient_rule(by_negative, 'n', 'i') → gradient_rule(by_negative, 'i', 'n')"): LETTERS,
    ("rule of huber", "jnp.clip(predictions - targets, -delta, delta) → jnp.clip(-delta, predictions - targets, delta)"):
     CLIP,
    ("rows_added_up",
     "zeros.at[index].add(x, mode='drop', out_sharding=sharding) → zeros.at[index].add(x, out_sharding=sharding)"):
     "dropping is the default",
    ("Slice.as_tensor", "hit.astype(jnp.float32) → hit"): PROMOTED,
    ("rule of lp_pool", "start + a → start - a"): LABELS,
    ("rule of weight_norm",
     "['o', *axis_names(v.ndim)[1:]] if own == (0,) else axis_names(v.ndim) → axis_names(v.ndim)"): LETTERS,
}  # fmt: skip
