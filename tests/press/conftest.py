"""A checkout in miniature, with one lesson that can be asked to fail in every way."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.lessons import claims
from labkit.press.shelf import Lesson, find_lesson
from labkit.press.sync import sync

SOURCE = """\
# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Z1 · A tiny lesson
#
# With $\\sqrt{\\sigma_w^2} \\le 1$, and \\$5 for `$nothing$`.

# %% tags=["parameters"]
profile: str = "fast"  # fast or full
depth: int = 3  # layers
rate: float = 0.5
mode: str = "fine"

# %%
import os
import signal
import time

print("depth", depth)
if mode == "raise":
    raise ValueError("on purpose")
if mode == "sleep":
    time.sleep(60)
if mode == "die":
    os.kill(os.getpid(), signal.SIGKILL)

# %% tags=["figure"] mystnb={"image": {"alt": "One straight line & no more."}}
import matplotlib.pyplot as plt

plt.plot([0, depth])
plt.show()

# %%
from IPython.display import display

outcome = "fails" if mode == "surprise" else "holds"
record = {"id": "A1.c9 press", "predicted": 1.0, "measured": 1.25,
          "half_width": 0.031, "samples": 9, "outcome": outcome,
          "expected": "holds"}
display({"text/plain": outcome, "text/html": f"<b>{outcome}</b>",
         "application/vnd.labkit.claim+json": record}, raw=True)

# %% [markdown] tags=["reads"]
# ## What it says
#
# The line ends at 3, see [the next one](Z2_other.ipynb).
#
# | a | b |
# |---|---|
# | $x_1$ | 2 |
"""
ENTRY = {
    "statement": "One is one.", "source": "Peano 1889", "assumption": "None.", "tolerance": 0.1, "why": "It is.",
    "resolution": 0.5, "expected": "holds",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout at a path with a space and an umlaut."""
    top = tmp_path / "ein Übungsort"
    (top / "notebooks" / "source").mkdir(parents=True)
    (top / "notebooks" / "source" / "A1_tiny.py").write_text(SOURCE, encoding="utf-8")
    return top


@pytest.fixture
def lesson(root: Path) -> Lesson:
    """Its one lesson, with the notebook built."""
    found = find_lesson(root, "A1")
    sync(found)
    return found


@pytest.fixture
def read() -> Any:
    return lambda path: nbformat.read(path, as_version=4)


@pytest.fixture
def with_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The tiny lesson's claims as the only ones known; its cell shows a ready record, so that kernels start fast."""
    content = {"A1.c9 press": ENTRY, "A1.c8 never": ENTRY | {"statement": "Never measured.", "expected": "fails"}}
    (tmp_path / "claims.json").write_text(json.dumps(content))
    monkeypatch.setattr(claims, "data_file", lambda name: tmp_path / name)
    claims.entries.cache_clear()
    yield content
    claims.entries.cache_clear()
