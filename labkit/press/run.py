"""Lessons run headlessly: a finished notebook is whole and verified, a failed one is kept under another name.

papermill's own status is not trusted: what counts is that every cell ran and none, nor any widget, holds an error.
"""

import importlib.metadata
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat as untyped_nbformat

from labkit._data import data_file
from labkit.press.files import digest, write_atomically
from labkit.press.parameters import declared, validated
from labkit.press.shelf import Lesson
from labkit.press.surroundings import lend_home

__all__ = ["Run", "execute", "execute_all", "troubles"]

nbformat: Any = untyped_nbformat  # its functions carry no types
_DECIDES = ("torch", "numpy", "scipy", "matplotlib")  # versions under which a finished lesson counts as finished


@dataclass(frozen=True)
class Run:
    """One lesson after running.

    Attributes:
        lesson: which.
        path: the executed notebook, NAME.ipynb, or NAME.failed.ipynb.
        parameters: the ones given that differ from the lesson's own.
        seconds: wall time.
        trouble: one sentence if it failed, else empty.
        reused: an earlier run of the same lesson, code and parameters stood for this one.
    """

    lesson: Lesson
    path: Path
    parameters: dict[str, Any]
    seconds: float
    trouble: str = ""
    reused: bool = False


def execute_all(
    lessons: Sequence[Lesson], folder: Path, given: Mapping[str, Any], timeout: float = 600.0, again: bool = False
) -> list[Run]:
    """Run lessons one after the other, with a progress bar; one that fails does not stop the rest.

    Args:
        lessons: which.
        folder: where the executed notebooks go.
        given: parameters; each must be declared by one lesson at least, and goes to those that declare it.
        timeout: seconds a cell may take.
        again: run what has been run already, too.

    Raises:
        ValueError: no lesson, a parameter nobody declares, a value that does not fit; before anything runs.
    """
    from tqdm import tqdm

    if not lessons:
        raise ValueError("there are no lessons to run; notebooks/ is empty.")
    known = [declared(_read(lesson).cells) for lesson in lessons]
    everything = {name: default for one in known for name, default in one.items()}
    validated(given, everything, " / ".join(lesson.id for lesson in lessons))
    plans = [
        validated({n: v for n, v in given.items() if n in one}, one, lesson.id)
        for lesson, one in zip(lessons, known, strict=True)
    ]
    runs = []
    bar = tqdm(lessons, unit="lesson", disable=None if len(lessons) == 1 else False, file=sys.stderr)
    for lesson, values in zip(bar, plans, strict=True):
        bar.set_description(lesson.id)
        runs.append(execute(lesson, folder, values, timeout, again))
        done = runs[-1]
        how = done.trouble or ("unchanged, not run again" if done.reused else f"{done.seconds:.0f} s")
        bar.write(f"{lesson.stem}: {how}", file=sys.stderr)
    return runs


def execute(lesson: Lesson, folder: Path, given: Mapping[str, Any], timeout: float = 600.0, again: bool = False) -> Run:
    """Run one lesson; see `execute_all`.

    Returns:
        The run; a lesson that fails is told in `trouble`, not raised.
    """
    known = declared(_read(lesson).cells)
    values = validated(given, known, lesson.id)
    changed = {name: value for name, value in values.items() if value != known[name]}
    target, failed = folder / f"{lesson.stem}.ipynb", folder / f"{lesson.stem}.failed.ipynb"
    key = _key(lesson, changed)
    if not again and (seconds := _finished(target, key)) is not None:
        return Run(lesson, target, changed, seconds, reused=True)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-") as scratch:
        draft = Path(scratch) / f"{lesson.stem}.ipynb"
        trouble = _papermill(lesson, draft, changed, timeout)
        notebook = nbformat.read(draft, as_version=4) if draft.exists() else nbformat.v4.new_notebook()
    seconds = time.monotonic() - start
    trouble = trouble or "; ".join(troubles(notebook)[:1])
    notebook.metadata["labkit_run"] = {"key": key, "seconds": round(seconds, 2), "parameters": changed}
    path, stale = (failed, target) if trouble else (target, failed)
    write_atomically(path, nbformat.writes(notebook) + "\n")
    stale.unlink(missing_ok=True)
    return Run(lesson, path, changed, seconds, trouble)


def troubles(notebook: Any) -> list[str]:
    """What is wrong with an executed notebook, one sentence each; empty if nothing is.

    Args:
        notebook: from nbformat.
    """
    found = []
    for place, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            found.append(f"cell {place}: {errors[0].ename}: {errors[0].evalue}".split("\n")[0])
        elif cell.execution_count is None and cell.source.strip():
            found.append(f"cell {place} was never run")
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for model in widgets.get("state", {}).values():
        for output in model.get("state", {}).get("outputs", ()):
            if output.get("output_type") == "error":
                found.append(f"a widget: {output.get('ename')}: {output.get('evalue')}")
    return found


def _papermill(lesson: Lesson, draft: Path, values: dict[str, Any], timeout: float) -> str:
    """Execute into `draft`; the sentence that says why it did not end well, or nothing."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    lend_home()
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would say is told in `trouble`
    with tempfile.TemporaryDirectory(prefix="lk-") as sockets:
        try:
            papermill.execute_notebook(
                str(lesson.notebook), str(draft), parameters=values, kernel_name="python3", progress_bar=False,
                start_timeout=120, execution_timeout=int(timeout), cwd=str(lesson.notebook.parent),
                kernel_manager_class=_kernels(sockets),
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            return f"cell {error.cell_index + 1}: {error.ename}: {error.evalue}".split("\n")[0]
        except CellTimeoutError:
            return f"a cell took longer than {timeout:g} seconds"
        except DeadKernelError:
            return "the kernel died (out of memory?)"
    return ""


def _kernels(sockets: str) -> Any:
    """A kernel manager that opens no port, and starts kernels with one thread and their own figures."""
    from jupyter_client.manager import AsyncKernelManager

    class Quiet(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{"transport": "ipc", "connection_file": f"{sockets}/k.json", **options})

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # the base wraps it anew
            env = {"OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", **os.environ, "LABKIT_PROGRESS": ""}
            env.pop("MPLBACKEND", None)  # with it a kernel draws no figure at all, and says nothing
            with (Path(sockets) / "stderr.txt").open("w") as noise:  # what a cell prints does not go this way
                await super().start_kernel(**options, env=env, stderr=noise)

    return Quiet


def _read(lesson: Lesson) -> Any:
    if not lesson.notebook.exists():
        raise ValueError(f"{lesson.notebook} is not there; `labkit sync` builds it.")
    return nbformat.read(lesson.notebook, as_version=4)


def _key(lesson: Lesson, values: Mapping[str, Any]) -> str:
    package = Path(__file__).parents[1]
    code = [path for path in package.rglob("*") if path.suffix in (".py", ".js", ".css", ".mplstyle")]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _DECIDES]
    asked = json.dumps([values, os.environ.get("LABKIT_STRICT")], sort_keys=True)
    return digest([lesson.notebook, data_file("claims.json"), *code], asked, *versions)


def _finished(target: Path, key: str) -> float | None:
    """How long the run took that stands at `target`, if it has that key."""
    try:
        run = json.loads(target.read_text(encoding="utf-8"))["metadata"]["labkit_run"]
        return float(run["seconds"]) if run["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
