"""What a reader calls at an exercise: check an answer, climb the hints, see the solution.

The exercises themselves stand in `labkit.lessons.exercises`, one module a lesson.
"""

import difflib
import importlib
import inspect
import pkgutil
import textwrap
from functools import cache
from typing import Any

from labkit.lessons import _show, exercises, journal
from labkit.lessons.exercise import Exercise, examine

__all__ = ["check", "exercises_of", "find", "hint", "lessons", "solution"]

_MOOD = {"right": "good", "wrong": "bad", "error": "bad", "not attempted": "quiet"}


def lessons() -> list[str]:
    """The ids of all lessons that have exercises, in the order of the course: S0 is 00_start_here."""
    found = [module.name for module in pkgutil.iter_modules(exercises.__path__)]
    return sorted(found, key=lambda name: (name != "S0", name))


@cache
def exercises_of(lesson: str) -> tuple[Exercise, ...]:
    """The exercises of one lesson.

    Args:
        lesson: its id, "A2".
    """
    found: tuple[Exercise, ...] = importlib.import_module(f"{exercises.__name__}.{lesson}").EXERCISES
    return found


def find(exercise_id: str) -> Exercise:
    """The exercise of that id.

    Raises:
        ValueError: there is none; the sentence lists the near ones.
    """
    lesson = str(exercise_id).split(".")[0]
    known = {e.id: e for name in lessons() if name == lesson for e in exercises_of(name)}
    if exercise_id in known:
        return known[exercise_id]
    near = list(known) or difflib.get_close_matches(lesson, lessons()) or lessons()
    raise ValueError(f"there is no exercise {exercise_id!r}; there is {', '.join(near) or 'none yet'}.")


def check(exercise_id: str, answer: Any = None) -> None:
    """Say whether `answer` is not attempted, in error, wrong (and how) or right (and what that buys).

    Args:
        exercise_id: "A2.1".
        answer: your function, or your value where a value is asked.

    Raises:
        ValueError: no such exercise. Whatever the answer does, the check itself never raises.

    Example:
        >>> check("A1.1", ...)  # doctest: +SKIP
        A1.1: not attempted yet.
    """
    exercise = find(exercise_id)
    verdict = examine(exercise, answer)
    tail = ""
    if verdict.outcome == "right":
        trouble = journal.passed(exercise.id)
        lesson = exercise.id.split(".")[0]
        done, total = journal.score(exercises_of(lesson))
        tail = f" You have {done} of {total} in {lesson}.{trouble}"
    label = "" if verdict.message.startswith(verdict.outcome) else f"{verdict.outcome}. "
    if verdict.outcome == "error":
        label = "error in your code. "
    text = f"{exercise.id}: {label}{verdict.message}{tail}"
    plain = f"{text}\n  {verdict.detail}" if verdict.detail else text
    _show.show(plain, _show.card(text, _MOOD[verdict.outcome], verdict.detail))


def hint(exercise_id: str, rung: int | None = None) -> None:
    """Show the next hint of an exercise, or the one asked for.

    Args:
        exercise_id: "A2.1".
        rung: 1 is the gentlest; None takes the next one at each call and stays at the last.

    Raises:
        ValueError: no such exercise, or no such rung.
    """
    exercise = find(exercise_id)
    last = len(exercise.hints)
    if rung is None:
        rung = min(_climbed.get(exercise.id, 0) + 1, last)
    if not 1 <= rung <= last:
        raise ValueError(f"rung is {rung!r}, but exercise {exercise.id} has hints 1 to {last}.")
    _climbed[exercise.id] = rung
    more = "" if rung < last else f' That was the last; solution("{exercise.id}") shows one answer.'
    text = f"{exercise.id}, hint {rung} of {last}: {exercise.hints[rung - 1]}{more}"
    _show.show(text, _show.card(text, "plain"))


_climbed: dict[str, int] = {}


def solution(exercise_id: str) -> None:
    """Show the source of one right answer.

    Args:
        exercise_id: "A2.1".

    Raises:
        ValueError: no such exercise.
    """
    exercise = find(exercise_id)
    source = textwrap.dedent(inspect.getsource(exercise.solution)).rstrip()
    text = f"{exercise.id}, one answer of several:"
    _show.show(f"{text}\n{source}", _show.card(text, "plain", source))
