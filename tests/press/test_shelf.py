"""Finding lessons: by id, stem or path, from anywhere inside a checkout."""

from pathlib import Path

import pytest

from labkit.press.shelf import Lesson, find_lesson, find_root, lessons


def test_places_follow_the_stage() -> None:
    root = Path("/course")
    assert Lesson(root, "A1_jacobian_chain").notebook == root / "notebooks/A_formalization/A1_jacobian_chain.ipynb"
    assert Lesson(root, "00_start_here").notebook == root / "notebooks/00_start_here.ipynb"
    assert Lesson(root, "00_start_here").source == root / "notebooks/source/00_start_here.py"
    assert [Lesson(root, stem).id for stem in ("00_start_here", "C4_zoo")] == ["S0", "C4"]


@pytest.mark.parametrize("name", ["A1", "A1_tiny", "notebooks/A_formalization/A1_tiny.ipynb"])
def test_a_lesson_has_three_names(root: Path, name: str) -> None:
    assert find_lesson(root, name).stem == "A1_tiny"


def test_an_unknown_lesson_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="there is no lesson 'A7'; there is A1"):
        find_lesson(root, "A7")


def test_the_root_is_found_from_within_and_missed_from_without(root: Path) -> None:
    assert find_root(root / "notebooks" / "source") == root
    assert [lesson.stem for lesson in lessons(root)] == ["A1_tiny"]
    with pytest.raises(ValueError, match="no lessons at or above"):
        find_root(root.parent)
