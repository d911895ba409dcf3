"""The form of every lesson: two sides that agree, the anatomy, and pictures that can be heard."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.lessons.checks import exercises_of
from labkit.lessons.claims import entries
from labkit.press.formulas import set_aside
from labkit.press.parameters import declared
from labkit.press.shelf import STAGES, Lesson, lessons
from labkit.press.sync import OUTPUT_TAG, build, read_source, sync

ROOT = Path(__file__).parents[2]
LESSONS = lessons(ROOT)
START = "00_start_here"
# Cells, words of prose: the tour is a quarter of an hour, a lesson about an hour.
SIZES = {True: ((12, 20), (300, 1000)), False: ((35, 60), (1200, 2000))}
LONGEST = 13  # lines of a code cell, the imports excepted; what is longer belongs in the package
WORDIEST = 90  # words of a cell of prose
HEADINGS = ("where it fails", "your own model", "recap")

pytestmark = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)


def _cells(lesson: Lesson) -> list[Any]:
    return read_source(lesson.source.read_text(encoding="utf-8"))


def _of(lesson: Lesson, kind: str) -> list[Any]:
    return [cell for cell in _cells(lesson) if cell["cell_type"] == kind]


def _prose(lesson: Lesson) -> str:
    return "\n\n".join(cell["source"] for cell in _of(lesson, "markdown"))


def _code(lesson: Lesson) -> str:
    return "\n".join(cell["source"] for cell in _of(lesson, "code"))


def _words(prose: str) -> int:
    prose = re.sub(r"\$\$.+?\$\$|\$.+?\$", " formula ", prose, flags=re.DOTALL)
    return len(re.sub(r"</?[a-z][^>]*>|[|*#`]", " ", prose).split())


def test_both_sides_are_there_and_agree(lesson: Lesson) -> None:
    assert lesson.source.exists()
    assert lesson.notebook.exists(), "run `labkit sync`"
    assert lesson.stem == START or lesson.stem[0] in STAGES
    assert sync(lesson, check=True).action == ""


def test_the_notebook_is_what_the_builder_makes(lesson: Lesson) -> None:
    text = lesson.notebook.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert build(_cells(lesson), notebook.cells) == text
    for cell in notebook.cells:
        if cell.cell_type == "code" and OUTPUT_TAG not in cell.metadata.get("tags", ()):
            assert not cell.outputs
            assert cell.execution_count is None


def test_size(lesson: Lesson) -> None:
    (fewest, most), (shortest, longest) = SIZES[lesson.stem == START]
    assert fewest <= len(_cells(lesson)) <= most
    words = [_words(cell["source"]) for cell in _of(lesson, "markdown")]
    assert shortest <= sum(words) <= longest
    assert max(words) <= WORDIEST


def test_anatomy(lesson: Lesson) -> None:
    cells, prose, code = _cells(lesson), _prose(lesson), _code(lesson)
    assert cells[0]["source"].startswith("# ")
    assert "?" in cells[0]["source"], "a lesson opens with a question"
    assert "explore(" in code
    if lesson.stem == START:
        return
    assert "You will be able to" in prose
    assert re.search(r"^predict\(", code, re.MULTILINE), "a prediction comes before the measurements"
    assert code.index("predict(") < code.index("claim(")
    heads = [line.lstrip("# ").lower() for line in prose.splitlines() if line.startswith("## ")]
    missing = [part for part in HEADINGS if not any(head.startswith(part) for head in heads)]
    assert not missing
    assert "<details>" in prose, "a quiz folds its answers"


def test_exercises_are_the_lessons_own_and_unattempted(lesson: Lesson) -> None:
    checked = re.findall(r"^check\(\"([^\"]+)\"", _code(lesson), re.MULTILINE)
    assert checked == [exercise.id for exercise in exercises_of(lesson.id)]
    assert len(checked) == 1 if lesson.stem == START else 3 <= len(checked) <= 4
    for cell in _of(lesson, "code"):
        if re.search(r"^check\(", cell["source"], re.MULTILINE):
            assert "..." in cell["source"] or "None" in cell["source"]
            assert "exercise" in cell["metadata"].get("tags", ())


def test_claims_are_the_lessons_own(lesson: Lesson) -> None:
    code = _code(lesson)
    mine = [claim_id for claim_id in entries() if claim_id.split(".")[0] == lesson.id]
    for claim_id in mine:
        assert claim_id.split()[0] in code, f"claims.json has {claim_id}, which the lesson never measures"
    for written in re.findall(r"claim\(\s*f?\"([^\"]+)\"", code):
        assert written.startswith(f"{lesson.id}.")


def test_parameters_are_literals_and_the_profile_is_one(lesson: Lesson) -> None:
    tagged = [cell for cell in _cells(lesson) if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1
    known = declared(tagged)
    assert known["profile"] == "fast"
    assert {"seed", "device"} <= set(known)
    assert known["device"] == "cpu"


def test_figures_have_their_description(lesson: Lesson) -> None:
    figures = [cell for cell in _of(lesson, "code") if "figure" in cell["metadata"].get("tags", ())]
    assert figures
    for cell in figures:
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        assert len(alt.split()) >= 6, cell["source"][:60]
    for cell in _of(lesson, "code"):
        if re.search(r"^(explore\(|plt\.show)", cell["source"], re.MULTILINE):
            assert "figure" in cell["metadata"].get("tags", ()), cell["source"][:60]


def test_code_is_short_narrow_and_thin(lesson: Lesson) -> None:
    for index, cell in enumerate(_of(lesson, "code")):
        lines = cell["source"].splitlines()
        assert max(map(len, lines)) <= 72, cell["source"]
        assert len(lines) <= LONGEST or index == 0, cell["source"]
        classes = [node.name for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.ClassDef)]
        assert not classes, "a class belongs in the package"


def test_formulas_can_be_set(lesson: Lesson) -> None:
    for cell in _of(lesson, "markdown"):
        set_aside(cell["source"])
