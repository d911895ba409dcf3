"""The working copy: new lessons arrive, and whatever the reader has is left alone."""

from pathlib import Path

import pytest

from labkit.lessons import MARKER
from labkit.press import workcopy
from labkit.press.shelf import Lesson
from labkit.press.workcopy import open_lab, refresh

NAME = "A_formalization/A1_tiny.ipynb"


def test_a_copy_is_made_once_and_then_left(lesson: Lesson, root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert refresh(root, work) == [f"new: {NAME}"]
    assert (work / NAME).read_bytes() == lesson.notebook.read_bytes()
    assert (work / MARKER).exists()
    (work / NAME).write_text("the reader's")
    assert refresh(root, work) == []
    assert (work / NAME).read_text() == "the reader's"


def test_a_changed_lesson_is_laid_beside_once(lesson: Lesson, root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    refresh(root, work)
    (work / NAME).write_text("the reader's")
    lesson.notebook.write_text("a newer one")
    assert refresh(root, work) == [f"changed: {NAME}; yours stays, the new one is A1_tiny.new.ipynb"]
    assert (work / NAME).read_text() == "the reader's"
    assert (work / NAME).with_name("A1_tiny.new.ipynb").read_text() == "a newer one"
    assert refresh(root, work) == []


@pytest.mark.usefixtures("lesson")
def test_a_lost_marker_overwrites_nothing(root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    refresh(root, work)
    (work / NAME).write_text("the reader's")
    (work / MARKER).write_text("{half")
    assert refresh(root, work) == []
    assert (work / NAME).read_text() == "the reader's"


def test_jupyter_opens_in_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(workcopy.os, "execv", lambda _, words: called.append(words))
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / workcopy.START).write_text("{}")
    open_lab(tmp_path)
    assert called[0][1:3] == ["-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={tmp_path}" in called[0]
    assert called[0][-1] == str(tmp_path / workcopy.START)
    assert "MPLBACKEND" not in workcopy.os.environ
