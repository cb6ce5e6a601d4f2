"""What layers do to the plane."""

import functools
import itertools
from pathlib import Path

import jax
import numpy as np

from ...autodiff.transforms import value_and_jacobian
from ...catalogue import LAYERS
from ...checks import check_seed
from ...learn import models
from ...learn.progress import stage
from ...show.formats import import_plots
from .run import StudyResult, space_chain, text_table

POINTS, MAPS, SCALES, HIDDEN = 1000, 5, (1, 2, 3, 4, 5), (2, 5, 20, 100)


def space(output=None, *, seed: int = 0, format: str = "png") -> StudyResult:
    """Where random linear maps, tanh(s·x) and random untrained networks take a cloud of 1,000 normal points.

    `output` is the folder for the pictures linear_maps, tanh and networks, in the `format` png, svg or pdf.  Without it no
    picture is made.
    """
    plots = None if output is None else import_plots()
    check_seed("space", seed)
    rng = np.random.default_rng(seed)
    x, maps = rng.standard_normal((POINTS, 2)), rng.standard_normal((MAPS, 2, 2))
    singular = np.linalg.svd(maps, compute_uv=False)
    linear, tanh = jax.jit(LAYERS["linear"]), jax.jit(LAYERS["tanh"])
    moved = [np.asarray(linear(x, w)) for w in maps]
    squashed = [np.asarray(tanh(s * x)) for s in SCALES]
    networks = {}
    with stage("random networks", total=2 * len(HIDDEN), unit="network") as told:
        for name, n in itertools.product(("relu", "tanh"), HIDDEN):
            told.next_part(f"2-{n}-2 {name}")
            networks[told.text] = _network(name, n, x, rng)
    saturated = [float((np.abs(y) > 0.95).all(1).mean()) for y in squashed]
    numbers = {
        "task": "space",
        "seed": seed,
        "linear_maps": [
            {"matrix": w.tolist(), "singular_values": s.tolist(), "determinant": float(np.linalg.det(w))}
            for w, s in zip(maps, singular, strict=True)
        ],
        "tanh": [{"scale": s, "near_a_corner": share} for s, share in zip(SCALES, saturated, strict=True)],
        "networks": {name: about for name, (_, about) in networks.items()},
    }
    lines = [
        text_table(
            "y = W x",
            ("map", "singular values", "area grows by", "turns over"),
            [
                (f"W{i}", f"{s[0]:.2f}, {s[1]:.2f}", f"{s[0] * s[1]:.2f}", "yes" if np.linalg.det(w) < 0 else "no")
                for i, (w, s) in enumerate(zip(maps, singular, strict=True), 1)
            ],
        ),
        text_table(
            "y = tanh(s x)",
            ("s", "points near a corner of the square"),
            [(f"{s}", f"{share:.1%}") for s, share in zip(SCALES, saturated, strict=True)],
        ),
        text_table(
            "random networks: singular values of their Jacobians, area = their product",
            ("network", "largest", "smallest", "median area", "points that collapse", "linear pieces"),
            [
                (
                    name,
                    f"{about['largest_singular_value']:.2f}",
                    f"{about['smallest_singular_value']:.2g}",
                    f"{about['median_area']:.2f}",
                    f"{about['collapsed']:.1%}",
                    f"{about['linear_pieces'] or '–'}",
                )
                for name, (_, about) in networks.items()
            ],
        ),
    ]
    pictures = []
    if plots:
        folder, colours = Path(output), plots.position_colours(x)
        titles = [f"σ = {s[0]:.2f}, {s[1]:.2f}" for s in singular]
        limit = 1.05 * max(np.abs(y).max() for y in [x, *moved])
        figure = plots.clouds(
            [("x", x), *zip(titles, moved, strict=True)],
            colours,
            3,
            title=f"y = W x,  {space_chain(2, 2)}",
            basis=[np.eye(2), *(w.T for w in maps)],
            limits=[limit] * (1 + MAPS),
        )
        pictures.append(plots.save(figure, folder / f"linear_maps.{format}"))
        panels = [("x", x), *((f"s = {s}", y) for s, y in zip(SCALES, squashed, strict=True))]
        figure = plots.clouds(
            panels, colours, 3, title=f"y = tanh(s x),  {space_chain(2, 2)}", limits=[None, *[1.12] * len(SCALES)]
        )
        pictures.append(plots.save(figure, folder / f"tanh.{format}"))
        show = {"relu": "ReLU", "tanh": "tanh"}
        panels = [
            (f"{show[name]},  {space_chain(2, n, 2)}", networks[f"2-{n}-2 {name}"][0]) for name in show for n in HIDDEN
        ]
        figure = plots.clouds(panels, colours, len(HIDDEN), title="random networks before training")
        pictures.append(plots.save(figure, folder / f"networks.{format}"))
    return StudyResult(numbers, lines, pictures)


@functools.cache
def _program(activation, hidden):
    """The compiled function that gives a network's outputs, and its Jacobian at every point."""
    model = models.mlp(hidden, 2, activation=activation, last=None)

    @jax.jit
    def run(params, x):
        y, stretch = value_and_jacobian(lambda x: model.apply(params, x))(x)
        return y, stretch.per_example()

    return run


def _network(activation, hidden, x, rng):
    """Where a random network 2-hidden-2 takes the points, and the singular values of its Jacobians."""
    params = [
        {"w": rng.standard_normal((hidden, 2)), "b": rng.standard_normal(hidden)},  # with biases the kinks miss the origin
        {},
        {"w": rng.standard_normal((2, hidden)) * (2 / hidden) ** 0.5, "b": np.zeros(2)},
    ]
    y, stretch = _program(activation, hidden)(params, x)
    singular = np.linalg.svd(stretch, compute_uv=False)
    active = x @ params[0]["w"].T + params[0]["b"] > 0
    return np.asarray(y), {
        "largest_singular_value": float(singular.max()),
        "smallest_singular_value": float(singular.min()),
        "median_area": float(np.median(singular.prod(1))),
        "collapsed": float((singular[:, 1] <= 1e-6 * singular[:, 0]).mean()),
        "linear_pieces": len(np.unique(active, axis=0)) if activation == "relu" else None,
    }
