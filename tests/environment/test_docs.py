"""The table "Which function do I need?" names what exists and leaves out nothing public; docstrings have examples."""

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
    written = list((ROOT / "notebooks/source").glob(f"{lesson}_*.py"))
    assert written or re.fullmatch(r"\*[ABC]\d\*", lesson)


def test_the_readme_leads_to_it() -> None:
    assert "(docs/which_function.md)" in (ROOT / "README.md").read_text()
