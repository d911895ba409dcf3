"""Every exercise of every lesson, put to the same test: what a check must answer to each kind of answer."""

import contextlib
import dataclasses
from typing import Any

import pytest

from labkit.lessons.checks import exercises_of, lessons
from labkit.lessons.exercise import Exercise, examine

ALL = [exercise for lesson in lessons() for exercise in exercises_of(lesson)]
WRONG = [(exercise, name) for exercise in ALL for name in exercise.wrong]
RIGHT = [(exercise, place) for exercise in ALL for place in range(len(exercise.alternatives))]


def _stub(*_: Any) -> Any: ...


def _unwritten(*_: Any) -> Any:
    raise NotImplementedError


def _crash(*_: Any) -> Any:
    return 1 / 0


def _endless(*_: Any) -> Any:
    while True:
        with contextlib.suppress(Exception):
            [].append(0)


def _ids(pairs: list[tuple[Exercise, Any]]) -> list[str]:
    return [f"{exercise.id}-{name}" for exercise, name in pairs]


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)
class TestEveryExercise:
    @pytest.mark.parametrize("stub", [..., None, _stub, _unwritten])
    def test_a_stub_is_not_attempted(self, exercise: Exercise, stub: Any) -> None:
        assert examine(exercise, stub).outcome == "not attempted"

    def test_the_solution_is_right_and_buys_something(self, exercise: Exercise) -> None:
        verdict = examine(exercise, exercise.solution)
        assert verdict.outcome == "right", verdict.message
        assert verdict.message == exercise.buys

    def test_a_crash_is_an_error_with_its_line(self, exercise: Exercise) -> None:
        verdict = examine(exercise, _crash)
        assert verdict.outcome == "error"
        assert "ZeroDivisionError" in verdict.message
        assert "return 1 / 0" in verdict.detail

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the alarm may ring in a finalizer
    def test_an_endless_loop_ends(self, exercise: Exercise) -> None:
        verdict = examine(dataclasses.replace(exercise, seconds=0.1), _endless)
        assert verdict.outcome == "error"
        assert "no answer within" in verdict.message

    def test_it_is_complete(self, exercise: Exercise) -> None:
        assert len(exercise.wrong) >= 2
        assert exercise.hints
        assert exercise.alternatives
        assert exercise.statement
        messages = [message for _, message in exercise.wrong.values()]
        assert len(set(messages)) == len(messages)


@pytest.mark.parametrize(("exercise", "name"), WRONG, ids=_ids(WRONG))
def test_a_named_wrong_answer_gets_its_own_message(exercise: Exercise, name: str) -> None:
    function, message = exercise.wrong[name]
    verdict = examine(exercise, function)
    assert (verdict.outcome, verdict.message) == ("wrong", message)


@pytest.mark.parametrize(("exercise", "place"), RIGHT, ids=_ids(RIGHT))
def test_another_right_answer_is_right(exercise: Exercise, place: int) -> None:
    verdict = examine(exercise, exercise.alternatives[place])
    assert verdict.outcome == "right", verdict.message


def test_ids_name_their_lesson_and_are_unique() -> None:
    for lesson in lessons():
        assert all(exercise.id.startswith(f"{lesson}.") for exercise in exercises_of(lesson))
    assert len({exercise.id for exercise in ALL}) == len(ALL)
