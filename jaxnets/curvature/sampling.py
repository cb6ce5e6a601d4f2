"""Random combinations of the columns of a root, for losses over so many classes that all of them are too many.

Where H = S Sᵀ, and ε holds independent signs, `(S ε)(S ε)ᵀ` is H on average.  One column for every example, instead of one
for every class, makes one backward pass of B·C of them.  Targets drawn from the model's own distribution do the same for
losses that are likelihoods, `S ε` being then `∂ℓ/∂y` of the drawn target (Martens & Grosse 2015); signs work with any root,
and their squares are exact on the diagonal (Hutchinson 1989), so the estimate of H varies less.
"""

import jax

from ..algebra.jacobian import Jacobian
from ..algebra.rules import fresh_groups, from_groups, named_tensor
from ..algebra.sizes import check_bytes
from ..checks import check_integer, check_key


def check_samples(name: str, samples, key):
    """ValueError or TypeError unless `samples` is None, or a positive number of columns for which there is a key."""
    if samples is None:
        if key is not None:
            raise ValueError(f"{name}: key is for samples, and samples is None")
        return
    check_integer(name, "samples", samples, 1)
    check_key(name, "key", key)


def sampled_columns(name: str, root: Jacobian, samples: int, key) -> Jacobian:
    """S E for a root S `[*y, *k]`: `samples` random combinations of its columns for every index of k's first axis.

    E is `[*k, k0, samples]`, with one sign over √samples for every entry of k and every sample, and E Eᵀ is the identity on
    average.
    """
    shape = root.in_shape
    check_bytes(f"{name}: {samples} samples", (*shape, samples), root.dtype, None, "fewer samples need less")
    columns = fresh_groups(shape)
    (sample,) = fresh_groups((samples,), start=len(shape))
    signs = jax.random.rademacher(key, (*shape, samples), root.dtype)
    kept = columns[:1]
    combine = from_groups(columns, (*kept, sample), named_tensor(signs, (*columns, sample), "ε"), scale=samples**-0.5)
    sizes = (jax.ShapeDtypeStruct(s, root.dtype) for s in (shape, (*shape[:1], samples)))
    return root @ combine(*sizes)
