"""The report: one page that opens anywhere, with the scoreboard of claims and every lesson as it ran.

Beside it stand a page for each lesson and the same facts as JSON; all are whole or not there.
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat as untyped_nbformat

from labkit.lessons import claims
from labkit.press.files import write_atomically
from labkit.press.formulas import font_face
from labkit.press.render import CODE_STYLE, lesson_html
from labkit.press.run import Run
from labkit.press.surroundings import surroundings

__all__ = ["Score", "build", "records", "scores"]

nbformat: Any = untyped_nbformat  # its functions carry no types
_TEMPLATE = Path(__file__).parent / "template"
Judged = Literal["as expected", "NOT as expected", "recorded", "skipped"]


@dataclass(frozen=True)
class Score:
    """One row of the scoreboard; `record` is None where the claim was not executed."""

    id: str
    entry: claims.Entry
    record: claims.Record | None
    judged: Judged


def build(runs: Sequence[Run], folder: Path) -> tuple[Path, bool]:
    """Bind the runs into `folder/index.html`, one page a lesson and `record.json`.

    Args:
        runs: from `execute_all`.
        folder: where to.

    Returns:
        The page, and whether every lesson ran and every judged claim came out as expected.
    """
    board = [score for run in runs for score in scores(run)]
    facts = surroundings(runs[0].lesson.root)
    facts["device"] = str(next((run.parameters["device"] for run in runs if "device" in run.parameters), "cpu"))
    facts["date"] = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    bodies = {run.lesson.stem: _body(run) for run in runs}
    honest = not any(run.trouble for run in runs) and not any(s.judged == "NOT as expected" for s in board)
    for run in runs:
        own = [score for score in board if score.id.split(".")[0] == run.lesson.id]
        page = _page(f"{run.lesson.id} · report", [run], own, facts, bodies, home="index.html")
        write_atomically(folder / f"{run.lesson.stem}.html", page)
    write_atomically(folder / "record.json", _json(runs, board, facts, honest))
    index = folder / "index.html"
    write_atomically(index, _page("The nonlinear Jacobian chain · report", runs, board, facts, bodies))
    return index, honest


def scores(run: Run) -> list[Score]:
    """The claims of one lesson, executed or skipped; judged only with the lesson's own parameters."""
    measured = records(nbformat.read(run.path, as_version=4))
    known = claims.entries()
    bound = set(run.parameters) <= {"profile"}
    board = []
    for record in measured:
        judged: Judged = "recorded"
        if bound:
            judged = "as expected" if record.outcome == record.expected else "NOT as expected"
        board.append(Score(record.id, known[record.id], record, judged))
    seen = {record.id for record in measured}
    mine = [claim_id for claim_id in known if claim_id.split(".")[0] == run.lesson.id]
    return board + [Score(claim_id, known[claim_id], None, "skipped") for claim_id in mine if claim_id not in seen]


def records(notebook: Any) -> list[claims.Record]:
    """What the claims of an executed notebook recorded, in order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [claims.Record(**o.data[claims.MIME]) for o in outputs if claims.MIME in o.get("data", {})]


def _body(run: Run) -> str:
    from labkit.lessons.explorer import explore

    notebook = nbformat.read(run.path, as_version=4)
    return lesson_html(
        notebook, run.lesson.id, run.lesson.notebook.parent, not run.parameters,
        lambda explorer_id, **parameters: str(explore(explorer_id, **parameters).page()),
    )  # fmt: skip


def _page(
    title: str,
    runs: Sequence[Run],
    board: Sequence[Score],
    facts: dict[str, str],
    bodies: dict[str, str],
    home: str = "",
) -> str:
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATE), autoescape=True, trim_blocks=True)
    body = {run.lesson.stem: bodies[run.lesson.stem] for run in runs}
    for here in runs:  # a lesson on this page is reached without leaving it
        target = f'href="{here.lesson.stem}.html"'
        body = {stem: html.replace(target, f'href="#{here.lesson.id}-lesson"') for stem, html in body.items()}
    return environment.get_template("page.html.j2").render(
        title=title, runs=runs, board=board, facts=facts, bodies=body, home=home, tally=_tally(board),
        numbers={id(s): claims.written(s.record) for s in board if s.record},
        style=(_TEMPLATE / "page.css").read_text(encoding="utf-8") + CODE_STYLE + font_face("".join(body.values())),
        row_id=id, titles={run.lesson.stem: _title(run) for run in runs},
    )  # fmt: skip


def _title(run: Run) -> str:
    cells = nbformat.read(run.path, as_version=4).cells
    heads = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()[:3]]
    return next((line[2:].strip() for line in heads if line.startswith("# ")), run.lesson.stem)


def _tally(board: Sequence[Score]) -> str:
    count = {word: sum(score.judged == word for score in board) for word in Judged.__args__}  # type: ignore[attr-defined]
    executed = len(board) - count["skipped"]
    words = [f"{count[word]} {word}" for word in ("as expected", "NOT as expected", "recorded") if count[word]]
    return f"{executed} executed ({', '.join(words) or 'none'}), {count['skipped']} skipped"


def _json(runs: Sequence[Run], board: Sequence[Score], facts: dict[str, str], honest: bool) -> str:
    content = {
        "as_expected": honest,
        "surroundings": facts,
        "lessons": [
            {
                "id": run.lesson.id,
                "stem": run.lesson.stem,
                "parameters": run.parameters,
                "seconds": round(run.seconds, 2),
                "trouble": run.trouble,
                "notebook": str(run.path),
            }
            for run in runs
        ],
        "claims": [
            {"id": s.id, "judged": s.judged, **asdict(s.entry), **(asdict(s.record) if s.record else {})} for s in board
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
