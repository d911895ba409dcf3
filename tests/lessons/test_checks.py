"""The check itself: what it accepts, what it says, what it leaves alone, and that it always comes back."""

import contextlib
import dataclasses
import random
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.lessons import check, checks, exercises, hint, solution
from labkit.lessons._limit import TimeUp, undisturbed, within
from labkit.lessons.exercise import Exercise, examine, same

MATRIX = torch.arange(6.0).reshape(2, 3)


def transpose(matrix: torch.Tensor) -> torch.Tensor:
    """The reference answer."""
    return matrix.mT


TURN = Exercise(
    id="Z9.1",
    title="Turn a matrix",
    statement="Write `turn(matrix)`.",
    solution=transpose,
    cases=lambda: [(MATRIX.clone(),), (2 * MATRIX + 1,)],
    oracle=lambda matrix: torch.tensor([[float(matrix[i, j]) for i in range(2)] for j in range(3)]),
    wrong={
        "not turned": (lambda matrix: matrix, "You handed it back."),
        "turned and flipped": (lambda matrix: matrix.mT.flip(0), "You turned it the other way."),
    },
    hints=("Rows become columns.", "See .mT."),
    buys="Gradients.",
    seconds=1.0,
)
NUMBER = Exercise(
    id="Z9.2", title="A number", statement="How many?", solution=lambda: 4, cases=lambda: [()], oracle=lambda: 2 + 2,
    wrong={"one less": (lambda: 3, "You forgot one."), "one more": (lambda: 5, "You counted one twice.")},
    hints=("Count.",), buys="A count.",
)  # fmt: skip
EVEN = Exercise(
    id="Z9.3", title="Any even number", statement="Any even number above n.", solution=lambda n: 2 * n + 2,
    cases=lambda: [(1,), (4,)], accepts=lambda given, n: given % 2 == 0 and given > n,
    wrong={"odd": (lambda n: 2 * n + 1, "That is odd."), "small": (lambda n: n - n % 2, "That is no greater.")},
    hints=("Double it.",), buys="A choice.",
)  # fmt: skip


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A lesson Z9 with two exercises, and no progress file."""
    module = types.ModuleType(f"{exercises.__name__}.Z9")
    module.EXERCISES = (TURN, NUMBER)  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    monkeypatch.setattr(checks, "lessons", lambda: ["Z9"])
    monkeypatch.setattr(checks, "_climbed", {})
    monkeypatch.setenv("LABKIT_PROGRESS", "")
    checks.exercises_of.cache_clear()
    yield
    checks.exercises_of.cache_clear()


@pytest.mark.parametrize(
    "answer",
    [
        transpose,
        lambda m: m.T.numpy(),
        lambda m: m.T.tolist(),
        lambda m: m.T.half(),
        lambda m: list(m.T),
        lambda m: m.T.clone().requires_grad_(),
        lambda m: m.T.to(torch.complex64),
        lambda m: m.T[None],
        lambda m: m.T + 1e-6,
        lambda m: [tuple(row) for row in m.T],
    ],
)
def test_any_formulation_of_the_right_answer_is_right(answer: Any) -> None:
    assert examine(TURN, answer).outcome == "right"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda m: m, "You handed it back."),
        (lambda m: 3 * m.T, "3 times what is asked"),
        (lambda m: m.T[:2], "shape (2, 2); asked is (3, 2)"),
        (lambda m: m.T * float("nan"), "NaN"),
        (lambda m: "matrix", "a str"),
        (lambda m: m.T.flip(1), "no slip this check knows"),
        (lambda m: m.T if m[0, 0] == 0 else None, "is a `return` missing"),
        (lambda m: {"a": m}, "a dict"),
        (lambda m: [m, "x"], "a list"),
    ],
)
def test_a_wrong_answer_is_told_how(answer: Any, says: str) -> None:
    verdict = examine(TURN, answer)
    assert verdict.outcome == "wrong"
    assert says in verdict.message


def test_the_answer_is_not_given_away() -> None:
    for answer in (lambda m: 3 * m.T, lambda m: m.T.flip(1), lambda m: m.T[:2]):
        assert "tensor" not in examine(TURN, answer).message
        assert "[" not in examine(TURN, answer).message


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(4, "right"), (4.0, "right"), (torch.tensor([4]), "right"), (5, "wrong"), (None, "not attempted"),
     (lambda: 4, "right")],
)  # fmt: skip
def test_a_value_may_be_asked(answer: Any, outcome: str) -> None:
    assert examine(NUMBER, answer).outcome == outcome


def test_a_value_where_a_function_is_asked_is_told_so() -> None:
    verdict = examine(TURN, MATRIX.T)
    assert verdict.outcome == "error"
    assert "hand over the function itself" in verdict.message


def test_many_answers_may_be_right() -> None:
    assert examine(EVEN, lambda n: 100).outcome == "right"
    assert examine(EVEN, lambda n: 2 * n + 1).message == "That is odd."
    assert examine(EVEN, lambda n: "a hundred").outcome == "wrong"


def test_an_exercise_has_one_judge() -> None:
    with pytest.raises(ValueError, match="exactly one of `oracle` and `accepts`"):
        dataclasses.replace(TURN, accepts=lambda *_: True)


def test_the_students_line_is_shown_not_the_librarys() -> None:
    def answer(matrix: torch.Tensor) -> torch.Tensor:
        twice = matrix @ matrix
        return twice.T

    verdict = examine(TURN, answer)
    assert verdict.outcome == "error"
    assert verdict.message.startswith("RuntimeError: mat1 and mat2")
    assert verdict.detail.endswith("twice = matrix @ matrix")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, RecursionError, NotImplementedError("later")])
def test_nothing_an_answer_raises_gets_out(error: Any) -> None:
    def answer(matrix: torch.Tensor) -> None:
        raise error

    assert examine(TURN, answer).outcome == "error"


def _plain(_: Any) -> None:
    while True:
        pass


def _swallowing(_: Any) -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.001)


_over = threading.Event()


def _swallowing_all(_: Any) -> None:
    while not _over.is_set():  # a thread that swallows everything cannot be ended from outside
        try:
            while not _over.is_set():
                pass
        except:  # noqa: E722
            pass


class _SlowToGo:
    def __del__(self) -> None:
        for _ in range(300):
            pass


def _in_finalizers(_: Any) -> None:
    while True:
        _SlowToGo()  # nearly every alarm rings in there, where an exception is lost


@pytest.mark.parametrize("loop", [_plain, _swallowing, _swallowing_all, _in_finalizers])
@pytest.mark.parametrize("main_thread", [True, False])
def test_an_endless_loop_ends(loop: Any, main_thread: bool) -> None:
    exercise, verdicts, before = dataclasses.replace(TURN, seconds=0.2), [], threading.enumerate()
    _over.clear()
    if main_thread:
        verdicts.append(examine(exercise, loop))
    else:
        thread = threading.Thread(target=lambda: verdicts.append(examine(exercise, loop)))
        thread.start()
        thread.join(20)
    assert "no answer within 0.2 seconds" in verdicts[0].message
    _over.set()
    for thread in set(threading.enumerate()) - set(before):  # left running it would slow every test to come
        thread.join(5)
        assert not thread.is_alive()


def test_a_limit_hands_on_value_and_error_in_any_thread() -> None:
    found: list[Any] = []

    def attempt() -> None:
        found.append(within(5.0, lambda: 7))
        try:
            within(5.0, lambda: {}["key"])
        except KeyError as error:
            found.append(error)
        try:
            within(0.05, lambda: time.sleep(5))
        except TimeUp as error:
            found.append(error)

    for run in (attempt, lambda: (t := threading.Thread(target=attempt), t.start(), t.join())):
        found.clear()
        run()
        assert found[0] == 7
        assert [type(error) for error in found[1:]] == [KeyError, TimeUp]


def test_the_session_is_left_as_it_was() -> None:
    def answer(matrix: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        matrix.zero_()
        return matrix

    def state() -> list[Any]:
        legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
        settings = [torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()]
        return [torch.get_rng_state().tolist(), legacy, *settings]

    before, python = state(), random.getstate()
    with undisturbed():
        answer(MATRIX.clone())
    assert random.getstate() == python  # not asked of `examine`: the type checker of the tests draws from it too
    assert state() == before
    assert examine(TURN, answer).outcome == "wrong"
    assert state() == before
    assert examine(TURN, transpose).outcome == "right"  # the next answer meets fresh cases


def test_a_random_answer_is_the_same_every_time() -> None:
    with undisturbed():
        first = torch.rand(3)
    with undisturbed():
        assert torch.equal(torch.rand(3), first)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.floats(1e-3, 10))
def test_same_is_reflexive_and_sees_a_change(numbers: list[float], change: float) -> None:
    moved = [numbers[0] + change * max(1.0, *map(abs, numbers)), *numbers[1:]]
    assert same(numbers, torch.tensor(numbers, dtype=torch.float64))
    assert not same(moved, numbers)


def test_same_on_infinities_nan_and_ragged_lists() -> None:
    inf, nan = float("inf"), float("nan")
    assert same([-inf, 1.0], [-inf, 1.0])
    assert not same([inf, 1.0], [-inf, 1.0])
    assert not same([nan], [nan])
    assert not same([0.0, 1.0], [-inf, 1.0])
    assert same([torch.ones(2), torch.ones(3)], [np.ones(2), [1, 1, 1]])
    assert not same([torch.ones(2), torch.ones(3)], [torch.ones(5)])
    assert same(torch.ones(2, 2).to_sparse(), np.ones((2, 2)))
    assert not same("1", 1)
    assert not same(None, 1)


@pytest.mark.usefixtures("shelf")
def test_check_prints_one_of_four_answers_and_the_score(capsys: pytest.CaptureFixture[str]) -> None:
    check("Z9.1", ...)
    check("Z9.1", lambda m: 1 / 0)
    check("Z9.1", lambda m: m)
    check("Z9.1", transpose)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Z9.1: not attempted yet."
    assert said[1] == "Z9.1: error in your code. ZeroDivisionError: division by zero"
    assert "1 / 0" in said[2]
    assert said[3] == "Z9.1: wrong. You handed it back."
    assert said[4].startswith("Z9.1: right. Gradients. You have ")
    assert said[4].endswith(" of 2 in Z9.")


@pytest.mark.usefixtures("shelf")
def test_hints_climb_and_end_at_the_solution(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        hint("Z9.1")
    hint("Z9.1", 1)
    said = capsys.readouterr().out.splitlines()
    assert [line[:19] for line in said] == ["Z9.1, hint 1 of 2: ", *["Z9.1, hint 2 of 2: "] * 2, "Z9.1, hint 1 of 2: "]
    assert 'solution("Z9.1")' in said[1]
    with pytest.raises(ValueError, match="has hints 1 to 2"):
        hint("Z9.1", 3)
    solution("Z9.1")
    assert "return matrix.mT" in capsys.readouterr().out


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(("wanted", "near"), [("Z9.7", "Z9.1, Z9.2"), ("Z8.1", "Z9"), ("", "Z9")])
def test_an_unknown_exercise_is_refused_with_the_near_ones(wanted: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"there is no exercise '{wanted}'; there is {near}."):
        check(wanted, 1)
