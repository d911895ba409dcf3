"""The house keeps its floor plan: imports go down, the door opens at once, and nothing outside is named.

These tests read the source and start fresh interpreters; they need no network and compute nothing.
"""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "labkit").rglob("*.py"))
TEXTS = sorted(
    path
    for folder in ["labkit", "tests", "benchmarks", "scripts", "notebooks/source", "docs", "."]
    for path in (ROOT / folder).glob("*" if folder == "." else "**/*")
    if path.suffix in {".py", ".md", ".toml", ".yml", ".sh", ".js", ".css", ".cff"} or path.name == "Makefile"
)
HEAVY = {
    "torch", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "seaborn", "ipywidgets", "papermill", "transformers",
}  # fmt: skip


def test_imports_go_down_the_floors() -> None:
    linter = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, env=_path(), capture_output=True, text=True)
    assert linter.returncode == 0, linter.stdout


@pytest.mark.parametrize("module", ["labkit", "labkit.press.cli"])
def test_door_opens_at_once(module: str) -> None:
    assert not _loaded_by(f"import {module}") & HEAVY


def test_chain_loads_torch_and_none_of_the_others() -> None:
    loaded = _loaded_by("from labkit import Chain")
    assert "torch" in loaded
    assert not loaded & (HEAVY - {"torch", "numpy"})


def test_labkit_imports_only_what_it_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name, group in project["optional-dependencies"].items() if name != "dev" for line in group]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"] + extras}
    homes = packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in _imported(path) - set(sys.stdlib_module_names) - {"labkit"}
        if not {canonicalize_name(home) for home in homes.get(name, [name])} & declared
    }
    assert not undeclared


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_they_are(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_nothing_names_a_place_outside_the_project() -> None:
    outside = re.compile(r"(?<![\w.:/<-])(?:/(?:root|home|work|opt|mnt|srv)/\w|\.\./\.\./shared)|https?://[\w.]*(?:pypi|pythonhosted)")
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in TEXTS
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if outside.search(line)
    ]
    assert not named


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_to_files_of_the_project(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def _loaded_by(statement: str) -> set[str]:
    command = [sys.executable, "-X", "importtime", "-c", statement]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in process.stderr.splitlines() if "|" in line}


def _path() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
