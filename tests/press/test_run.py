"""Running headlessly: what finishes is whole, what fails is kept aside and named, what is done is not done again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.press import run
from labkit.press.run import execute, execute_all, troubles
from labkit.press.shelf import Lesson

LABKIT = [sys.executable, "-c", "from labkit.press.cli import main; main()"]


def test_a_finished_run_is_whole_has_its_figure_and_is_not_repeated(
    lesson: Lesson, tmp_path: Path, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    out = tmp_path / "out"
    done = execute(lesson, out, {"depth": "5", "rate": "0.5"})
    assert (done.trouble, done.parameters, done.reused) == ("", {"depth": 5}, False)
    assert list(out.iterdir()) == [done.path]
    notebook = read(done.path)
    assert troubles(notebook) == []
    assert "depth 5\n" in notebook.cells[3].outputs[0].text
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[4].outputs)
    assert sorted(path.name for path in lesson.notebook.parent.iterdir()) == ["A1_tiny.ipynb"]

    assert execute(lesson, out, {"depth": 5}).reused
    assert not run._finished(done.path, run._key(lesson, {"depth": 6}))
    lesson.notebook.write_text(lesson.notebook.read_text().replace("A tiny lesson", "Another"))
    assert not run._finished(done.path, run._key(lesson, {"depth": 5}))


@pytest.mark.parametrize(
    ("mode", "timeout", "says"),
    [("raise", 60, "cell 4: ValueError: on purpose"), ("sleep", 2, "a cell took longer than 2 seconds"),
     ("die", 60, "the kernel died")],
)  # fmt: skip
def test_a_failure_is_kept_aside_and_named(lesson: Lesson, tmp_path: Path, mode: str, timeout: int, says: str) -> None:
    (tmp_path / "A1_tiny.ipynb").write_text("an older, finished run")
    done = execute(lesson, tmp_path, {"mode": mode}, timeout=float(timeout))
    assert says in done.trouble
    assert done.path == tmp_path / "A1_tiny.failed.ipynb"
    assert nbformat.read(done.path, as_version=4).cells
    assert not (tmp_path / "A1_tiny.ipynb").exists()
    assert not list(tmp_path.glob(".tmp-*"))


def _code(**changes: Any) -> Any:
    cell = nbformat.v4.new_code_cell("x", execution_count=1)
    return nbformat.from_dict({**cell, **changes})


def test_what_papermill_calls_completed_is_looked_at() -> None:
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="hidden\nmore", traceback=[])
    hidden = {"output_type": "error", "ename": "KeyError", "evalue": "slider"}
    widget = {"state": {"a": {"state": {"outputs": [hidden]}}}}
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": widget}}
    cells = [_code(), _code(execution_count=None), _code(outputs=[error]), nbformat.v4.new_markdown_cell("text")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    assert troubles(notebook) == ["cell 2 was never run", "cell 3: ValueError: hidden", "a widget: KeyError: slider"]


def test_refusals_come_before_anything_runs(lesson: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_papermill", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="A1 has no parameter 'dept'; it has depth"):
        execute_all([lesson], tmp_path, {"dept": "5"})
    with pytest.raises(ValueError, match="A1: depth is 'many'; int such as 3 would do"):
        execute_all([lesson], tmp_path, {"depth": "many"})
    with pytest.raises(ValueError, match="there are no lessons to run"):
        execute_all([], tmp_path, {})
    lesson.notebook.unlink()
    with pytest.raises(ValueError, match="`labkit sync` builds it"):
        execute_all([lesson], tmp_path, {})


def test_ctrl_c_is_one_line_and_130_and_leaves_nothing_half(lesson: Lesson) -> None:
    started = subprocess.Popen(
        [*LABKIT, "run", "A1", "-p", "mode=sleep", "--root", str(lesson.root)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    executed, deadline = lesson.root / "report" / "executed", time.monotonic() + 60
    try:
        while not any('"execution_count": 2' in path.read_text() for path in executed.glob(".tmp-*/*.ipynb")):
            assert time.monotonic() < deadline, "the lesson's first cells took more than a minute"
            assert started.poll() is None, started.communicate()
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=30)
    finally:
        started.kill()
        started.communicate()
    assert (started.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("stopped; what was finished is kept")
    assert not list(executed.iterdir())


def test_a_home_that_cannot_be_written_is_lent_another(lesson: Lesson) -> None:
    environment = {**os.environ, "HOME": "/proc/nowhere"}
    command = [*LABKIT, "run", "A1", "--root", str(lesson.root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("A1_tiny.ipynb")
    assert "TCP" not in done.stderr
