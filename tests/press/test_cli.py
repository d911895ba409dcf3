"""The command line: instant help, honest exit status, one sentence for what goes wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from labkit.press import cli
from labkit.press.shelf import Lesson


def _call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["labkit", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(str(end.value.code))


def test_help_loads_nothing_heavy() -> None:
    code = """
import atexit, sys
from labkit.press.cli import main
heavy = {"torch", "numpy", "matplotlib", "papermill", "nbformat", "jupytext"}
atexit.register(lambda: print(sorted(heavy & set(sys.modules))))
sys.argv = ["labkit", "--help"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith("[]")
    assert all(name in done.stdout for name in ("report", "sync", "lab", "run", "claims", "env"))


def test_sync_checks_repairs_and_stops(
    root: Path, lesson: Lesson, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, "sync", "--check", "--root", root) == 0
    lesson.source.write_text(lesson.source.read_text().replace("tiny", "small"))
    assert _call(monkeypatch, "sync", "--check", "--root", root) == 1
    assert "A1_tiny: notebook built (not yet)" in capsys.readouterr().out
    assert _call(monkeypatch, "sync", "--root", root) == 0
    lesson.source.write_text(lesson.source.read_text().replace("small", "large"))
    lesson.notebook.write_text(lesson.notebook.read_text().replace("small", "huge"))
    assert _call(monkeypatch, "sync", "--root", root) == 1
    assert "sync --keep source or --keep notebook" in capsys.readouterr().out
    assert _call(monkeypatch, "sync", "--keep", "source", "--root", root) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "A7"], "labkit: there is no lesson 'A7'; there is A1."),
        (["run", "A1", "-p", "depth"], "labkit: parameter 'depth' is no name=value"),
        (["run", "A1", "-p", "dept=3"], "labkit: A1 has no parameter 'dept'"),
        (["sync", "--keep", "mine"], "labkit: --keep is 'mine'; source or notebook would do."),
        (["repot"], "No such command"),
        (["report", "--nonsense"], "nonsense"),
    ],
)
@pytest.mark.usefixtures("lesson")
def test_trouble_is_one_sentence_and_exit_2(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    monkeypatch.chdir(root)
    assert _call(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("with_claim", "lesson")
def test_report_ends_with_the_pages_path_and_an_honest_status(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    assert _call(monkeypatch, "report", "A1") == 0
    page = root / "report" / "index.html"
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert page.exists()
    assert _call(monkeypatch, "report", "-p", "mode=raise") == 1
    assert capsys.readouterr().out.splitlines()[-1] == str(page)


@pytest.mark.usefixtures("with_claim")
def test_claims_and_env_print(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call(monkeypatch, "claims") == 0
    assert "A1.c9 press        holds  One is one. (Peano 1889)" in capsys.readouterr().out
    assert _call(monkeypatch, "env") == 0
    assert "torch" in capsys.readouterr().out
