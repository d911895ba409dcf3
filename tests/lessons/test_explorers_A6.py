"""The explorer of A6: what it shows is the spectrum, and what the theory says of it."""

import pytest
import torch

from labkit.lessons.explorers import A6


def test_every_setting_gives_a_picture_and_a_sentence() -> None:
    explorer = A6.EXPLORERS["A6"]
    texts = {frame.text for _, frame in explorer.sweep()}
    assert len(texts) == len(explorer.settings())


def test_ranks_and_the_mean() -> None:
    data = A6.spectrum(32, 1, 0.5, 20)
    assert len(data["values"]) == 20
    assert data["total"] == 32 * 32 + 32 + 32 + 1
    assert data["mean"] * data["total"] == pytest.approx(data["values"].sum())


def test_only_biases_make_an_outlier() -> None:
    """Largest over mean of the rest: about 1 + N κ₂/κ₁ with them, the edge of a crowd without."""
    ratio = {}
    for sigma_b in (0.0, 0.5):
        values = torch.as_tensor(A6.spectrum(128, 2, sigma_b, 60)["values"])
        ratio[sigma_b] = float(values[0] / values[1:].mean())
    assert ratio[0.5] > 2 * ratio[0.0]


def test_the_law_is_the_theorys() -> None:
    data = A6.spectrum(16, 1, 0.0, 20)
    assert data["law_largest"] == pytest.approx(16 * data["law_mean"] * 16 / 20)
    assert "predicted" in A6.say_spectrum(data)
