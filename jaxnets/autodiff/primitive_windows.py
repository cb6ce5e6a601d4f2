"""Rules of JAX's convolution, and of sums and extremes over windows along any axes."""

from collections.abc import Callable

import numpy as np

from ..algebra.rules import rearranged
from ..layers.conv_operators import ConvAxis, convolution_rules
from ..layers.windows import largest_in_windows, mean_rule, selection_rule
from .primitive_table import RULES, primitive


@primitive("conv_general_dilated")
def _(y, x, w, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, **more):
    if more["batch_group_count"] != 1:
        return None
    numbers = zip(window_strides, rhs_dilation, lhs_dilation, padding, strict=True)
    axes = tuple(ConvAxis(stride, dilation, spread, low) for stride, dilation, spread, (low, _) in numbers)
    of_x, of_w, of_y = dimension_numbers
    arrays = y.transpose(of_y), x.transpose(of_x), w.transpose(of_w)
    by_x, by_w, _ = convolution_rules(*arrays, axes, feature_group_count)
    return rearranged(by_x, of_y, of_x), rearranged(by_w, of_y, of_w)


def axes_without_windows(window_dimensions, window_strides, padding, base_dilation=(), **_):
    """The axes along which every window is a single place."""
    plain = zip(window_dimensions, window_strides, padding, base_dilation or (1,) * len(padding), strict=True)
    return [a for a, (w, s, p, d) in enumerate(plain) if (w, s, tuple(p), d) == (1, 1, (0, 0), 1)]


def _window_rule(rule) -> Callable:
    """A rule for windows over any axes, from `rule(y, x, tables)` for windows over the last ones, one table for each."""

    def by_window(y, x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation):
        if any(n != 1 for n in base_dilation):
            return None
        lead = axes_without_windows(window_dimensions, window_strides, padding)
        order = [*lead, *(a for a in range(x.ndim) if a not in lead)]
        tables = []
        for a in order[len(lead) :]:
            place = window_strides[a] * np.arange(y.shape[a])[:, None] + window_dilation[a] * np.arange(window_dimensions[a])
            tables.append(place - padding[a][0])
        return (rearranged(rule(y.transpose(order), x.transpose(order), tables), order, order),)

    return by_window


def _extremum_rule(sign: int) -> Callable:
    """The rule of the largest entry (sign 1) or the smallest (−1): of equal ones the first, as in JAX, or the first NaN."""
    return _window_rule(lambda y, x, tables: selection_rule(x, largest_in_windows(sign * x, tables)[1], len(tables)))


RULES["reduce_window_max"], RULES["reduce_window_min"] = _extremum_rule(1), _extremum_rule(-1)
RULES["reduce_window_sum"] = _window_rule(lambda y, x, tables: mean_rule(y, x, tables, [np.ones(len(t)) for t in tables]))
