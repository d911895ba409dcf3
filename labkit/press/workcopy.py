"""The learner's own copy of the lessons: new ones arrive, and nothing that is there is ever overwritten.

A marker file at its top remembers which version of each lesson was copied, so that a changed one can be laid beside.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

from labkit.lessons import MARKER
from labkit.press.files import write_atomically
from labkit.press.surroundings import lend_home

__all__ = ["START", "open_lab", "refresh"]

START = "00_start_here.ipynb"


def refresh(root: Path, work: Path) -> list[str]:
    """Bring the working copy up to date.

    Args:
        root: the checkout.
        work: the copy; made if need be.

    Returns:
        One line for each lesson that is new or has changed since it was copied. A changed one is laid beside the
        reader's as `NAME.new.ipynb`.
    """
    marker = work / MARKER
    copied: dict[str, str] = _read(marker)
    lines = []
    for source in sorted((root / "notebooks").rglob("*.ipynb")):
        name = source.relative_to(root / "notebooks")
        if any(part.startswith(".") for part in name.parts):
            continue
        mine, text = work / name, source.read_bytes()
        version = hashlib.sha256(text).hexdigest()[:16]
        if not mine.exists():
            write_atomically(mine, text)
            lines.append(f"new: {name}")
        elif copied.get(str(name), version) != version:
            beside = mine.with_suffix(".new.ipynb")
            write_atomically(beside, text)
            lines.append(f"changed: {name}; yours stays, the new one is {beside.name}")
        copied[str(name)] = version
    write_atomically(marker, json.dumps(copied, indent=1, sort_keys=True) + "\n")
    return lines


def open_lab(work: Path) -> None:
    """Become JupyterLab, opened in the working copy; its address is printed.

    Raises:
        RuntimeError: JupyterLab is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("jupyterlab") is None:
        raise RuntimeError("JupyterLab is not installed; `make lab` sets it up, or pip install 'jacobian-chain[lab]'.")
    lend_home()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("MPLBACKEND", None)  # a kernel would draw nothing
    start = work / START
    words = ["-m", "jupyterlab", f"--ServerApp.root_dir={work}", "--LabApp.news_url=None",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-root")
    os.execv(sys.executable, [sys.executable, *words, *([str(start)] if start.exists() else [])])


def _read(marker: Path) -> dict[str, str]:
    try:
        return dict(json.loads(marker.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return {}
