"""Parameters: only declared names, only fitting values, and text read by the default's type."""

from typing import Any

import pytest

from labkit.press.parameters import declared, validated

KNOWN = {"depth": 4, "rate": 0.5, "name": "tanh", "deep": False, "widths": (1, 2), "device": None}


def _cells(source: str) -> list[Any]:
    return [{"source": "x = 1", "metadata": {}}, {"source": source, "metadata": {"tags": ["parameters"]}}]


def test_the_cell_is_read_without_running_it() -> None:
    source = 'depth: int = 4  # layers\nrate = -0.5\n"""Words."""\nwidths: tuple[int, ...] = (1, 2)\nnone = None'
    with pytest.raises(ValueError, match="the parameters cell holds"):
        declared(_cells(source))
    assert declared(_cells(source.replace('"""Words."""\n', ""))) == {
        "depth": 4, "rate": -0.5, "widths": (1, 2), "none": None,
    }  # fmt: skip
    assert declared([]) == {}
    with pytest.raises(ValueError, match=r"parameter depth starts as no literal: depth = max\(1, 2\)"):
        declared(_cells("depth = max(1, 2)"))


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [("depth", "17", 17), ("depth", "017", 17), ("depth", 3, 3), ("rate", "1e-3", 1e-3), ("rate", 2, 2.0),
     ("name", "no", "no"), ("name", "12:30:00", "12:30:00"), ("deep", "no", False), ("deep", "True", True),
     ("deep", True, True), ("widths", "(3, 4)", (3, 4)), ("device", "'cuda'", "cuda")],
)  # fmt: skip
def test_values_are_read_by_the_type_of_the_default(name: str, given: Any, value: Any) -> None:
    found = validated({name: given}, KNOWN, "A1")[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "given"),
    [("depth", "3.5"), ("depth", 3.5), ("depth", True), ("depth", "many"), ("rate", "fast"), ("deep", "perhaps"),
     ("widths", "3"), ("widths", "(3,"), ("rate", True), ("name", True)],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match=rf"A1: {name} is .*would do"):
        validated({name: given}, KNOWN, "A1")


@pytest.mark.parametrize("name", ["dept", "x = 1; import os; os.abort() #", "", "__class__"])
def test_names_that_are_not_declared_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"A1 has no parameter .*; it has .*depth"):
        validated({name: 1}, KNOWN, "A1")
