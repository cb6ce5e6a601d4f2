"""Pictures of how eigenvalues are distributed."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ...checks import check_positive, checked
from ...curvature.spectra import Spectrum
from .figures import COLOURS, STYLE, new_figure

POINTS = 1000  # of the curve
WIDTH = 0.01  # of a node, of the range of the eigenvalues


@matplotlib.rc_context(STYLE)
@checked
def spectrum(found: Spectrum, width: float | None = None, title: str = "") -> Figure:
    """The density of eigenvalues that `jaxnets.spectrum` found, on a logarithmic scale, and a tick for every node.

    `width` is the standard deviation of a node, by default a hundredth of the range.  Raises ValueError unless width > 0,
    or if an eigenvalue is not finite.
    """
    nodes, weights = np.asarray(found.nodes, np.float64), np.asarray(found.weights)
    if not np.isfinite(nodes).all():
        raise ValueError("spectrum: found must hold finite eigenvalues")
    low, high = nodes.min(), nodes.max()
    room = max(high - low, abs(high), 1e-30)
    width = WIDTH * room if width is None else check_positive("spectrum", "width", width)
    at = np.linspace(low - 0.05 * room, high + 0.05 * room, POINTS)
    density = np.asarray(found.density(at, float(width)), np.float64)
    figure = new_figure(7, 4.2)
    figure.suptitle(title)
    axes = figure.subplots()
    axes.plot(at, density, color=COLOURS[0], label=f"density of {found.size:,} eigenvalues")
    floor = density.max() * 1e-7  # of less than one eigenvalue in a few million nothing can be said
    seen = weights > 1e-12
    axes.plot(nodes[seen], np.full(seen.sum(), floor), "|", color=COLOURS[1], markersize=12, label="nodes")
    axes.set(xlabel="eigenvalue", ylabel="density", yscale="log", ylim=(floor, density.max() * 3), xlim=(at[0], at[-1]))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    return figure
