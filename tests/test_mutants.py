"""Planted mistakes: each must turn its named test red, or the tests would not notice it in earnest.

A mutant changes one place of a copy of labkit and runs one test against the copy, in a process of its own.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """One planted mistake: in `file` of labkit, `old` (found exactly once) becomes `new`; `test` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        name="a noisy claim is decided",
        file="lessons/claims.py",
        old="if half > entry.resolution:",
        new="if half > 10 * entry.resolution:",
        test="tests/lessons/test_claims.py::test_outcomes",
    ),
    Mutant(
        name="the half-width is two standard errors",
        file="lessons/claims.py",
        old="half = 4 * float(values.std(ddof=1))",
        new="half = 2 * float(values.std(ddof=1))",
        test="tests/lessons/test_claims.py::test_the_half_width_is_four_standard_errors",
    ),
    Mutant(
        name="a check takes any numbers of the right shape",
        file="lessons/exercise.py",
        old="<= tolerance * scale)",
        new="<= 1e9 * scale)",
        test="tests/lessons/test_checks.py::test_a_wrong_answer_is_told_how",
    ),
    Mutant(
        name="an error inside a finished notebook is overlooked",
        file="press/run.py",
        old='if output.output_type == "error"]',
        new='if output.output_type == "mistake"]',
        test="tests/press/test_run.py::test_what_papermill_calls_completed_is_looked_at",
    ),
]

pytestmark = pytest.mark.mutant


def _copy(folder: Path) -> Path:
    """A copy of the package in `folder`, with the data beside it as in a checkout."""
    shutil.copytree(ROOT / "labkit", folder / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").symlink_to(ROOT / "data")
    return folder


def _run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests against the labkit in `folder`: `python -m` puts the current folder first."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    places = [str(ROOT / test) for test in tests]
    return subprocess.run(
        [*command, *places], cwd=folder, env=environment, capture_output=True, text=True, timeout=250
    )  # fmt: skip


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All named tests pass on a copy without a mistake, and run against that copy."""
    folder = _copy(tmp_path_factory.mktemp("healthy"))
    done = _run(folder, *sorted({mutant.test for mutant in MUTANTS}))
    assert done.returncode == 0, done.stdout[-3000:]
    where = [sys.executable, "-c", "import labkit; print(labkit.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(folder)


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    path = _copy(tmp_path) / "labkit" / mutant.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.file} has {mutant.old!r} {text.count(mutant.old)} times, not once"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    done = _run(tmp_path, mutant.test)
    assert done.returncode == 1, f"{mutant.test} stayed green:\n{done.stdout[-2000:]}"
