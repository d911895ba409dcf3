"""Two sides of one lesson: built alike every time, repaired in either direction, never guessed."""

import dataclasses
import json
from typing import Any

import pytest

from labkit.press.shelf import Lesson
from labkit.press.sync import build, cells_of, read_source, sync, write_source


def _edit_notebook(lesson: Lesson, text: str) -> None:
    notebook = json.loads(lesson.notebook.read_text())
    notebook["cells"][0]["source"] = text
    lesson.notebook.write_text(json.dumps(notebook))


def test_building_is_deterministic_and_settles(lesson: Lesson) -> None:
    first = lesson.notebook.read_bytes()
    assert sync(lesson).action == ""
    lesson.notebook.unlink()
    assert sync(lesson).action == "notebook built"
    assert lesson.notebook.read_bytes() == first


def test_ids_come_from_the_text(lesson: Lesson) -> None:
    cells = read_source(lesson.source.read_text())
    ids = [cell["id"] for cell in json.loads(build(cells))["cells"]]
    new = {"cell_type": "markdown", "source": "New.", "metadata": {}}
    more = [cell["id"] for cell in json.loads(build([new, *cells, cells[0]]))["cells"]]
    assert more[1:-1] == ids
    assert len(set(more)) == len(more)


def test_alt_text_and_tags_reach_the_notebook(lesson: Lesson, read: Any) -> None:
    figure = read(lesson.notebook).cells[3]
    assert figure.metadata.tags == ["figure"]
    assert figure.metadata.mystnb.image.alt == "One straight line & no more."


def test_an_edited_source_wins(lesson: Lesson, read: Any) -> None:
    lesson.source.write_text(lesson.source.read_text().replace("A tiny lesson", "A small lesson"))
    assert sync(lesson, check=True).action == "notebook built"
    assert "A tiny lesson" in read(lesson.notebook).cells[0].source
    assert sync(lesson).action == "notebook built"
    assert "A small lesson" in read(lesson.notebook).cells[0].source


def test_an_edited_notebook_wins_and_leaves_the_rest_of_the_source(lesson: Lesson) -> None:
    before = lesson.source.read_text()
    _edit_notebook(lesson, "# Z1 · From the notebook")
    assert sync(lesson).action == "source written back"
    after = lesson.source.read_text()
    assert "# # Z1 · From the notebook" in after
    assert after.split("# %% tags")[1:] == before.split("# %% tags")[1:]
    assert sync(lesson).action == ""


def test_both_edited_stops_and_writes_nothing(lesson: Lesson) -> None:
    lesson.source.write_text(lesson.source.read_text().replace("tiny", "small"))
    _edit_notebook(lesson, "# Z1 · From the notebook")
    sides = lesson.source.read_bytes(), lesson.notebook.read_bytes()
    assert sync(lesson).action == "both changed"
    assert (lesson.source.read_bytes(), lesson.notebook.read_bytes()) == sides
    assert sync(lesson, keep="notebook").action == "source written back"
    assert "From the notebook" in lesson.source.read_text()


def test_both_edited_alike_is_no_conflict(lesson: Lesson) -> None:
    lesson.source.write_text(lesson.source.read_text().replace("tiny", "small"))
    _edit_notebook(lesson, read_source(lesson.source.read_text())[0]["source"])
    assert sync(lesson).action == "notebook built"
    assert sync(lesson).action == ""


def test_a_lost_side_comes_back(lesson: Lesson) -> None:
    cells = read_source(lesson.source.read_text())
    lesson.source.unlink()
    assert sync(lesson).action == "source written back"
    assert read_source(lesson.source.read_text()) == cells


def test_outputs_go_but_for_tagged_text(lesson: Lesson, read: Any) -> None:
    tagged = lesson.source.read_text().replace("# %%\nimport os", '# %% tags=["nbval-check-output"]\nimport os')
    lesson.source.write_text(tagged)
    sync(lesson)
    notebook = json.loads(lesson.notebook.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["depth 3\n"]}]
            cell["execution_count"] = 77
    lesson.notebook.write_text(json.dumps(notebook))
    assert sync(lesson).action == "notebook built"
    code = [cell for cell in read(lesson.notebook).cells if cell.cell_type == "code"]
    assert [len(cell.outputs) for cell in code] == [0, 1, 0, 0]
    assert [cell.execution_count for cell in code] == [None, 3, None, None]
    assert sync(lesson).action == ""


def test_what_a_script_can_hold_survives_the_round_trip() -> None:
    cells = [
        {"cell_type": "code", "source": "%matplotlib inline\nx = '''# %%'''", "metadata": {"tags": ["a", "b"]}},
        {"cell_type": "markdown", "source": "A line\n\n- item\n\n```python\nx\n```", "metadata": {}},
        {"cell_type": "code", "source": "def f():\n    return 1", "metadata": {}},
        {"cell_type": "code", "source": "f()", "metadata": {"mystnb": {"image": {"alt": 'A "quoted" é'}}}},
    ]
    assert read_source(write_source(cells)) == cells
    assert cells_of(json.loads(build(cells))["cells"]) == cells


def test_half_a_notebook_is_named(lesson: Lesson) -> None:
    lesson.notebook.write_text("{half")
    with pytest.raises(ValueError, match=r"A1_tiny.ipynb is no notebook .*; delete it and sync again"):
        sync(lesson)


def test_a_lesson_of_neither_side_is_refused(lesson: Lesson) -> None:
    with pytest.raises(ValueError, match="A9_none has neither a source nor a notebook"):
        sync(dataclasses.replace(lesson, stem="A9_none"))
