"""The table "Which function do I need?" names what exists and leaves out nothing public; docstrings have examples."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import labkit
import labkit.geometry
import labkit.theory

ROOT = Path(__file__).parents[2]
HOMES = ["chain", "cutting", "jets", "linearization", "links", "networks"]
HOMES += [
    f"{floor.__name__.removeprefix('labkit.')}.{found.name}"
    for floor in (labkit.geometry, labkit.theory)
    for found in pkgutil.iter_modules(floor.__path__)
    if found.name[0] != "_" and found.name != "activations"  # which holds names, and answers no question
]
MODULES = {home.split(".")[-1]: importlib.import_module(f"labkit.{home}") for home in HOMES}
CLASSES = {name: getattr(MODULES[home], name) for home, name in [
    ("chain", "Chain"), ("linearization", "Linearization"), ("spectra", "LogSpectrum"),
]}  # fmt: skip
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in (ROOT / "docs/which_function.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| question")
]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`([A-Za-z_.]+)`", row[1])})


def found(name: str) -> Any:
    first, *rest = name.split(".")
    thing: Any = MODULES.get(first) or CLASSES[first]
    for part in rest:
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_table_exists(name: str) -> None:
    assert not isinstance(found(name), ModuleType)


@pytest.mark.parametrize("home", sorted(MODULES))
def test_every_public_name_is_in_the_table(home: str) -> None:
    listed = {id(found(name)) for name in NAMES}
    module = MODULES[home]
    assert [name for name in module.__all__ if id(getattr(module, name)) not in listed] == []


@pytest.mark.parametrize("home", sorted(MODULES))
def test_every_public_class_and_function_has_an_example(home: str) -> None:
    things = {name: getattr(MODULES[home], name) for name in MODULES[home].__all__}
    assert [name for name, thing in things.items() if callable(thing) and ">>>" not in (thing.__doc__ or "")] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_row_is_whole(row: list[str]) -> None:
    question, function, needs, cost, lesson = row
    assert question[0].isupper() or question.startswith("…")
    assert re.search(r"`[A-Za-z_.]+`", function)
    assert needs
    assert cost
    assert re.fullmatch(r"[ABC]\d|\*[ABC]\d\*|–", lesson)


def used_in(path: Path) -> tuple[set[int], set[str]]:
    """The ids of what a script takes from labkit, and every attribute that it reads, as methods are."""
    tree = ast.parse(path.read_text())
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labkit"):
            home = importlib.import_module(node.module or "")
            for alias in node.names:
                thing = getattr(home, alias.name, None) or importlib.import_module(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = thing
    taken = {id(names[node.id]) for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in names}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in attributes:
        if isinstance(node.value, ast.Name) and isinstance(names.get(node.value.id), ModuleType):
            taken.add(id(getattr(names[node.value.id], node.attr)))
    return taken, {node.attr for node in attributes}


LESSONS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks/source").glob("[ABC]?_*.py"))}
USED = {
    lesson: [used_in(path) for path in (source, ROOT / f"labkit/lessons/explorers/{lesson}.py") if path.exists()]
    for lesson, source in LESSONS.items()
}


def uses(lesson: str, name: str) -> bool:
    *owner, last = name.split(".")
    of_a_class = bool(owner) and owner[-1][0].isupper()
    return any(last in read if of_a_class else id(found(name)) in taken for taken, read in USED[lesson])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_the_lesson_of_a_row_uses_it_and_italics_are_to_come(row: list[str]) -> None:
    *_, column = row
    names = re.findall(r"`([A-Za-z_.]+)`", row[1])
    users = [lesson for lesson in LESSONS if any(uses(lesson, name) for name in names)]
    if users:
        assert column in users
    else:
        assert column == "–" or (column[0] == "*" and column.strip("*") not in LESSONS)


def test_the_readme_leads_to_it() -> None:
    assert "(docs/which_function.md)" in (ROOT / "README.md").read_text()
