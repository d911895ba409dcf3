"""A claim of the theory, put against a measurement, and recorded where a report can read it.

What a claim says, where it comes from and what is expected of it stands in `claims.json` alone.
"""

import difflib
import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from labkit._data import data_file
from labkit.lessons import _show, journal

__all__ = ["MIME", "Entry", "Record", "claim", "entries", "judge", "line", "written"]

MIME = "application/vnd.labkit.claim+json"
Outcome = Literal["holds", "fails", "undecided"]
_DECIMALS = 6  # beyond this, powers of ten


@dataclass(frozen=True)
class Entry:
    """What is known of a claim before anything is measured.

    Attributes:
        statement: one sentence, in words.
        source: author, year, place.
        assumption: under which it is claimed.
        tolerance: how far the measured mean may lie off although the claim holds (finite width, say).
        why: where the tolerance comes from.
        resolution: largest half-width that still decides.
        expected: "holds" or "fails", with the default parameters.
        answers: id of the prediction this settles, or None.
    """

    statement: str
    source: str
    assumption: str
    tolerance: float
    why: str
    resolution: float
    expected: Literal["holds", "fails"]
    answers: str | None = None


@dataclass(frozen=True)
class Record:
    """One claim as measured; `half_width` is four standard errors or the interval given."""

    id: str
    predicted: float
    measured: float
    half_width: float
    samples: int
    outcome: Outcome
    expected: Literal["holds", "fails"]


def claim(claim_id: str, samples: Any, predicted: Any, interval: Any = None) -> None:
    """Put a prediction against independent repetitions of a measurement, and show and record the outcome.

    With mean m and half-width u of the measurement: u above the claim's resolution is *undecided*; otherwise
    |m − predicted| ≤ max(tolerance, u) *holds*, and anything else *fails*.

    Args:
        claim_id: a key of `claims.json`, "A4.c1".
        samples: (n,) independent repetitions, or one number with an interval.
        predicted: what the theory says, one number.
        interval: half-width u where it is not four standard errors of `samples`.

    Raises:
        ValueError: an unknown id, samples or prediction not finite, one sample without interval.

    Example:
        >>> claim("A1.c1", [0.51, 0.49, 0.50], predicted=0.5)  # doctest: +SKIP
        A1.c1 · predicted 0.500 · measured 0.500 ± 0.023 · holds, as expected
    """
    known = entries()
    if claim_id not in known:
        near = difflib.get_close_matches(str(claim_id), known, n=4, cutoff=0.4) or sorted(known)[:4]
        raise ValueError(f"there is no claim {claim_id!r} in claims.json; near ones: {', '.join(near) or 'none'}.")
    entry = known[claim_id]
    record = judge(claim_id, entry, samples, predicted, interval)
    guess = journal.prediction(entry.answers) if entry.answers else None
    text = line(record) + (f"; you guessed {guess}{_judged(guess, record)}" if guess else "")
    mood = {"holds": "good", "fails": "bad", "undecided": "quiet"}[record.outcome]
    if record.outcome == record.expected:
        mood = "good"
    about = f"{entry.statement} ({entry.source})"
    markup = _show.card(text, mood).replace("<div", f'<div title="{html.escape(about)}"', 1)
    _show.show(text, markup, {MIME: asdict(record)})


def judge(claim_id: str, entry: Entry, samples: Any, predicted: Any, interval: Any = None) -> Record:
    """The outcome of a claim, see `claim`.

    Raises:
        ValueError: samples or prediction not finite, one sample without interval.
    """
    values = _numbers(samples, "samples", claim_id)
    target = _numbers(predicted, "predicted", claim_id)
    if target.size != 1:
        raise ValueError(f"claim {claim_id}: predicted has {target.size} numbers; one would do.")
    if values.size == 0:
        raise ValueError(f"claim {claim_id}: samples is empty; give independent repetitions.")
    if values.size == 1 and interval is None:
        raise ValueError(f"claim {claim_id}: one sample has no standard error; give more, or interval=.")
    if interval is None:
        half = 4 * float(values.std(ddof=1)) / values.size**0.5
    else:
        half = float(_numbers(interval, "interval", claim_id)[0])
        if half < 0:
            raise ValueError(f"claim {claim_id}: interval is {half:g}; a half-width ≥ 0 would do.")
    mean, wanted = float(values.mean()), float(target[0])
    outcome: Outcome = "holds" if abs(mean - wanted) <= max(entry.tolerance, half) else "fails"
    if half > entry.resolution:
        outcome = "undecided"
    return Record(claim_id, wanted, mean, half, values.size, outcome, entry.expected)


def line(record: Record) -> str:
    """One line of text for a record."""
    verdict = record.outcome + (
        ", as expected" if record.outcome == record.expected
        else f"; with the default parameters it {record.expected}"
    )  # fmt: skip
    predicted, measured, half_width = written(record)
    return f"{record.id} · predicted {predicted} · measured {measured} ± {half_width} · {verdict}"


def _judged(guess: str, record: Record) -> str:
    """How a guess compares with the measurement, or what a guess should have been."""
    try:
        number = float(guess)
    except ValueError:
        return ", which is not one number"
    if not np.isfinite(number):
        return ", which is not one number"
    near = max(record.half_width, 0.05 * abs(record.measured))
    if abs(number - record.measured) <= near:
        return ": right"
    if number and abs(1 / number - record.measured) <= near:
        return ": its inverse is right"
    return ": too low" if number < record.measured else ": too high"


def written(record: Record) -> tuple[str, str, str]:
    """Prediction, measurement and half-width, to the decimals that the half-width gives a meaning to."""
    places = _places(record)
    if places > _DECIMALS:
        return f"{record.predicted:.3g}", f"{record.measured:.2g}", f"{record.half_width:.1g}"
    shown = [0.0 if abs(x) < 0.5 * 10.0**-places else x for x in (record.predicted, record.measured)]
    return f"{shown[0]:.{places}f}", f"{shown[1]:.{places}f}", f"{record.half_width:.{places}f}"


def _places(record: Record) -> int:
    """Decimals for two digits of the half-width, or three of the numbers where it is zero."""
    largest = max(abs(record.measured), abs(record.predicted))
    size = record.half_width or (largest / 10 if largest else 0.1)
    return max(0, 1 - int(np.floor(np.log10(size))))


def _numbers(value: Any, name: str, claim_id: str) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    try:
        array = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"claim {claim_id}: {name} is {type(value).__name__}; numbers would do.") from None
    if array.ndim > 1:
        raise ValueError(f"claim {claim_id}: {name} has shape {array.shape}; one number a repetition, (n,), would do.")
    if not np.isfinite(array).all():
        raise ValueError(f"claim {claim_id}: {name} holds NaN or infinity; finite numbers would do.")
    return array


@cache
def entries() -> Mapping[str, Entry]:
    """All claims, by id.

    Raises:
        ValueError: an entry of `claims.json` with a field missing or of the wrong kind.
    """
    text = data_file("claims.json").read_text(encoding="utf-8")
    return {claim_id: _entry(claim_id, fields) for claim_id, fields in json.loads(text).items()}


def _entry(claim_id: str, fields: dict[str, Any]) -> Entry:
    names = {field.name for field in dataclass_fields(Entry)}
    if missing := names - {"answers"} - set(fields):
        raise ValueError(f"claims.json, {claim_id}: {', '.join(sorted(missing))} is missing.")
    if strange := set(fields) - names:
        raise ValueError(f"claims.json, {claim_id}: nobody reads {', '.join(sorted(strange))}.")
    if fields["expected"] not in ("holds", "fails"):
        raise ValueError(f"claims.json, {claim_id}: expected is {fields['expected']!r}; holds or fails would do.")
    tolerance, resolution = float(fields["tolerance"]), float(fields["resolution"])
    if not 0 <= tolerance <= resolution:
        raise ValueError(f"claims.json, {claim_id}: tolerance {tolerance:g} is not within 0 … resolution.")
    return Entry(**fields | {"tolerance": tolerance, "resolution": resolution})
