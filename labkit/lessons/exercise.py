"""An exercise as data, and the one way to judge an answer to it.

The oracle knows nothing of the solution; answers may be tensors, arrays, lists or numbers of any precision.
"""

import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from labkit.lessons import _limit
from labkit.lessons._limit import TimeUp, undisturbed, within

__all__ = ["Exercise", "Verdict", "examine", "same"]

Case = tuple[Any, ...]
_OURS = (__file__, _limit.__file__)
Outcome = Literal["not attempted", "error", "wrong", "right"]


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson.

    Attributes:
        id: lesson and number, "A2.1".
        title: three to six words.
        statement: what is asked, in one or two sentences.
        solution: the function that `solution(id)` shows; without arguments where a value is asked.
        cases: makes the arguments the answer is called with, anew at each call; `[()]` where a value is asked.
        oracle: what is right for a case, by another way than the solution's (autograd, closed form, differences).
        accepts: instead of an oracle, where many answers are right: `accepts(given, *case)`.
        wrong: named slips: name → (the function that makes it, the sentence that says so). At least two.
        alternatives: other right answers, for the tests.
        hints: the ladder, from where to stand to nearly there.
        buys: what being right buys the reader.
        pointer: how to find the mistake oneself, for a wrong answer with no name.
        tolerance: largest difference, relative to the largest number of the right answer.
        seconds: time limit for all cases together.

    Raises:
        ValueError: an exercise without exactly one of `oracle` and `accepts`.

    Example:
        >>> double = Exercise(
        ...     id="Z1.1", title="Twice", statement="Write `twice(x)`.", solution=lambda x: 2 * x,
        ...     cases=lambda: [(1.0,), (3.0,)], oracle=lambda x: x + x,
        ...     wrong={"square": (lambda x: x**2, "You squared."), "half": (lambda x: x / 2, "You halved.")},
        ...     hints=("Add it to itself.",), buys="Everything even.",
        ... )
        >>> examine(double, lambda x: x * x).message
        'You squared.'
    """

    id: str
    title: str
    statement: str
    solution: Callable[..., Any]
    cases: Callable[[], Sequence[Case]]
    wrong: Mapping[str, tuple[Callable[..., Any], str]]
    hints: tuple[str, ...]
    buys: str
    oracle: Callable[..., Any] | None = None
    accepts: Callable[..., bool] | None = None
    alternatives: Sequence[Callable[..., Any]] = ()
    pointer: str = "Try it on the smallest case you can do by hand."
    tolerance: float = 1e-4
    seconds: float = 5.0

    def __post_init__(self) -> None:
        if (self.oracle is None) == (self.accepts is None):
            raise ValueError(f"exercise {self.id} needs exactly one of `oracle` and `accepts`.")


@dataclass(frozen=True)
class Verdict:
    """What a check answers: one of four outcomes, a sentence, and for an error the line it came from."""

    outcome: Outcome
    message: str
    detail: str = ""


def examine(exercise: Exercise, answer: Any) -> Verdict:
    """Judge `answer`; never raises, never hangs, leaves generators and settings of the session alone.

    Args:
        exercise: what was asked.
        answer: a function, or the value itself where the cases have no arguments.

    Returns:
        The verdict.
    """
    if answer is None or answer is ...:
        return Verdict("not attempted", "not attempted yet.")
    cases = exercise.cases()
    if not callable(answer):
        if any(cases):
            return Verdict("error", f"hand over the function itself, not its value: check({exercise.id!r}, name).")
        value, answer = answer, lambda: value
    try:
        with undisturbed():
            given = within(exercise.seconds, lambda: [answer(*case) for case in cases])
    except TimeUp:
        return Verdict("error", f"no answer within {exercise.seconds:g} seconds: does a loop ever end?")
    except NotImplementedError as error:
        if not str(error):
            return Verdict("not attempted", "not attempted yet.")
        return _error(error)
    except BaseException as error:  # SystemExit and the like are the student's too
        return _error(error)
    if any(value is None or value is ... for value in given):
        forgot = any(value is not None and value is not ... for value in given)
        return Verdict("wrong", "some inputs get no answer: is a `return` missing?") if forgot else Verdict(
            "not attempted", "not attempted yet: the function returns nothing."
        )
    return _judge(exercise, given)


def _judge(exercise: Exercise, given: list[Any]) -> Verdict:
    with undisturbed():
        if exercise.accepts is not None:
            right = all(map(lambda value, case: _quietly(exercise.accepts, value, *case), given, exercise.cases()))
        else:
            expected = [exercise.oracle(*case) for case in exercise.cases()]  # type: ignore[misc]
            right = all(map(lambda a, b: same(a, b, exercise.tolerance), given, expected))
        if right:
            return Verdict("right", exercise.buys)
        for function, message in exercise.wrong.values():
            slip = [function(*case) for case in exercise.cases()]
            if all(map(lambda a, b: same(a, b, exercise.tolerance), given, slip)):
                return Verdict("wrong", message)
    clue = _clue(given, expected, exercise.tolerance) if exercise.accepts is None else ""
    return Verdict("wrong", f"It is no slip this check knows.{clue} {exercise.pointer}")


def _quietly(accepts: Callable[..., bool] | None, value: Any, *case: Any) -> bool:
    try:
        return bool(accepts and accepts(value, *case))
    except Exception:  # an answer of another kind than asked is just not accepted
        return False


def same(given: Any, expected: Any, tolerance: float = 1e-4) -> bool:
    """Whether two answers agree, whatever they are made of.

    Args:
        given: tensor, array, number, or a list of these.
        expected: likewise. Axes of length one do not count; infinities must agree exactly, NaN never does.
        tolerance: relative to the largest finite number expected (absolute where that is zero).
    """
    a, b = _leaves(given), _leaves(expected)
    if a is None or b is None or len(a) != len(b):
        return False
    return all(map(lambda x, y: _close(x, y, tolerance), a, b))


def _close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    a, b = a.squeeze(), b.squeeze()
    if a.shape != b.shape:
        return False
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)) or not np.array_equal(a[~finite], b[~finite]):
        return False
    scale = np.abs(b[finite]).max(initial=0.0) or 1.0
    return bool(np.abs(a[finite] - b[finite]).max(initial=0.0) <= tolerance * scale)


def _leaves(value: Any) -> list[np.ndarray] | None:
    """The numbers in `value` as arrays, one if they stack; None where something is no number."""
    if isinstance(value, torch.Tensor):
        dense = value.detach().cpu()
        dense = dense.to_dense() if dense.layout != torch.strided else dense
        return [dense.to(torch.complex128 if dense.is_complex() else torch.float64).resolve_conj().numpy()]
    if isinstance(value, list | tuple):
        parts = [_leaves(part) for part in value]
        arrays = [array for part in parts if part is not None for array in part]
        if any(part is None for part in parts):
            return None
        alike = len({array.shape for array in arrays}) == 1
        return [np.stack(arrays)] if alike and len(arrays) == len(parts) else arrays
    if isinstance(value, str | bytes):
        return None
    try:
        array = np.asarray(value)
        return [array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)]
    except (TypeError, ValueError):
        return None


def _clue(given: list[Any], expected: list[Any], tolerance: float) -> str:
    """What can be said of an unknown mistake without giving the answer away."""
    for value, right in zip(given, expected, strict=True):
        a, b = _leaves(value), _leaves(right)
        if a is None:
            return f" An answer should be made of numbers; this one is a {type(value).__name__}."
        if b is None or len(a) != len(b):
            continue
        if any(np.isnan(x).any() for x in a):
            return " It contains NaN."
        wrong_shape = next(((x.shape, y.shape) for x, y in zip(a, b, strict=True) if x.shape != y.shape), None)
        if wrong_shape:
            return f" It has shape {wrong_shape[0]}; asked is {wrong_shape[1]}."
    factor = _factor(given, expected)
    if factor and same([np.multiply(x, 1.0) / factor for v in given for x in _leaves(v) or ()],
                       [x for v in expected for x in _leaves(v) or ()], tolerance):
        return f" It is {factor:.3g} times what is asked, everywhere."
    return ""


def _factor(given: list[Any], expected: list[Any]) -> float:
    a = np.concatenate([x.ravel() for v in given for x in _leaves(v) or ()])
    b = np.concatenate([x.ravel() for v in expected for x in _leaves(v) or ()])
    if a.size != b.size or not (np.isfinite(a).all() and np.isfinite(b).all() and b.any()):
        return 0.0
    place = int(np.abs(b).argmax())
    return float((a[place] / b[place]).real)


def _error(error: BaseException) -> Verdict:
    """Type, message and the student's own line: the last one in the file where the answer begins."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [place for place, frame in enumerate(frames) if frame.filename in _OURS]
    theirs = frames[ours[-1] + 1 :]
    own = [frame for frame in theirs if frame.filename == theirs[0].filename]
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if not own:
        return Verdict("error", said)
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip()
    return Verdict("error", said, f"line {own[-1].lineno} of {own[-1].name}:  {line}")
