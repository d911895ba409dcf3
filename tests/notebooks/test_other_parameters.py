"""Lessons under another reader's parameters: smaller networks, another activation, another seed."""

from pathlib import Path

import pytest

from labkit.press.report import scores
from labkit.press.run import execute
from labkit.press.shelf import find_lesson, lessons

ROOT = Path(__file__).parents[2]
OTHER = {
    "S0": {"seed": 1},
    "A1": {"depth": 3, "seed": 1},
    "A2": {"depth": 3, "width": 16, "activation": "gelu", "nets": 2, "seed": 1},
    "A3": {"depth": 3, "width": 32, "activation": "gelu", "nets": 2, "seed": 1},
    "A5": {"depth": 4, "width": 16, "wide": 150, "activation": "erf", "nets": 2, "seed": 1},
    "A6": {"width": 16, "widest": 256, "nets": 2, "activation": "erf", "seed": 1},
    "A4": {"depth": 5, "width": 200, "deepest": 10, "activation": "erf", "nets": 2, "seed": 1},
}


def test_every_lesson_has_another_set() -> None:
    assert set(OTHER) == {lesson.id for lesson in lessons(ROOT)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OTHER)
def test_it_runs_and_its_claims_are_recorded_but_not_judged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_STRICT", "1")
    run = execute(find_lesson(ROOT, name), tmp_path, OTHER[name])
    assert run.trouble == ""
    assert {score.judged for score in scores(run)} <= {"recorded"}
