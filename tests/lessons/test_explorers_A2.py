"""The two explorers of A2: every setting gives a picture, and the numbers are those of the metric."""

import pytest

from labkit.lessons.explorers import A2


@pytest.fixture(scope="module")
def start() -> dict[str, object]:
    return A2.journey(6, 12.0, -12.0, "trouser", "trained")


@pytest.mark.parametrize("name", A2.EXPLORERS)
def test_every_setting_gives_a_picture_and_a_sentence(name: str) -> None:
    explorer = A2.EXPLORERS[name]
    texts = {frame.text for _, frame in explorer.sweep()}
    assert len(texts) == len(explorer.settings())


def test_at_the_input_all_ellipses_are_unit_circles() -> None:
    data = A2.field(0, 8)
    assert data["distortion"].max() == pytest.approx(1)
    assert data["mean"] == pytest.approx(0)


def test_training_moves_the_field_and_ends_with_a_good_classifier() -> None:
    before, after = A2.field(6, 0), A2.field(6, 8)
    assert after["distortion"].mean() > 1.3 * before["distortion"].mean()


def test_a_segment_keeps_its_length_at_the_input_and_stays_straight_through_an_affine_link() -> None:
    at_input = A2.journey(0, 12.0, 20.0, "boot", "trained")
    assert at_input["length"] == pytest.approx(at_input["before"])
    after_one = A2.journey(1, 12.0, 20.0, "boot", "trained")
    assert after_one["length"] == pytest.approx(after_one["chord"])


def test_a_bent_image_is_longer_than_its_chord(start: dict[str, float]) -> None:
    assert start["length"] > 1.05 * start["chord"]
    assert "1.2" in A2.say_journey(start)


def test_the_picture_in_the_plane_of_the_image_is_no_longer_than_the_image(start: dict[str, float]) -> None:
    flat = start["image"].diff(dim=0).norm(dim=1).sum()
    assert 0.8 * start["length"] < flat <= start["length"] * (1 + 1e-9)


def test_the_picture_says_what_the_network_calls_both_ends(start: dict[str, object]) -> None:
    assert [words.split()[0] for words in start["said"]] == ["trouser", "dress"]
    assert "trouser 100 % at its start" in A2.say_journey(start)


def test_a_click_sets_the_end_of_the_segment() -> None:
    explorer = A2.EXPLORERS["A2.curve"]
    spots = explorer.frame(explorer.start).spots
    assert explorer.click == ("a", "b")
    assert spots is not None
    assert spots["x"] == sorted(spots["x"])
    assert spots["y"] == sorted(spots["y"], reverse=True)
    assert len(spots["x"]) == len(A2.SPOTS)


def test_another_seed_is_another_network() -> None:
    assert A2.EXPLORERS["A2"].fixed(seed=1).result({"depth": 6, "epochs": 0})["mean"] != A2.field(6, 0)["mean"]
