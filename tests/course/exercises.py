"""The exercises of the notebooks, as they are read from their cells, and wrong answers that people give to them."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import jaxnets

FOLDER = Path(jaxnets.__file__).parent / "course" / "notebooks"


class Exercise(NamedTuple):
    """An exercise as it stands in a notebook."""

    notebook: str
    title: str
    task: str  # the cell of words
    solution: str  # the code that is folded away in it
    imports: str  # of the notebook
    code: str  # the cell with what is given, the empty stub and the check

    def check(self, answer: str = ""):
        """The report of the check at the end of the cell, with another answer in the place of the stub."""
        *given, last = ast.parse(self.code).body
        scope = {"__name__": "__main__"}
        exec(self.imports, scope)
        exec(compile(ast.Module(given, []), self.title, "exec"), scope)
        exec(answer, scope)
        return eval(compile(ast.Expression(last.value), self.title, "eval"), scope)


def cells(path: Path) -> list[tuple[bool, str]]:
    """Pairs of whether a cell is of words, and its text without the marks of comments."""
    _, *parts = re.split(r"^# %%(.*)$", path.read_text(), flags=re.M)
    found = []
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        is_words = kind.strip() == "[markdown]"
        found.append((is_words, re.sub(r"^# ?", "", text.strip(), flags=re.M) if is_words else text.strip()))
    return found


def exercises() -> dict[str, Exercise]:
    """All exercises by the name of the notebook and their title."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        parts = cells(path)
        imports = [line for _, text in parts for line in re.findall(r"^(?:import|from) .*$", text, re.M)]
        for (is_words, task), (_, code) in zip(parts, parts[1:], strict=False):
            title = re.match(r"## Exercise: (.*)", task)
            if is_words and title:
                folded = re.findall(r"<summary>Solution</summary>\n\n```python\n(.*?)```", task, re.S)
                assert len(folded) == 1, f"{path.stem}: {title[1]} must have one solution"
                one = Exercise(path.stem, title[1], task, folded[0], "\n".join(imports), code)
                found[f"{path.stem}: {title[1]}"] = one
    return found


def of(arguments: str, *rows: tuple[str, str]) -> list[tuple[str, str]]:
    """Answers of these arguments: the code, made of what they return, and words of what they are told."""
    return [(f"def answer({arguments}):\n    return {returned}", words) for returned, words in rows]


def rules(*rows: tuple[str, str]) -> list[tuple[str, str]]:
    """The same for rules of the layer `sum_of_squares`."""
    return [(f"@sum_of_squares.jacobian\ndef _(y, x, w):\n    return {returned}", words) for returned, words in rows]


PROBABILITIES = "jax.nn.softmax(x)"
SLOPE = "(1 - jnp.tanh(w @ z) ** 2)"
BY_STAGE = f"jnp.einsum('ok,o,i->oki', jnp.eye(3), {SLOPE}, z)"
OUTER_USE = "jnp.einsum('ok,i->oki', jnp.eye(3), jnp.tanh(W @ z_twice))"
BY_X = "jn.rules.einsum('bo', 'bi', (w, 'oi'), (2 * x, 'bi'))"
BY_W = "jn.rules.einsum('bo', 'oi', (x**2, 'bi'))"
ERRORS = "jax.nn.softmax(logits) - jax.nn.one_hot(labels_of_four, 3)"
WRONG = {  # answers that people give to an exercise, and words of what they are told
    "lecture_a: the Jacobian of a weighted sum": of(
        "z",
        ("W.T", "transposed: output axes come first"),
        ("W @ z", "wrong shape: [3], expected [3, 4]"),
        ("-W", "wrong sign"),
    ),
    "lecture_a: the two Jacobians of a stage": of(
        "z, w",
        ("w, jnp.einsum('ok,i->oki', jnp.eye(3), z)", "the derivative of tanh, which is left out"),
        (f"({SLOPE}[:, None] * w).T, {BY_STAGE}", "transposed"),
        (f"{SLOPE}[:, None] * w, jnp.outer({SLOPE}, z)", "wrong shape: [3, 4] has only the entries"),
        (f"{SLOPE}[:, None] * w", "wrong number of Jacobians: 1 for 2 arguments"),
    ),
    "lecture_a: backpropagation through ½ |y − ȳ|²": of(
        "predicted, target",
        ("target - predicted, target - predicted", "wrong sign"),
        ("2 * (predicted - target), 2 * (target - predicted)", "2 times the right Jacobian"),
        ("predicted - target, None", "None, but y depends on target"),
    ),
    "lecture_a: a module that is used twice": of(
        "W",
        (OUTER_USE, "W is used in 2 ways, and the sum over them lacks 1"),
        (f"{OUTER_USE} + jnp.einsum('ok,i->oki', W, z_twice)", "the derivative of tanh, which is left out"),
        ("jnp.tanh(W @ z_twice)", "wrong shape: [3], expected [3, 3, 3]"),
    ),
    "lecture_b: Linear, with examples as rows": of(
        "x, w, b",
        ("g @ w.T, g.T @ x, g.sum(0)", "axes 0 and 1 of w are swapped"),
        ("g @ w, x.T @ g, g.sum(0)", "right with its axes in the order [1, 0]"),
        ("g @ w, g.T @ x, g", "right once axis 0 of size 2 is summed"),
        ("g @ w, g.T @ x, g.mean(0)", "0.5 times the right Jacobian"),
    ),
    "lecture_b: Linear, with examples as columns": of(
        "x, w, b",
        ("w @ g_columns, g_columns @ x.T, g_columns.sum(1)", "axes 0 and 1 of w are swapped"),
        ("g_columns.T @ w, x @ g_columns.T, g_columns.sum(1)", "right with its axes in the order [1, 0]"),
        ("w.T @ g_columns, g_columns @ x.T, g_columns.sum(0)", "wrong shape: [2], expected [4]"),
    ),
    "lecture_b: Duplicate": of(
        "x",
        ("g1", "x is used in 2 ways, and the sum over them lacks 1"),
        ("(g1 + g2) / 2", "0.5 times the right Jacobian"),
        ("jnp.stack([g1, g2])", "right once axis 0 of size 2 is summed"),
    ),
    "lecture_b: Add": of(
        "x1, x2",
        ("g_sum", "wrong number of Jacobians: 1 for 2 arguments"),
        ("g_sum / 2, g_sum / 2", "1/2 times the right Jacobian"),
        ("g_sum, -g_sum", "wrong sign"),
    ),
    "lecture_b: Max": of(
        "x1, x2",
        ("g_max, g_max", "the derivative of max, which is left out"),
        ("g_max * (x1 < x2), g_max * (x1 > x2)", "x1 and x2 are mixed up"),
        ("g_max * (x1 > x2), None", "None, but y depends on x2"),
    ),
    "lecture_b: the Jacobian of softmax": of(
        "x",
        (f"jnp.diag({PROBABILITIES})", "exp is used in 2 ways, and the sum over them lacks 1"),
        (
            f"jnp.diag({PROBABILITIES} * (1 - {PROBABILITIES}))",
            "it is 0 where the indices along axis 0 of y and axis 0 of x differ",
        ),
        (f"jnp.outer({PROBABILITIES}, {PROBABILITIES}) - jnp.diag({PROBABILITIES})", "wrong sign"),
        (f"{PROBABILITIES} * (1 - {PROBABILITIES})", "wrong shape: [4], expected [4, 4]"),
    ),
    "lecture_b: backpropagation through softmax": of(
        "x",
        (f"g_softmax * {PROBABILITIES}", "exp is used in 2 ways, and the sum over them lacks 1"),
        (f"{PROBABILITIES} * (g_softmax @ {PROBABILITIES} - g_softmax)", "wrong sign"),
        (f"jnp.diag({PROBABILITIES}) - jnp.outer({PROBABILITIES}, {PROBABILITIES})", "wrong shape: [4, 4], expected [4]"),
    ),
    "lecture_b: backpropagation through log-softmax": of(
        "x",
        ("g_log", "the sum over them lacks 1, through exp"),
        (f"{PROBABILITIES} * g_log.sum() - g_log", "wrong sign"),
        (f"jnp.eye(4) - {PROBABILITIES}", "wrong shape: [4, 4], expected [4]"),
    ),
    "lecture_b: a rule with an einsum": rules(
        (f"jn.rules.einsum('bo', 'bi', (w, 'io'), (2 * x, 'bi')), {BY_W}", "axes 0 and 1 of w are swapped"),
        (f"{BY_X}, jn.rules.einsum('bo', 'oi', (-(x**2), 'bi'))", "wrong sign"),
        (f"jn.rules.einsum('bo', 'bi', (w, 'oi'), (x, 'bi')), {BY_W}", "1/2 times the right Jacobian"),
        (f"{BY_X}", "wrong number of Jacobians: 1 for 2 arguments"),
    ),
    "lecture_b: at the kink": of(
        "x",
        ("jnp.sign(x)", "[3] is the diagonal of the Jacobian [3, 3]"),
        ("jnp.diag(jnp.where(x == 0, 2.0, jnp.sign(x)))", "wrong at the kink, right elsewhere"),
        ("jnp.diag(x / abs(x))", "NaN or infinite at special values; −1 to 1 here"),
    ),
    "practicum: the derivative of a hidden layer": of(
        "x",
        ("w_hidden", "the derivative of max, which is left out"),
        ("-w_hidden * (w_hidden * x + b_hidden > 0)", "wrong sign"),
        ("jnp.diag(w_hidden * (w_hidden * x + b_hidden > 0))", "right once axis 0 of size 3 is summed"),
    ),
    "practicum: the gradient of an average of squares": of(
        "predicted",
        ("2 * (observed - predicted) / len(observed)", "wrong sign"),
        ("2 * (predicted - observed)", "4 times the right Jacobian"),
        ("(2 * (predicted - observed)).mean()", "wrong shape: [], expected [4]"),
    ),
    "space_stretching: how a layer of tanh stretches the plane": of(
        "x",
        ("W_plane", "the derivative of tanh, which is left out"),
        ("1 - jnp.tanh(W_plane @ x + b_plane) ** 2", "wrong shape: [2], expected [2, 2]"),
        ("((1 - jnp.tanh(W_plane @ x + b_plane) ** 2)[:, None] * W_plane).T", "transposed"),
        ("jnp.diag(1 - jnp.tanh(W_plane @ x + b_plane) ** 2)", "the derivative of dot_general, which is left out"),
    ),
    "automatic_differentiation: the gradient of a mean of squares": of(
        "x",
        ("6 * (x - 2)", "4 times the right Jacobian"),
        ("6 * (2 - x) / x.size", "wrong sign"),
        ("(6 * (x - 2)).mean()", "wrong shape: [], expected [2, 2]"),
        ("2 * (x - 2) / x.size", "1/3 times the right Jacobian"),
    ),
    "tricks: the gradient of cross-entropy": of(
        "logits",
        (ERRORS, "4 times the right Jacobian"),
        (f"({ERRORS}) / -4", "wrong sign"),
        ("-jax.nn.one_hot(labels_of_four, 3) / 4", "the sum over them lacks 1, through exp"),
        (f"({ERRORS}).mean(0)", "wrong shape: [3], expected [4, 3]"),
    ),
}
