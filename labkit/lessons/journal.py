"""What a reader has done: exercises passed and predictions made, in one small local file.

The file lies in the working copy that `labkit lab` makes; outside of one, progress lasts as long as the session.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit.lessons import MARKER, _show
from labkit.lessons.exercise import Exercise

__all__ = ["passed", "predict", "prediction", "progress", "score"]

_EMPTY: dict[str, dict[str, Any]] = {"passed": {}, "predictions": {}}
_session = json.loads(json.dumps(_EMPTY))


def predict(prediction_id: str, guess: Any = None) -> None:
    """Note a guess before the measurement; the claim it belongs to will show it beside the result.

    Args:
        prediction_id: "A4.p1".
        guess: a number, a word or a list of these; None invites one.

    Example:
        >>> predict("A4.p1", 2.5)
        A4.p1: noted, 2.5. The measurement comes below.
    """
    if guess is None or guess is ...:
        text = f"{prediction_id}: no guess yet. Make one: being wrong now is what makes the answer stick."
        _show.show(text, _show.card(text, "quiet"))
        return
    plain = _plain(guess)
    trouble = _record("predictions", prediction_id, plain)
    text = f"{prediction_id}: noted, {_written(plain)}. The measurement comes below.{trouble}"
    _show.show(text, _show.card(text, "plain"))


def prediction(prediction_id: str) -> str | None:
    """The guess noted under that id as text, or None."""
    guess = _load()[0]["predictions"].get(prediction_id)
    return None if guess is None else _written(guess)


def passed(exercise_id: str) -> str:
    """Note that an exercise is solved; the answer says what went wrong with saving, or is empty."""
    return _record("passed", exercise_id, True)


def score(exercises: Sequence[Exercise]) -> tuple[int, int]:
    """How many of `exercises` are solved, and how many there are."""
    done = _load()[0]["passed"]
    return sum(exercise.id in done for exercise in exercises), len(exercises)


def progress() -> None:
    """Show how many exercises are solved, lesson by lesson."""
    from labkit.lessons.checks import exercises_of, lessons

    rows = [(lesson, *score(exercises_of(lesson))) for lesson in lessons()]
    done, total = sum(row[1] for row in rows), sum(row[2] for row in rows)
    text = f"You have {done} of {total}."
    lines = [f"{lesson}  {'●' * n}{'○' * (of - n)}  {n} of {of}" for lesson, n, of in rows]
    _show.show("\n".join([text, *lines]), _show.card(text, "good" if done else "quiet", "\n".join(lines)))


def _plain(guess: Any) -> Any:
    """The guess as JSON can hold it: numbers stay numbers, the rest becomes text."""
    if isinstance(guess, torch.Tensor | np.ndarray | np.generic):
        guess = guess.tolist()
    if isinstance(guess, bool | int | float | str):
        return guess
    return [_plain(part) for part in guess] if isinstance(guess, list | tuple) else str(guess)


def _written(guess: Any) -> str:
    if isinstance(guess, list):
        return ", ".join(map(_written, guess))
    return f"{guess:g}" if isinstance(guess, float) else str(guess)


def _file() -> Path | None:
    """Where progress is kept: LABKIT_PROGRESS, else beside the marker of the working copy around here, else nowhere."""
    if (named := os.environ.get("LABKIT_PROGRESS")) is not None:
        return Path(named) if named else None
    here = Path.cwd()
    return next((top / "progress.json" for top in [here, *here.parents] if (top / MARKER).exists()), None)


def _load() -> tuple[dict[str, dict[str, Any]], str]:
    """What is known, and a sentence if the file could not be read."""
    path = _file()
    if path is None:
        return _session, ""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: dict(found[key]) for key in _EMPTY}, ""
    except FileNotFoundError:
        return json.loads(json.dumps(_EMPTY)), ""
    except (OSError, ValueError, KeyError, TypeError):
        return json.loads(json.dumps(_EMPTY)), f" ({path.name} was damaged and starts anew; the old one is kept.)"


def _record(kind: str, key: str, value: Any) -> str:
    known, trouble = _load()
    known[kind][key] = value
    path = _file()
    if path is None:
        return ""
    try:
        if trouble:
            path.replace(path.with_suffix(".damaged.json"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as new:
            json.dump(known, new, ensure_ascii=False, indent=1, sort_keys=True)
        Path(new.name).replace(path)
    except OSError as error:
        return f" (Not saved: {error.strerror or error}.)"
    return trouble
