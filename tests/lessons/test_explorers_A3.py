"""The two explorers of A3: every setting gives a picture, and the numbers are those of orbits and null curves."""

import pytest
import torch

from labkit.lessons.explorers import A3


@pytest.mark.parametrize("name", A3.EXPLORERS)
def test_every_setting_gives_a_picture_and_a_sentence(name: str) -> None:
    explorer = A3.EXPLORERS[name]
    texts = {frame.text for _, frame in explorer.sweep()}
    assert len(texts) == len(explorer.settings())


def test_the_invariant_network_feels_no_turn_and_never_changes_its_mind() -> None:
    data = A3.orbit(60, A3.INVARIANT, 3)
    assert data["felt"].max() < 1e-12
    assert data["right"].all()


def test_what_a_network_is_shown_it_feels_less() -> None:
    means = [A3.orbit(0, name, 3)["felt"].mean() for name in ("upright only", "turned up to 30°", "turned all ways")]
    assert means[0] > means[1] > means[2] > 0.05


def test_a_whole_turn_comes_back() -> None:
    one, other = A3.orbit(-180, "upright only", 5), A3.orbit(180, "upright only", 5)
    assert torch.allclose(one["picture"], other["picture"], atol=1e-10)
    assert one["felt"][one["here"]] == pytest.approx(other["felt"][other["here"]])


def test_unseen_steps_move_the_picture_and_not_the_logits() -> None:
    data = A3.walk(100, "unseen steps only", 3, 0)
    assert data["walked"] > 2
    assert data["moved"] < 0.01
    straight = A3.walk(100, "straight on", 3, 0)
    assert straight["moved"] > 5
    assert straight["said"].startswith("0")


def test_towards_itself_nothing_moves() -> None:
    for way in ("unseen steps only", "straight on"):
        data = A3.walk(100, way, 4, 4)
        assert data["walked"] == data["moved"] == 0


def test_another_seed_is_another_network() -> None:
    other = A3.EXPLORERS["A3"].fixed(seed=1).result(A3.EXPLORERS["A3"].start)
    assert other["felt"].mean() != A3.orbit(0, "upright only", 3)["felt"].mean()
