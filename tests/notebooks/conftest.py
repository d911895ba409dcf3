"""The lessons as they run: executed once a session with their own parameters, and reused while nothing changes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.press.run import Run, execute
from labkit.press.shelf import Lesson

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def executed() -> Callable[[Lesson], tuple[Run, Any]]:
    """The run of a lesson and its notebook; `report/executed` keeps what `make report` has run already."""
    found: dict[str, tuple[Run, Any]] = {}
    os.environ["LABKIT_STRICT"] = "1"  # a warning inside a lesson is an error here

    def run(lesson: Lesson) -> tuple[Run, Any]:
        if lesson.stem not in found:
            done = execute(lesson, ROOT / "report" / "executed", {}, timeout=300.0)
            found[lesson.stem] = done, nbformat.read(done.path, as_version=4)
        return found[lesson.stem]

    return run
