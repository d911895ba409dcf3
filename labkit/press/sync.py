"""Each lesson twice, as a notebook and as a percent script, and never two different ones.

The notebook carries a hash of the cells it was built from; that, not a file's time, says which side was edited.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jupytext
import nbformat as untyped_nbformat

from labkit.press.files import write_atomically
from labkit.press.shelf import Lesson

__all__ = ["OUTPUT_TAG", "Synced", "build", "cells_of", "read_source", "sync", "write_source"]

nbformat: Any = untyped_nbformat  # its functions carry no types
OUTPUT_TAG = "nbval-check-output"  # only cells with this tag keep what they printed
_KEPT = ("tags", "mystnb")  # cell metadata that both sides carry
_HEADER = """\
# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

"""
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

Side = Literal["source", "notebook"]
Cell = dict[str, Any]


@dataclass(frozen=True)
class Synced:
    """What became of one lesson; `action` is empty where both sides agreed already."""

    lesson: Lesson
    action: Literal["", "notebook built", "source written back", "both changed"]


def read_source(text: str) -> list[Cell]:
    """The cells of a percent script."""
    notebook = jupytext.reads(text, fmt="py:percent")
    return cells_of([cell for cell in notebook.cells if cell.cell_type != "raw"])


def cells_of(cells: list[Any]) -> list[Cell]:
    """What counts of a notebook's cells: type, text, tags, alt text."""
    return [
        {
            "cell_type": cell["cell_type"],
            "source": "".join(cell["source"]).rstrip(),
            "metadata": {key: cell["metadata"][key] for key in _KEPT if cell["metadata"].get(key)},
        }
        for cell in cells
    ]


def write_source(cells: list[Cell]) -> str:
    """The percent script of these cells."""
    notebook = nbformat.v4.new_notebook(
        cells=[_new_cell(cell, lines_to_next_cell=1) for cell in cells],
        metadata={"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": ",".join(_KEPT)}},
    )
    return _HEADER + str(jupytext.writes(notebook, fmt="py:percent"))


def build(cells: list[Cell], before: list[Any] = ()) -> str:  # type: ignore[assignment]
    """The notebook of these cells, the same bytes every time.

    Args:
        cells: from `read_source`.
        before: cells of the notebook as it was; printed output is kept where the cell is tagged and unchanged.
    """
    printed = {"".join(cell["source"]).rstrip(): cell.get("outputs", []) for cell in before}
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": _KERNEL, "labkit": {"built_from": _digest(cells)}, "language_info": {"name": "python"}}
    )
    seen: dict[str, int] = {}
    for place, cell in enumerate(cells, start=1):
        new = _new_cell(cell)
        name = hashlib.sha256(cell["source"].encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        new["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"  # from the text: inserting a cell moves no id
        if cell["cell_type"] == "code" and OUTPUT_TAG in cell["metadata"].get("tags", ()):
            new["outputs"] = [_text_only(o) for o in printed.get(cell["source"], []) if o["output_type"] == "stream"]
            new["execution_count"] = place if new["outputs"] else None  # nbval fails output without a count
        notebook.cells.append(new)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook)) + "\n"


def sync(lesson: Lesson, keep: Side | None = None, check: bool = False) -> Synced:
    """Make both sides of a lesson agree.

    Args:
        lesson: which.
        keep: the side that wins where both were edited; None stops there.
        check: only say what would be done.

    Returns:
        What was done. Nothing is written where both sides changed and `keep` is None.

    Raises:
        ValueError: neither side is there, or the notebook cannot be read.
    """
    source = read_source(lesson.source.read_text(encoding="utf-8")) if lesson.source.exists() else None
    text = lesson.notebook.read_text(encoding="utf-8") if lesson.notebook.exists() else None
    notebook = _parse(lesson.notebook, text) if text is not None else None
    if source is None and notebook is None:
        raise ValueError(f"{lesson.stem} has neither a source nor a notebook.")
    before = notebook["cells"] if notebook else []
    side = _winner(source, notebook, keep)
    if side is None:
        return Synced(lesson, "both changed")
    cells = source if side == "source" and source is not None else cells_of(before)
    built = build(cells, before)
    action: Literal["", "notebook built", "source written back"] = ""
    if built != text:
        action = "notebook built"
    if cells != source:
        action = "source written back"
    if not check:
        if cells != source:
            write_atomically(lesson.source, write_source(cells))
        if built != text:
            write_atomically(lesson.notebook, built)
    return Synced(lesson, action)


def _winner(source: list[Cell] | None, notebook: Any, keep: Side | None) -> Side | None:
    """The side whose cells are to be taken; None where a person must say."""
    if notebook is None:
        return "source"
    if source is None:
        return "notebook"
    cells = cells_of(notebook["cells"])
    built_from = notebook["metadata"].get("labkit", {}).get("built_from")
    if cells == source or _digest(cells) == built_from:
        return "source"
    return "notebook" if _digest(source) == built_from else keep


def _parse(path: Path, text: str) -> Any:
    try:
        return nbformat.reads(text, as_version=4)
    except Exception as error:  # whatever nbformat meets in half a file
        raise ValueError(f"{path} is no notebook ({type(error).__name__}); delete it and sync again.") from None


def _new_cell(cell: Cell, **metadata: Any) -> Any:
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    return make[cell["cell_type"]](cell["source"], metadata={**cell["metadata"], **metadata})


def _text_only(output: Any) -> Any:
    return nbformat.v4.new_output("stream", name=output["name"], text="".join(output["text"]))


def _digest(cells: list[Cell]) -> str:
    return hashlib.sha256(json.dumps(cells, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
