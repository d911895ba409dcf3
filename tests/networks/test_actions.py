"""Actions of the circle on pictures: exact groups, and what they do to pictures that are known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from labkit.networks.actions import CircleAction, rotation, shift

MADE = [rotation, shift]
SIDES = [2, 5, 8]


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    return torch.randn(count, side**2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def blob(side: int, across: float, up: float, width: float) -> Tensor:
    """A Gaussian at (across, up) from the middle, rows from the top, (1, side²)."""
    place = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    rows, columns = torch.meshgrid(-place, place, indexing="ij")
    return (-((columns - across) ** 2 + (rows - up) ** 2) / (2 * width**2)).exp().reshape(1, -1)


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("side", SIDES)
class TestEveryAction:
    def test_it_is_a_group_of_orthogonal_matrices(self, make: type, side: int) -> None:
        action = make(side)
        a, b, both = action.matrix(torch.tensor([0.3, 1.1, 1.4], dtype=torch.float64))
        one = torch.eye(side**2, dtype=torch.float64)
        assert (a @ b - both).abs().max() < 1e-13
        assert (a.mT @ a - one).abs().max() < 1e-13
        assert (action.matrix(action.period) - one).abs().max() < 1e-12

    def test_it_is_the_exponential_of_its_generator(self, make: type, side: int) -> None:
        action = make(side)
        assert (action.matrix(0.7) - torch.matrix_exp(0.7 * action.generator)).abs().max() < 1e-12

    def test_moving_is_the_matrix_with_one_time_for_each_row(self, make: type, side: int) -> None:
        action, x = make(side), pictures(3, side)
        t = torch.tensor([0.2, -1.0, 5.0], dtype=torch.float64)
        by_hand = torch.stack([action.matrix(s) @ row for s, row in zip(t, x, strict=True)])
        assert (action.move(x, t) - by_hand).abs().max() < 1e-12
        assert (action.move(x, 0.2)[0] - by_hand[0]).abs().max() < 1e-12

    def test_the_velocity_is_the_derivative_of_the_motion(self, make: type, side: int) -> None:
        action, x = make(side), pictures(3, side)
        slope = (action.move(x, 1e-5) - action.move(x, -1e-5)) / 2e-5
        assert (slope - action.velocity(x)).abs().max() < 1e-7

    def test_harmonics_turn_by_their_degree(self, make: type, side: int) -> None:
        action = make(side)
        Q, t = action.harmonics, 0.37
        assert (Q.mT @ Q - torch.eye(side**2, dtype=torch.float64)).abs().max() < 1e-12
        turned = Q.mT @ action.matrix(t) @ Q
        expected = torch.zeros_like(turned)
        for degree in action.degrees.unique().tolist():
            own = (action.degrees == degree).nonzero().flatten()
            angle = 2 * math.pi * degree * t / action.period
            if not degree:
                expected[own, own] = 1
                continue
            cosines, sines = own.chunk(2)
            expected[own, own] = math.cos(angle)
            expected[cosines, sines], expected[sines, cosines] = -math.sin(angle), math.sin(angle)
        assert (turned - expected).abs().max() < 1e-11

    def test_the_commuting_matrix_is_the_mean_over_the_circle(self, make: type, side: int) -> None:
        action = make(side)
        W = torch.randn(side**2, side**2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        count = 2 * int(action.degrees.max()) + 1  # enough for products of two harmonics
        T = action.matrix(torch.arange(count).double() * action.period / count)
        mean = (T.mT @ W @ T).mean(0)
        assert (action.commuting(W) - mean).abs().max() < 1e-12
        assert (action.commuting(mean) - mean).abs().max() < 1e-12

    def test_single_precision_stays_single(self, make: type, side: int) -> None:
        action, x = make(side), pictures(2, side)
        moved = action.move(x.float(), 0.4)
        assert moved.dtype == torch.float32
        assert (moved - action.move(x, 0.4)).abs().max() < 1e-5
        assert action.velocity(x.float()).dtype == torch.float32


def test_a_blob_turns_counter_clockwise_as_shown() -> None:
    action = rotation(12)
    before, after = blob(12, 2.0, 0.0, 1.3), blob(12, 0.0, 2.0, 1.3)
    assert (action.move(before, math.pi / 2) - after).abs().max() < 0.05
    assert (action.move(before, -math.pi / 2) - after).abs().max() > 0.5


def test_a_half_turn_is_the_half_turn_of_pixels() -> None:
    x = pictures(2, 7)
    assert (rotation(7).move(x, math.pi) - x.flip(1)).abs().max() < 1e-12


def test_a_blob_shifts_to_the_right_and_whole_pixels_are_exact() -> None:
    assert (shift(15).move(blob(15, -1.0, 2.0, 1.2), 1.6) - blob(15, 0.6, 2.0, 1.2)).abs().max() < 1e-3
    x = pictures(2, 7)
    rolled = x.reshape(2, 7, 7).roll(1, 2).reshape(2, 49)
    assert (shift(7).move(x, 1) - rolled).abs().max() < 1e-13


def test_the_fastest_wave_of_an_even_row_stays() -> None:
    wave = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64).repeat(8)[None]
    assert (shift(8).move(wave, 1) - wave).abs().max() < 1e-13


def test_a_mean_is_invariant_under_its_own_steps_alone() -> None:
    action, x = rotation(4), pictures(3, 4)
    f = action.average(lambda y: torch.tanh(y @ pictures(16, 4, seed=5).mT), 4)
    assert (f(action.move(x, math.pi / 2)) - f(x)).abs().max() < 1e-12
    assert (f(action.move(x, 0.3)) - f(x)).abs().max() > 1e-3


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="generator is not antisymmetric"):
        CircleAction(torch.eye(2), 1.0)
    with pytest.raises(ValueError, match=r"exp\(1 G\) is not the identity"):
        CircleAction(torch.tensor([[0.0, -1.0], [1.0, 0.0]]), 1.0)
    with pytest.raises(ValueError, match="generator is not antisymmetric"):
        CircleAction(torch.full((2, 2), torch.nan), 1.0)
    for make in MADE:
        with pytest.raises(ValueError, match="side=1 has nothing to move"):
            make(1)
    turn = rotation(3)
    for use in (turn.velocity, lambda x: turn.move(x, 1.0)):
        with pytest.raises(ValueError, match=r"x has shape \(2, 3, 3\); flat inputs \(B, 9\)"):
            use(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match=r"W has shape \(3, 3\); \(9, 9\)"):
        turn.commuting(torch.eye(3))
    with pytest.raises(ValueError, match="count=0 is no mean"):
        turn.average(lambda x: x, 0)
