"""The two explorers of A5: every setting gives a picture, and the numbers are those of curvature."""

import math

import numpy as np
import pytest

from labkit.lessons.explorers import A5


@pytest.mark.parametrize("name", A5.EXPLORERS)
def test_every_setting_gives_a_picture_and_a_sentence(name: str) -> None:
    explorer = A5.EXPLORERS[name]
    texts = {frame.text for _, frame in explorer.sweep()}
    assert len(texts) == len(explorer.settings())


@pytest.mark.parametrize("depth", [0, 1])
def test_an_affine_image_is_flat(depth: int) -> None:
    data = A5.sheet(depth, 2.0)
    assert not data["bill"].any()
    assert data["seen"] == pytest.approx(1)
    assert "flat" in A5.say_sheet(data)


def test_the_bill_is_symmetric_adds_up_to_the_pieces_and_its_own_terms_do_not() -> None:
    data = A5.sheet(6, 1.4)
    np.testing.assert_allclose(data["bill"], data["bill"].T, atol=1e-12)
    assert data["bill"].sum() == pytest.approx(data["pieces"].sum())
    assert abs(data["bill"].trace() - data["bill"].sum()) > 1
    assert f"{data['bill'].sum():.2f} rad" in A5.say_sheet(data)


def test_layers_to_come_pay_nothing() -> None:
    bill = A5.sheet(3, 1.4)["bill"]
    assert not bill[3:].any()
    assert bill[2].any()


@pytest.mark.parametrize(("depth", "network"), [(0, "tanh"), (1, "relu")])
def test_a_circle_turns_once_and_every_readout_has_two_extrema(depth: int, network: str) -> None:
    data = A5.turn(depth, network, 2)
    assert data["turned"] == pytest.approx(2)
    assert data["mean"] == 2
    assert len(data["extrema"]) == 2


def test_total_curvature_is_the_mean_number_of_extrema() -> None:
    data = A5.turn(6, "tanh", 1)
    assert data["turned"] > 2.5
    assert data["mean"] == pytest.approx(data["turned"], rel=0.05)
    assert data["values"][data["extrema"]].std() > 0.1


def test_kinks_turn_a_loop_that_looks_as_smooth() -> None:
    assert A5.turn(6, "relu", 1)["turned"] > 3 * A5.turn(6, "tanh", 1)["turned"]


def test_extrema_are_where_the_readout_turns() -> None:
    data = A5.turn(4, "tanh", 3)
    values = data["values"]
    for at in data["extrema"]:
        before, here, after = values[at - 1], values[at], values[(at + 1) % len(values)]
        assert (here - before) * (here - after) >= 0
    assert math.isclose(np.abs(values).max(), 1)


def test_another_seed_is_another_network() -> None:
    assert A5.sheet(4, 1.4, seed=1)["bill"].sum() != A5.sheet(4, 1.4)["bill"].sum()
