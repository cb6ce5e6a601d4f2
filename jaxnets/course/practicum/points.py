"""Points in the plane, as of a spiral: what a non-linearity is for."""

from pathlib import Path

import jax
import numpy as np

from ...learn import models
from ...learn.evaluate import predict
from .run import Run, StudyResult, nonlinearity_name
from .scores import Scores, score_table

FRAMES = 30


def study(run: Run) -> StudyResult:
    """A network with a non-linearity, one without, and one that unwinds the points in a plane before its last layer."""
    model, plots, held_out = run.model, run.plots, run.held_out
    params = run.initial_params(model)
    points, extent = plots.plane(run.training.x) if plots else (None, None)
    frames: list[tuple[int, float, np.ndarray]] = []
    shown = set(np.geomspace(1, run.epochs, FRAMES).round().astype(int).tolist()) if plots else set()

    def watch(epoch, params, metrics):
        if epoch in shown:
            frames.append((epoch, metrics["validation_accuracy"], predict(model, params, points)))

    scores = {"": Scores.of(run, model, run.fit(model, params, after_epoch=watch))}
    for name in run.recipe.other_models:
        other = run.other_model(name)
        scores[name] = Scores.of(run, other, run.fit(other, run.initial_params(other), name))
    numbers = {
        **run.description(),
        **scores[""].to_json(),
        **{name: scores[name].to_json() for name in run.recipe.other_models},
    }
    lines = [
        score_table(run, scores),
        "Two linear layers with nothing between them are one linear layer: they separate the classes by straight lines.",
    ]
    pictures = []
    if plots:
        panels = {}
        for name in ("linear", ""):
            found = scores[name]
            words = f"{name or nonlinearity_name(model)}: {found.accuracy:.1%} of held-out points"
            panels[f"{run.space_chain(found.model)}\n{words}"] = np.exp(predict(found.model, found.result.params, points))
        pictures.append(run.save(plots.decision_regions(held_out.x, held_out.y, extent, panels), run.task))
        if len(frames) > 1:

            def draw(figure, frame):
                epoch, accuracy, found = frame
                title = f"{run.space_chain(model)}, epoch {epoch}: {accuracy:.1%} held out"
                plots.draw_regions(figure, held_out.x, held_out.y, extent, np.exp(found), title)

            pictures.append(plots.save_animation(frames, draw, run.path("boundary.gif"), milliseconds=150))
        pictures.append(_unwind(run, scores["hidden"]))
    return StudyResult(numbers, lines, pictures)


def _unwind(run: Run, found: Scores) -> Path:
    """How points and a grid move from the input plane to the plane before the last linear layer, where lines part classes.

    That plane is shown after the shift, rotation or reflection, and scaling that bring it closest to the input plane.
    """
    *before, last, _ = found.model.parts
    inner, params, x, y = models.serial(*before), found.result.params, run.held_out.x, run.held_out.y
    hidden = predict(inner, params[:-2], x)
    centre, middle = hidden.mean(0), x.mean(0)
    u, _, vt = np.linalg.svd((hidden - centre).T @ (x - middle))
    turn = (u @ vt) * (np.linalg.norm(x - middle) / np.linalg.norm(hidden - centre))

    def image(points):
        return (predict(inner, params[:-2], points.reshape(-1, 2)) - centre) @ turn + middle

    ticks, along = np.linspace(-1.2, 1.2, 25), np.linspace(-1.2, 1.2, 121)
    lines = [np.stack(np.broadcast_arrays(t, along), 1) for t in ticks]
    grid = np.array([*lines, *(line[:, ::-1] for line in lines)])
    moved_grid, moved = image(grid).reshape(grid.shape), image(x)
    points, extent = run.plots.plane(np.concatenate([x, moved]))
    logits = ((points - middle) @ np.linalg.inv(turn) + centre) @ np.asarray(params[-2]["w"]).T + np.asarray(params[-2]["b"])
    regions = np.asarray(jax.jit(jax.nn.softmax)(logits))
    titles = {0.0: "ℝ², the plane of inputs", 1.0: "ℝ² before the last layer, which cuts it along lines"}

    def draw(figure, share):
        def between(a, b):
            return (1 - share) * a + share * b

        title = titles.get(share, f"{share:.0%} of the way through {run.space_chain(inner)}")
        over = regions if share == 1 else None
        run.plots.draw_stretched(figure, between(grid, moved_grid), between(x, moved), y, extent, title, over)

    shares = (1 - np.cos(np.linspace(0, np.pi, FRAMES))) / 2
    return run.plots.save_animation(shares.tolist(), draw, run.path("hidden.gif"))
