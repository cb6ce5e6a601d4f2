"""Judges one Jacobian that was written by hand: compares it with autodiff and one-sided differences at many points."""

import dataclasses
import math
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .mistakes import HYPOTHESES, as_type, is_real

PACKAGE = Path(__file__).parents[2]
CORRECT, DIGITS = "correct", "loses digits"  # the two diagnoses of a Jacobian that is right
KINKS = (0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0, -6.0)
TAILS = (100.0, -30.0, 3.0, -100.0, 5.0, 30.0, -5.0, -3.0)
STEEP = (20.0, -8.0, 2.0, 15.0, -20.0, 4.0, -15.0, 10.0, -2.0, 8.0, -10.0, -4.0)
# Errors that pass, relative to the largest entry: in double precision; in single precision and for differences.
TOLERANCE, ROUGH = 1e-9, 1e-4
# Errors above LOST, relative to their row, are lost digits.  Rows below SMALLEST are not exact in the oracle either.
LOST, SMALLEST = 1e-3, 1e-8
STEP = 1e-6  # of one-sided differences


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result for one Jacobian: a diagnosis, a sentence, the worst entry, the number given there and the right one."""

    name: str
    diagnosis: str
    sentence: str
    index: tuple[int, ...] | None = None
    given: float | None = None
    right: float | None = None
    where: str = ""

    @property
    def ok(self) -> bool:
        """Whether the Jacobian is right.  One that loses digits counts as right."""
        return self.diagnosis in (CORRECT, DIGITS)


@dataclasses.dataclass(eq=False)
class Trial:
    """The Jacobian at one point: the one that was given, and that of autodiff."""

    judge: "Judge"
    args: list
    outputs: tuple
    truth: np.ndarray
    where: str
    given: Any = None  # an array, or None
    failure: Exception | None = None
    tolerance: float = TOLERANCE

    @property
    def sizes(self) -> tuple:
        return tuple(None if x is None else x.shape for x in self.args)

    @property
    def has_right_shape(self) -> bool:
        return self.given is not None and self.given.shape == self.truth.shape

    @property
    def wrong_entries(self) -> np.ndarray:
        return ~self.agree(self.given, self.truth)

    @property
    def is_wrong(self) -> bool:
        return not self.has_right_shape or bool(self.wrong_entries.any())

    def agree(self, a, b) -> np.ndarray:
        """Which entries agree.  Where autodiff has no finite answer, every number agrees."""
        scale = max(1.0, float(np.max(np.abs(b), initial=0, where=np.isfinite(b))))
        with np.errstate(invalid="ignore"):
            return (np.abs(a - b) <= self.tolerance * scale) | ~np.isfinite(self.truth)

    def is_right(self, candidate) -> bool:
        """Whether this array is the right answer."""
        return candidate.shape == self.truth.shape and bool(self.agree(candidate, self.truth).all())

    def given_for(self, outputs, args) -> np.ndarray | None:
        """What the rule returns for other arrays, or None where it does not take them."""
        try:
            return self.judge.rule.given(self.judge.o, self.judge.k, outputs, args)
        except Exception:
            return None

    def finding(self, diagnosis, sentence, chosen=None) -> Finding:
        """A finding with the worst entry, of the `chosen` ones or else of the wrong ones."""
        if not self.has_right_shape:
            return Finding("", diagnosis, sentence, where=self.where)
        with np.errstate(invalid="ignore"):
            gap = np.abs(self.given - self.truth)
        gap = np.where(np.isfinite(self.given), gap, np.inf)
        gap = np.where(self.wrong_entries if chosen is None else chosen, gap, -1)
        index = np.unravel_index(int(gap.argmax()), gap.shape)
        numbers = float(self.given[index]), float(self.truth[index])
        return Finding("", diagnosis, sentence, tuple(map(int, index)), *numbers, self.where)


class Judge:
    """Finds what there is to say about the Jacobian of output o by argument k."""

    def __init__(self, rule, oracle, argument_sets, o, k, names, real_index):
        self.rule, self.oracle, self.argument_sets, self.o, self.k, self.names = rule, oracle, argument_sets, o, k, names
        self.real_index = real_index  # among the real arguments
        self.random = np.random.default_rng(k)
        self.side_at_kinks = ""  # which derivative the rule takes at kinks, if it is not autodiff's
        self.outputs_along = jax.jit(jax.vmap(self._output_along, (0, None)))

    def finding(self) -> Finding:
        own = self.argument_sets["own"]
        x = own[self.k]
        trials = [self.make_trial(args, self.shape_text(args)) for args in self.argument_sets.values()]
        trials.append(self.make_trial(self.with_argument(self.random.normal(size=x.shape)), self.shape_text(own)))
        for check in (self._at_ordinary_points, self._at_kinks, self._at_large_numbers, self._in_single_precision):
            found = check(trials)
            if found:
                return found
        return Finding("", CORRECT, f"{CORRECT}; at kinks it takes {self.side_at_kinks}" if self.side_at_kinks else CORRECT)

    def shape_text(self, args) -> str:
        return f"{self.names[self.k]} {list(args[self.k].shape)}"

    def with_argument(self, value) -> list:
        """The own arguments, with another value for the one that is judged."""
        args = list(self.argument_sets["own"])
        args[self.k] = as_type(value, args[self.k].dtype)
        return args

    def filled_with(self, values) -> Iterator[list]:
        """Sets of arguments in which the judged one is filled with these values, as many sets as hold all of them."""
        shape = self.argument_sets["own"][self.k].shape
        size = math.prod(shape)
        shuffled = self.random.permutation(np.resize(values, max(len(values), size)))
        for start in range(0, len(shuffled), max(size, 1)):
            yield self.with_argument(np.resize(shuffled[start : start + size], shape) if size else np.zeros(shape))

    def make_trial(self, args, where) -> Trial:
        outputs, *answers = self.oracle(*args)
        forward, reverse = (np.asarray(answer[self.o][self.real_index], np.float64) for answer in answers)
        trial = Trial(self, args, outputs, forward, where)
        if outputs[self.o].dtype != jnp.float64:
            trial.tolerance = ROUGH
        try:
            given = self.rule.given(self.o, self.k, outputs, args)
            if given is not None:
                if given.dtype.kind == "f" and given.dtype.itemsize < 8:
                    trial.tolerance = ROUGH
                trial.given = given.astype(np.float64)
        except Exception as error:
            trial.failure = error
        if trial.has_right_shape:  # where jacfwd and jacrev differ, the one that agrees with the rule counts
            trial.truth = np.where(trial.agree(trial.given, reverse), reverse, forward)
        return trial

    def _at_ordinary_points(self, trials) -> Finding | None:
        """What is wrong at random points."""
        bad = [t for t in trials if t.is_wrong and not (t.given is None and t.failure is None and t.is_right(0 * t.truth))]
        if not bad:
            return None
        first = bad[0]
        if first.given is None and first.failure is None:
            return first.finding("no rule", f"no rule: its Jacobian is None, but y depends on {self.names[self.k]}")
        broken = next((t for t in bad if _nonfinite_entries(t) is not None), None)
        if broken:
            return broken.finding("not finite", "NaN or infinite", _nonfinite_entries(broken))
        for hypothesis in HYPOTHESES:
            found = hypothesis(self, bad)
            if found:
                diagnosis, words = found
                shown = next((t for t in bad if t.has_right_shape), first)
                return shown.finding(diagnosis, f"{diagnosis}: {words}" if words else diagnosis)
        if first.failure:
            return first.finding("error", _error_text(first.failure))
        if not first.has_right_shape:
            got = f"{list(first.given.shape)}, expected {list(first.truth.shape)}: the axes of y, then those of the input"
            return first.finding("wrong shape", f"wrong shape: {got}")
        right = len(trials) - len(bad)
        rest = f", right for other sizes or values: {right} of {len(trials)} points" if right else ""
        return first.finding("wrong", f"wrong in {first.wrong_entries.sum()} of {first.wrong_entries.size} entries{rest}")

    def _at_kinks(self, trials) -> Finding | None:
        """What is wrong at points where the derivative may not exist."""
        words = "wrong at the kink, right elsewhere: the derivative there lies between the one-sided ones"
        found = (
            self._between_sides(args, "wrong at the kink", words, "at special values") for args in self._points_of_kinks()
        )
        return next(filter(None, found), None)

    def _at_large_numbers(self, trials) -> Finding | None:
        """What is wrong for large numbers."""
        words = "wrong for large numbers, right elsewhere"
        found = (self._between_sides(args, "wrong", words, "for large numbers") for args in self.filled_with(TAILS))
        return next(filter(None, found), None)

    def _between_sides(self, args, diagnosis, words, when) -> Finding | None:
        """What is wrong at a point where the derivative must lie between the one-sided differences.

        They decide where the rule and autodiff do not agree, and so they also reveal autodiff's own mistakes.
        """
        trial = self.make_trial(args, self._values_text(args))
        if trial.failure:
            return trial.finding("error", _error_text(trial.failure, when))
        if not trial.has_right_shape or (
            not trial.is_wrong and np.isfinite(trial.given).all() and np.isfinite(trial.truth).all()
        ):
            return None
        left, right = self._one_sided_differences(args)
        low, high = np.minimum(left, right), np.maximum(left, right)
        scale = ROUGH * max(1.0, float(np.max(np.abs(trial.truth), initial=0, where=np.isfinite(trial.truth))))
        known = np.isfinite(left) & np.isfinite(right)
        count = trial.given.ndim - args[self.k].ndim
        flat = (*trial.given.shape[:count], math.prod(args[self.k].shape))
        given = np.concatenate([trial.given.reshape(flat), trial.given.reshape(flat).sum(-1, keepdims=True)], -1)
        doubtful = (trial.wrong_entries | ~np.isfinite(trial.truth)).reshape(flat)
        with np.errstate(invalid="ignore"):
            outside = known & ~((given >= low - scale) & (given <= high + scale))
        outside[..., :-1] &= doubtful
        entries = outside[..., :-1].reshape(trial.given.shape)
        undefined = entries & ~np.isfinite(trial.given)
        if undefined.any():
            return self._finding_with_bracket(trial, undefined, left, right, "not finite", f"NaN or infinite {when}")
        if entries.any():
            return self._finding_with_bracket(trial, entries, left, right, diagnosis, words)
        if outside[..., -1].any():
            row = tuple(map(int, np.argwhere(outside[..., -1])[0]))
            total, least, most = (a[(*row, -1)] for a in (given, low, high))
            moved = f"the row {list(row)} sums to {total:.4g}, but moving all of the input together changes y by "
            return trial.finding(diagnosis, f"{diagnosis}: {moved.replace('-', '−')}{_range_text(least, most)}")
        jump = known & (high - low > scale)
        if jump[..., :-1][doubtful].any():
            sides = {"the left-hand derivative": left, "the right-hand derivative": right}
            taken = (name for name, a in sides.items() if _is_close(given, a, scale)[jump].all())
            self.side_at_kinks = next(taken, "a number between the one-sided derivatives")
        return None

    def _finding_with_bracket(self, trial, chosen, left, right, diagnosis, words) -> Finding:
        found = trial.finding(diagnosis, words, chosen)
        count = trial.given.ndim - trial.args[self.k].ndim
        place = int(np.ravel_multi_index(found.index[count:], trial.given.shape[count:])) if found.index[count:] else 0
        sides = [float(a[(*found.index[:count], place)]) for a in (left, right)]
        return dataclasses.replace(
            found,
            sentence=f"{words}; {_range_text(*sides)} here",
            right=min(max(found.given if math.isfinite(found.given) else sum(sides) / 2, min(sides)), max(sides)),
        )

    def _points_of_kinks(self) -> Iterator[list]:
        x = self.argument_sets["own"][self.k]
        yield from self.filled_with(KINKS)
        yield self.with_argument(self.random.integers(0, 2, x.shape))
        yield self.with_argument(np.zeros(x.shape))
        for other in self.argument_sets["own"][: self.k] + self.argument_sets["own"][self.k + 1 :]:
            if is_real(other) and other.shape == x.shape:
                yield self.with_argument(np.where(self.random.integers(0, 2, x.shape), other, x))

    def _values_text(self, args) -> str:
        values = np.unique(np.asarray(args[self.k]))
        numbers = ", ".join(f"{v:.3g}" for v in values).replace("-", "−")
        return f"{self.names[self.k]} of {numbers}" if len(values) <= len(KINKS) else f"ties in {self.names[self.k]}"

    def _one_sided_differences(self, args) -> tuple[np.ndarray, np.ndarray]:
        """The differences to the left and to the right along each entry of the input and along all of them together.

        Both have the shape [*y, entries + 1].
        """
        x = args[self.k]
        along = np.concatenate([np.eye(x.size), np.ones((1, x.size))]).reshape(-1, *x.shape)
        values = self.outputs_along(np.concatenate([-STEP * along, 0 * along[:1], STEP * along]), args)
        values = np.moveaxis(np.asarray(values, np.float64), 0, -1)
        count = x.size + 1
        at = values[..., count : count + 1]
        return (at - values[..., :count]) / STEP, (values[..., count + 1 :] - at) / STEP

    def _output_along(self, direction, args):
        """Output o where argument k is moved by `direction`."""
        moved = [*args[: self.k], args[self.k] + direction, *args[self.k + 1 :]]
        return self.rule.forward(*moved)[self.o]

    def _in_single_precision(self, trials) -> Finding | None:
        """Whether the rule loses digits in single precision where the function saturates; double precision is the judge."""
        for args in self.filled_with(STEEP):
            x = args[self.k]
            args = self.with_argument(np.asarray(x) * self.random.uniform(0.97, 1.03, x.shape))  # without ties
            with jax.enable_x64(False):
                single = [_as_single(a) for a in args]
                try:
                    found = self.rule.given(self.o, self.k, self.rule.outputs(*single), single)
                except Exception:
                    return None  # the rule takes double precision only
            if found is None:
                return None
            rounded = [as_type(x, np.float64) if is_real(x) else a for a, x in zip(args, single, strict=True)]
            exact = self.make_trial(rounded, f"{self.names[self.k]} up to {max(STEEP):.0f}, float32")
            axes = tuple(range(found.ndim - args[self.k].ndim, found.ndim))
            exact.given = found.astype(np.float64)
            with np.errstate(invalid="ignore"):
                scale = np.max(np.abs(exact.truth), axis=axes, keepdims=True, initial=0)
                lost = (np.abs(exact.given - exact.truth) > LOST * scale) & (scale > SMALLEST)
            if lost.any():
                words = "right, but loses digits where the function saturates: a difference of nearly equal numbers"
                exact.tolerance = 0.0
                return exact.finding(DIGITS, words, lost)
        return None


def _nonfinite_entries(trial) -> np.ndarray | None:
    """The entries that are not finite where autodiff's are, or None if there are none."""
    if not trial.has_right_shape:
        return None
    found = ~np.isfinite(trial.given) & np.isfinite(trial.truth)
    return found if found.any() else None


def _error_text(error, when="") -> str:
    """What the rule raised, and in which line of its function."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_of_a_library(frame.filename)]
    place = f" in line {own[-1].lineno} of {own[-1].name}" if own else ""
    return f"{' '.join(filter(None, (f'raised {type(error).__name__}{place}', when)))}: {error}"


def _is_of_a_library(filename: str) -> bool:
    return Path(filename).is_relative_to(PACKAGE) or "site-packages" in filename


def _as_single(x):
    """An array in single precision, as a layer gets it without x64."""
    if x is None or not jnp.issubdtype(x.dtype, jnp.number):
        return x
    return as_type(x, np.float32 if is_real(x) else np.int32)


def _is_close(a, b, scale) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.abs(a - b) <= scale


def _range_text(a, b) -> str:
    low, high = (f"{number:.3g}".replace("-", "−") for number in sorted((a + 0.0, b + 0.0)))
    return low if low == high else f"{low} to {high}"
