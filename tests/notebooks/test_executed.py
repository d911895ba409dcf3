"""What every lesson says when it runs with its own parameters: claims as expected, figures drawn, prose true."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.press.report import scores
from labkit.press.run import Run
from labkit.press.shelf import Lesson, lessons

ROOT = Path(__file__).parents[2]
Executed = Callable[[Lesson], tuple[Run, Any]]

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.parametrize("lesson", lessons(ROOT), ids=lambda lesson: lesson.stem),
]


def test_it_runs(lesson: Lesson, executed: Executed) -> None:
    assert executed(lesson)[0].trouble == ""


def test_claims_come_out_as_expected_and_none_is_skipped(lesson: Lesson, executed: Executed) -> None:
    run, _ = executed(lesson)
    unexpected = [score for score in scores(run) if score.judged != "as expected"]
    assert not unexpected, [(score.id, score.judged, score.record) for score in unexpected]


def test_every_figure_is_there_once(lesson: Lesson, executed: Executed) -> None:
    for cell in executed(lesson)[1].cells:
        if "figure" in cell.metadata.get("tags", ()):
            pictures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
            html = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
            assert pictures or "<img" in html, cell.source[:80]
            assert len(pictures) <= 1, f"drawn {len(pictures)} times with one description: {cell.source[-80:]}"


def test_every_decimal_that_prose_reads_was_printed(lesson: Lesson, executed: Executed) -> None:
    cells = executed(lesson)[1].cells
    # A literal of the code counts too: "at σ = 1.4" reads no measurement.
    said = " ".join(f"{_texts(cell)} {cell.source}" for cell in cells if cell.cell_type == "code")
    known = {_plain(number) for number in _decimals(said)}
    for cell in cells:
        if cell.cell_type == "markdown" and "reads" in cell.metadata.get("tags", ()):
            unseen = [number for number in _decimals(cell.source) if _plain(number) not in known]
            assert not unseen, f"never printed: {unseen}"


def test_exercises_are_not_attempted(lesson: Lesson, executed: Executed) -> None:
    cells = [c for c in executed(lesson)[1].cells if c.cell_type == "code" and re.search(r"^check\(", c.source, re.M)]
    assert cells
    assert all("not attempted" in _texts(cell) for cell in cells)


def _texts(cell: Any) -> str:
    """What a code cell printed, as text."""
    parts = [output.get("text", "") + " " + output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return " ".join(parts)


def _decimals(text: str) -> list[str]:
    return re.findall(r"\d+\.\d+(?:e[-+]?\d+)?", text.replace("\\,", "").replace("{", "").replace("}", ""))


def _plain(number: str) -> str:
    return str(float(number))
