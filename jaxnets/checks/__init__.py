"""Checks of arguments and configuration, with the errors that public functions, layers and losses raise.

`checked`, in `annotations`, is for public functions: it reads their annotations.  `arguments` has checks for what an
annotation cannot say.
"""

from .annotations import annotation_check as annotation_check
from .annotations import bound_arguments as bound_arguments
from .annotations import checked as checked
from .annotations import fits_annotation as fits_annotation
from .annotations import is_integer as is_integer
from .annotations import show_value as show_value
from .arguments import MAX_INTEGER as MAX_INTEGER
from .arguments import as_array as as_array
from .arguments import as_numbers as as_numbers
from .arguments import as_numpy as as_numpy
from .arguments import as_tangent as as_tangent
from .arguments import as_tree_like as as_tree_like
from .arguments import check_axes as check_axes
from .arguments import check_axis as check_axis
from .arguments import check_broadcasts as check_broadcasts
from .arguments import check_counts as check_counts
from .arguments import check_filled as check_filled
from .arguments import check_floating_dtype as check_floating_dtype
from .arguments import check_integer as check_integer
from .arguments import check_key as check_key
from .arguments import check_nonzero as check_nonzero
from .arguments import check_not_negative as check_not_negative
from .arguments import check_number as check_number
from .arguments import check_per_axis as check_per_axis
from .arguments import check_positive as check_positive
from .arguments import check_range as check_range
from .arguments import check_scalar as check_scalar
from .arguments import check_seed as check_seed
from .arguments import check_shape as check_shape
from .arguments import check_shaped as check_shaped
from .arguments import check_share as check_share
from .arguments import errors_named as errors_named
from .arguments import is_floating as is_floating
