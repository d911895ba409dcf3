"""Progress and predictions: one small file, kept whole, and never a reason for a lesson to stop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.lessons import MARKER, journal, predict, progress
from labkit.lessons.checks import exercises_of
from labkit.lessons.journal import passed, prediction, score


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "inner" / "progress.json"
    monkeypatch.setenv("LABKIT_PROGRESS", str(path))
    return path


def test_no_guess_is_invited_and_not_kept(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("Z9.p1")
    predict("Z9.p1", None)
    assert capsys.readouterr().out.count("no guess yet") == 2
    assert prediction("Z9.p1") is None
    assert not file.exists()


@pytest.mark.parametrize(
    ("guess", "text"),
    [(2.5, "2.5"), (3, "3"), ("falls", "falls"), ([1, 2.5], "1, 2.5"), (torch.tensor(0.25), "0.25"),
     (np.float64(0.5), "0.5"), (torch.tensor([1.0, 2.0]), "1, 2"), (True, "True"), ({"a": 1}, "{'a': 1}")],
)  # fmt: skip
def test_a_guess_is_noted_and_found_again(
    file: Path, capsys: pytest.CaptureFixture[str], guess: object, text: str
) -> None:
    predict("Z9.p1", guess)
    assert f"Z9.p1: noted, {text}. The measurement comes below." in capsys.readouterr().out
    assert prediction("Z9.p1") == text
    assert list(file.parent.iterdir()) == [file]  # and no temporary file


def test_progress_counts_what_was_passed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exercises = exercises_of("A1")
    assert score(exercises) == (0, len(exercises))
    assert passed(exercises[0].id) == ""
    assert passed(exercises[0].id) == ""
    assert score(exercises) == (1, len(exercises))
    progress()
    assert f"A1  ●{'○' * (len(exercises) - 1)}  1 of {len(exercises)}" in capsys.readouterr().out
    assert json.loads(file.read_text())["passed"] == {exercises[0].id: True}


def test_a_damaged_file_is_kept_and_told(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("{half")
    assert "damaged" in passed("A1.1")
    assert passed("A1.1") == ""
    assert (file.parent / "progress.damaged.json").read_text() == "{half"


def test_a_place_that_takes_no_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("LABKIT_PROGRESS", str(tmp_path / "occupied" / "progress.json"))
    assert "Not saved" in passed("A1.1")


def test_the_file_lies_at_the_top_of_the_working_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_PROGRESS", raising=False)
    (tmp_path / MARKER).write_text("{}")
    (tmp_path / "A_formalization").mkdir()
    monkeypatch.chdir(tmp_path / "A_formalization")
    predict("Z9.p2", 1.5)
    assert json.loads((tmp_path / "progress.json").read_text())["predictions"] == {"Z9.p2": 1.5}


def test_elsewhere_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_PROGRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(journal, "_session", {"passed": {}, "predictions": {}})
    predict("Z9.p3", 1.5)
    assert prediction("Z9.p3") == "1.5"
    assert not list(tmp_path.iterdir())
