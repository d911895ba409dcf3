"""What the exercises of A3 say beyond right and wrong: the same each time, and as the lesson's own turn does."""

import pytest
import torch
from torch import Tensor

from labkit.lessons.checks import find
from labkit.lessons.exercise import examine
from labkit.networks import rotation


def test_a_smooth_blob_turns_as_the_plane_does_to_a_tenth() -> None:
    v = (3.5 - torch.arange(8, dtype=torch.float64)).repeat(8, 1).mT.flatten()
    u = -v.reshape(8, 8).mT.flatten()
    blob = (-((u - 1) ** 2 + (v - 1) ** 2) / 4).exp()
    by_hand = find("A3.1").solution(-(u - 1) / 2 * blob, -(v - 1) / 2 * blob, u, v)
    off = (rotation(8).velocity(blob[None])[0] - by_hand).norm() / by_hand.norm()
    assert float(off) == pytest.approx(0.11, abs=0.01)


def test_least_squares_is_right_each_time() -> None:
    def answer(J: Tensor, v: Tensor) -> Tensor:
        return v - torch.linalg.lstsq(J, J @ v).solution

    for seed in range(60):  # its pivots are whatever lay in memory before
        junk = [torch.full((size,), seed % 5 - 2, dtype=torch.int32) for size in (4, 5, 6)]
        del junk
        assert examine(find("A3.4"), answer).outcome == "right"


@pytest.mark.parametrize("full", [False, True])
def test_a_row_that_depends_on_others_is_asked(full: bool) -> None:
    def answer(J: Tensor, v: Tensor) -> Tensor:
        rows = torch.linalg.svd(J, full_matrices=full).Vh
        free = rows[len(J) :]
        return free.mT @ (free @ v) if full else v - rows.mT @ (rows @ v)

    assert examine(find("A3.4"), answer).outcome == "wrong"
