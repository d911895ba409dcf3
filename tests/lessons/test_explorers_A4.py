"""The phase diagram explorer: every setting gives a picture, and its numbers are those of the network."""

import numpy as np
import pytest

from labkit.lessons.explorers import A4


def test_every_setting_gives_a_picture_and_a_sentence() -> None:
    explorer = A4.EXPLORERS["A4"]
    assert len({frame.text for _, frame in explorer.sweep()}) == len(explorer.settings())


def test_gradients_at_the_input_are_the_sum_of_squared_singular_values() -> None:
    data = A4.at_point(1.4, 0.3, 4)
    assert data["gradients"][0] == pytest.approx(np.exp(2 * data["logs"]).sum() / A4.WIDTH)
    assert data["gradients"][-1] == 1


def test_order_shrinks_and_chaos_stretches() -> None:
    ordered, chaotic = (A4.at_point(s, 0.3, 8) for s in (0.8, 2.6))
    assert ordered["ratio"] < 0.3 < 2 < chaotic["ratio"]
    assert "ordered" in A4.say(ordered)
    assert "chaotic" in A4.say(chaotic)
    assert "without a stable length" in A4.say(A4.at_point(3.0, 0.3, 2, "relu"))


@pytest.mark.parametrize("sigma_w", [1.2, 1.4])
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_the_word_agrees_with_the_number_shown(sigma_w: float, activation: str) -> None:
    data = A4.at_point(sigma_w, 0.3, 2, activation)
    said = A4.say(data)
    shown = float(said.partition("χ₁ = ")[2].split(";")[0])
    assert shown == pytest.approx(data["chi"], abs=5e-4)
    if "stable" not in said and "barely" not in said:
        assert ("chaotic" in said, "ordered" in said) == (shown > 1, shown < 1)


def test_near_the_edge_the_word_is_hedged() -> None:
    data = A4.at_point(1.4, 0.3, 2)
    assert A4.say(data).startswith("chaotic, χ₁ = 1.003")
    assert A4.say(data | {"chi": 1.0001}).startswith("chaotic, barely, χ₁ = 1.000")
