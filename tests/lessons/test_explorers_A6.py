"""The explorer of A6: what it shows is the spectrum, and what the theory says of it."""

import pytest
import torch

from labkit.lessons.explorers import A6
from labkit.plots import style


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


def test_every_eigenvalue_is_in_view() -> None:
    explorer = A6.EXPLORERS["A6"]
    for setting in explorer.settings():
        values = explorer.compute(**setting)["values"]
        assert A6.LIMITS[0] * 2 < values.min()
        assert values.max() < A6.LIMITS[1]


def test_without_biases_one_line_says_that_there_is_no_outlier() -> None:
    for sigma_b, count in ((0.0, 1), (0.5, 2)):
        _, ax = style.new()
        A6.draw_spectrum(A6.spectrum(32, 1, sigma_b, 20), ax)
        words = [text.get_text() for text in ax.texts]
        assert sum(word.startswith("predicted") for word in words) == count
        assert any("no outlier" in word for word in words) == (count == 1)


def test_the_law_is_the_theorys() -> None:
    data = A6.spectrum(16, 1, 0.0, 20)
    assert data["law_largest"] == pytest.approx(16 * data["law_mean"] * 16 / 20)
    assert data["law_bulk"] == pytest.approx(data["law_largest"])  # κ₂ = 0
    assert "predicted" in A6.say_spectrum(data)
