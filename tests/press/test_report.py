"""The report: one page without a request, honest about what failed, was skipped or came out unexpectedly."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from labkit.lessons import explorer
from labkit.press import report
from labkit.press.render import EXPLORER, lesson_html, markdown_html
from labkit.press.report import build, scores
from labkit.press.run import Run, execute
from labkit.press.shelf import Lesson


class Page(HTMLParser):
    """Every tag with its attributes, and the text outside of styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The tiny lesson as it ran with its own parameters, with others, with a surprise, and with an error."""
    from labkit.press.sync import sync

    top = tmp_path_factory.mktemp("course")
    source = Path(__file__).with_name("conftest.py").read_text().split('SOURCE = """\\\n')[1].split('"""\n')[0]
    lesson = Lesson(top, "A1_tiny")
    lesson.source.parent.mkdir(parents=True)
    lesson.source.write_text(source.replace("\\\\", "\\"))
    sync(lesson)
    ways: dict[str, dict[str, Any]] = {"own": {}, "other": {"depth": 7}, "full": {"profile": "full"}}
    ways |= {"surprise": {"mode": "surprise"}, "failed": {"mode": "raise"}}
    return {name: execute(lesson, top / name, given) for name, given in ways.items()}


@pytest.mark.usefixtures("with_claim")
class TestPage:
    def test_it_stands_alone(self, runs: dict[str, Run], tmp_path: Path) -> None:
        index, honest = build([runs["own"]], tmp_path / "report")
        text = index.read_text()
        page = Page(text)
        assert honest
        assert index == tmp_path / "report" / "index.html"
        assert sorted(path.name for path in index.parent.iterdir()) == ["A1_tiny.html", "index.html", "record.json"]
        assert page.all("html") == [{"lang": "en"}]
        assert page.all("title")
        assert not page.all("script")
        assert "http" not in text.replace("http://www.w3.org/1998/Math/MathML", "")
        sources = [attributes["src"] for attributes in page.all("img")]
        assert sources
        assert all(source and source.startswith("data:image/png;base64,") for source in sources)
        assert [attributes["alt"] for attributes in page.all("img")] == ["One straight line & no more."]
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert page.all("math")
        assert page.all("msqrt")
        assert "$" not in page.text.replace("$5", "").replace("$nothing$", "")
        assert "MATHTOKEN" not in text

    def test_the_scoreboard_counts_executed_and_skipped(self, runs: dict[str, Run], tmp_path: Path) -> None:
        page = Page(build([runs["own"]], tmp_path)[0].read_text())
        assert "1 executed (1 as expected), 1 skipped" in page.text
        assert "holds, as expected" in page.text
        assert "1.250 ± 0.031" in page.text
        assert "Never measured." in page.text
        record = json.loads((tmp_path / "record.json").read_text())
        assert record["as_expected"] is True
        assert [claim["judged"] for claim in record["claims"]] == ["as expected", "skipped"]
        assert record["claims"][0]["measured"] == 1.25
        assert record["surroundings"]["torch"]

    def test_what_failed_is_told_and_the_page_is_written(self, runs: dict[str, Run], tmp_path: Path) -> None:
        index, honest = build([runs["failed"]], tmp_path)
        page = Page(index.read_text())
        assert not honest
        assert "cell 4: ValueError: on purpose" in page.text
        assert "A1_tiny.failed.ipynb" in page.text
        assert "0 executed (none), 2 skipped" in page.text

    def test_outcomes_bind_the_lessons_own_parameters_only(self, runs: dict[str, Run], tmp_path: Path) -> None:
        judged = {name: scores(run)[0].judged for name, run in runs.items()}
        assert judged == {
            "own": "as expected", "full": "as expected", "other": "recorded", "surprise": "recorded",
            "failed": "skipped",
        }  # fmt: skip
        unexpected = dataclasses.replace(runs["surprise"], parameters={})
        assert scores(unexpected)[0].judged == "NOT as expected"
        index, honest = build([unexpected], tmp_path)
        assert not honest
        assert "1 NOT as expected" in Page(index.read_text()).text

    @pytest.mark.parametrize(("way", "prefixed"), [("own", False), ("other", True), ("full", True)])
    def test_prose_that_reads_says_which_run(
        self, runs: dict[str, Run], tmp_path: Path, way: str, prefixed: bool
    ) -> None:
        text = build([runs[way]], tmp_path)[0].read_text()
        assert ("Numbers of the default run" in text) == prefixed

    def test_two_lessons_have_a_table_of_contents(self, runs: dict[str, Run], tmp_path: Path) -> None:
        second = dataclasses.replace(runs["own"], lesson=dataclasses.replace(runs["own"].lesson, stem="B1_other"))
        page = Page(build([runs["own"], second], tmp_path)[0].read_text())
        assert page.all("nav")
        targets = {attributes.get("id") for _, attributes in page.tags}
        links = [str(attributes["href"]) for attributes in page.all("a")]
        assert {"#A1-lesson", "#B1-lesson"} <= set(links)
        assert all(link[1:] in targets for link in links if link.startswith("#"))

    def test_links_to_lessons_lead_to_their_place(self, runs: dict[str, Run], tmp_path: Path) -> None:
        other = dataclasses.replace(runs["own"], lesson=dataclasses.replace(runs["own"].lesson, stem="Z2_other"))
        page = Page(build([runs["own"], other], tmp_path)[0].read_text())
        assert {"href": "#Z2-lesson"} in page.all("a")
        assert {"href": "Z2_other.html"} in Page((tmp_path / "A1_tiny.html").read_text()).all("a")


def test_an_explorer_becomes_its_page(monkeypatch: pytest.MonkeyPatch, runs: dict[str, Run], tmp_path: Path) -> None:
    asked: list[Any] = []

    def explore(name: str, **parameters: Any) -> Any:
        asked.append((name, parameters))
        return SimpleNamespace(page=lambda: "PAGE")

    monkeypatch.setattr(explorer, "explore", explore)
    data = {EXPLORER: {"id": "A1.circle", "parameters": {"seed": 3}}, "text/html": "grid", "text/plain": "title"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", data)])]
    )
    path = tmp_path / "A1_tiny.ipynb"
    nbformat.write(notebook, path)
    body = report._body(dataclasses.replace(runs["own"], path=path))
    assert asked == [("A1.circle", {"seed": 3})]
    assert "PAGE" in body
    assert "grid" not in body


def _shown(**outputs: Any) -> str:
    output = nbformat.v4.new_output(**outputs)
    cell = nbformat.v4.new_code_cell("x = 1", outputs=[output])
    return lesson_html(nbformat.v4.new_notebook(cells=[cell]), "A1", Path("/"), True, lambda *_: "")


def test_what_was_printed_in_one_go_is_one_piece() -> None:
    lines = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("one\n", "two\n")]
    cell = nbformat.v4.new_code_cell("x = 1", outputs=lines)
    made = lesson_html(nbformat.v4.new_notebook(cells=[cell]), "A1", Path("/"), True, lambda *_: "")
    assert "one\ntwo</pre>" in made
    assert len(cell.outputs) == 2


def test_every_kind_of_output_is_shown_safely() -> None:
    stream = _shown(output_type="stream", name="stdout", text="a < b \x1b[31mred\x1b[0m")
    assert "a &lt; b red" in stream
    error = _shown(output_type="error", ename="E", evalue="v", traceback=["\x1b[0;31mE\x1b[0m: <v>"])
    assert "E: &lt;v&gt;" in error
    assert "image/svg+xml;base64," in _shown(output_type="display_data", data={"image/svg+xml": "<svg></svg>"})
    assert "<math" in _shown(output_type="display_data", data={"text/latex": "$x$"})
    assert "[1, 2]" in _shown(output_type="execute_result", data={"text/plain": "[1, 2]"})


def test_markdown_has_anchors_embedded_pictures_and_folds(tmp_path: Path) -> None:
    (tmp_path / "dot.png").write_bytes(b"PNG")
    text = "# A1 · Title\n\n## Two $x$ words\n\n![dot](dot.png)\n\n<details><summary>Q $y$</summary>A</details>"
    made = markdown_html(text, "A1", tmp_path)
    assert '<h2 id="A1">' in made
    assert '<h3 id="A1-two-words">' in made
    assert 'src="data:image/png;base64,UE5H"' in made
    assert "<details><summary>Q <math" in made
