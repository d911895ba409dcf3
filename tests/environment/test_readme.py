"""The README keeps its word: its example prints what it says, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.press.shelf import Lesson, lessons

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def test_example_prints_what_stands_below_it() -> None:
    code, output = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)[0]
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert NUMBER.sub("#", process.stdout).split() == NUMBER.sub("#", output).split()
    printed, promised = ([float(number) for number in NUMBER.findall(text)] for text in (process.stdout, output))
    assert printed == pytest.approx(promised, abs=0.11)  # one unit in the last digit shown


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_targets_and_commands_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    makefile, cli = (ROOT / "Makefile").read_text(), (ROOT / "labkit/press/cli.py").read_text()
    code = "\n".join(re.findall(r"```\n.*?```|`[^`]+`", text, re.DOTALL)).replace("`", "")
    targets = {word for words in re.findall(r"^make ((?:[a-z]+ ?)+)", code, re.MULTILINE) for word in words.split()}
    commands = set(re.findall(r"^(?:\.venv/bin/)?labkit ([a-z]+)", code, re.MULTILINE))
    assert {"test", "sync"} & targets
    assert commands
    assert targets <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert commands <= set(re.findall(r"@app\.command\(\)\ndef ([a-z]+)\(", cli))


def test_two_commands_come_first() -> None:
    assert re.findall(r"^make (\w+)", README, re.MULTILINE)[:3] == ["report", "test", "lab"]


@pytest.mark.parametrize("lesson", lessons(ROOT), ids=lambda lesson: lesson.stem)
def test_every_lesson_is_listed(lesson: Lesson) -> None:
    assert lesson.stem in README
    if lesson.id != "S0":
        assert lesson.stem in (ROOT / "notebooks" / "source" / "00_start_here.py").read_text()
        assert re.search(rf"\| {lesson.id}\b", (ROOT / "PAPERS.md").read_text())
