"""Claims: the four rules of an outcome, the record that a report reads, and refusals in one sentence."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.lessons import _show, claim, claims, predict
from labkit.lessons.claims import Entry, entries, judge, line
from labkit.lessons.journal import prediction

ENTRY = Entry("Said.", "Nobody 1900", "None.", 0.1, "Width.", 0.5, "holds", "Z9.p1")


@pytest.fixture
def claims_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a claims file of one's own; `entries` reads it."""

    def write(content: dict[str, Any]) -> None:
        (tmp_path / "claims.json").write_text(json.dumps(content), encoding="utf-8")
        entries.cache_clear()

    monkeypatch.setattr(claims, "data_file", lambda name: tmp_path / name)
    yield write
    entries.cache_clear()


def _fields(**changes: Any) -> dict[str, Any]:
    known = {"statement": "Said.", "source": "Nobody 1900", "assumption": "None.", "tolerance": 0.1, "why": "Width.",
             "resolution": 0.5, "expected": "holds", "answers": "Z9.p1"}  # fmt: skip
    return known | changes


@pytest.mark.parametrize(
    ("samples", "interval", "predicted", "outcome"),
    [
        ([1.0, 1.0, 1.0], None, 1.09, "holds"),  # within the tolerance
        ([1.0, 1.0, 1.0], None, 1.11, "fails"),  # beyond it, and no noise to excuse it
        ([1.0], 0.3, 1.29, "holds"),  # within the half-width
        ([1.0], 0.3, 1.31, "fails"),
        ([1.0], 0.5, 1.0, "holds"),  # as coarse as the resolution allows
        ([1.0], 0.51, 1.0, "undecided"),  # a claim cannot hold by being noisy
        ([1.0], 0.51, 9.0, "undecided"),  # nor fail
        ([1.0], 0.0, 1.0, "holds"),
    ],
)
def test_outcomes(samples: list[float], interval: float | None, predicted: float, outcome: str) -> None:
    assert judge("Z9.c1", ENTRY, samples, predicted, interval).outcome == outcome


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_the_half_width_is_four_standard_errors(numbers: list[float]) -> None:
    mean = math.fsum(numbers) / len(numbers)
    variance = math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1)
    record = judge("Z9.c1", ENTRY, torch.tensor(numbers, dtype=torch.float64), 0.0)
    assert record.half_width == pytest.approx(4 * math.sqrt(variance / len(numbers)), abs=1e-9)
    assert record.measured == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("samples", [torch.tensor([1, 2, 3]), np.float32([1, 2, 3]), [1, 2, 3], (1.0, 2.0, 3.0),
                                     torch.tensor([1.0, 2.0, 3.0], requires_grad=True)])  # fmt: skip
def test_samples_of_any_make(samples: Any) -> None:
    record = judge("Z9.c1", ENTRY, samples, torch.tensor(2.0))
    assert (record.measured, record.samples) == (2.0, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([1.0], 1.0), "one sample has no standard error"),
        ((3.0, 1.0), "one sample has no standard error"),
        (([1.0, float("nan")], 1.0), "samples holds NaN or infinity"),
        (([1.0, 2.0], float("-inf")), "predicted holds NaN or infinity"),
        (([], 1.0), "samples is empty"),
        ((torch.ones(2, 2), 1.0), r"samples has shape \(2, 2\)"),
        (([1.0, 2.0], [1.0, 2.0]), "predicted has 2 numbers"),
        (("many", 1.0), "samples is str"),
        ((None, 1.0), "samples"),
        (([1.0, 2.0], 1.0, -1.0), "interval is -1"),
        (([1.0, 2.0], 1.0, float("nan")), "interval holds NaN"),
    ],
)
def test_refusals(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"claim Z9.c1: .*{says}"):
        judge("Z9.c1", ENTRY, *arguments)


def test_an_unknown_claim_is_refused_with_the_near_ones(claims_file: Any) -> None:
    claims_file({"Z9.c1": _fields(), "Z9.c2": _fields()})
    with pytest.raises(ValueError, match=r"no claim 'Z9.c3' in claims.json; near ones: Z9.c"):
        claim("Z9.c3", [1.0, 2.0], predicted=1.0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"statement": "Said."}, "assumption, expected, .* is missing"),
        (_fields(extra=1), "nobody reads extra"),
        (_fields(expected="undecided"), "expected is 'undecided'"),
        (_fields(tolerance=0.6), "tolerance 0.6"),
        (_fields(tolerance=-1), "tolerance -1"),
    ],
)
def test_a_bad_entry_is_named(claims_file: Any, fields: dict[str, Any], says: str) -> None:
    claims_file({"Z9.c1": fields})
    with pytest.raises(ValueError, match=rf"claims.json, Z9.c1: .*{says}"):
        entries()


@pytest.mark.parametrize(
    ("guess", "word"),
    [
        (6.4, ": right"),
        (6, ": too low"),
        (64.0, ": too high"),
        (1 / 6.4, ": its inverse is right"),
        (0, ": too low"),
        (float("nan"), ", which is not one number"),
        ("six", ", which is not one number"),
        ([6, 4], ", which is not one number"),
    ],
)
def test_a_guess_is_judged(claims_file: Any, monkeypatch: pytest.MonkeyPatch, guess: Any, word: str) -> None:
    claims_file({"Z9.c1": _fields()})
    monkeypatch.setenv("LABKIT_PROGRESS", "")
    shown: list[str] = []
    monkeypatch.setattr(_show, "show", lambda text, *_: shown.append(text))
    predict("Z9.p1", guess)
    claim("Z9.c1", 6.4, predicted=6.4, interval=0.0)
    assert shown[-1].endswith(f"you guessed {prediction('Z9.p1')}{word}")


def test_a_claim_is_shown_with_the_guess_and_recorded(claims_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    claims_file({"Z9.c1": _fields()})
    monkeypatch.setenv("LABKIT_PROGRESS", "")
    shown: list[Any] = []
    monkeypatch.setattr(_show, "show", lambda *arguments: shown.append(arguments))
    predict("Z9.p1", 0.7)
    claim("Z9.c1", [1.0, 1.0], predicted=1.0)
    text, markup, data = shown[-1]
    assert text == "Z9.c1 · predicted 1.00 · measured 1.00 ± 0.00 · holds, as expected; you guessed 0.7: too low"
    assert text in markup
    assert data == {
        "application/vnd.labkit.claim+json": {
            "id": "Z9.c1", "predicted": 1.0, "measured": 1.0, "half_width": 0.0, "samples": 2, "outcome": "holds",
            "expected": "holds",
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "predicted", "interval", "says"),
    [
        (-0.3614, -0.3561, 0.0173, "predicted -0.356 · measured -0.361 ± 0.017 · holds"),
        (1e-5, -1e-5, 0.013, "predicted 0.000 · measured 0.000 ± 0.013 · holds"),
        (3e-13, 0.0, 2e-13, "predicted 0 · measured 3e-13 ± 2e-13 · holds"),
        (640.0, 640.0, 0.0, "predicted 640 · measured 640 ± 0 · holds"),
        (1.0, 2.0, 0.0, "measured 1.00 ± 0.00 · fails; with the default parameters it holds"),
    ],
)
def test_numbers_are_written_to_the_digits_they_have(
    samples: float, predicted: float, interval: float, says: str
) -> None:
    assert says in line(judge("Z9.c1", ENTRY, samples, predicted, interval))


def test_the_claims_that_are_shipped_can_be_read() -> None:
    entries.cache_clear()
    for claim_id, entry in entries().items():
        assert entry.statement.endswith("."), claim_id
        assert entry.source, claim_id
        assert entry.why, claim_id
